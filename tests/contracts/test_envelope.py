import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cloudevents.core.bindings.rabbitmq import RabbitMQMessage, from_binary_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from contracts.envelope import Envelope, EnvelopeError, Properties

TIME = datetime(2026, 11, 2, 9, 30, 0, 125, tzinfo=UTC)
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FULL = Envelope(
    id="event-1",
    source="urn:rollcall",
    type="MEMBER_CHANGED",
    time=TIME,
    subject="member-1",
    traceparent=TRACEPARENT,
    tracestate="vendor=1",
    correlation_id="run-1",
)
HEADERS = {"ce-specversion": "1.0", "ce-id": "event-1", "ce-source": "urn:rollcall", "ce-type": "MEMBER_CHANGED"}


def parse(headers, properties=None) -> Envelope:
    return Envelope.parse(headers, properties or Properties(), "MEMBER_CHANGED")


def refusal(headers, properties=None) -> str:
    with pytest.raises(EnvelopeError) as refused:
        parse(headers, properties)
    return str(refused.value)


def test_what_is_written_is_read_again_the_same():
    assert parse(FULL.to_headers(), FULL.to_properties()) == FULL


def test_the_least_envelope_writes_no_header_for_what_it_has_not():
    least = Envelope(id="event-1", source="urn:rollcall", type="MEMBER_CHANGED")

    assert least.to_headers() == HEADERS
    assert parse(HEADERS) == least


def test_the_properties_say_the_same_to_tools_that_know_no_cloudevents():
    assert FULL.to_properties() == Properties(
        message_id="event-1",
        type="MEMBER_CHANGED",
        timestamp=TIME,
        correlation_id="run-1",
        content_type="application/json",
        delivery_mode=2,
    )


def test_the_cloudevents_sdk_reads_what_we_write():
    message = RabbitMQMessage(FULL.to_headers(), FULL.to_properties().content_type, b'{"a":1}')

    event = from_binary_event(message)

    assert event.get_attributes() == {
        "specversion": "1.0",
        "id": "event-1",
        "source": "urn:rollcall",
        "type": "MEMBER_CHANGED",
        "time": TIME,
        "subject": "member-1",
        "datacontenttype": "application/json",
    }
    assert event.get_data() == {"a": 1}


@pytest.mark.parametrize("content_type", [None, "application/json", "application/vnd.members+json; charset=utf-8"])
def test_we_read_what_the_cloudevents_sdk_writes(content_type):
    attributes = {
        "id": "event-1",
        "source": "urn:directory",
        "type": "MEMBER_CHANGED",
        "time": TIME,
        "subject": "member-1",
        "extension": "ignored",
    }
    if content_type:
        attributes["datacontenttype"] = content_type
    message = to_binary_event(CloudEvent(attributes, {"a": 1}))

    envelope = parse(message.headers, Properties(content_type=message.content_type))

    assert envelope == Envelope(
        id="event-1",
        source="urn:directory",
        type="MEMBER_CHANGED",
        time=TIME,
        subject="member-1",
        data_content_type=content_type or "application/json",
    )
    assert json.loads(message.body) == {"a": 1}


@pytest.mark.parametrize("headers", [None, {}, {"traceparent": TRACEPARENT}])
def test_a_plain_amqp_message_is_refused_with_all_that_is_missing(headers):
    properties = Properties(message_id="event-1", type="MEMBER_CHANGED")

    assert refusal(headers, properties) == ("not a CloudEvent in binary mode: missing ce-id, ce-source, ce-specversion, ce-type")


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_each_required_attribute_is_named_when_missing(name):
    headers = {key: value for key, value in HEADERS.items() if key != name}

    assert refusal(headers) == f"not a CloudEvent in binary mode: missing {name}"


def test_header_names_are_read_in_any_case():
    assert parse({name.upper(): value for name, value in FULL.to_headers().items()}, FULL.to_properties()) == FULL


def test_header_values_may_be_bytes_numbers_and_amqp_timestamps():
    headers = {name: value.encode() for name, value in HEADERS.items()} | {
        "ce-id": 42,
        "ce-time": TIME.replace(tzinfo=None),
        "traceparent": TRACEPARENT.encode(),
        "tracestate": b"vendor=1",
    }

    envelope = parse(headers)

    assert (envelope.id, envelope.time, envelope.traceparent, envelope.tracestate) == (
        "42",
        TIME,
        TRACEPARENT,
        "vendor=1",
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "must have 1 to 255 characters"),
        ("i" * 256, "must have 1 to 255 characters"),
        ("line\nbreak", "must have no control characters"),
        ("nul\x00", "must have no control characters"),
        ("surrogate\ud800", "must have no control characters"),
        (b"\xff", "is not UTF-8"),
        (None, "must be a string"),
        (True, "must be a string"),
        (1.5, "must be a string"),
        (10**30, "must be a string"),
        ({}, "must be a string"),
    ],
)
@pytest.mark.parametrize("name", ["ce-id", "ce-source"])
def test_an_identity_that_cannot_be_kept_is_refused(name, value, problem):
    assert refusal(HEADERS | {name: value}) == f"{name} {problem}"


