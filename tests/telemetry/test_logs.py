"""A log line says of which message or request it tells."""

from __future__ import annotations

import asyncio

from service.telemetry.handling import Handling, handle, handled
from service.telemetry.logs import add_ids
from service.telemetry.traced import Traced
from tests.telemetry.span_rig import SAMPLED, SPAN, TRACE, UNSAMPLED


def told() -> dict[str, object]:
    return dict(add_ids(None, "info", {"event": "x"}))


def test_outside_of_any_message_a_line_has_no_ids() -> None:
    assert told() == {"event": "x"}


def test_ids_are_told_whether_or_not_the_trace_is_recorded() -> None:
    for traceparent in (SAMPLED, UNSAMPLED):
        with handled(Handling("run 7", Traced(traceparent))):
            assert told() == {"event": "x", "correlation_id": "run 7", "trace_id": TRACE, "span_id": SPAN}
    assert told() == {"event": "x"}


def test_what_is_no_traceparent_is_not_told() -> None:
    with handled(Handling(None, Traced("junk\n"))):
        assert told() == {"event": "x"}


def test_a_line_keeps_what_it_says_itself() -> None:
    with handled(Handling("run 7", Traced(SAMPLED))):
        assert add_ids(None, "info", {"event": "x", "correlation_id": "own"})["correlation_id"] == "own"


async def test_messages_side_by_side_do_not_take_each_others_ids() -> None:
    async def work(number: int) -> object:
        handle(Handling(f"run {number}"))
        await asyncio.sleep(0)
        return told()["correlation_id"]

    assert await asyncio.gather(*(asyncio.create_task(work(number)) for number in range(3))) == ["run 0", "run 1", "run 2"]
