"""Past events sent again: what they say, in which order, and what stops them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika
import asyncpg
import pytest

from contracts.channels import EVENTS, MEMBER_CHANGED
from contracts.member_changed import MemberChangedV1
from service import translation
from service.actions.apply_changes import apply_changes
from service.store.database import Database
from tests.cli.test_commands import Command, in_process
from tests.service_rig import Upstream, envelope


@pytest.fixture
def rollcall(database_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RABBITMQ_URL", rabbitmq_url)
    return in_process


async def apply(database_url: str, *bodies: dict[str, Any]) -> None:
    db = await Database.connect(database_url, name="test", size=1)
    changes = [translation.to_change(MemberChangedV1.from_json(json.dumps(body)), envelope()) for body in bodies]
    await apply_changes(db, changes, default_grace_days=0)
    await db.close()


async def outbox(database_url: str) -> list[Any]:
    connection = await asyncpg.connect(database_url)
    try:
        return list(await connection.fetch("select *, headers::text as written from outbox order by id"))
    finally:
        await connection.close()


@asynccontextmanager
async def bound(url: str, key: str = "membership.updated.*") -> AsyncIterator[Any]:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_exchange(EVENTS.name, EVENTS.kind, durable=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EVENTS.name, key)
        yield queue


async def received(queue: Any, count: int) -> list[Any]:
    messages = [await queue.get(no_ack=True, timeout=5) for _ in range(count)]
    assert await queue.get(no_ack=True, fail=False) is None
    return messages


async def test_a_replayed_event_is_the_first_one_with_a_mark(rollcall: Command, database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    await apply(
        database_url,
        upstream.upsert("1", 1, plan="gold", startsAt="2026-01-01T00:00:00Z", email="ada@example.org"),
        upstream.upsert("1", 2, expiresAt="2027-01-01T00:00:00.123456Z"),
        upstream.upsert("2", 1, state="suspended"),
        upstream.remove("1", 3),
    )
    first = await outbox(database_url)
    async with bound(rabbitmq_url) as queue:
        ended = await rollcall("events", "replay", "--since", "2026-01-01")
        assert (ended.status, ended.out) == (0, "4 events sent again")
        messages = await received(queue, 4)
    assert MEMBER_CHANGED.message_type not in {message.type for message in messages}
    for row, message in zip(first, messages, strict=True):
        assert message.body.decode() == row["body"]
        assert message.headers == {**json.loads(row["written"]), "x-rollcall-replayed": "true"}
        assert (message.message_id, message.correlation_id, message.type) == (
            row["message_id"], row["correlation_id"], row["type"],
        )  # fmt: skip
        assert (message.routing_key, message.delivery_mode) == (row["routing_key"], 2)
    assert len(await outbox(database_url)) == 4


async def test_one_member_since_a_time_or_one_company(rollcall: Command, database_url: str, rabbitmq_url: str) -> None:
    one, other = await Upstream.register(database_url), await Upstream.register(database_url)
    await apply(database_url, one.upsert("1", 1), one.upsert("2", 1), one.upsert("1", 2, plan="gold"))
    between = datetime.now(UTC)
    await apply(database_url, one.upsert("1", 3, plan="silver"), other.upsert("1", 1))
    member = json.loads((await outbox(database_url))[0]["body"])["memberId"]
    async with bound(rabbitmq_url) as queue:
        for options, versions in (
            (["--member", member], [1, 2, 3]),
            (["--member", member, "--since", between.isoformat()], [3]),
            (["--member", member, "--company", str(other.company_id)], []),
            (["--since", between.isoformat()], [3, 1]),
            (["--since", "2026-01-01", "--company", str(other.company_id)], [1]),
            (["--since", (datetime.now(UTC) + timedelta(hours=1)).isoformat()], []),
        ):
            dry = await rollcall("events", "replay", *options, "--dry-run")
            assert dry.out == f"{len(versions)} event{'' if len(versions) == 1 else 's'} would be sent again"
            assert (await rollcall("events", "replay", *options)).status == 0
            assert [json.loads(message.body)["version"] for message in await received(queue, len(versions))] == versions


async def test_many_pages_keep_each_members_order(rollcall: Command, database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    for version in range(1, 6):
        await apply(database_url, *(upstream.upsert(str(n), version, plan=f"plan {version}") for n in range(300)))
    async with bound(rabbitmq_url) as queue:
        assert (await rollcall("events", "replay", "--since", "2026-01-01")).out == "1,500 events sent again"
        seen: dict[str, list[int]] = {}
        for message in await received(queue, 1500):
            event = json.loads(message.body)
            seen.setdefault(event["memberId"], []).append(event["version"])
    assert len(seen) == 300
    assert set(map(tuple, seen.values())) == {(1, 2, 3, 4, 5)}


async def test_an_event_that_no_queue_takes_stops_the_replay(rollcall: Command, database_url: str, rabbitmq_url: str) -> None:
    one, other = await Upstream.register(database_url), await Upstream.register(database_url)
    await apply(database_url, one.upsert("1", 1), other.upsert("1", 1))
    async with bound(rabbitmq_url, f"membership.updated.{one.company_id}"):
        ended = await rollcall("events", "replay", "--since", "2026-01-01")
    assert ended.status == 1
    assert "1 events were sent again;" in ended.err
    assert "unroutable: NO_ROUTE" in ended.err


async def test_neither_time_nor_member_is_no_choice(rollcall: Command) -> None:
    assert (await rollcall("events", "replay")).status == 64
    assert (await rollcall("events", "replay", "--since", "yesterday")).status == 64
