"""What is remembered of a connection's webhooks, and what holds while the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

import pytest

from service.actions.find_webhook import LastKnown, SecretMissing, find_webhook_mapping, find_webhook_source
from service.domain.errors import Unavailable, Unforeseen
from service.domain.member import ConnectionId
from service.domain.webhooks.mapping import DEFAULT_MAPPING
from service.store.database import Database
from tests.webhook_rig import SECRET, Sender

KEY = ConnectionId(uuid4())


class Loader:
    """Answers what it is given, one after the other, the last one for ever."""

    def __init__(self, answers: Sequence[object]) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def __call__(self, _: ConnectionId) -> str | None:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await asyncio.sleep(0.01)
        if isinstance(answer, Exception):
            raise answer
        assert answer is None or isinstance(answer, str)
        return answer


def remembering(loader: Loader, *, patient: bool = False) -> LastKnown[str]:
    short = timedelta(milliseconds=50)
    return LastKnown(loader, fresh=short, missing=short, within=timedelta(milliseconds=500), patient=patient, most=2)


async def test_it_is_asked_once_for_many_and_again_after_a_while() -> None:
    loader = Loader(["a", "b"])
    known = remembering(loader)
    assert await asyncio.gather(*(known.find(KEY) for _ in range(20))) == ["a"] * 20
    assert loader.calls == 1
    await asyncio.sleep(0.06)
    assert await known.find(KEY) == "b"


async def test_what_was_known_last_holds_while_nobody_answers() -> None:
    loader = Loader(["a", Unavailable("away"), "b"])
    known = remembering(loader)
    assert await known.find(KEY) == "a"
    await asyncio.sleep(0.06)
    assert await known.find(KEY) == "a"
    await asyncio.sleep(0.06)
    assert await known.find(KEY) == "b"


async def test_what_was_never_known_is_unavailable_and_a_missing_one_is_forgotten_soon() -> None:
    with pytest.raises(Unavailable, match="away"):
        await remembering(Loader([Unavailable("away")])).find(KEY)
    known = remembering(Loader([None, "a"]))
    assert await known.find(KEY) is None
    assert await known.find(KEY) is None
    await asyncio.sleep(0.06)
    assert await known.find(KEY) == "a"


async def test_a_connection_that_is_gone_is_no_longer_known() -> None:
    known = remembering(Loader(["a", None, Unavailable("away")]))
    assert await known.find(KEY) == "a"
    await asyncio.sleep(0.06)
    assert await known.find(KEY) is None
    await asyncio.sleep(0.06)
    with pytest.raises(Unavailable):
        await known.find(KEY)


async def test_unknown_keys_push_out_no_known_one() -> None:
    async def load(key: ConnectionId) -> str | None:
        return "a" if key == KEY else None

    known = LastKnown(load, most=2)
    await known.find(KEY)
    for _ in range(10):
        assert await known.find(ConnectionId(uuid4())) is None
    assert len(known._unknown) == 2
    assert list(known._known) == [KEY]


async def test_a_patient_one_waits_and_keeps_the_order_of_those_who_wait() -> None:
    known = remembering(Loader([Unavailable("away"), Unavailable("away"), "a"]), patient=True)
    order: list[int] = []

    async def ask(number: int) -> None:
        assert await known.find(KEY) == "a"
        order.append(number)

    asking = [asyncio.create_task(ask(number)) for number in range(10)]
    await asyncio.sleep(0.05)
    assert not known.available
    await asyncio.gather(*asking)
    assert known.available
    assert order == list(range(10))


async def test_a_patient_one_does_not_wait_for_what_time_does_not_mend() -> None:
    with pytest.raises(Unforeseen):
        await remembering(Loader([Unforeseen("defect")]), patient=True).find(KEY)


async def test_closing_ends_the_waiting() -> None:
    known = remembering(Loader([Unavailable("away")]), patient=True)
    asking = asyncio.create_task(known.find(KEY))
    await asyncio.sleep(0.05)
    await known.close()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_secrets_that_cannot_be_used_are_named_and_the_others_hold(database_url: str) -> None:
    sender = await Sender.register(database_url, references=("file:good", "file:missing", "env:ROLLCALL_SECRET_BAD"))

    def open_secret(reference: str) -> str:
        if reference == "file:missing":
            raise SecretMissing("file:missing cannot be read")
        return SECRET if reference == "file:good" else "not base64!"

    db = await Database.connect(database_url, name="test", size=1)
    try:
        source = await find_webhook_source(db, ConnectionId(sender.connection_id), open_secret)
        assert source is not None
        assert len(source.secrets) == 1
        assert sorted(source.problems) == [
            "a secret of standard-webhooks is base64, with whsec_ before it or without",
            "file:missing cannot be read",
        ]
        assert await find_webhook_source(db, KEY, open_secret) is None
        assert await find_webhook_mapping(db, ConnectionId(sender.connection_id)) is DEFAULT_MAPPING
        assert await find_webhook_mapping(db, KEY) is None
    finally:
        await db.close()
