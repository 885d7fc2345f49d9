"""Keys over the API: shown once, hashed at rest, never more than their maker's, revoked at once."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.admin_rig import Admin, Tenant


async def issue(admin: Admin, tenant: Tenant, scope: str = "all", **given: Any) -> httpx.Response:
    body = {"name": "k", "scopes": ["read"], **given}
    return await admin.client.post("/api/keys", json=body, headers=tenant.headers(scope))


async def test_a_key_is_shown_once_and_stored_as_a_hash(admin: Admin) -> None:
    tenant = await admin.tenant()
    issued = await issue(admin, tenant)
    key = issued.json()["key"]
    secret = key.rpartition("_")[2]

    used = await admin.client.get("/api/company", headers={"authorization": f"Bearer {key}"})
    listed = await admin.client.get("/api/keys", headers=tenant.headers())
    ((stored,),) = await admin.fetch("select sha256 from api_keys where id = $1", issued.json()["id"])
    rows = await admin.fetch("select t::text from api_keys t union all select t::text from admin_events t")

    assert used.status_code == 200
    assert key.startswith(f"rc_{issued.json()['id'].replace('-', '')}_")
    assert stored == hashlib.sha256(secret.encode()).digest()
    assert secret not in listed.text + "".join(text for (text,) in rows)
    assert listed.json()["items"][0].keys() == issued.json().keys() - {"key"}


async def test_a_key_grants_no_scope_that_it_lacks(admin: Admin) -> None:
    tenant = await admin.tenant()
    assert (await issue(admin, tenant, "admin", scopes=["admin"])).status_code == 201
    for scopes in (["read"], ["admin", "sync"]):
        refused = await issue(admin, tenant, "admin", scopes=scopes)
        assert refused.status_code == 403
    assert (await issue(admin, tenant, scopes=["read", "sync", "admin"])).status_code == 201
    assert (await issue(admin, tenant, scopes=["root"])).status_code == 422
    assert (await issue(admin, tenant, scopes=[])).status_code == 422


async def test_a_key_ends_when_it_was_to(admin: Admin) -> None:
    tenant = await admin.tenant()
    past = await issue(admin, tenant, expiresAt=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    zoneless = await issue(admin, tenant, expiresAt="2100-01-01T00:00:00")
    never = await issue(admin, tenant, expiresAt="9999-12-31T23:59:59+00:00")

    assert past.status_code == zoneless.status_code == 422
    assert past.json()["errors"] == [{"where": "body.expiresAt", "what": "must be in the future"}]
    assert never.status_code == 201


async def test_a_revoked_key_opens_nothing_at_once_also_its_own(admin: Admin) -> None:
    tenant = await admin.tenant()
    issued = (await issue(admin, tenant, scopes=["admin"])).json()
    own = {"authorization": f"Bearer {issued['key']}"}

    first = await admin.client.delete(f"/api/keys/{issued['id']}", headers=own)
    after = await admin.client.get("/api/keys", headers=own)
    again = await admin.client.delete(f"/api/keys/{issued['id']}", headers=tenant.headers())

    assert (first.status_code, after.status_code, again.status_code) == (204, 401, 204)
    (row,) = [
        item
        for item in (await admin.client.get("/api/keys", headers=tenant.headers())).json()["items"]
        if item["id"] == issued["id"]
    ]
    assert row["revokedBy"] == f"key:{issued['id']}"
    revocations = await admin.fetch("select actor from admin_events where action = 'key.revoked'")
    assert [actor for (actor,) in revocations] == [f"key:{issued['id']}"]
