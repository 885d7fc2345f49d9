from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from service.clients.amqp_frames import UnfitMessage, publish_frames
from tests.relay_rig import message

SHORT = st.text(max_size=60)
VALUES = st.recursive(
    st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
    max_leaves=8,
)


def read(data: bytes) -> list[Any]:
    """The client library's own decoder is the oracle."""
    frames = []
    while data:
        consumed, channel, value = frame.unmarshal(data)
        assert channel == 7
        frames.append(value)
        data = data[consumed:]
    return frames


@given(st.dictionaries(SHORT, VALUES, max_size=6), st.text(), SHORT, SHORT)
def test_what_is_written_is_what_is_read(headers: dict[str, Any], body: str, routing_key: str, message_id: str) -> None:
    sent = message(
        "rollcall.events",
        routing_key=routing_key,
        message_id=message_id,
        headers=headers,
        body=body,
        occurred_at=datetime(2026, 11, 1, 12, 0, 1, 999_999, tzinfo=UTC),
    )

    method, header, *parts = read(publish_frames(sent, 7, 131_072))

    assert isinstance(method, commands.Basic.Publish)
    assert (method.exchange, method.routing_key, method.mandatory, method.immediate) == (
        "rollcall.events",
        routing_key,
        True,
        False,
    )
    assert isinstance(header, ContentHeader)
    properties = header.properties
    assert properties.headers == headers
    assert (properties.delivery_mode, properties.content_type, properties.message_type) == (2, "application/json", "TEST")
    assert (properties.message_id, properties.correlation_id) == (message_id, "correlation")
    assert properties.timestamp == datetime(2026, 11, 1, 12, 0, 1, tzinfo=UTC)
    assert header.body_size == len(body.encode())
    assert b"".join(part.value for part in parts) == body.encode()


def test_a_long_body_is_split_into_frames_that_fit() -> None:
    _, _, *parts = read(publish_frames(message("e", body="x" * 10_000), 7, 4096))

    assert all(isinstance(part, ContentBody) and len(part.value) <= 4096 - 8 for part in parts)
    assert sum(len(part.value) for part in parts) == 10_000


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"routing_key": "k" * 256}, "routing_key"),
        ({"exchange": "é" * 128}, "exchange"),
        ({"message_id": "m" * 256}, "message_id"),
        ({"headers": {"h" * 256: "v"}}, "header's name"),
        ({"headers": {"h": 2**63}}, "int"),
        ({"headers": {"h": "v" * 5000}}, "frame of 4096"),
    ],
)
def test_what_amqp_cannot_carry_is_refused_by_name(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(UnfitMessage, match=part):
        publish_frames(message(**{"exchange": "e", **changes}), 7, 4096)
