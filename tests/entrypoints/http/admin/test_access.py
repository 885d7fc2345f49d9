"""Every route that OpenAPI knows: who is let in, who is not, and that nothing of one company is another's."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.entrypoints.http.admin.app import described_api
from tests.admin_rig import OPERATOR_KEY, SIGNING_SECRET, Admin, Tenant, open_admin
from tests.directory_rig import Upstream

DESCRIBED = described_api().openapi()
ROUTES = [(method.upper(), path) for path, methods in DESCRIBED["paths"].items() for method in methods]
# What a route with a body needs of it, beyond what its schema says by itself.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/api/companies"): {"name": "A name of its own"},
    ("POST", "/api/directory"): {"name": "d", "kind": "django", "settings": {"baseUrl": "https://members.example.com"}},
    ("POST", "/api/keys"): {"name": "k", "scopes": ["read"]},
    ("POST", "/api/subscribers"): {"name": "s", "url": "https://lists.example.com/", "secretReference": SIGNING_SECRET},
    ("POST", "/api/subscribers/{subscriber_id}/secret"): {"secretReference": SIGNING_SECRET},
    ("POST", "/api/subscribers/{subscriber_id}/replay"): {"since": "2026-01-01T00:00:00Z"},
}


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DESCRIBED["paths"][path][method.lower()]
    return found


def scopes(method: str, path: str) -> set[str]:
    return set(operation(method, path)["security"][0]["key"])


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", str(uuid4()), path)


async def ask(admin: Admin, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    body = BODIES.get((method, path)) if "requestBody" in operation(method, path) else None
    return await admin.client.request(method, filled(path), json=body, headers=headers)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_says_what_it_demands_and_every_way_in_which_it_can_fail(method: str, path: str) -> None:
    described = operation(method, path)

    assert scopes(method, path) <= {"read", "sync", "admin", "operator"}
    assert {"400", "401", "403", "404", "422", "500", "503"} <= described["responses"].keys()
    if method != "GET" and method != "DELETE":
        assert {"408", "413", "415"} <= described["responses"].keys()
    assert described["summary"]
    assert described["description"]


async def test_without_a_key_with_a_wrong_one_or_without_its_scope_nobody_is_let_in(admin: Admin) -> None:
    tenant = await admin.tenant()
    key = tenant.keys["all"]
    wrong = [
        "",
        "Basic abc",
        "Bearer",
        "Bearer x",
        f"Bearer {key[:-1]}x",
        f"Bearer {key}0",
        "Bearer rc_" + 32 * "0" + "_" + 64 * "0",
    ]
    for method, path in ROUTES:
        assert (await ask(admin, method, path, {})).status_code == 401
        for given in wrong:
            answer = await ask(admin, method, path, {"authorization": given})
            assert answer.status_code == 401, (method, path, given)
            assert answer.headers["www-authenticate"].startswith('Bearer realm="rollcall"')
        for scope in ("read", "sync", "admin"):
            if scope not in scopes(method, path):
                answer = await ask(admin, method, path, tenant.headers(scope))
                assert answer.status_code == 403, (method, path, scope)
                assert answer.headers["content-type"] == "application/problem+json"


async def test_where_no_operator_key_is_set_every_route_answers_503(database_url: str) -> None:
    async with open_admin(database_url, operator_key=None) as closed:
        for method, path in ROUTES:
            answer = await ask(closed, method, path, {"authorization": f"Bearer {OPERATOR_KEY}"})
            assert answer.status_code == 503
            assert "ADMIN_API_KEY" in answer.json()["detail"]
        assert (await closed.client.get("/openapi.json")).status_code == 200
        assert (await closed.client.get("/health")).status_code == 200


async def populated(admin: Admin, upstream: Upstream) -> tuple[Tenant, dict[str, list[str]]]:
    """A company with something of every kind, and the ids of all that by the parameter that names it."""
    tenant = await admin.tenant()
    directory = await admin.directory(tenant, upstream.url)
    job = await admin.sync(tenant)
    await admin.sync(tenant, "/sync/dry-run")
    own = tenant.headers()
    subscriber = await admin.subscriber(tenant)
    delivery = await admin.delivery(tenant, subscriber["id"])
    await admin.client.patch("/api/company", json={"scanProviders": {"duplicates": {}}}, headers=own)
    scan = await admin.scan(tenant)
    keys = (await admin.client.get("/api/keys", headers=own)).json()["items"]
    logs = (await admin.client.get("/sync/logs", headers=own)).json()["items"]
    await admin.fetch("update members set name = 'Nobody' where company_id = $1", tenant.company_id)
    read_model = f"directory:{directory['id']}"
    compared = await admin.client.post(f"/api/drift/{read_model}/run", headers=own)
    await admin.run(compared.json()["jobId"])
    (drift_run,) = (await admin.client.get("/api/drift", headers=own)).json()["items"]
    assert drift_run["keys"]
    members = await admin.fetch("select id::text from members where company_id = $1", tenant.company_id)
    return tenant, {
        "directory_id": [directory["id"]],
        "job_id": [str(job.id)],
        "read_model": [read_model],
        "run_id": [drift_run["id"]],
        "log_id": [log["id"] for log in logs],
        "key_id": [key["id"] for key in keys],
        "member_id": [identity for (identity,) in members],
        "subscriber_id": [subscriber["id"]],
        "delivery_id": [str(delivery["id"])],
        "scan_id": [scan.result["scanId"]] if scan.result else [],
        "company_id": [str(tenant.company_id)],
    }


async def snapshot(admin: Admin, tenant: Tenant) -> dict[str, Any]:
    """All that the company has, in every table."""
    found: dict[str, Any] = {}
    tables = await admin.fetch("select table_name from information_schema.columns where column_name = 'company_id' order by 1")
    for (table,) in tables:
        sql = f"select coalesce(md5(string_agg(t::text, ',' order by t::text)), '') from {table} t where company_id = $1"
        ((found[table],),) = await admin.fetch(sql, tenant.company_id)
    return found


async def test_nothing_crosses_from_one_company_to_another(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(3)
    theirs, ids = await populated(admin, upstream)
    ours = await admin.tenant()
    before = await snapshot(admin, theirs)
    # A number may stand anywhere.
    secrets = {identity for found in ids.values() for identity in found if not identity.isdigit()} | {theirs.name}
    # Whatever is said in the header: the company comes of the key.
    headers = {**ours.headers(), "rollcall-company": str(theirs.company_id)}

    for method, path in ROUTES:
        names = re.findall(r"\{(\w+)\}", path)
        if scopes(method, path) == {"operator"}:
            assert (await ask(admin, method, path, headers)).status_code == 403
            continue
        if any(name not in ids for name in names):
            pytest.fail(f"{path} names something of which this test makes none: let it")
        for identity in ids[names[0]] if names else [None]:
            target = path
            for name in names:
                target = target.replace(f"{{{name}}}", str(identity if name == names[0] else ids[name][0]))
            answer = await admin.client.request(method, target, json=BODIES.get((method, path)), headers=headers)
            if identity is not None:
                # Not theirs to know: it is as if it were not there, whatever else would be wrong.
                assert answer.status_code in (404, 422), (method, target, answer.text)
                if answer.status_code == 422:
                    assert method in ("POST", "PATCH", "PUT"), (method, target, answer.text)
            assert not [one for one in secrets if one in answer.text], (method, target, answer.text)
    assert await snapshot(admin, theirs) == before


async def test_the_operator_says_which_company_unless_there_is_one(admin: Admin) -> None:
    nobody = await admin.client.get("/api/company", headers=admin.operator)
    first = await admin.tenant("Kór Akureyrar")
    only = await admin.client.get("/api/company", headers=admin.operator)
    second = await admin.tenant()
    unsaid = await admin.client.get("/api/company", headers=admin.operator)

    assert nobody.status_code == 400
    assert "POST /api/companies" in nobody.json()["detail"]
    assert only.json()["id"] == str(first.company_id)
    assert unsaid.status_code == 400
    assert "Rollcall-Company" in unsaid.json()["detail"]
    for said, expected in ((str(second.company_id), second), ("Kór Akureyrar".encode(), first)):
        answer = await admin.client.get("/api/company", headers={**admin.operator, "rollcall-company": said})
        assert answer.json()["name"] == expected.name
    unknown = await admin.client.get("/api/company", headers={**admin.operator, "rollcall-company": "nobody"})
    assert unknown.status_code == 404


async def test_a_key_that_ended_or_was_revoked_opens_nothing(admin: Admin) -> None:
    tenant = await admin.tenant()
    assert (await admin.client.get("/api/company", headers=tenant.headers("read"))).status_code == 200

    await admin.fetch("update api_keys set expires_at = now() - interval '1 second' where name = 'read' returning id")
    await admin.fetch("update api_keys set revoked_at = now(), revoked_by = 'tests' where name = 'sync' returning id")

    for scope in ("read", "sync"):
        answer = await admin.client.get("/sync/status", headers=tenant.headers(scope))
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_a_key_s_use_is_noted_once_an_hour(admin: Admin) -> None:
    tenant = await admin.tenant()
    used = "select last_used_at, xmin from api_keys where name = 'read'"
    for _ in range(3):
        await admin.client.get("/api/company", headers=tenant.headers("read"))
    first = await admin.fetch(used)
    await admin.client.get("/api/company", headers=tenant.headers("read"))

    assert first[0]["last_used_at"] is not None
    assert await admin.fetch(used) == first
