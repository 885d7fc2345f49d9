"""Erasure: nothing personal is left of a member in any column of the database, and the member can come back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from service.actions.apply_changes import apply_changes
from service.domain.change import SOURCE_FIELDS, VersionKind
from service.domain.member import ConnectionId
from service.store.connections import insert_connection
from tests.admin_rig import Admin, Tenant
from tests.domain import samples

# Each once, so that a find says which; the first are of versions that have been overwritten since.
SECRETS = {
    "name": ["Xenia Oldname", "Xenia Newname"],
    "email": ["xenia.old@example.org", "xenia.new@example.org"],
    "phone": ["+354 900 0001", "+354 900 0002"],
    "national_id": ["9901019991", "9901019992"],
    "metadata": ["oldsection", "newsection"],
}
HOLD = "quarrelled with Berta"
EVERY = [*(text for texts in SECRETS.values() for text in texts), HOLD]


def fields(which: int) -> dict[str, Any]:
    said: dict[str, Any] = {name: texts[which] for name, texts in SECRETS.items()}
    return said | {"metadata": {"a": {"b": [said["metadata"]]}}, "plan": "gold"}


async def dump(admin: Admin) -> dict[str, str]:
    """Every row of every table of the database as text."""
    tables = await admin.fetch(
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where c.relkind in ('r', 'p', 'm') and n.nspname = 'public' order by 1"
    )
    found = {}
    for (table,) in tables:
        rows = await admin.fetch(f"select t::text from {table} t")
        found[table] = "\n".join(text for (text,) in rows)
    return found


async def left_in(admin: Admin, texts: list[str] = EVERY) -> set[str]:
    """The tables that hold any of it."""
    return {table for table, content in (await dump(admin)).items() if any(text in content for text in texts)}


class Person:
    """One member of a source, told of twice and held, with a dry run that saw it."""

    def __init__(self, admin: Admin, tenant: Tenant, connection: ConnectionId) -> None:
        self.admin, self.tenant, self.connection = admin, tenant, connection
        self.id = ""

    async def tell(self, *changes: Any) -> None:
        for result in await apply_changes(self.admin.database, changes, default_grace_days=0):
            assert result.outcome == "applied", result
            self.id = str(result.member_id)

    def upsert(self, version: int, said: dict[str, Any]) -> Any:
        return samples.upsert(version, said, company_id=self.tenant.company_id, connection_id=self.connection)

    def removal(self, version: int) -> Any:
        return samples.removal(version, company_id=self.tenant.company_id, connection_id=self.connection)

    async def erase(self, **headers: str) -> Any:
        return await self.admin.client.post(f"/api/members/{self.id}/erasure", headers={**self.tenant.headers(), **headers})


@pytest.fixture
async def person(admin: Admin) -> Person:
    tenant = await admin.tenant()
    async with admin.database.transaction() as tx:
        row = await insert_connection(tx, tenant.company_id, "register", "stream", VersionKind.SEQUENCE, sorted(SOURCE_FIELDS))
    person = Person(admin, tenant, row.id)
    await person.tell(person.upsert(1, fields(0)), person.upsert(2, fields(1)))
    held = await admin.client.post(
        f"/api/members/{person.id}/hold", json={"reason": HOLD}, headers={**tenant.headers(), "idempotency-key": "h"}
    )
    assert held.status_code == 200
    await admin.fetch(
        """
        with job as (
            insert into jobs (
                id, company_id, kind, subject_id, requested_by, correlation_id, state, attempts, started_at, finished_at, result
            )
            values (gen_random_uuid(), $1, 'directory_sync', $2, 'tests', 'c', 'succeeded', 1, now(), now(), '{}') returning id
        ), log as (
            insert into sync_log (
                job_id, company_id, connection_id, type, mode, dry_run, baseline, status, finished_at, correlation_id
            )
            select id, $1, $2, 'membership', 'full', true, false, 'success', now(), 'c' from job returning id, job_id
        ), entry as (
            insert into sync_entries (log_id, what, external_id, changes) select id, 'updated', 'ext-1', $3 from log
        ), staged as (
            insert into sync_staging (job_id, external_id, source_hash, content, national_id)
            select job_id, 'ext-1', '\\x00', convert_to($4, 'UTF8'), $4 from log
        ), page as (
            insert into sync_pages (job_id, reading, records, keys, hashes)
            select job_id, 1, 1, 'ext-1', decode(repeat('07', 16), 'hex') from log
        ), compared as (
            insert into sync_delta (job_id, place, what, external_id, was_live, content, national_id)
            select job_id, 1, 'updated', 'ext-1', true, convert_to($4, 'UTF8'), $4 from log
        )
        insert into findings (id, company_id, member_id, provider, kind, key, severity, detail, first_scan, last_scan)
        select gen_random_uuid(), $1, $5, 'breach', 'breached_account', $4, 'high', jsonb_build_object('address', $6::text), 1, 1
        returning id
        """,
        tenant.company_id,
        person.connection,
        {"name": {"before": SECRETS["name"][0], "after": SECRETS["name"][1]}, "plan": {"before": None, "after": "gold"}},
        SECRETS["national_id"][0],
        UUID(person.id),
        SECRETS["email"][0],
    )
    return person


async def test_a_member_live_at_its_source_keeps_everything(person: Person) -> None:
    before = await dump(person.admin)
    answer = await person.erase()

    assert answer.status_code == 409
    assert "source" in answer.json()["detail"]
    after = await dump(person.admin)
    assert {table for table in before if before[table] != after[table]} <= {"api_keys"}


async def test_nothing_personal_is_left_anywhere_and_what_happened_is_still_known(person: Person) -> None:
    await person.tell(person.removal(3))
    assert await left_in(person.admin) == {
        "findings",
        "idempotency_keys",
        "member_events",
        "members",
        "sync_delta",
        "sync_entries",
        "sync_staging",
    }
    events = await person.admin.fetch("select * from member_events order by version")

    answer = await person.erase(**{"idempotency-key": "e"})
    again = await person.erase(**{"idempotency-key": "e"})

    assert (answer.status_code, again.status_code) == (200, 200)
    assert again.headers["idempotency-replayed"] == "true"
    shown = answer.json()
    assert (shown["name"], shown["email"], shown["nationalId"], shown["metadata"], shown["hold"]) == (
        None,
        None,
        None,
        {},
        "erased",
    )
    assert (shown["id"], shown["externalId"], shown["state"], shown["plan"]) == (person.id, "ext-1", "removed", "gold")
    assert await left_in(person.admin) == set()
    *kept, erased = await person.admin.fetch("select * from member_events order by version")
    unlike = {"before", "after"}
    assert [{k: v for k, v in dict(one).items() if k not in unlike} for one in kept] == [
        {k: v for k, v in dict(one).items() if k not in unlike} for one in events
    ]
    for one in kept:
        assert one["before"].keys() == one["after"].keys() == set(one["changed_fields"])
    assert kept[0]["after"]["plan"] == "gold"
    assert kept[0]["after"]["state"] == "active"
    assert (erased["reason_code"], erased["new_state"], set(erased["changed_fields"])) == (
        "ADMIN",
        "removed",
        {"name", "email", "phone", "nationalId", "metadata", "hold"},
    )
    ((changes,),) = await person.admin.fetch("select changes from sync_entries")
    assert changes == {"name": {"before": None, "after": None}, "plan": {"before": None, "after": "gold"}}
    history = await person.admin.client.get(f"/api/members/{person.id}/history", headers=person.tenant.headers())
    assert [one["version"] for one in history.json()["items"]] == [5, 4, 3, 2, 1]
    # Once more there is nothing to do, and no version of it.
    assert (await person.erase()).headers["etag"] == '"5"'


async def test_its_source_brings_it_back_as_a_member_with_a_name(person: Person) -> None:
    await person.tell(person.removal(3))
    assert (await person.erase()).status_code == 200
    erased = person.id

    await person.tell(person.upsert(4, {"name": "Xenia Third", "national_id": "9901019992"}))

    assert person.id == erased
    shown = (await person.admin.client.get(f"/api/members/{erased}", headers=person.tenant.headers())).json()
    assert (shown["name"], shown["state"], shown["version"], shown["email"]) == ("Xenia Third", "suspended", 6, None)
    assert await left_in(person.admin, [text for text in EVERY if text != "9901019992"]) == set()
    released = await person.admin.client.delete(f"/api/members/{erased}/hold", headers=person.tenant.headers())
    assert released.json()["state"] == "active"


async def test_a_member_without_a_source_leaves_by_it_and_its_national_id_is_free(admin: Admin) -> None:
    tenant = await admin.tenant()
    body = {"name": "Xenia Newname", "nationalId": "9901019992", "metadata": {"a": "newsection"}}
    headers = tenant.headers()
    added = await admin.client.post("/api/members", json=body, headers={**headers, "idempotency-key": "a"})
    member = added.json()["id"]

    stale = await admin.client.post(f"/api/members/{member}/erasure", headers={**headers, "if-match": '"9"'})
    answer = await admin.client.post(f"/api/members/{member}/erasure", headers={**headers, "if-match": '"1"'})

    assert (stale.status_code, answer.status_code, answer.json()["state"]) == (412, 200, "removed")
    assert await left_in(admin) == set()
    ((event,),) = await admin.fetch("select changed_fields from member_events where member_id = $1 and version = 2", UUID(member))
    assert {"state", "upstreamState", "name"} <= set(event)
    again = await admin.client.post("/api/members", json=body, headers={**headers, "idempotency-key": "a"})
    assert (again.status_code, again.json()["id"] != member) == (201, True)
