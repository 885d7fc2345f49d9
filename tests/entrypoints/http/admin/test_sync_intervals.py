from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from service.actions.run_due_schedules import Switches, run_due_schedules
from tests.admin_rig import Admin, Tenant
from tests.directory_rig import NESTED, Upstream


async def patch(admin: Admin, tenant: Tenant, directory: str, **body: Any) -> Any:
    return await admin.client.patch(f"/api/directory/{directory}", json=body, headers=tenant.headers())


async def connection_of(admin: Admin, tenant: Tenant, kind: str) -> str:
    await admin.fetch("alter table connections drop constraint if exists directories_are_described")
    ((identity,),) = await admin.fetch(
        "insert into connections (company_id, name, kind, version_kind, mapped_fields) "
        "values ($1, $2, $2, 'sequence', array['name']) returning id::text",
        tenant.company_id,
        kind,
    )
    return str(identity)


async def test_an_interval_lets_a_directory_be_synced_by_itself_and_null_ends_that(admin: Admin, upstream: Upstream) -> None:
    tenant = await admin.tenant()
    directory = await admin.directory(tenant, upstream.url)
    assert directory["autoSyncIntervalMinutes"] is None

    answer = await patch(admin, tenant, directory["id"], autoSyncIntervalMinutes=5)
    assert (answer.status_code, answer.json()["autoSyncIntervalMinutes"]) == (200, 5)
    (begun,) = await run_due_schedules(admin.database, ["directory_sync"], Switches())
    assert str(begun.subject_id) == directory["id"]
    assert (await admin.run(begun.job_id)).state == "succeeded"
    ((kind, mode),) = await admin.fetch("select type, mode from sync_log")
    assert (kind, mode) == ("membership", "full")
    (row,) = await admin.fetch("select next_run_at - last_run_at as wait from schedules")
    assert timedelta(minutes=4) < row["wait"] <= timedelta(minutes=5)

    # Whoever changes something else leaves it as it is.
    assert (await patch(admin, tenant, directory["id"], name="other")).json()["autoSyncIntervalMinutes"] == 5
    assert (await patch(admin, tenant, directory["id"], autoSyncIntervalMinutes=None)).json()["autoSyncIntervalMinutes"] is None
    await admin.fetch("update schedules set next_run_at = now()")
    assert await run_due_schedules(admin.database, ["directory_sync"], Switches()) == []
    shown = await admin.client.get(f"/api/directory/{directory['id']}", headers=tenant.headers())
    assert shown.json()["autoSyncIntervalMinutes"] is None
    audited = await admin.fetch("select actor, changes from admin_events where action = 'directory.scheduled' order by id")
    assert [row["changes"]["autoSyncIntervalMinutes"] for row in audited] == [
        {"before": None, "after": 5},
        {"before": 5, "after": None},
    ]
    assert all(row["actor"].startswith("key:") for row in audited)


