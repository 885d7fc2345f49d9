"""Members as they are read over HTTP: everything says what holds now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.actions.apply_changes import apply_changes
from service.domain.change import SOURCE_FIELDS, Change, VersionKind
from service.domain.member import ConnectionId
from service.store.connections import insert_connection
from tests.admin_rig import Admin, Tenant
from tests.domain import samples

DAY = timedelta(days=1)


async def connect(admin: Admin, tenant: Tenant, mapped: Sequence[str] = tuple(SOURCE_FIELDS)) -> ConnectionId:
    async with admin.database.transaction() as tx:
        row = await insert_connection(tx, tenant.company_id, "register", "stream", VersionKind.SEQUENCE, sorted(mapped))
    return row.id


async def apply(admin: Admin, *changes: Change) -> list[str]:
    results = await apply_changes(admin.database, changes, default_grace_days=0)
    assert {result.outcome.value for result in results} == {"applied"}
    return [str(result.member_id) for result in results]


async def told(admin: Admin, tenant: Tenant, connection: ConnectionId, key: str = "ada", /, **fields: Any) -> str:
    """A member that a source tells of; its id."""
    said = {"name": "Ada Lovelace", **fields}
    change = samples.upsert(1, said, company_id=tenant.company_id, connection_id=connection, external_id=key)
    (found,) = await apply(admin, change)
    return found


async def get(admin: Admin, tenant: Tenant, path: str = "", /, scope: str = "read", **query: Any) -> httpx.Response:
    return await admin.client.get(f"/api/members{path}", params=query, headers=tenant.headers(scope))


async def ids(admin: Admin, tenant: Tenant, **query: Any) -> list[str]:
    answer = await get(admin, tenant, **query)
    assert answer.status_code == 200, answer.text
    return [member["id"] for member in answer.json()["items"]]


async def test_a_member_is_shown_with_all_that_is_known(admin: Admin) -> None:
    tenant = await admin.tenant()
    connection = await connect(admin, tenant)
    starts_at = datetime(2026, 1, 1, tzinfo=UTC)
    said = {"email": "ada@example.org", "national_id": "0101012345", "plan": "gold", "starts_at": starts_at, "metadata": {"a": [1]}}
    member = await told(admin, tenant, connection, **said)

    answer = await get(admin, tenant, f"/{member}")
    shown = answer.json()

    assert answer.headers["etag"] == '"1"'
    assert (shown["id"], shown["connectionId"], shown["externalId"]) == (member, str(connection), "ada")
    assert (shown["name"], shown["email"], shown["nationalId"]) == ("Ada Lovelace", "ada@example.org", "0101012345")
    assert (shown["state"], shown["upstreamState"], shown["plan"], shown["version"]) == ("active", "active", "gold", 1)
    assert (shown["startsAt"], shown["expiresAt"], shown["metadata"]) == ("2026-01-01T00:00:00Z", None, {"a": [1]})
    assert datetime.fromisoformat(shown["lastVerifiedAt"]) <= datetime.fromisoformat(shown["readAt"])
    listed = (await get(admin, tenant)).json()["items"]
    assert listed == [{name: value for name, value in shown.items() if name != "lastVerifiedAt"} | {"readAt": listed[0]["readAt"]}]


async def test_an_expired_member_that_nobody_has_reconciled_reads_as_expired_everywhere(admin: Admin) -> None:
    tenant = await admin.tenant()
    connection = await connect(admin, tenant)
    member = await told(admin, tenant, connection, expires_at=datetime.now(UTC) + DAY)
    other = await told(admin, tenant, connection, "bob", name="Bob")
    # As if the day had passed: what was published stays.
    await admin.fetch("update members set expires_at = now() - interval '1 second' where id = $1 returning id", UUID(member))
    assert await admin.fetch("select state from members where id = $1", UUID(member)) == [("active",)]

    assert (await get(admin, tenant, f"/{member}")).json()["state"] == "expired"
    assert {one["id"]: one["state"] for one in (await get(admin, tenant)).json()["items"]} == {member: "expired", other: "active"}
    assert await ids(admin, tenant, state="expired") == [member]
    assert await ids(admin, tenant, state="active") == [other]
    (found,) = (await get(admin, tenant, q="lovelace")).json()["items"]
    assert found["state"] == "expired"
    assert await ids(admin, tenant, q="lovelace", state="active") == []
    export = (await get(admin, tenant, "/export")).text.splitlines()
    assert next(line for line in export if member in line).count(",expired,") == 1
    at_the_door = (await get(admin, tenant, f"/{member}/access")).json()
    assert (at_the_door["access"], at_the_door["deniedBecause"], at_the_door["state"]) == (False, "expired", "expired")

    # The company gives days of grace: that holds at once, too.
    changed = await admin.client.patch("/api/company", json={"graceDays": 3}, headers=tenant.headers())
    assert changed.status_code == 200
    assert (await get(admin, tenant, f"/{member}")).json()["state"] == "grace"
    assert await ids(admin, tenant, state="grace") == [member]
    assert (await get(admin, tenant, f"/{member}/access")).json()["access"] is True


@pytest.mark.parametrize(
    ("facts", "denial"),
    [
        ({}, None),
        ({"starts_at": datetime.now(UTC) - DAY}, None),
        ({"starts_at": datetime.now(UTC) + DAY}, "notStarted"),
        ({"state": "pending"}, "pending"),
        ({"state": "suspended"}, "suspended"),
    ],
)
async def test_the_door_says_why_not(admin: Admin, facts: dict[str, Any], denial: str | None) -> None:
    tenant = await admin.tenant()
    facts = {name: samples.UpstreamState(value) if name == "state" else value for name, value in facts.items()}
    member = await told(admin, tenant, await connect(admin, tenant), **facts)

    shown = (await get(admin, tenant, f"/{member}/access")).json()
    assert (shown["access"], shown["deniedBecause"]) == (denial is None, denial)


async def test_filters_narrow_each_other_and_pages_follow(admin: Admin) -> None:
    tenant = await admin.tenant()
    connection = await connect(admin, tenant)
    members = [
        await told(admin, tenant, connection, f"k{n}", name=f"Person {n}", plan=("gold", "silver")[n % 2], national_id=f"id{n}")
        for n in range(7)
    ]

    assert await ids(admin, tenant, plan="gold") == members[::2]
    assert await ids(admin, tenant, plan="gold", q="person 4") == [members[4]]
    assert await ids(admin, tenant, nationalId="id-3") == [members[3]]
    assert await ids(admin, tenant, nationalId="id3", plan="gold") == []
    assert await ids(admin, tenant, connectionId=str(connection)) == members
    assert await ids(admin, tenant, q="k5") == [members[5]]
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await get(admin, tenant, limit=3, **cursor)).json()
        found += [one["id"] for one in page["items"]]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
    assert found == members


@pytest.mark.parametrize(
    "query",
    [{"q": "a"}, {"q": "   "}, {"state": "gone"}, {"nationalId": "- -"}, {"connectionId": "7"}, {"limit": 0}, {"cursor": "x"}],
)
async def test_what_is_no_filter_is_told_and_not_repeated(admin: Admin, query: dict[str, Any]) -> None:
    tenant = await admin.tenant()
    answer = await get(admin, tenant, **query)

    assert answer.status_code == 422
    ((name, _),) = query.items()
    assert [error["where"] for error in answer.json()["errors"]] == [f"query.{name}"]
    assert (await get(admin, tenant, "/export", q="a")).status_code == 422


async def test_a_foreign_member_is_nobody(admin: Admin) -> None:
    ours, theirs = await admin.tenant(), await admin.tenant()
    member = await told(admin, theirs, await connect(admin, theirs))

    for path in ("", "/history", "/access"):
        assert (await get(admin, ours, f"/{member}{path}")).status_code == 404
        assert (await get(admin, theirs, f"/{member}{path}")).status_code == 200
    assert await ids(admin, ours) == await ids(admin, ours, q="lovelace") == []
    assert member not in (await get(admin, ours, "/export")).text
    assert (await get(admin, theirs, scope="sync")).status_code == 403


async def test_the_history_is_read_backwards_and_keeps_the_cursor_to_its_member(admin: Admin) -> None:
    tenant = await admin.tenant()
    connection = await connect(admin, tenant)
    member, other = await told(admin, tenant, connection), await told(admin, tenant, connection, "bob", name="Bob")
    given = {"company_id": tenant.company_id, "connection_id": connection, "external_id": "ada"}
    await apply(admin, samples.upsert(2, {"name": "Ada King"}, **given), samples.removal(3, **given))

    first = (await get(admin, tenant, f"/{member}/history", limit=2)).json()
    rest = (await get(admin, tenant, f"/{member}/history", limit=2, cursor=first["nextCursor"])).json()

    assert [one["version"] for one in first["items"] + rest["items"]] == [3, 2, 1]
    assert first["items"][1]["before"] == {"name": "Ada Lovelace"}
    assert first["items"][1]["after"] == {"name": "Ada King"}
    assert (rest["items"][0]["previousState"], rest["items"][0]["newState"], rest["nextCursor"]) == (None, "active", None)
    assert (await get(admin, tenant, f"/{other}/history", cursor=first["nextCursor"])).status_code == 422


SYNC = """
with job as (
    insert into jobs (
        id, company_id, kind, subject_id, requested_by, correlation_id, state, attempts, started_at, finished_at, result
    )
    values (gen_random_uuid(), $1, 'directory_sync', $2, 'tests', 'c', 'succeeded', 1, now(), now(), '{}') returning id
)
insert into sync_log (
    job_id, company_id, connection_id, type, mode, dry_run, baseline, status, snapshot_began_at, started_at, finished_at, error,
    correlation_id
)
select id, $1, $2, 'membership', $3, $4, false, $5, $6, $6, now(), case when $5 = 'failed' then 'it failed' end, 'c' from job
returning id
"""


async def test_a_complete_sync_verifies_whom_it_had_nothing_to_say_against(admin: Admin) -> None:
    tenant = await admin.tenant()
    connection = await connect(admin, tenant)
    ada, bob = await told(admin, tenant, connection), await told(admin, tenant, connection, "bob", name="Bob")
    now = datetime.now(UTC)

    async def synced(ago: timedelta, mode: str = "full", status: str = "success", *, dry_run: bool = False) -> UUID:
        ((log,),) = await admin.fetch(SYNC, tenant.company_id, connection, mode, dry_run, status, now + 3 * DAY - ago)
        return UUID(str(log))

    async def verified(member: str) -> datetime:
        return datetime.fromisoformat((await get(admin, tenant, f"/{member}")).json()["lastVerifiedAt"])

    assert await verified(ada) < now
    await synced(2 * DAY)
    assert await verified(ada) == await verified(bob) == now + DAY
    # None of these has looked at everybody.
    await synced(DAY, "incremental")
    await synced(DAY, status="failed")
    await synced(DAY, status="quarantined")
    await synced(DAY, dry_run=True)
    lacking = await synced(DAY, status="partial")
    await admin.fetch('update sync_log set details = \'{"withheld": "counts differ"}\' where id = $1 returning id', lacking)
    assert await verified(ada) == now + DAY
    # And this one could not read one of them.
    log = await synced(DAY / 2, status="partial")
    await admin.fetch(
        "insert into sync_entries (log_id, what, external_id, reason) values ($1, 'invalid', 'bob', 'no name') returning id", log
    )
    assert (await verified(ada), await verified(bob)) == (now + 2.5 * DAY, now + DAY)
