"""The commands as a person uses them, against a real database and broker."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import aio_pika
import pytest

from contracts.channels import EVENTS, membership_updated_routing_key
from service.cli import main
from tests.service_rig import clean_broker, running_service

ENDS_WITHIN = 60
EXAMPLE = Path(__file__).parents[2] / "contracts/examples/membership_updated.v1.new_member.json"


Command: TypeAlias = Callable[..., Awaitable["Ended"]]


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    out: str
    err: str


async def in_process(*arguments: str) -> Ended:
    """The command without a process of its own, which takes a second to start."""

    def run() -> Ended:
        out, err = io.StringIO(), io.StringIO()
        status: object = 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main(arguments)
            except SystemExit as ended:
                status = ended.code or 0
        assert isinstance(status, int)
        return Ended(status, out.getvalue().strip(), err.getvalue().strip())

    return await asyncio.wait_for(asyncio.to_thread(run), ENDS_WITHIN)


async def as_process(*arguments: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), ENDS_WITHIN)
    return Ended(process.returncode or 0, out.decode().strip(), err.decode().strip())


@pytest.fixture
def rollcall(database_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RABBITMQ_URL", rabbitmq_url)
    monkeypatch.setenv("COLUMNS", "200")
    return in_process


async def test_companies_and_connections_are_added_and_listed(rollcall: Command) -> None:
    company = await rollcall("companies", "add", "Choir [red]", "--time-zone", "Atlantic/Reykjavik", "--grace-days", "3")
    assert (company.status, company.err) == (0, "")
    UUID(company.out)
    connection = await rollcall(
        "connections", "add", "Choir [red]", "register", "--versions", "updated_at", "--fields", "name,email"
    )
    UUID(connection.out)
    assert (await rollcall("companies", "list")).out.splitlines()[1].split() == [
        company.out, "Choir", "[red]", "Atlantic/Reykjavik", "3",
    ]  # fmt: skip
    assert (await rollcall("connections", "list", company.out)).out.splitlines()[1].split() == [
        connection.out, "Choir", "[red]", "register", "stream", "updated_at", "active", "name,", "email",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["companies", "add", "Choir"], "there is a company named Choir already"),
        (["companies", "add", "Band", "--time-zone", "Mars/Olympus"], "Mars/Olympus is no time zone"),
        (["connections", "add", "Choir", "register"], "Choir has a connection named register already"),
        (["connections", "add", "Opera", "register"], "there is no company Opera"),
        (["connections", "add", "Choir", "other", "--fields", "name,shoe"], "unknown: shoe"),
        (["connections", "add", "Choir", "other", "--fields", "email"], "name must be among them"),
        (["publish", "nowhere", "1", "--set", "name=Ada"], "there is no connection nowhere"),
        (["publish", "register", "1", "--set", "shoe=43"], "must be FIELD=VALUE with a FIELD of"),
        (["publish", "register", "1", "--set", "metadata={"], "metadata must be a JSON object"),
        (["publish", "register", "1", "--set", "state=gone"], "member.state: must be"),
        (["publish", "register", "1", "--set", "name="], "member.name"),
        (["publish", "register", "1", "--remove", "--set", "name=Ada"], "a removal sets nothing"),
        (["publish", "register", "1", "--set", "name=Ada"], "no queue took it"),
        (["events", "tail", "--company", "Opera"], "there is no company Opera"),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_sentence(
    arguments: list[str], says: str, rollcall: Command, rabbitmq_url: str
) -> None:
    async with clean_broker(rabbitmq_url) as channel:
        # Somebody else's mistake: the exchange is there, and no queue is bound.
        await (await channel.get_queue("rollcall.member-changes")).unbind("rollcall.inbound", "member.changed")
        assert (await rollcall("companies", "add", "Choir")).status == 0
        assert (await rollcall("connections", "add", "Choir", "register")).status == 0
        ended = await rollcall(*arguments)
    assert ended.status != 0
    assert says in " ".join(ended.err.replace("│", " ").split())
    assert "Traceback" not in ended.err


async def until_seen(rabbitmq_url: str, company_id: str) -> None:
    """Publish an event of the company until a queue takes it: then somebody listens."""
    body = json.dumps({**json.loads(EXAMPLE.read_text()), "companyId": company_id}).encode()
    async with await aio_pika.connect(rabbitmq_url) as connection, asyncio.timeout(ENDS_WITHIN):
        exchange = await (await connection.channel(on_return_raises=True)).get_exchange(EVENTS.name)
        while True:
            try:
                await exchange.publish(aio_pika.Message(body), membership_updated_routing_key(UUID(company_id)))
            except aio_pika.exceptions.DeliveryError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_change_published_by_hand_is_seen_by_the_tail(rollcall: Command, database_url: str, rabbitmq_url: str) -> None:
    company = (await rollcall("companies", "add", "Choir")).out
    connection = (await rollcall("connections", "add", "Choir", "register")).out
    async with clean_broker(rabbitmq_url), running_service(database_url, rabbitmq_url) as service:
        await service.says("worker takes messages")
        # Of its own: in one process the two would take each other's output.
        tail = asyncio.create_task(as_process("events", "tail", "--company", "Choir", "--count", "3", "--json"))
        await until_seen(rabbitmq_url, company)
        published = await rollcall(
            "publish", "register", "ada", "--set", "name=Ada", "--set", "plan=annual", "--set", 'metadata={"a": 1}'
        )
        assert published.status == 0, published.err
        assert (await rollcall("publish", connection, "ada", "--remove")).status == 0
        shown = await tail
        assert (shown.status, shown.err) == (0, "")
        events = [json.loads(line) for line in shown.out.splitlines()][1:]
    assert [(event["previousState"], event["newState"], event["version"]) for event in events] == [
        (None, "active", 1),
        ("active", "removed", 2),
    ]
    assert (events[0]["externalId"], events[0]["plan"], events[0]["connectionId"]) == ("ada", "annual", connection)


async def test_a_missing_environment_is_named_variable_by_variable(rollcall: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DATABASE_URL": "", "RABBITMQ_URL": "http://example.org:80/", "PORT": "high"}.items():
        monkeypatch.setenv(name, value)
    ended = await rollcall("run", "worker")
    assert ended.status == 1
    assert "DATABASE_URL: Field required" in ended.err
    assert "RABBITMQ_URL: must be a URL of the form amqp://" in ended.err
    assert "PORT: " in ended.err
    assert "example.org" not in ended.err


async def test_an_unknown_role_is_refused_by_the_process_itself() -> None:
    ended = await as_process("run", "astrologer")
    assert ended.status == 64
    assert "worker" in ended.err


async def test_a_server_that_is_away_is_one_line(rollcall: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://rollcall:hidden@127.0.0.1:1/rollcall")
    ended = await rollcall("companies", "list")
    assert ended.status == 1
    assert ended.err.startswith("rollcall: the database does not answer")
    assert "hidden" not in ended.err