async def test_scheduled_syncs_are_incremental_where_that_was_chosen_and_full_once_a_day(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(5)
    tenant = await admin.tenant()
    asked = {"baseUrl": f"{upstream.url}/page-number", "path": "/api/people/", "modifiedSince": "updated_since"}
    directory = (await admin.directory(tenant, upstream.url, settings={**asked, "mapping": NESTED}))["id"]
    modes = []

    async def tick() -> None:
        (begun,) = await run_due_schedules(admin.database, ["directory_sync"], Switches())
        assert (await admin.run(begun.job_id)).state == "succeeded"
        ((mode,),) = await admin.fetch("select mode from sync_log order by started_at desc limit 1")
        modes.append(mode)
        await admin.fetch("update schedules set next_run_at = now()")

    assert (await patch(admin, tenant, directory, autoSyncIntervalMinutes=60)).json()["syncMode"] == "full"
    await tick()
    await tick()
    chosen = await patch(admin, tenant, directory, syncMode="incremental")
    assert (chosen.json()["syncMode"], chosen.json()["autoSyncIntervalMinutes"]) == ("incremental", 60)
    await tick()
    await admin.fetch("update connections set last_full_sync_at = last_full_sync_at - interval '25 hours'")
    await tick()
    await tick()
    assert modes == ["full", "full", "incremental", "full", "incremental"]

    # Whoever changes the interval, stops the schedule or lets it begin anew leaves the mode as it is.
    for minutes in (5, None, 30):
        assert (await patch(admin, tenant, directory, autoSyncIntervalMinutes=minutes)).json()["syncMode"] == "incremental"
    assert (await patch(admin, tenant, directory, name="other")).json()["syncMode"] == "incremental"
    await admin.fetch("update schedules set next_run_at = now()")
    await tick()
    assert (await patch(admin, tenant, directory, syncMode="full")).json()["syncMode"] == "full"
    await tick()
    assert modes[5:] == ["incremental", "full"]
    audited = await admin.fetch("select changes from admin_events where action = 'directory.scheduled' order by id")
    assert [row["changes"]["syncMode"] for row in audited if "syncMode" in row["changes"]] == [
        {"before": "full", "after": "incremental"},
        {"before": "incremental", "after": "full"},
    ]


async def test_a_mode_is_of_a_schedule_and_may_come_with_it(admin: Admin, upstream: Upstream) -> None:
    tenant, other = await admin.tenant(), await admin.tenant()
    directory = (await admin.directory(tenant, upstream.url))["id"]

    early = await patch(admin, tenant, directory, name="renamed", syncMode="incremental")
    assert (early.status_code, "syncMode" in early.text, "autoSyncIntervalMinutes" in early.text) == (422, True, True)
    assert await admin.fetch("select from connections where name = 'renamed'") == []
    assert (await patch(admin, tenant, directory, syncMode="full")).status_code == 200
    for unknown in ("half", None, True):
        assert (await patch(admin, tenant, directory, syncMode=unknown)).status_code == 422
    assert (await patch(admin, other, directory, syncMode="full")).status_code == 404

    both = await patch(admin, tenant, directory, autoSyncIntervalMinutes=60, syncMode="incremental")
    assert (both.status_code, both.json()["syncMode"]) == (200, "incremental")


@pytest.mark.parametrize("minutes", [4, 0, -1, 5.0, "5", True, [5], 10**9])
async def test_what_is_no_interval_is_refused(admin: Admin, upstream: Upstream, minutes: object) -> None:
    tenant = await admin.tenant()
    directory = await admin.directory(tenant, upstream.url)

    answer = await patch(admin, tenant, directory["id"], autoSyncIntervalMinutes=minutes)

    assert answer.status_code == 422, answer.text
    assert "autoSyncIntervalMinutes" in answer.text
    assert await admin.fetch("select from schedules") == []


@pytest.mark.parametrize("kind", ["scim", "stream"])
async def test_what_is_pushed_to_us_cannot_be_scheduled(admin: Admin, kind: str) -> None:
    tenant = await admin.tenant()
    directory = await connection_of(admin, tenant, kind)

    answer = await patch(admin, tenant, directory, name="renamed", autoSyncIntervalMinutes=5)

    assert answer.status_code == 422
    assert await admin.fetch("select from schedules") == []
    # All of the request or nothing of it.
    assert await admin.fetch("select from connections where name = 'renamed'") == []
    assert (await patch(admin, tenant, directory, autoSyncIntervalMinutes=None)).status_code == 200


async def test_another_company_s_directory_is_none(admin: Admin, upstream: Upstream) -> None:
    tenant, other = await admin.tenant(), await admin.tenant()
    directory = await admin.directory(tenant, upstream.url)
    assert (await patch(admin, other, directory["id"], autoSyncIntervalMinutes=5)).status_code == 404
    assert await admin.fetch("select from schedules") == []
