from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.admin_rig import Admin, Tenant

TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()


async def member(admin: Admin, tenant: Tenant, **given: Any) -> str:
    answer = await admin.client.post("/api/members", json={"name": "Ada", "plan": "basic", **given}, headers=tenant.headers())
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def plan(admin: Admin, tenant: Tenant, identity: str, *, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return await admin.client.post(
        f"/api/members/{identity}/plan-change",
        json={"plan": "gold", "effectiveOn": TOMORROW, **body},
        headers={**tenant.headers(), **(headers or {})},
    )


async def history(admin: Admin, tenant: Tenant, identity: str, **query: Any) -> Any:
    answer = await admin.client.get(f"/api/members/{identity}/plan-changes", params=query, headers=tenant.headers())
    assert answer.status_code == 200
    return answer.json()


async def test_a_plan_is_planned_overwritten_and_withdrawn_with_its_history(admin: Admin) -> None:
    tenant = await admin.tenant()
    identity = await member(admin, tenant)

    first = await plan(admin, tenant, identity, termMonths=12)
    assert first.status_code == 200, first.text
    assert (first.json()["pendingPlan"], first.json()["plan"], first.json()["version"]) == ("gold", "basic", 1)
    assert (await plan(admin, tenant, identity, plan="silver")).status_code == 200
    withdrawn = await admin.client.delete(f"/api/members/{identity}/plan-change", headers=tenant.headers())
    assert (withdrawn.status_code, withdrawn.json()["pendingPlan"]) == (200, None)

    page = await history(admin, tenant, identity, limit=3)
    assert [(item["changeType"], item["plan"]) for item in page["items"]] == [
        ("CANCELLED", "silver"),
        ("SCHEDULED", "silver"),
        ("CANCELLED", "gold"),
    ]
    rest = await history(admin, tenant, identity, limit=3, cursor=page["nextCursor"])
    (scheduled,) = rest["items"]
    assert (scheduled["changeType"], scheduled["effectiveOn"]) == ("SCHEDULED", TOMORROW)
    assert scheduled["expiresAt"].startswith(str(int(TOMORROW[:4]) + 1))
    assert scheduled["actor"].startswith("key:")
    assert rest["nextCursor"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"plan": ""},
        {"plan": None},
        {"effectiveOn": "tomorrow"},
        {"effectiveOn": 20270101},
        {"effectiveOn": "2027-01-01T00:00:00Z"},
        {"effectiveOn": "2027-02-30"},
        {"effectiveOn": "1999-12-31"},
        {"effectiveOn": "3000-01-01"},
        {"termMonths": 0},
        {"termMonths": 1.0},
        {"termMonths": "1"},
        {"termMonths": True},
        {"termMonths": 1201},
        {"termMonths": 1, "expiresAt": "2030-01-01T00:00:00Z"},
        {"expiresAt": "2020-01-01T00:00:00Z"},
        {"expiresAt": "2030-01-01"},
        {"colour": "red"},
    ],
)
async def test_what_is_no_plan_change_is_refused(admin: Admin, body: dict[str, Any]) -> None:
    tenant = await admin.tenant()
    identity = await member(admin, tenant)

    answer = await plan(admin, tenant, identity, **body)

    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await history(admin, tenant, identity))["items"] == []


async def test_over_another_version_nothing_is_planned(admin: Admin) -> None:
    tenant = await admin.tenant()
    identity = await member(admin, tenant)

    assert (await plan(admin, tenant, identity, headers={"if-match": '"7"'})).status_code == 412
    assert (await plan(admin, tenant, identity, headers={"if-match": '"1"'})).status_code == 200


async def test_a_request_that_is_sent_again_has_one_effect(admin: Admin) -> None:
    tenant = await admin.tenant()
    identity = await member(admin, tenant)
    key = {"idempotency-key": "one"}

    first = await plan(admin, tenant, identity, headers=key)
    await admin.client.delete(f"/api/members/{identity}/plan-change", headers=tenant.headers())
    again = await plan(admin, tenant, identity, headers=key)

    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert again.json() == first.json()
    assert len((await history(admin, tenant, identity))["items"]) == 2


async def test_the_plan_of_a_member_whose_source_owns_it_is_409(admin: Admin) -> None:
    tenant = await admin.tenant()
    identity = await member(admin, tenant)
    await admin.fetch(
        "with added as (insert into connections (company_id, name, kind, version_kind, mapped_fields) "
        "values ($1, 'source', 'stream', 'sequence', array['name', 'plan']) returning id) "
        "update members set connection_id = (select id from added), external_id = 'x' where id = $2",
        tenant.company_id,
        identity,
    )
    answer = await plan(admin, tenant, identity)
    assert answer.status_code == 409
    assert "plan" in answer.json()["detail"]


async def test_schedules_of_the_company_are_listed_and_no_others(admin: Admin) -> None:
    tenant, other = await admin.tenant(), await admin.tenant()
    for company, name in ((tenant.company_id, "scan"), (other.company_id, "scan"), (None, "expiry")):
        await admin.fetch(
            "insert into schedules (company_id, kind, subject_id, interval_ms, next_run_at) "
            "values ($1, $2, case when $1::uuid is not null then gen_random_uuid() end, 90000, now())",
            company,
            name,
        )
    answer = await admin.client.get("/api/schedules", headers=tenant.headers())
    (item,) = answer.json()["items"]
    assert (item["kind"], item["intervalMinutes"], item["enabled"], item["skipped"]) == ("scan", 1.5, True, 0)
    assert re.fullmatch(r"every 90 seconds; next: due, (now|\d+ seconds? ago); last: never", item["inWords"])


async def test_a_schedule_is_told_in_plain_words_too(admin: Admin) -> None:
    tenant = await admin.tenant()
    for kind, interval_ms, cron, zone, ahead, behind, enabled in (
        ("scan", 3_600_000, None, None, "30 minutes 30 seconds", "2 hours 1 second", True),
        ("directory_sync", None, "30 4 * * SUN", "Europe/Berlin", "49 hours", None, True),
        ("expiry", 300_000, None, None, "-1 hour", "3 days 1 second", False),
    ):
        await admin.fetch(
            "insert into schedules (company_id, kind, subject_id, interval_ms, cron, time_zone, next_run_at, last_run_at, enabled) "
            "values ($1, $2, gen_random_uuid(), $3, $4, $5, now() + $6::text::interval, now() - $7::text::interval, $8)",
            tenant.company_id,
            kind,
            interval_ms,
            cron,
            zone,
            ahead,
            behind,
            enabled,
        )
    answer = await admin.client.get("/api/schedules", headers=tenant.headers())
    assert {item["kind"]: item["inWords"] for item in answer.json()["items"]} == {
        "scan": "every hour; next: in 30 minutes; last: 2 hours ago",
        "directory_sync": "at 30 4 * * SUN in Europe/Berlin; next: in 2 days; last: never",
        "expiry": "every 5 minutes; next: off; last: 3 days ago",
    }
