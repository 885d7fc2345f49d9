"""Drift over HTTP: what runs have found, who may see it, and runs by hand."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from service.domain.jobs import JobState
from tests.admin_rig import Admin, Tenant
from tests.directory_rig import Upstream


async def synced(admin: Admin, upstream: Upstream, members: int = 40) -> tuple[Tenant, str]:
    """A company with members of a directory, and its read model."""
    upstream.reset(members)
    tenant = await admin.tenant()
    directory = await admin.directory(tenant, upstream.url)
    await admin.sync(tenant)
    return tenant, f"directory:{directory['id']}"


async def listed(admin: Admin, headers: dict[str, str], **asked: Any) -> list[dict[str, Any]]:
    answer = await admin.client.get("/api/drift", params=asked, headers=headers)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def compare(admin: Admin, headers: dict[str, str], read_model: str, **asked: Any) -> dict[str, Any]:
    """A run by hand, to its end, as its Location shows it."""
    answer = await admin.client.post(f"/api/drift/{read_model}/run", json=asked, headers=headers)
    assert answer.status_code == 202, answer.text
    row = await admin.run(answer.json()["jobId"])
    assert row.state is JobState.SUCCEEDED
    (run,) = (await admin.client.get(answer.headers["location"], headers=headers)).json()["items"]
    assert run["jobId"] == str(row.id)
    return dict(run)


# A colon may stand in a path as it is; some clients write it otherwise.
@pytest.mark.parametrize("written", [":", "%3A", "%3a"])
async def test_a_company_compares_its_directory_and_sees_which_keys_differ_and_why(
    admin: Admin, upstream: Upstream, written: str
) -> None:
    tenant, read_model = await synced(admin, upstream)
    await admin.fetch("update members set name = 'Nobody' where external_id in ('7', '8')")

    run = await compare(admin, tenant.headers("sync"), read_model.replace(":", written), full=True)

    assert (run["readModel"], run["mode"], run["verdict"], run["truncated"]) == (read_model, "full", "breach", False)
    assert (run["compared"], run["outOfSync"], run["rate"], run["errors"], run["healed"]) == (40, 2, 0.05, 0, 0)
    assert (run["streak"], run["promoted"], run["error"]) == (1, False, None)
    assert run["keys"] == [
        {"key": key, "what": "drift", "reason": "the member differs from its source in name"} for key in ("7", "8")
    ]
    again = await compare(admin, tenant.headers("sync"), read_model, full=True, most=10)
    assert (again["compared"], again["truncated"]) == (10, True)
    sampled = await compare(admin, tenant.headers("sync"), read_model)
    assert (sampled["mode"], sampled["compared"]) == ("sampled", 20)
    assert [one["id"] for one in await listed(admin, tenant.headers("read"))] == [sampled["id"], again["id"], run["id"]]
    events = (await admin.client.get("/api/audit", headers=tenant.headers())).json()["items"]
    assert [one["action"] for one in events].count("drift.run_requested") == 3


async def test_what_is_over_all_companies_is_the_operators_alone(admin: Admin, upstream: Upstream) -> None:
    tenant, read_model = await synced(admin, upstream)
    await admin.fetch("update members set plan = 'gold' where external_id = '7'")
    operator = {**admin.operator, "rollcall-company": str(tenant.company_id)}

    audit = await compare(admin, operator, "audit", full=True)
    directory = await compare(admin, operator, read_model)

    assert (audit["verdict"], audit["outOfSync"]) == ("breach", 1)
    assert [one["readModel"] for one in await listed(admin, operator)] == [read_model, "audit"]
    assert [one["id"] for one in await listed(admin, operator, readModel="audit")] == [audit["id"]]
    assert [one["id"] for one in await listed(admin, tenant.headers())] == [directory["id"]]
    assert await listed(admin, tenant.headers(), readModel="audit") == []
    assert await listed(admin, tenant.headers(), jobId=audit["jobId"]) == []
    seen = await admin.client.get(f"/api/drift/runs/{audit['id']}/keys", headers=tenant.headers())
    asked = await admin.client.post("/api/drift/audit/run", headers=tenant.headers())
    assert (seen.status_code, asked.status_code) == (404, 404)
    # Under another company's name the operator sees what is over all, and none of this one's.
    other = await admin.tenant()
    elsewhere = {**admin.operator, "rollcall-company": str(other.company_id)}
    assert [one["id"] for one in await listed(admin, elsewhere)] == [audit["id"]]


async def test_a_run_that_its_job_has_given_up_is_not_running_for_ever(admin: Admin, upstream: Upstream) -> None:
    tenant, read_model = await synced(admin, upstream)
    run = await compare(admin, tenant.headers(), read_model)
    await admin.fetch("update drift_runs set finished_at = null, verdict = null")
    (ended,) = await listed(admin, tenant.headers())
    assert (ended["verdict"], ended["error"]) == ("inconclusive", "its job ended without it")
    await admin.fetch("update jobs set state = 'failed', error = 'no luck' where id = $1", UUID(run["jobId"]))
    (failed,) = await listed(admin, tenant.headers())
    assert (failed["verdict"], failed["error"]) == ("inconclusive", "no luck")
    assert failed["finishedAt"] is not None


async def test_all_kept_keys_come_in_pages_drift_first(admin: Admin, upstream: Upstream) -> None:
    tenant, read_model = await synced(admin, upstream)
    await admin.fetch("update members set name = 'Nobody' where external_id <> '3'")
    upstream.change(update={3: {"name": ""}})
    run = await compare(admin, tenant.headers(), read_model, full=True)
    assert (len(run["keys"]), run["outOfSync"], run["errors"]) == (20, 39, 1)

    found: list[dict[str, Any]] = []
    cursor = None
    for _ in range(4):
        asked = {"limit": 15} if cursor is None else {"limit": 15, "cursor": cursor}
        answer = (await admin.client.get(f"/api/drift/runs/{run['id']}/keys", params=asked, headers=tenant.headers())).json()
        found += answer["items"]
        if (cursor := answer["nextCursor"]) is None:
            break

    assert len(found) == 40
    assert {one["key"] for one in found} == {str(number) for number in range(1, 41)}
    assert [one["what"] for one in found] == ["drift"] * 39 + ["error"]
    assert found[:20] == run["keys"]


async def test_runs_come_in_pages(admin: Admin, upstream: Upstream) -> None:
    tenant, read_model = await synced(admin, upstream, 3)
    ran = [(await compare(admin, tenant.headers(), read_model))["id"] for _ in range(3)]

    first = (await admin.client.get("/api/drift", params={"limit": 2}, headers=tenant.headers())).json()
    second = await admin.client.get("/api/drift", params={"limit": 2, "cursor": first["nextCursor"]}, headers=tenant.headers())

    assert [one["id"] for one in first["items"] + second.json()["items"]] == ran[::-1]
    assert second.json()["nextCursor"] is None


async def test_what_cannot_be_compared_now_is_said(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(3)
    tenant = await admin.tenant()
    directory = await admin.directory(tenant, upstream.url)
    path = f"/api/drift/directory:{directory['id']}/run"

    unsynced = await admin.client.post(path, headers=tenant.headers())
    await admin.sync(tenant)
    asked = await admin.client.post(path, headers=tenant.headers())
    twice = await admin.client.post(path, headers=tenant.headers())
    await admin.run(asked.json()["jobId"])
    await admin.fetch("update connections set status = 'blocked' where id = $1", UUID(directory["id"]))
    blocked = await admin.client.post(path, headers=tenant.headers())

    assert [one.status_code for one in (unsynced, asked, twice, blocked)] == [409, 202, 409, 409]
    assert "never synced in full" in unsynced.json()["detail"]
    assert twice.json()["jobId"] == asked.json()["jobId"]
    assert "blocked" in blocked.json()["detail"]


@pytest.mark.parametrize(
    "read_model", ["nothing", "directory", "directory:", "directory:x", f"DIRECTORY:{UUID(int=1)}", f"directory:{UUID(int=1)}"]
)
async def test_what_is_no_read_model_is_not_there_for_anybody(admin: Admin, read_model: str) -> None:
    tenant = await admin.tenant()
    for headers in (tenant.headers(), {**admin.operator, "rollcall-company": str(tenant.company_id)}):
        answer = await admin.client.post(f"/api/drift/{read_model}/run", headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (404, "there is no such read model")


async def test_a_read_model_of_ones_own_can_be_run_once_it_is_known(admin: Admin) -> None:
    tenant = await admin.tenant()
    operator = {**admin.operator, "rollcall-company": str(tenant.company_id)}
    await admin.fetch("insert into drift_streaks (read_model) values ('shelf')")

    answers = [await admin.client.post("/api/drift/shelf/run", headers=headers) for headers in (tenant.headers(), operator)]

    assert [answer.status_code for answer in answers] == [404, 202]


@pytest.mark.parametrize("asked", [{"most": 0}, {"most": True}, {"most": 1.0}, {"full": 1}, {"budget": 5}])
async def test_a_run_that_cannot_be_is_refused(admin: Admin, asked: dict[str, Any]) -> None:
    tenant = await admin.tenant()
    answer = await admin.client.post("/api/drift/audit/run", json=asked, headers=tenant.headers())
    assert answer.status_code == 422
