"""Members as people change them over HTTP: what is whose, over which version, once, and with an audit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from service.actions.apply_changes import apply_changes
from service.domain.change import SOURCE_FIELDS, VersionKind
from service.domain.member import ConnectionId
from service.store.connections import insert_connection
from tests.admin_rig import Admin, Tenant
from tests.domain import samples


class Members:
    """The members of one tenant, over HTTP."""

    def __init__(self, admin: Admin, tenant: Tenant) -> None:
        self.admin, self.tenant = admin, tenant

    async def ask(self, method: str, path: str = "", body: Any = None, /, scope: str = "all", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.admin.client.request(
            method, f"/api/members{path}", json=body, headers={**self.tenant.headers(scope), **named}
        )

    async def add(self, **body: Any) -> str:
        answer = await self.ask("POST", "", {"name": "Anna", **body})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def told(self, *, mapped: Sequence[str] = tuple(SOURCE_FIELDS), version: int = 1, **fields: Any) -> str:
        """A member of a source's, of a connection of its own."""
        async with self.admin.database.transaction() as tx:
            row = await insert_connection(
                tx, self.tenant.company_id, f"c {uuid4()}", "stream", VersionKind.SEQUENCE, sorted({"name", *mapped})
            )
        return await self.tell(row.id, version, **fields)

    async def tell(self, connection: ConnectionId, version: int, **fields: Any) -> str:
        said = {"name": "Anna", **fields}
        change = samples.upsert(version, said, company_id=self.tenant.company_id, connection_id=connection)
        (result,) = await apply_changes(self.admin.database, [change], default_grace_days=0)
        assert result.outcome in ("applied", "unchanged"), result
        return str(result.member_id)

    async def remove_at_source(self, member: str, version: int) -> None:
        ((connection,),) = await self.admin.fetch("select connection_id from members where id = $1", UUID(member))
        change = samples.removal(version, company_id=self.tenant.company_id, connection_id=ConnectionId(connection))
        (result,) = await apply_changes(self.admin.database, [change], default_grace_days=0)
        assert result.outcome == "applied"

    async def events(self, member: str) -> list[Any]:
        return await self.admin.fetch("select * from member_events where member_id = $1 order by version", UUID(member))


@pytest.fixture
async def members(admin: Admin) -> Members:
    return Members(admin, await admin.tenant())


async def test_a_member_is_added_with_audit_event_and_address(members: Members) -> None:
    body = {
        "name": "Ada",
        "nationalId": "010101-1234",
        "email": "ada@example.org",
        "phone": "+354 1",
        "state": "pending",
        "plan": "gold",
        "startsAt": "2026-01-01T00:00:00+01:00",
        "expiresAt": "9999-12-31T23:59:59.999999Z",
        "metadata": {"section": "alto"},
    }
    answer = await members.ask("POST", "", body)
    shown = answer.json()

    assert answer.status_code == 201
    assert (answer.headers["location"], answer.headers["etag"]) == (f"/api/members/{shown['id']}", '"1"')
    assert {name: shown[name] for name in body} == body | {
        "nationalId": "0101011234",
        "startsAt": "2025-12-31T23:00:00Z",
        "expiresAt": shown["expiresAt"],
    }
    assert (shown["connectionId"], shown["externalId"], shown["upstreamState"]) == (None, None, "pending")
    found = await members.ask("GET", f"/{shown['id']}")
    assert found.json() == shown | {"readAt": found.json()["readAt"]}
    (event,) = await members.events(shown["id"])
    assert (event["reason_code"], event["previous_state"], event["new_state"]) == ("ADMIN", None, "pending")
    assert event["actor"].startswith("key:")
    assert event["correlation_id"] == answer.headers["x-correlation-id"]
    ((message,),) = await members.admin.fetch("select body from outbox where order_key = $1", UUID(shown["id"]))
    assert json.loads(message)["reasonCode"] == "ADMIN"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": None},
        {"name": "  "},
        {"name": "A", "state": "removed"},
        {"name": "A", "state": None},
        {"name": "A", "nationalId": "- -"},
        {"name": "A", "startsAt": "2026-01-01"},
        {"name": "A", "startsAt": 5},
        {"name": "A", "startsAt": "0001-01-01T00:00:00+14:00"},
        {"name": "A", "metadata": {"a": [[[[[[[[[1]]]]]]]]]}},
        {"name": "A", "metadata": {"text": "x" * 20_000}},
        {"name": "A", "externalId": "mine"},
        {"name": "A", "hold": "x"},
        {"name": "A\u0000"},
    ],
)
async def test_what_is_no_member_is_refused_without_being_repeated(members: Members, body: dict[str, Any]) -> None:
    answer = await members.ask("POST", "", body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await members.ask("GET")).json()["items"] == []


