"""Scans over the admin API: configured, asked for, run by schedule, and what they found, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from service.actions.run_due_schedules import Switches, run_due_schedules
from tests.admin_rig import Admin, Tenant, open_admin
from tests.breach_rig import API_KEY, BreachApi, Refusal, breach, running_breach_api
from tests.directory_rig import KEY

HIBP = "env:ROLLCALL_SECRET_HIBP"


@pytest.fixture
async def api() -> AsyncIterator[BreachApi]:
    with running_breach_api() as served:
        served.breaches = [breach("Adobe", classes=["Email addresses", "Passwords"]), breach("Gawker")]
        served.domains["choir.example"] = {"anna": ["Adobe", "Gawker"], "nobody": ["Adobe"]}
        yield served


@pytest.fixture
async def admin(database_url: str, api: BreachApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Admin]:
    monkeypatch.setenv("ROLLCALL_SECRET_DIRECTORY", KEY)
    monkeypatch.setenv("ROLLCALL_SECRET_HIBP", API_KEY)
    async with open_admin(database_url, breach_api_url=api.url) as served:
        yield served


async def configure(admin: Admin, tenant: Tenant, **company: Any) -> Any:
    return await admin.client.patch("/api/company", json=company, headers=tenant.headers())


async def get(admin: Admin, tenant: Tenant, path: str, scope: str = "all", **query: Any) -> Any:
    answer = await admin.client.get(path, params=query, headers=tenant.headers(scope))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def member(admin: Admin, tenant: Tenant, **fields: Any) -> str:
    answer = await admin.client.post("/api/members", json={"name": "Anna", **fields}, headers=tenant.headers())
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def grant(admin: Admin, tenant: Tenant) -> None:
    await admin.fetch("insert into secret_grants (company_id, reference) values ($1, $2) returning 1", tenant.company_id, HIBP)


async def test_a_company_says_who_scans_it_and_how_often(admin: Admin) -> None:
    tenant = await admin.tenant()
    before = await get(admin, tenant, "/api/company")
    assert (before["scanProviders"], before["scanIntervalMinutes"]) == ({}, None)

    providers = {"duplicates": {}, "email_domain": {"allowedDomains": ["choir.example"]}}
    answer = await configure(admin, tenant, scanProviders=providers, scanIntervalMinutes=5, graceDays=3)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["scanProviders"], shown["scanIntervalMinutes"], shown["graceDays"]) == (providers, 5, 3)
    # Whoever changes something else leaves it as it is.
    assert (await configure(admin, tenant, graceDays=4)).json()["scanProviders"] == providers

    cleared = (await configure(admin, tenant, scanProviders=None, scanIntervalMinutes=None)).json()
    assert (cleared["scanProviders"], cleared["scanIntervalMinutes"], cleared["graceDays"]) == ({}, None, 4)
    audited = await admin.fetch("select actor, changes from admin_events where action = 'company.scans_configured' order by id")
    assert [row["changes"] for row in audited] == [
        {
            "scanProviders": {"before": [], "after": ["duplicates", "email_domain"]},
            "scanIntervalMinutes": {"before": None, "after": 5},
        },
        {
            "scanProviders": {"before": ["duplicates", "email_domain"], "after": []},
            "scanIntervalMinutes": {"before": 5, "after": None},
        },
    ]
    assert all(row["actor"].startswith("key:") for row in audited)


@pytest.mark.parametrize("minutes", [4, 0, -1, 5.0, "5", True, [5], 10**9])
async def test_what_is_no_interval_is_refused(admin: Admin, minutes: object) -> None:
    tenant = await admin.tenant()
    answer = await configure(admin, tenant, scanIntervalMinutes=minutes)
    assert answer.status_code == 422, answer.text
    assert "scanIntervalMinutes" in answer.text
    assert await admin.fetch("select from schedules") == []


@pytest.mark.parametrize(
    ("providers", "says"),
    [
        ({"horoscope": {}}, "there are breach, duplicates, email_domain"),
        ({"duplicates": {"deep": True}}, "nothing to set"),
        ({"email_domain": {}}, "allowedDomains"),
        ({"email_domain": {"allowedDomains": ["choir"]}}, "no domain"),
        ({"email_domain": {"allowedDomains": [7]}}, "no domain"),
        # What no decoder makes anything of would make each scan fail.
        ({"email_domain": {"allowedDomains": ["xn--a.example"]}}, "no domain"),
        ({"email_domain": {"allowedDomains": ["choir.example"], "other": 1}}, "unknown: other"),
        ({"breach": {"domains": ["choir.example"]}}, "secretReference"),
        ({"breach": {"domains": [], "secretReference": HIBP}}, "domains"),
        ({"breach": {"domains": ["choir.example"], "secretReference": "env:HOME"}}, "must be env:ROLLCALL_SECRET_NAME"),
        ({"breach": {"domains": ["choir.example"], "secretReference": HIBP}}, "not granted"),
        (["duplicates"], "scanProviders"),
        ({"duplicates": None}, "scanProviders"),
    ],
)
async def test_settings_that_fit_no_provider_are_refused_with_what_is_wrong(admin: Admin, providers: object, says: str) -> None:
    tenant = await admin.tenant()
    answer = await configure(admin, tenant, graceDays=9, scanProviders=providers)
    assert answer.status_code == 422, answer.text
    assert says in answer.text
    # All of the request or nothing of it.
    shown = await get(admin, tenant, "/api/company")
    assert (shown["scanProviders"], shown["graceDays"]) == ({}, None)


async def test_the_operator_grants_a_secret_by_configuring_it_and_a_revoked_one_is_asked_for_no_more(admin: Admin) -> None:
    tenant = await admin.tenant()
    body = {"scanProviders": {"breach": {"domains": ["Choir.Example."], "secretReference": HIBP}}}
    headers = {**admin.operator, "rollcall-company": str(tenant.company_id)}
    assert (await admin.client.patch("/api/company", json=body, headers=headers)).status_code == 200
    # Now the company may say so itself.
    assert (await admin.client.patch("/api/company", json=body, headers=tenant.headers())).status_code == 200
    await member(admin, tenant, email="Anna@choir.example")
    assert (await admin.scan(tenant)).state == "succeeded"

    await admin.fetch("update secret_grants set revoked_at = now() returning 1")
    row = await admin.scan(tenant)

    assert row.state == "failed"
    assert "not granted" in str(row.error)
    assert len((await get(admin, tenant, "/api/findings"))["items"]) == 2


async def test_a_scan_is_asked_for_once_at_a_time_and_by_whom_is_known(admin: Admin) -> None:
    tenant = await admin.tenant()
    nobody = await admin.client.post("/api/company/scan", headers=tenant.headers())
    assert nobody.status_code == 409
    assert "scanProviders" in nobody.json()["detail"]

    await configure(admin, tenant, scanProviders={"duplicates": {}})
    asked = await admin.client.post("/api/company/scan", headers={**tenant.headers("sync"), "idempotency-key": "s"})
    assert asked.status_code == 202
    job = asked.json()["jobId"]
    assert asked.headers["location"] == f"/sync/jobs/{job}"
    repeated = await admin.client.post("/api/company/scan", headers={**tenant.headers("sync"), "idempotency-key": "s"})
    assert (repeated.status_code, repeated.json()["jobId"]) == (202, job)
    again = await admin.client.post("/api/company/scan", headers=tenant.headers())
    assert (again.status_code, again.json()["jobId"]) == (409, job)
    assert (await get(admin, tenant, f"/sync/jobs/{job}"))["kind"] == "scan"
    assert (await get(admin, tenant, "/api/scans")) == {"items": [], "nextCursor": None}

    assert (await admin.run(job)).state == "succeeded"
    # Nobody's interval suppresses what is asked for by hand.
    assert (await admin.client.post("/api/company/scan", headers=tenant.headers())).status_code == 202
    ((actor,),) = await admin.fetch(
        "select distinct split_part(actor, ':', 1) from admin_events where action = 'company.scan_requested'"
    )
    assert actor == "key"


async def test_an_interval_scans_a_company_as_long_as_it_has_providers(admin: Admin) -> None:
    tenant, idle = await admin.tenant(), await admin.tenant()
    for one in (tenant, idle):
        assert (await configure(admin, one, scanIntervalMinutes=5)).status_code == 200
    assert await run_due_schedules(admin.database, ["scan"], Switches()) == []

    await configure(admin, tenant, scanProviders={"duplicates": {}})
    (begun,) = await run_due_schedules(admin.database, ["scan"], Switches())
    assert begun.subject_id == tenant.company_id
    # While it is queued or runs it is not due.
    await admin.fetch("update schedules set next_run_at = now() returning 1")
    assert await run_due_schedules(admin.database, ["scan"], Switches()) == []
    assert (await admin.run(begun.job_id)).state == "succeeded"
    (schedule,) = await admin.fetch("select * from schedules where subject_id = $1", tenant.company_id)
    assert schedule["interval_ms"] == timedelta(minutes=5) / timedelta(milliseconds=1)
    listed = await get(admin, tenant, "/api/schedules")
    assert [(one["kind"], one["intervalMinutes"]) for one in listed["items"]] == [("scan", 5)]

    await configure(admin, tenant, scanIntervalMinutes=None)
    await admin.fetch("update schedules set next_run_at = now() returning 1")
    assert await run_due_schedules(admin.database, ["scan"], Switches()) == []


async def test_the_three_built_in_providers_find_what_they_are_for(admin: Admin) -> None:
    tenant = await admin.tenant()
    await grant(admin, tenant)
    anna = await member(admin, tenant, email="anna@Choir.example", nationalId="AB.1234")
    berta = await member(admin, tenant, email=" ANNA@choir.example ", nationalId="ab1234")
    carl = await member(admin, tenant, email="carl@elsewhere.example")
    await member(admin, tenant, email="dora@choir.example")
    gone = await member(admin, tenant, email="anna@choir.example ")
    assert (await admin.client.delete(f"/api/members/{gone}", headers=tenant.headers())).status_code == 204
    providers = {
        "duplicates": {},
        "email_domain": {"allowedDomains": ["choir.example"]},
        "breach": {"domains": ["choir.example"], "secretReference": HIBP},
    }
    assert (await configure(admin, tenant, scanProviders=providers)).status_code == 200

    row = await admin.scan(tenant)

    assert row.state == "succeeded", row
    assert row.result is not None
    found = (await get(admin, tenant, f"/api/scans/{row.result['scanId']}/findings"))["items"]
    assert {(one["memberId"], one["provider"], one["kind"], one["key"], one["severity"]) for one in found} == {
        (anna, "duplicates", "duplicate_email", "", "medium"),
        (berta, "duplicates", "duplicate_email", "", "medium"),
        (anna, "duplicates", "duplicate_national_id", "", "high"),
        (berta, "duplicates", "duplicate_national_id", "", "high"),
        (carl, "email_domain", "email_outside_domains", "", "low"),
        (anna, "breach", "breached_account", "Adobe", "high"),
        (berta, "breach", "breached_account", "Adobe", "high"),
        (anna, "breach", "breached_account", "Gawker", "medium"),
        (berta, "breach", "breached_account", "Gawker", "medium"),
    }
    detail = {(one["memberId"], one["kind"], one["key"]): one["detail"] for one in found}
    assert detail[anna, "duplicate_email", ""] == {"members": 2, "otherMemberId": berta}
    assert detail[anna, "breached_account", "Adobe"] == {
        "breach": "Adobe",
        "happenedOn": "2013-10-04",
        "dataClasses": ["Email addresses", "Passwords"],
    }
    scan = await get(admin, tenant, f"/api/scans/{row.result['scanId']}", "sync")
    assert (scan["status"], scan["members"], scan["jobId"]) == ("succeeded", 4, str(row.id))
    assert [(part["provider"], part["state"], part["found"]) for part in scan["parts"]] == [
        ("breach", "succeeded", 4),
        ("duplicates", "succeeded", 4),
        ("email_domain", "succeeded", 1),
    ]
    # No address and no key stands in what is kept of it.
    kept = str(await admin.fetch("select t::text from findings t union all select t::text from jobs t"))
    assert "choir.example" not in kept
    assert API_KEY not in kept


async def test_a_breach_provider_that_is_told_to_wait_keeps_earlier_findings_and_the_others_go_on(
    admin: Admin, api: BreachApi
) -> None:
    tenant = await admin.tenant()
    await grant(admin, tenant)
    await member(admin, tenant, email="anna@choir.example")
    breaches = {"breach": {"domains": ["choir.example"], "secretReference": HIBP}}
    await configure(admin, tenant, scanProviders={**breaches, "duplicates": {}})
    assert (await admin.scan(tenant)).state == "succeeded"
    api.domains["choir.example"] = {}
    api.refusals["choir.example"] = Refusal(429, retry_after="600")

    waiting = await admin.scan(tenant)

    assert (waiting.state, waiting.error) == ("queued", "breach: 127.0.0.1 answers 429 and asks for 600 s")
    ((wait,),) = await admin.fetch("select next_attempt_at - now() from jobs where id = $1", waiting.id)
    assert timedelta(seconds=500) < wait <= timedelta(seconds=600)
    (scan, _) = (await get(admin, tenant, "/api/scans"))["items"]
    assert scan["status"] == "running"
    assert [(part["provider"], part["state"]) for part in scan["parts"]] == [("breach", "waiting"), ("duplicates", "succeeded")]
    assert len((await get(admin, tenant, "/api/findings", provider="breach"))["items"]) == 2

    # Refused for good: its findings stay, and nobody asks again.
    await admin.fetch("update jobs set next_attempt_at = null, resend_at = now() where id = $1 returning 1", waiting.id)
    api.refusals["choir.example"] = Refusal(401)
    done = await admin.run(waiting.id)
    assert done.state == "partial"
    assert len((await get(admin, tenant, "/api/findings", provider="breach"))["items"]) == 2

    # Free again, it finds nothing more.
    del api.refusals["choir.example"]
    assert (await admin.scan(tenant)).state == "succeeded"
    assert (await get(admin, tenant, "/api/findings"))["items"] == []
    resolved = (await get(admin, tenant, "/api/findings", state="resolved"))["items"]
    assert [one["resolution"] for one in resolved] == ["not_found", "not_found"]


async def test_findings_are_paged_the_newest_first_and_filtered(admin: Admin) -> None:
    tenant = await admin.tenant()
    ids = [await member(admin, tenant, email=f"m{n}@elsewhere.example") for n in range(7)]
    twins = [await member(admin, tenant, email="twin@choir.example") for _ in range(2)]
    providers = {"duplicates": {}, "email_domain": {"allowedDomains": ["choir.example"]}}
    await configure(admin, tenant, scanProviders=providers)
    row = await admin.scan(tenant)
    assert row.result is not None

    for path in ("/api/findings", f"/api/scans/{row.result['scanId']}/findings"):
        seen: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        while True:
            page = await get(admin, tenant, path, limit=4, **cursor)
            seen += page["items"]
            if page["nextCursor"] is None:
                break
            cursor = {"cursor": page["nextCursor"]}
        assert len(seen) == len({one["id"] for one in seen}) == 9
        assert [one["id"] for one in seen] == sorted((one["id"] for one in seen), reverse=True)

    async def members(**query: Any) -> set[str]:
        return {one["memberId"] for one in (await get(admin, tenant, "/api/findings", **query))["items"]}

    assert await members(provider="duplicates") == set(twins)
    assert await members(kind="email_outside_domains") == set(ids)
    assert await members(severity="medium") == set(twins)
    assert await members(memberId=ids[0]) == {ids[0]}
    assert await members(memberId=ids[0], severity="medium") == set()
    assert await members(provider="duplicates", kind="email_outside_domains") == set()
    assert await members(state="resolved") == set()
    wrong = await admin.client.get("/api/findings", params={"severity": "dire"}, headers=tenant.headers())
    assert wrong.status_code == 422
    other = await admin.tenant()
    assert (await get(admin, other, "/api/findings", memberId=ids[0]))["items"] == []
    first = (await get(admin, tenant, "/api/findings", limit=1))["nextCursor"]
    foreign = await admin.client.get("/api/scans", params={"cursor": first}, headers=tenant.headers())
    assert foreign.status_code == 422


async def test_scans_are_paged_the_newest_first(admin: Admin) -> None:
    tenant = await admin.tenant()
    await configure(admin, tenant, scanProviders={"duplicates": {}})
    scans = [row.result["scanId"] for row in [await admin.scan(tenant) for _ in range(3)] if row.result]

    first = await get(admin, tenant, "/api/scans", limit=2)
    second = await get(admin, tenant, "/api/scans", limit=2, cursor=first["nextCursor"])

    assert [one["id"] for one in first["items"] + second["items"]] == scans[::-1]
    assert second["nextCursor"] is None
