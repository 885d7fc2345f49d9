"""`rollcall parked` on real parked queues."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import aio_pika
import pytest

from contracts.channels import MEMBER_CHANGES
from service.clients.amqp_connection import connected
from service.clients.inbound import InboundPublisher
from service.clients.parked import ParkedMessage, ParkedQueue
from service.clients.topology import declare_topology
from tests.cli.test_commands import Command, in_process
from tests.service_rig import Upstream, books, clean_broker, depth, publish, running_service

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PARKED, MAIN = MEMBER_CHANGES.parked.name, MEMBER_CHANGES.main.name


@pytest.fixture
def rollcall(database_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RABBITMQ_URL", rabbitmq_url)
    return in_process


async def park(
    channel: Any, message_id: str | None, *, reason: str = "refused: no", hours: float = 0, body: bytes = b"ada", **headers: Any
) -> None:
    parked_at = datetime.now(UTC) - timedelta(hours=hours)
    own = {
        "x-rollcall-reason": reason,
        "x-rollcall-queue": MAIN,
        "x-rollcall-parked-at": parked_at.isoformat(),
        "x-rollcall-first-error": "boom",
        "x-rollcall-first-failed-at": (parked_at - timedelta(minutes=5)).isoformat(),
        "x-rollcall-attempts": 11,
    }
    message = aio_pika.Message(
        body, message_id=message_id, type="MEMBER_CHANGED", headers={**own, **headers}, correlation_id="run 7", delivery_mode=2
    )
    await channel.default_exchange.publish(message, PARKED)


async def taken(channel: Any, queue: str) -> list[Any]:
    """All that is in a queue, out of it."""
    messages = []
    source = await channel.get_queue(queue, ensure=False)
    async with asyncio.timeout(20):
        expected = await depth(channel, queue)
        while len(messages) < expected:
            if (message := await source.get(fail=False)) is not None:
                await message.ack()
                messages.append(message)
    return messages


@asynccontextmanager
async def some_parked(url: str) -> AsyncIterator[Any]:
    async with clean_broker(url) as channel:
        await park(channel, "old", hours=30, reason="conflict: two truths")
        await park(channel, "mid", hours=3)
        await park(channel, "new", hours=0.1)
        yield channel


async def test_the_list_shows_what_is_parked_oldest_first_and_counts_reasons(rollcall: Command, rabbitmq_url: str) -> None:
    async with some_parked(rabbitmq_url) as channel:
        listed = (await rollcall("parked", "list")).out.splitlines()
        assert [line.split()[1] for line in listed[:3]] == ["old", "mid", "new"]
        assert listed[0].startswith(f"{MAIN}  old  MEMBER_CHANGED  ")
        assert listed[0].endswith("  1d  conflict: two truths")
        counts = {tuple(line.split(maxsplit=1)) for line in listed if line.startswith(" ")}
        assert counts == {("2", f"{MAIN}  refused: no"), ("1", f"{MAIN}  conflict: two truths"), ("3", "parked")}
        assert await depth(channel, PARKED) == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--reason", "TRUTHS"], ["old"]),
        (["--older-than", "2h"], ["old", "mid"]),
        (["--newer-than", "1d"], ["mid", "new"]),
        (["--older-than", "2h", "--newer-than", "1d"], ["mid"]),
        (["--limit", "1"], ["old"]),
        (["--queue", MAIN, "--reason", "refused"], ["mid", "new"]),
    ],
)
async def test_the_list_is_narrowed(options: list[str], expected: list[str], rollcall: Command, rabbitmq_url: str) -> None:
    async with some_parked(rabbitmq_url):
        listed = (await rollcall("parked", "list", *options)).out.splitlines()
    assert [line.split()[1] for line in listed if line.startswith(f"{MAIN}  ")] == expected


async def test_reading_loses_and_reorders_nothing(rollcall: Command, rabbitmq_url: str) -> None:
    """More than a page, and more than RabbitMQ gives back in order by itself."""
    ids = [str(number) for number in range(1200)]
    async with clean_broker(rabbitmq_url) as channel:
        for start in range(0, len(ids), 300):
            await asyncio.gather(*(park(channel, one) for one in ids[start : start + 300]))
        for _ in range(2):
            assert (await rollcall("parked", "list", "--limit", "0")).out.splitlines()[-1].split() == ["1,200", "parked"]
        dropped = await rollcall("parked", "drop", "17", "777", "--yes")
        assert (dropped.status, dropped.out) == (0, "dropped 2")
        left = [message.message_id for message in await taken(channel, PARKED)]
    assert left == [one for one in ids if one not in ("17", "777")]


async def test_show_keeps_the_body_back_unless_it_is_asked_for(rollcall: Command, rabbitmq_url: str) -> None:
    async with clean_broker(rabbitmq_url) as channel:
        await park(channel, "7", body=b'{"name": "Ada"}', traceparent=TRACEPARENT, hostile="\x1b[2J")
        shown = await rollcall("parked", "show", "7")
        assert "Ada" not in shown.out
        assert "\x1b" not in shown.out
        assert f"header           traceparent: {TRACEPARENT}" in shown.out
        assert "first error      boom" in shown.out
        assert "attempts         11" in shown.out
        whole = await rollcall("parked", "show", "7", "--body")
        assert '{"name": "Ada"}' in whole.out
        assert "personal data" in whole.err
        missing = await rollcall("parked", "show", "8")
        assert (missing.status, missing.err) == (1, "rollcall: not parked: 8")


async def test_a_replayed_message_keeps_its_identity_and_loses_its_failures(rollcall: Command, rabbitmq_url: str) -> None:
    async with clean_broker(rabbitmq_url) as channel:
        deaths = [{"queue": MAIN, "reason": "rejected", "count": 1}]
        await park(channel, "7", traceparent=TRACEPARENT, **{"ce-id": "7", "x-death": deaths, "x-first-death-reason": "rejected"})
        await park(channel, "8")
        replayed = await rollcall("parked", "replay", "7")
        assert (replayed.status, replayed.out) == (0, "replayed 1")
        (message,) = await taken(channel, MAIN)
        assert (message.message_id, message.correlation_id, message.type, message.body) == ("7", "run 7", "MEMBER_CHANGED", b"ada")
        kept = {name: value for name, value in message.headers.items() if name != "x-delivery-count"}
        assert kept == {"ce-id": "7", "traceparent": TRACEPARENT, "x-rollcall-replayed": 1}
        assert [one.message_id for one in await taken(channel, PARKED)] == ["8"]
        await park(channel, "7", **message.headers)
        await rollcall("parked", "replay", "7")
        assert (await taken(channel, MAIN))[0].headers["x-rollcall-replayed"] == 2


async def test_an_id_that_is_not_parked_is_an_error_and_the_others_are_done(rollcall: Command, rabbitmq_url: str) -> None:
    async with some_parked(rabbitmq_url) as channel:
        ended = await rollcall("parked", "replay", "mid", "nobody")
        assert (ended.status, ended.out, ended.err) == (1, "replayed 1", "rollcall: not parked: nobody")
        assert [message.message_id for message in await taken(channel, PARKED)] == ["old", "new"]


async def test_many_are_asked_for_and_none_without_a_choice(
    rollcall: Command, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with some_parked(rabbitmq_url) as channel:
        assert (await rollcall("parked", "drop")).status == 64
        for answer in ("", "n\n"):
            monkeypatch.setattr("sys.stdin", io.StringIO(answer))
            assert (await rollcall("parked", "drop", "--all")).status == 1
        assert await depth(channel, PARKED) == 3
        assert (await rollcall("parked", "replay", "--older-than", "2h", "--yes")).out == "replayed 2"
        assert [message.message_id for message in await taken(channel, MAIN)] == ["old", "mid"]
        assert (await rollcall("parked", "drop", "--reason", "nothing of it")).out == "nothing parked fits"
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
        assert (await rollcall("parked", "drop", "--all")).out == "drop 1 parked message? [y/N]: dropped 1"
        assert await depth(channel, PARKED) == 0


async def test_what_its_queue_does_not_take_stays_parked(rollcall: Command, rabbitmq_url: str) -> None:
    async with some_parked(rabbitmq_url) as channel:
        await channel.queue_delete(MAIN)
        ended = await rollcall("parked", "replay", "--all", "--yes")
        assert (ended.status, ended.out) == (1, "replayed 0")
        assert f"{MAIN} does not take messages" in ended.err
        assert [message.message_id for message in await taken(channel, PARKED)] == ["old", "mid", "new"]
        await declare_topology(channel)


def test_a_message_without_an_id_is_known_by_its_body_and_one_without_a_reason_by_what_the_broker_says() -> None:
    death = {"reason": "delivery_limit", "time": datetime(2026, 11, 1, tzinfo=UTC)}
    blank = dict.fromkeys(("message_id", "type", "timestamp", "correlation_id", "content_type", "content_encoding"))
    delivered: Any = SimpleNamespace(**blank, headers={"x-death": [death]}, body=b"\xff", delivery_tag=1)
    message = ParkedMessage.of(delivered, MAIN)
    assert re.fullmatch("body-[0-9a-f]{16}", message.id)
    assert message.type == "unknown"
    assert message.reason == "came back unanswered too often: parked by the broker"
    assert message.parked_at == death["time"]
    delivered.headers = {"x-death": "forged", "x-rollcall-parked-at": "whenever", "ce-id": 7}
    message = ParkedMessage.of(delivered, MAIN)
    assert (message.id, message.reason, message.parked_at) == ("7", "nothing says why", None)


async def test_two_readers_take_turns(rollcall: Command, rabbitmq_url: str) -> None:
    async with some_parked(rabbitmq_url):
        async with connected(rabbitmq_url) as connection, ParkedQueue.held(connection, MEMBER_CHANGES) as mine:
            assert mine is not None
            second = asyncio.create_task(rollcall("parked", "list"))
            held = [message.id async for page in mine.pages() for message in page]
            await asyncio.sleep(2)
            assert not second.done()
        assert held == ["old", "mid", "new"]
        assert (await second).out.splitlines()[-1].split() == ["3", "parked"]


async def test_a_reader_that_does_not_let_go_is_named(
    rollcall: Command, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.clients.parked._LOCK_SECONDS", 0.5)
    async with (
        some_parked(rabbitmq_url),
        connected(rabbitmq_url) as connection,
        ParkedQueue.held(connection, MEMBER_CHANGES),
    ):
        ended = await rollcall("parked", "list")
        assert (ended.status, ended.err) == (
            1,
            f"rollcall: somebody else is looking at {PARKED}; try again when they are done",
        )


async def test_a_replay_after_the_cause_is_mended_takes_effect(rollcall: Command, database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    async with (
        clean_broker(rabbitmq_url) as channel,
        running_service(database_url, rabbitmq_url, "worker") as service,
        InboundPublisher.connected(rabbitmq_url) as publisher,
    ):
        await publish(publisher, [upstream.upsert("1", 1, nationalId="010203-1234")])
        await until_taken_in(database_url, 1)
        await publish(publisher, [upstream.upsert("2", 1, nationalId="010203-1234")])
        assert (await service.says("message parked"))["reason"].startswith("conflict")
        await publish(publisher, [upstream.upsert("1", 2, nationalId=None)])
        await until_taken_in(database_url, 2)
        assert (await rollcall("parked", "replay", "--reason", "national id", "--yes")).out == "replayed 1"
        await until_taken_in(database_url, 3)
        assert await depth(channel, PARKED) == 0
    assert (await books(database_url)).members == 2


async def until_taken_in(database_url: str, count: int) -> None:
    async with asyncio.timeout(20):
        while (await books(database_url)).taken_in < count:
            await asyncio.sleep(0.05)
