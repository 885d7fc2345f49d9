"""`members=remove`: a guarded job takes every live member of a directory out, and archives it then."""

from __future__ import annotations

from typing import Any

import pytest

from service.actions import remove_connection
from service.domain.jobs import JobState
from tests.admin_rig import Admin, Tenant
from tests.directory_rig import Upstream


async def imported(admin: Admin, upstream: Upstream, members: int) -> tuple[Tenant, str]:
    upstream.reset(members)
    tenant = await admin.tenant()
    directory = await admin.directory(tenant, upstream.url)
    await admin.sync(tenant)
    return tenant, f"/api/directory/{directory['id']}"


async def remove(admin: Admin, tenant: Tenant, path: str) -> str:
    answer = await admin.client.delete(f"{path}?members=remove", headers=tenant.headers())
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/sync/jobs/{answer.json()['jobId']}"
    return str(answer.json()["jobId"])


async def live(admin: Admin) -> int:
    ((found,),) = await admin.fetch("select count(*) from members where upstream_state <> 'removed'")
    return int(found)


async def status(admin: Admin, tenant: Tenant, path: str) -> str:
    return str((await admin.client.get(path, headers=tenant.headers())).json()["status"])


async def test_a_few_are_removed_unasked_each_with_its_audit_and_event(admin: Admin, upstream: Upstream) -> None:
    tenant, path = await imported(admin, upstream, 5)
    row = await admin.run(await remove(admin, tenant, path))

    assert (row.state, row.result) == (JobState.SUCCEEDED, {"removed": 5})
    assert await live(admin) == 0
    assert await status(admin, tenant, path) == "archived"
    events = await admin.fetch("select actor, reason_code, new_state from member_events where version = 2")
    assert {tuple(event) for event in events} == {(row.requested_by, "ADMIN", "removed")}
    assert len(events) == 5
    assert await admin.fetch("select count(*) from outbox where type = 'MEMBERSHIP_UPDATED'") == [(10,)]


async def test_many_wait_for_approval_and_no_more_than_were_approved_go(admin: Admin, upstream: Upstream) -> None:
    tenant, path = await imported(admin, upstream, 20)
    job = await remove(admin, tenant, path)
    held = await admin.run(job)
    assert held.state is JobState.QUARANTINED
    assert held.result == {
        "held": "20 of 20 live members would be removed; more than 5% and more than 5 must be approved",
        "removals": 20,
    }
    assert await live(admin) == 20

    # Somebody joins by another way while the list is looked at.
    await admin.fetch(
        """
        insert into members (id, company_id, connection_id, external_id, name, upstream_state, state, version)
        select gen_random_uuid(), company_id, id, 'late', 'Late', 'active', 'active', 1 from connections returning id
        """
    )
    assert (await admin.client.post(f"/sync/jobs/{job}/approve", headers=tenant.headers("admin"))).status_code == 202
    anew = await admin.run(job)
    assert (anew.state, anew.result) == (
        JobState.QUARANTINED,
        {"held": "21 members are live now, and 20 removals were approved", "removals": 21},
    )
    assert (await admin.client.post(f"/sync/jobs/{job}/approve", headers=tenant.headers("admin"))).status_code == 202
    done = await admin.run(job)

    assert (done.state, done.result) == (JobState.SUCCEEDED, {"removed": 21})
    assert await live(admin) == 0
    assert await status(admin, tenant, path) == "archived"


async def test_rejected_it_leaves_everything_as_it_was(admin: Admin, upstream: Upstream) -> None:
    tenant, path = await imported(admin, upstream, 20)
    job = await remove(admin, tenant, path)
    await admin.run(job)

    rejected = await admin.client.post(f"/sync/jobs/{job}/reject", headers=tenant.headers("admin"))
    again = await admin.client.post(f"/sync/jobs/{job}/reject", headers=tenant.headers("admin"))

    assert (rejected.status_code, rejected.json()["state"]) == (200, "cancelled")
    assert again.status_code == 409
    assert (await live(admin), await status(admin, tenant, path)) == (20, "active")
    assert (await admin.client.post("/sync", headers=tenant.headers())).status_code == 202


async def test_while_it_is_queued_nothing_is_synced_and_it_is_asked_for_once(admin: Admin, upstream: Upstream) -> None:
    tenant, path = await imported(admin, upstream, 3)
    syncing = (await admin.client.post("/sync", headers=tenant.headers())).json()["jobId"]
    job = await remove(admin, tenant, path)

    again = await admin.client.delete(f"{path}?members=remove", headers=tenant.headers())
    sync = await admin.client.post("/sync", headers=tenant.headers())

    assert (await admin.client.get(f"/sync/jobs/{syncing}", headers=tenant.headers())).json()["state"] == "cancelled"
    assert [(answer.status_code, answer.json()["jobId"]) for answer in (again, sync)] == [(409, job), (409, job)]
    assert (await admin.client.post("/sync/dry-run", headers=tenant.headers())).status_code == 202


async def test_stopped_in_the_middle_it_goes_on_where_it_was(
    admin: Admin, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, path = await imported(admin, upstream, 12)
    await admin.client.patch(path, json={"removalLimits": {"most": 12, "mostPercent": 100, "few": 12}}, headers=tenant.headers())
    job = await remove(admin, tenant, path)
    monkeypatch.setattr(remove_connection, "_BATCH", 5)
    applied = remove_connection.apply_changes
    batches = 0

    async def failing(*given: Any, **options: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise remove_connection.Contention("somebody is in the way")
        return await applied(*given, **options)

    monkeypatch.setattr(remove_connection, "apply_changes", failing)
    first = await admin.run(job)
    assert (first.state, await live(admin), await status(admin, tenant, path)) == (JobState.QUEUED, 7, "active")

    await admin.fetch("update jobs set next_attempt_at = now() where state = 'queued' returning id")
    second = await admin.run(job)

    assert (second.state, second.result, await live(admin)) == (JobState.SUCCEEDED, {"removed": 7}, 0)


async def test_members_that_were_kept_are_not_said_to_be_removed(admin: Admin, upstream: Upstream) -> None:
    tenant, path = await imported(admin, upstream, 5)
    kept = await admin.client.delete(f"{path}?members=keep", headers=tenant.headers())
    removed = await admin.client.delete(f"{path}?members=remove", headers=tenant.headers())
    again = await admin.client.delete(path, headers=tenant.headers())

    assert (kept.status_code, removed.status_code, again.status_code) == (204, 409, 204)
    assert await live(admin) == 5