async def test_a_national_id_is_one_persons_also_when_fifty_ask_at_once(members: Members) -> None:
    answers = await asyncio.gather(*(members.ask("POST", "", {"name": f"P{n}", "nationalId": "0101011234"}) for n in range(50)))

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 201
    assert set(statuses[1:]) <= {409, 503}
    assert 409 in statuses
    other = await members.add(name="Other")
    assert (await members.ask("PATCH", f"/{other}", {"nationalId": "010101-1234"})).status_code == 409
    # Of another company it may be anybody.
    elsewhere = Members(members.admin, await members.admin.tenant())
    await elsewhere.add(nationalId="0101011234")


async def test_who_left_comes_back_under_the_old_id(members: Members) -> None:
    member = await members.told(national_id="0101011234", email="old@example.org")
    assert (await members.ask("POST", "", {"name": "Anna", "nationalId": "0101011234"})).status_code == 409
    await members.remove_at_source(member, 2)

    answer = await members.ask("POST", "", {"name": "Anna B", "nationalId": "0101011234"})

    shown = answer.json()
    assert (answer.status_code, shown["id"], shown["version"], shown["state"]) == (201, member, 3, "active")
    assert (shown["connectionId"], shown["email"], shown["removedAt"]) == (None, None, None)


async def test_a_post_that_comes_again_adds_nobody(members: Members) -> None:
    body = {"name": "Ada", "nationalId": "0101011234"}
    first = await members.ask("POST", "", body, idempotency_key="once")
    again = await members.ask("POST", "", body, idempotency_key="once")
    other = await members.ask("POST", "", {"name": "Bob"}, idempotency_key="once")

    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 422)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    at_once = await asyncio.gather(*(members.ask("POST", "", {"name": "Eve"}, idempotency_key="twenty") for _ in range(20)))
    assert {answer.status_code for answer in at_once} <= {201, 409}
    assert len((await members.ask("GET")).json()["items"]) == 2


async def test_an_edit_changes_what_is_given_over_the_version_that_was_read(members: Members) -> None:
    member = await members.add(email="a@example.org", plan="gold")

    first = await members.ask("PATCH", f"/{member}", {"email": None, "name": "Berta"}, if_match='"1"')
    late = await members.ask("PATCH", f"/{member}", {"name": "Cecilia"}, if_match='"1"')
    either = await members.ask("PATCH", f"/{member}", {"name": "Dora"}, if_match='"9", "2"')
    same = await members.ask("PATCH", f"/{member}", {"name": "Dora"}, if_match="*")

    assert (first.status_code, first.headers["etag"], first.json()["email"], first.json()["plan"]) == (200, '"2"', None, "gold")
    assert (late.status_code, either.status_code, either.json()["name"]) == (412, 200, "Dora")
    assert (same.status_code, same.headers["etag"]) == (200, '"3"')
    for nonsense in ("3", 'W/"3"', '"x"', "", '"3'):
        assert (await members.ask("PATCH", f"/{member}", {"name": "E"}, if_match=nonsense)).status_code == 412
    assert [event["version"] for event in await members.events(member)] == [1, 2, 3]


@pytest.mark.parametrize("body", [{"name": None}, {"state": None}, {"state": "removed"}, {"name": ""}, {"shoe": 38}])
async def test_an_edit_cannot_take_name_or_state_away(members: Members, body: dict[str, Any]) -> None:
    assert (await members.ask("PATCH", f"/{await members.add()}", body)).status_code == 422


async def test_what_its_source_owns_is_changed_there_alone(members: Members) -> None:
    member = await members.told(mapped=("email", "expires_at"))

    refused = await members.ask("PATCH", f"/{member}", {"email": "a@example.org", "expiresAt": None, "plan": "gold"})
    free = await members.ask("PATCH", f"/{member}", {"plan": "gold"})
    gone = await members.ask("DELETE", f"/{member}")

    assert refused.status_code == gone.status_code == 409
    assert refused.json()["detail"].endswith(": email, expiresAt")
    assert (free.status_code, free.json()["plan"], free.json()["version"]) == (200, "gold", 2)
    # Its source is not in the way of that, and leaves it alone.
    ((connection,),) = await members.admin.fetch("select connection_id from members where id = $1", UUID(member))
    await members.tell(connection, 2, email="b@example.org", plan="silver")
    shown = (await members.ask("GET", f"/{member}")).json()
    assert (shown["email"], shown["plan"]) == ("b@example.org", "gold")
    # Once nobody is asked any more, all of it is ours.
    await members.admin.fetch("update connections set status = 'archived' where id = $1 returning id", connection)
    assert (await members.ask("PATCH", f"/{member}", {"email": "c@example.org"})).status_code == 200
    assert (await members.ask("DELETE", f"/{member}")).status_code == 204