@pytest.mark.parametrize("value", ["i" * 255, "no\u00a0break", "\ue000", "ð"])
def test_an_identity_of_any_other_characters_is_kept(value):
    assert parse(HEADERS | {"ce-id": value}).id == value


def test_another_version_of_the_specification_is_refused():
    assert refusal(HEADERS | {"ce-specversion": "0.3"}) == "ce-specversion must be 1.0"


def test_another_type_is_refused_without_repeating_it():
    assert refusal(HEADERS | {"ce-type": "OTHER"}) == "ce-type must be MEMBER_CHANGED here"


@pytest.mark.parametrize("value", ["2026-11-02T10:30:00.000125+01:00", "2026-11-02t09:30:00.000125z"])
def test_times_come_out_in_utc(value):
    assert parse(HEADERS | {"ce-time": value}).time == TIME
    assert parse(HEADERS | {"ce-time": value}).time.tzinfo is UTC


def test_without_ce_time_the_timestamp_property_serves():
    assert parse(HEADERS, Properties(timestamp=TIME)).time == TIME


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("soon", "must be an RFC 3339 time"),
        (1793611800, "must be an RFC 3339 time"),
        ("2026-11-02T09:30:00", "needs its offset from UTC"),
        ("9999-12-31T23:59:59-01:00", "must lie in the years 1 to 9999 in UTC"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "must lie in the years 1 to 9999 in UTC"),
        ([], "must be a string"),
    ],
)
def test_a_time_that_is_none_is_refused(value, problem):
    # An empty list is no value at all, so that it must not hide behind the timestamp property.
    assert refusal(HEADERS | {"ce-time": value}, Properties(timestamp=TIME)) == f"ce-time {problem}"


@pytest.mark.parametrize(
    "value",
    [
        "application/json",
        "application/JSON; charset=UTF-8",
        "text/json",
        'application/a.b-c+json;charset="utf-8"',
        b"application/json",
    ],
)
def test_json_by_any_of_its_names_is_taken(value):
    assert parse(HEADERS, Properties(content_type=value)).data_content_type


@pytest.mark.parametrize("value", ["text/plain", "application/octet-stream", "application/json; charset=latin-1", 7])
def test_other_content_is_refused(value):
    assert refusal(HEADERS, Properties(content_type=value)) == "content_type must be JSON in UTF-8"


def test_structured_mode_is_refused_with_what_to_do():
    assert "structured mode" in refusal(HEADERS, Properties(content_type="application/cloudevents+json"))


@pytest.mark.parametrize(
    "value",
    [
        "garbage",
        "",
        7,
        TRACEPARENT.upper(),
        TRACEPARENT + "\n",
        "ff" + TRACEPARENT[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        b"\xff",
    ],
)
def test_a_trace_context_that_cannot_be_read_starts_a_new_trace(value):
    envelope = parse(HEADERS | {"traceparent": value, "tracestate": "vendor=1"})

    assert (envelope.traceparent, envelope.tracestate) == (None, None)


@pytest.mark.parametrize("value", ["", "x" * 513, "vendor=\n", "vendor=ð", 7])
def test_a_trace_state_that_cannot_be_read_is_left_out(value):
    envelope = parse(HEADERS | {"traceparent": TRACEPARENT, "tracestate": value})

    assert (envelope.traceparent, envelope.tracestate) == (TRACEPARENT, None)


@pytest.mark.parametrize(("value", "expected"), [(None, None), ("", None), (b"run-1", "run-1"), ("run-1", "run-1")])
def test_a_correlation_id_is_kept_where_there_is_one(value, expected):
    assert parse(HEADERS, Properties(correlation_id=value)).correlation_id == expected


text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes() | st.lists(st.none())
names = st.sampled_from([*HEADERS, "ce-time", "ce-subject", "traceparent", "tracestate"]) | st.text()


@given(
    st.dictionaries(names, anything),
    st.booleans(),
    st.builds(Properties, content_type=anything, timestamp=anything, correlation_id=anything),
)
def test_any_headers_are_read_or_refused_with_an_envelope_error(headers, complete, properties):
    try:
        envelope = parse(HEADERS | headers if complete else headers, properties)
    except EnvelopeError:
        return
    assert parse(envelope.to_headers(), envelope.to_properties()) == envelope


@given(text, text, st.none() | text, st.none() | text, st.none() | st.datetimes(timezones=st.just(UTC)))
def test_any_envelope_comes_back_from_its_headers_and_properties(event_id, source, subject, correlation_id, time):
    envelope = Envelope(
        id=event_id,
        source=source,
        type="MEMBER_CHANGED",
        time=time,
        subject=subject,
        correlation_id=correlation_id,
    )

    assert parse(envelope.to_headers(), envelope.to_properties()) == envelope
