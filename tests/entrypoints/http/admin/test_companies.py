"""Companies: the operator adds them, their own keys change them, and each change is in the audit."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.admin_rig import Admin


async def test_a_company_is_added_shown_and_changed(admin: Admin) -> None:
    given = {"name": "  Kór Akureyrar ", "timeZone": "Atlantic/Reykjavik", "graceDays": 14}
    added = await admin.client.post("/api/companies", json=given, headers=admin.operator)
    changed = await admin.client.patch("/api/company", json={"graceDays": None, "name": "Choir"}, headers=admin.operator)
    unchanged = await admin.client.patch("/api/company", json={}, headers=admin.operator)
    shown = await admin.client.get("/api/company", headers=admin.operator)
    events = (await admin.client.get("/api/audit", headers=admin.operator)).json()["items"]

    assert added.status_code == 201
    assert added.json()["name"] == "Kór Akureyrar"
    assert changed.json() == {**added.json(), "name": "Choir", "graceDays": None}
    assert unchanged.json() == shown.json() == changed.json()
    assert [(event["action"], event["actor"]) for event in events] == [
        ("company.changed", "operator"),
        ("company.registered", "operator"),
    ]
    assert events[0]["changes"] == {
        "name": {"before": "Kór Akureyrar", "after": "Choir"},
        "graceDays": {"before": 14, "after": None},
    }
    assert events[0]["correlationId"] == changed.headers["x-correlation-id"]


async def test_a_name_is_one_company_s_however_many_want_it_at_once(admin: Admin) -> None:
    answers = await asyncio.gather(
        *(admin.client.post("/api/companies", json={"name": "Choir"}, headers=admin.operator) for _ in range(8))
    )
    other = await admin.tenant()
    as_operator = {**admin.operator, "rollcall-company": str(other.company_id)}
    taken = await admin.client.patch("/api/company", json={"name": "Choir"}, headers=as_operator)

    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[201] == 1
    assert set(statuses) <= {201, 409, 503}
    assert taken.status_code == 409
    assert await admin.fetch("select count(*) from companies where name = 'Choir'") == [(1,)]


async def test_a_company_cannot_call_itself_something_else(admin: Admin) -> None:
    tenant = await admin.tenant("Choir")
    renamed = await admin.client.patch("/api/company", json={"name": "default"}, headers=tenant.headers())
    allowed = await admin.client.patch("/api/company", json={"graceDays": 3}, headers=tenant.headers())

    assert renamed.status_code == 403
    assert allowed.json()["name"] == "Choir"


async def test_nobody_takes_another_company_s_id_for_a_name(admin: Admin) -> None:
    tenant = await admin.tenant()
    answer = await admin.client.post("/api/companies", json={"name": str(tenant.company_id)}, headers=admin.operator)
    assert answer.status_code == 409


async def test_the_list_comes_in_pages(admin: Admin) -> None:
    made = {str((await admin.tenant()).company_id) for _ in range(5)}
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await admin.client.get(f"/api/companies?limit=2{cursor}", headers=admin.operator)).json()
        seen += [item["id"] for item in page["items"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"

    assert sorted(seen) == sorted(made)