async def test_a_member_leaves_and_comes_back(members: Members) -> None:
    member = await members.add()

    assert (await members.ask("DELETE", f"/{member}", if_match='"7"')).status_code == 412
    assert (await members.ask("DELETE", f"/{member}", if_match='"1"')).status_code == 204
    assert (await members.ask("DELETE", f"/{member}")).status_code == 204
    shown = (await members.ask("GET", f"/{member}")).json()
    assert (shown["state"], shown["version"], shown["name"]) == ("removed", 2, "Anna")
    assert (await members.ask("PATCH", f"/{member}", {"plan": "gold"})).status_code == 409
    assert (await members.ask("POST", f"/{member}/hold", {"reason": "late"})).status_code == 409
    back = await members.ask("PATCH", f"/{member}", {"state": "active", "plan": "gold"})
    assert (back.json()["state"], back.json()["version"], back.json()["removedAt"]) == ("active", 3, None)


async def test_a_hold_suspends_whatever_the_source_says_and_is_lifted_here(members: Members) -> None:
    member = await members.told()

    held = await members.ask("POST", f"/{member}/hold", {"reason": " owes 2026 "}, if_match='"1"', idempotency_key="h")
    again = await members.ask("POST", f"/{member}/hold", {"reason": " owes 2026 "}, if_match='"1"', idempotency_key="h")
    assert (held.status_code, held.json()["state"], held.json()["hold"]) == (200, "suspended", "owes 2026")
    assert (again.status_code, again.json()["version"]) == (200, 2)
    ((connection,),) = await members.admin.fetch("select connection_id from members where id = $1", UUID(member))
    await members.tell(connection, 2, state=samples.UpstreamState.ACTIVE, email="a@example.org")
    assert (await members.ask("GET", f"/{member}")).json()["state"] == "suspended"
    released = await members.ask("DELETE", f"/{member}/hold")
    assert (released.status_code, released.json()["state"], released.headers["etag"]) == (200, "active", '"4"')
    assert (await members.ask("DELETE", f"/{member}/hold")).headers["etag"] == '"4"'
    for reason in ("", "  ", "x" * 501, None):
        assert (await members.ask("POST", f"/{member}/hold", {"reason": reason})).status_code == 422


WRITES = [
    ("PATCH", "", {"name": "B"}),
    ("DELETE", "", None),
    ("POST", "/hold", {"reason": "late"}),
    ("DELETE", "/hold", None),
    ("POST", "/erasure", None),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=[f"{method} {path}" for method, path, _ in WRITES])
async def test_a_foreign_member_is_nobody_and_reading_keys_change_nothing(
    members: Members, method: str, path: str, body: Any
) -> None:
    member = await members.add()
    foreign = Members(members.admin, await members.admin.tenant())

    assert (await foreign.ask(method, f"/{member}{path}", body)).status_code == 404
    assert (await members.ask(method, f"/{uuid4()}{path}", body)).status_code == 404
    for scope in ("read", "sync"):
        assert (await members.ask(method, f"/{member}{path}", body, scope=scope)).status_code == 403
    assert (await members.ask("GET", f"/{member}")).json()["version"] == 1


async def test_a_renewal_and_edits_that_race_are_all_applied_and_none_overwrites_another(members: Members) -> None:
    member = await members.told(mapped=("expires_at",))
    ((connection,),) = await members.admin.fetch("select connection_id from members where id = $1", UUID(member))
    until = [samples.NOW.replace(year=2100 + n) for n in range(20)]

    async def renew() -> None:
        for number, at in enumerate(until):
            await members.tell(connection, 2 + number, expires_at=at)

    async def edit(number: int) -> int:
        answer = await members.ask("PATCH", f"/{member}", {"phone": f"{number}"})
        return answer.status_code

    async def edit_over_a_version(number: int) -> int:
        read = await members.ask("GET", f"/{member}")
        answer = await members.ask("PATCH", f"/{member}", {"plan": f"p{number}"}, if_match=read.headers["etag"])
        return answer.status_code

    renewed, *statuses = await asyncio.gather(renew(), *map(edit, range(10)), *map(edit_over_a_version, range(10)))

    assert renewed is None
    assert set(statuses[:10]) <= {200, 503}
    assert 200 in statuses[:10]
    assert set(statuses[10:]) <= {200, 412, 503}
    shown = (await members.ask("GET", f"/{member}")).json()
    assert shown["expiresAt"].startswith("2119-")
    events = await members.events(member)
    assert [event["version"] for event in events] == list(range(1, shown["version"] + 1))
    assert len(events) == 21 + statuses.count(200)
