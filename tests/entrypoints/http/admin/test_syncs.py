"""Syncs over the API, asked for as the seed asks, run by the real kinds, and looked at record by record."""

from __future__ import annotations

import httpx
import pytest

from service.domain.jobs import JobState
from tests.admin_rig import Admin, Tenant, open_admin
from tests.directory_rig import KEY, Upstream


async def get(admin: Admin, tenant: Tenant, path: str) -> httpx.Response:
    answer = await admin.client.get(
        path, headers=tenant.headers("sync" if path.startswith("/sync") and "entries" not in path else "read")
    )
    assert answer.status_code == 200, answer.text
    return answer


async def synced(admin: Admin, upstream: Upstream, members: int) -> Tenant:
    upstream.reset(members)
    tenant = await admin.tenant()
    await admin.directory(tenant, upstream.url)
    await admin.sync(tenant)
    return tenant


async def test_the_seed_s_own_requests_work(admin: Admin, upstream: Upstream) -> None:
    """As its curl lines send them: with the operator's key, with and without a body."""
    upstream.reset(3)
    tenant = await admin.tenant()
    await admin.directory(tenant, upstream.url)
    json = {**admin.operator, "content-type": "application/json"}

    dry = await admin.client.post("/sync/dry-run", headers=json)
    assert dry.status_code == 202, dry.text
    await admin.run(dry.json()["jobId"])
    wet = await admin.client.post("/sync", headers=json, content=b'{"sync_type":"scheduled"}')
    assert wet.status_code == 202, wet.text
    row = await admin.run(wet.json()["jobId"])

    assert row.state is JobState.SUCCEEDED
    runs = (await admin.client.get("/sync/logs", headers=admin.operator)).json()["items"]
    assert [(run["type"], run["dryRun"], run["added"]) for run in runs] == [("membership", False, 3), ("manual", True, 3)]
    (directory,) = (await admin.client.get("/sync/status", headers=admin.operator)).json()["directories"]
    assert (directory["lastRun"]["id"], directory["job"], directory["waiting"]) == (runs[0]["id"], None, [])


