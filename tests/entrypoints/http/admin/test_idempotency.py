"""A POST that comes again: one effect, one answer."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx

from tests.admin_rig import Admin, Tenant


def keyed(tenant: Tenant, key: str = "once") -> dict[str, str]:
    return {**tenant.headers(), "idempotency-key": key}


async def issue(admin: Admin, headers: dict[str, str], name: str = "k") -> httpx.Response:
    return await admin.client.post("/api/keys", json={"name": name, "scopes": ["read"]}, headers=headers)


async def count(admin: Admin, sql: str) -> int:
    ((found,),) = await admin.fetch(sql)
    return int(found)


async def test_the_same_request_again_has_the_answer_of_the_first_and_no_effect(admin: Admin) -> None:
    tenant = await admin.tenant()
    headers = {**admin.operator, "idempotency-key": "once", "rollcall-company": str(tenant.company_id)}

    first = await admin.client.post("/api/companies", json={"name": "Choir"}, headers=headers)
    again = await admin.client.post("/api/companies", json={"name": "Choir"}, headers=headers)
    differently_written = await admin.client.post(
        "/api/companies", content=b'{ "name" : "Choir" }', headers={**headers, "content-type": "application/json"}
    )

    assert first.status_code == again.status_code == 201
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == differently_written.headers["idempotency-replayed"] == "true"
    assert first.content == again.content == differently_written.content
    assert first.headers["location"] == again.headers["location"]
    assert await count(admin, "select count(*) from companies where name = 'Choir'") == 1


async def test_fifty_at_once_have_one_effect(admin: Admin) -> None:
    tenant = await admin.tenant()
    before = await count(admin, "select count(*) from api_keys")

    answers = await asyncio.gather(*(issue(admin, keyed(tenant)) for _ in range(50)))

    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {201, 409}
    assert statuses[201] >= 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers if answer.status_code == 201) == 1
    assert await count(admin, "select count(*) from api_keys") == before + 1
    assert (await issue(admin, keyed(tenant))).headers["idempotency-replayed"] == "true"


async def test_a_key_of_another_request_is_refused_and_of_another_principal_is_another(admin: Admin) -> None:
    ours, theirs = await admin.tenant(), await admin.tenant()
    await issue(admin, keyed(ours))

    other_body = await issue(admin, keyed(ours), "another")
    other_route = await admin.client.post("/sync", headers=keyed(ours))
    assert other_body.status_code == other_route.status_code == 422
    assert other_body.json()["errors"][0]["where"] == "header.Idempotency-Key"

    assert "idempotency-replayed" not in (await issue(admin, keyed(theirs))).headers
    assert "idempotency-replayed" not in (await issue(admin, {**keyed(ours), **ours.headers("admin")})).headers


async def test_what_failed_may_come_again(admin: Admin) -> None:
    tenant = await admin.tenant()
    headers = {**admin.operator, "idempotency-key": "once"}

    taken = await admin.client.post("/api/companies", json={"name": tenant.name}, headers=headers)
    await admin.fetch("update companies set name = 'renamed' returning id")
    later = await admin.client.post("/api/companies", json={"name": tenant.name}, headers=headers)

    assert taken.status_code == 409
    assert later.status_code == 201
    assert "idempotency-replayed" not in later.headers


async def test_what_is_shown_once_is_not_kept(admin: Admin) -> None:
    tenant = await admin.tenant()
    first, again = await issue(admin, keyed(tenant)), await issue(admin, keyed(tenant))

    assert first.json()["key"].startswith("rc_")
    assert again.json() == {**first.json(), "key": None}
    secret = first.json()["key"].rpartition("_")[2]
    assert await count(admin, f"select count(*) from idempotency_keys where body like '%{secret}%'") == 0


async def test_after_a_day_a_key_means_nothing_and_goes(admin: Admin) -> None:
    tenant = await admin.tenant()
    for number in range(15):
        await issue(admin, keyed(tenant, f"old-{number}"))
    await admin.fetch("update idempotency_keys set created_at = created_at - interval '25 hours' returning key")

    anew = await issue(admin, keyed(tenant, "old-0"))
    await issue(admin, keyed(tenant, "new"))

    assert "idempotency-replayed" not in anew.headers
    assert await count(admin, "select count(*) from idempotency_keys") == 2


async def test_a_key_that_is_none_is_refused(admin: Admin) -> None:
    tenant = await admin.tenant()
    for key in ("", "a b", "é".encode(), "x" * 256):
        answer = await admin.client.post(
            "/api/keys", json={"name": "k", "scopes": ["read"]}, headers={**tenant.headers(), "idempotency-key": key}
        )
        assert answer.status_code == 422, key