async def test_a_sync_is_asked_for_and_followed_to_its_end(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(120)
    tenant = await admin.tenant()
    directory = await admin.directory(tenant, upstream.url)

    asked = await admin.client.post("/sync", json={"connectionId": directory["id"], "mode": "full"}, headers=tenant.headers("sync"))
    path = asked.headers["location"]
    queued = (await get(admin, tenant, path)).json()
    again = await admin.client.post("/sync", headers=tenant.headers("sync"))
    running = (await get(admin, tenant, "/sync/status")).json()["directories"][0]["job"]
    await admin.run(asked.json()["jobId"])
    done = (await get(admin, tenant, path)).json()

    assert path == f"/sync/jobs/{asked.json()['jobId']}"
    assert (queued["state"], queued["kind"], queued["subjectId"]) == ("queued", "directory_sync", directory["id"])
    assert (again.status_code, again.json()["jobId"]) == (409, asked.json()["jobId"])
    assert running["id"] == asked.json()["jobId"]
    assert (done["state"], done["result"]["added"]) == ("succeeded", 120)
    assert done["progress"]["fetched"] == 120
    log = (await get(admin, tenant, f"/sync/logs/{done['result']['syncLogId']}")).json()
    assert (log["status"], log["fetched"], log["jobId"]) == ("success", 120, done["id"])
    assert log["durationSeconds"] > 0


async def test_how_far_a_job_is_is_told_as_its_worker_told_it(admin: Admin, upstream: Upstream) -> None:
    tenant = await synced(admin, upstream, 2)
    told = {
        "phase": "apply",
        "fetched": 9,
        "of": 9,
        "compared": 9,
        "applied": 4,
        "to_apply": 8,
        "rate": 2.5,
        "eta_seconds": 1.6,
        "new": 1,
    }
    await admin.fetch("update jobs set progress = $1 returning id", told)
    (job,) = (await get(admin, tenant, "/sync/jobs")).json()["items"]

    assert job["progress"] == {
        "phase": "apply",
        "fetched": 9,
        "of": 9,
        "compared": 9,
        "applied": 4,
        "toApply": 8,
        "rate": 2.5,
        "etaSeconds": 1.6,
    }


async def test_a_dry_run_shows_each_difference_and_its_values_a_page_at_a_time(admin: Admin, upstream: Upstream) -> None:
    tenant = await synced(admin, upstream, 5)
    upstream.change(delete=[1], update={2: {"name": "Renamed"}}, insert=[99])
    row = await admin.sync(tenant, "/sync/dry-run")
    assert row.result is not None

    entries = []
    path = f"/sync/logs/{row.result['syncLogId']}/entries"
    query = "?limit=1"
    while True:
        page = (await get(admin, tenant, path + query)).json()
        entries += page["items"]
        if page["nextCursor"] is None:
            break
        query = f"?limit=1&cursor={page['nextCursor']}"

    assert sorted(entry["what"] for entry in entries) == ["added", "removed", "updated"]
    (updated,) = (await get(admin, tenant, f"{path}?what=updated")).json()["items"]
    assert updated["changes"]["name"]["after"] == "Renamed"
    # Who may start syncs need not see people.
    assert (await admin.client.get(path, headers=tenant.headers("sync"))).status_code == 403
    assert await admin.fetch("select count(*) from members where name = 'Renamed'") == [(0,)]


async def test_a_quarantined_sync_waits_for_a_decision_and_keeps_to_it(admin: Admin, upstream: Upstream) -> None:
    tenant = await synced(admin, upstream, 30)
    upstream.change(delete=range(1, 21))
    held = await admin.sync(tenant)
    assert held.state is JobState.QUARANTINED
    (directory,) = (await get(admin, tenant, "/sync/status")).json()["directories"]
    assert directory["waiting"] == [str(held.id)]

    approved = await admin.client.post(f"/sync/jobs/{held.id}/approve", headers=tenant.headers("sync"))
    again = await admin.client.post(f"/sync/jobs/{held.id}/approve", headers=tenant.headers("sync"))
    row = await admin.run(held.id)

    assert (approved.status_code, again.status_code) == (202, 409)
    assert row.state is JobState.SUCCEEDED
    assert await admin.fetch("select count(*) from members where upstream_state <> 'removed'") == [(10,)]
    runs = (await get(admin, tenant, "/sync/logs")).json()["items"]
    assert (runs[1]["status"], runs[1]["review"]) == ("quarantined", "approved")
    assert runs[1]["reviewedBy"].startswith("key:")
    actions = [event["action"] for event in (await get(admin, tenant, "/api/audit")).json()["items"]]
    assert actions[:2] == ["job.approved", "directory.sync_requested"]


async def test_a_job_is_cancelled_once(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(3)
    tenant = await admin.tenant()
    await admin.directory(tenant, upstream.url)
    job = (await admin.client.post("/sync", headers=tenant.headers())).json()["jobId"]

    first = await admin.client.post(f"/sync/jobs/{job}/cancel", headers=tenant.headers("sync"))
    second = await admin.client.post(f"/sync/jobs/{job}/cancel", headers=tenant.headers("sync"))

    assert (first.status_code, first.json()["state"]) == (200, "cancelled")
    assert second.status_code == 409
    assert [row["state"] for row in (await get(admin, tenant, "/sync/jobs?state=cancelled")).json()["items"]] == ["cancelled"]


async def test_the_status_has_every_directory_that_is_asked_a_page_at_a_time(admin: Admin, upstream: Upstream) -> None:
    tenant, other = await admin.tenant(), await admin.tenant()
    for owner in (tenant, other):
        await admin.directory(owner, upstream.url, name="z last")
    # Those that tell by themselves lie between the others by name, and are nothing that is synced.
    sql = """
        insert into connections (company_id, name, kind, version_kind, mapped_fields, directory)
        select $1, 'c' || to_char(n, 'FM000'), case when $2 then 'django' else 'stream' end, 'none', '{name}',
            case when $2 then '{"baseUrl": "https://members.example.com"}'::jsonb end
        from generate_series($3::integer, 500, 2) n
    """
    await admin.fetch(sql, tenant.company_id, False, 1)
    await admin.fetch(sql, tenant.company_id, True, 2)

    pages, path = [], "/sync/status?limit=200"
    while True:
        answer = (await get(admin, tenant, path)).json()
        pages.append([directory["name"] for directory in answer["directories"]])
        if answer["nextCursor"] is None:
            break
        path = f"/sync/status?limit=200&cursor={answer['nextCursor']}"

    assert [len(page) for page in pages] == [200, 51]
    assert [name for page in pages for name in page] == [*(f"c{n:03}" for n in range(2, 501, 2)), "z last"]
    assert len((await get(admin, tenant, "/sync/status")).json()["directories"]) == 50


async def test_which_directory_is_said_where_there_are_several(admin: Admin, upstream: Upstream) -> None:
    tenant = await admin.tenant()
    none = await admin.client.post("/sync", headers=tenant.headers())
    first = await admin.directory(tenant, upstream.url)
    await admin.directory(tenant, upstream.url, name="second")

    unsaid = await admin.client.post("/sync", headers=tenant.headers())
    said = await admin.client.post("/sync", json={"connectionId": first["id"]}, headers=tenant.headers())

    assert none.status_code == 409
    assert unsaid.status_code == 422
    assert unsaid.json()["errors"][0]["where"] == "body.connectionId"
    assert said.status_code == 202


async def test_switched_off_and_blocked_directories_are_not_synced_but_tried(
    database_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLLCALL_SECRET_DIRECTORY", KEY)
    upstream.reset(3)
    async with open_admin(database_url, sync_enabled=False) as admin:
        tenant = await admin.tenant()
        await admin.directory(tenant, upstream.url)
        off = await admin.client.post("/sync", headers=tenant.headers())
        assert (off.status_code, "SYNC_ENABLED=false" in off.json()["detail"]) == (409, True)
        tried = await admin.client.post("/sync", json={"dryRun": True}, headers=tenant.headers())
        assert (await admin.run(tried.json()["jobId"])).state is JobState.SUCCEEDED
        assert (await get(admin, tenant, "/sync/status")).json()["enabled"] is False
    async with open_admin(database_url) as admin:
        await admin.fetch("update connections set status = 'blocked' returning id")
        blocked = await admin.client.post("/sync", headers=tenant.headers())
        assert (blocked.status_code, "blocked" in blocked.json()["detail"]) == (409, True)


async def test_logs_and_jobs_come_in_pages_that_neither_repeat_nor_miss(admin: Admin, upstream: Upstream) -> None:
    tenant = await synced(admin, upstream, 2)
    for _ in range(4):
        await admin.sync(tenant, "/sync/dry-run")
    for path in ("/sync/logs", "/sync/jobs", "/api/audit"):
        whole = [str(item) for item in (await get(admin, tenant, path)).json()["items"]]
        seen, cursor = [], ""
        while True:
            page = (await get(admin, tenant, f"{path}?limit=2{cursor}")).json()
            seen += [str(item) for item in page["items"]]
            if page["nextCursor"] is None:
                break
            cursor = f"&cursor={page['nextCursor']}"
        assert seen == whole
        assert len(whole) >= 5
