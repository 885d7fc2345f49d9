import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from pydantic import ValidationError

from contracts.errors import describe
from contracts.member_changed import MemberChangedV1, UpstreamMember

COMPANY = UUID("0199f3a0-1b2c-7a10-8f00-5d2e6c7b8a91")
CONNECTION = UUID("0199f3a0-1b2c-7a11-9e44-0c9d8b7a6f52")


def upsert(**member) -> bytes:
    return body(action="upsert", member=member)


def body(**changes) -> bytes:
    whole = {
        "companyId": str(COMPANY),
        "connectionId": str(CONNECTION),
        "externalId": "member-1",
        "action": "remove",
        "version": 1,
        "updatedAt": "2026-11-02T09:30:00Z",
    }
    return json.dumps(whole | changes).encode()


def refusal(text: bytes) -> str:
    with pytest.raises(ValidationError) as refused:
        MemberChangedV1.from_json(text)
    return describe(refused.value)


def test_absent_and_null_are_told_apart():
    member = MemberChangedV1.from_json(upsert(name="Ari", email=None)).member

    assert member is not None
    assert member.given() == {"name", "email"}
    assert (member.name, member.email, member.phone) == ("Ari", None, None)


def test_absent_stays_absent_and_null_stays_null_when_written_again():
    message = MemberChangedV1.from_json(upsert(name="Ari", email=None))

    assert json.loads(message.to_json())["member"] == {"name": "Ari", "email": None}


def test_times_come_out_in_utc():
    message = MemberChangedV1.from_json(body(updatedAt="2026-11-02T01:30:00.1234567+02:00"))

    assert message.updated_at == datetime(2026, 11, 1, 23, 30, 0, 123456, tzinfo=UTC)
    assert message.updated_at.tzinfo is UTC


@pytest.mark.parametrize("text", ["2026-11-02t09:30:00z", "2026-11-02T09:30:00-00:00", "2026-11-02T10:30:00.0+01:00"])
def test_every_spelling_of_rfc_3339_is_read(text):
    assert MemberChangedV1.from_json(body(updatedAt=text)).updated_at == datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-02",
        "2026-11-02 09:30:00Z",
        "2026-11-02T09:30Z",
        "20261102T093000Z",
        "2026-11-02T09:30:00",
        "2026-11-02T09:30:00Z\n",
        "2026-W45-1T09:30:00Z",
        "2026-11-02T24:00:00Z",
        "2026-11-02T09:30:60Z",
        "2026-11-02T09:30:00+25:00",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "\uff12\uff10\uff12\uff16-11-02T09:30:00Z",
        "",
    ],
)
def test_other_times_are_refused(text):
    assert refusal(body(updatedAt=text)).startswith("updatedAt: ")


@pytest.mark.parametrize("version", [0, 1, 2**63 - 1])
def test_versions_of_64_bits_are_taken(version):
    assert MemberChangedV1.from_json(body(version=version)).version == version


@pytest.mark.parametrize("version", [-1, 2**63, True, 1.0, "1", None, [1]])
def test_other_versions_are_refused(version):
    assert refusal(body(version=version)).startswith("version: ")


def test_numbers_beyond_any_integer_are_invalid_json():
    assert refusal(body().replace(b'"version": 1', b'"version": ' + b"9" * 5000)) == "not valid JSON"


def test_unknown_fields_are_ignored():
    message = MemberChangedV1.from_json(body(action="upsert", member={"name": "Ari", "nickname": "A"}, extra={"a": 1}))

    assert message.member == UpstreamMember(name="Ari")


@pytest.mark.parametrize("member", [None, "absent"])
def test_a_removal_may_say_nothing_of_the_member(member):
    changes = {} if member == "absent" else {"member": member}

    assert MemberChangedV1.from_json(body(**changes)).member is None


@pytest.mark.parametrize(
    "metadata",
    [
        {"text": "a\u0000b"},
        {"a\u0000b": 1},
        {"list": [{"deep": "\u0000"}]},
        {"n": 2**63},
        {"n": -(2**63) - 1},
        {"text": "x" * 16_384},
        [],
        "text",
    ],
)
def test_metadata_that_cannot_be_kept_is_refused(metadata):
    assert refusal(upsert(metadata=metadata)).startswith("member.metadata: ")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_not_finite_are_refused(number):
    assert refusal(upsert(metadata={"n": 1}).replace(b'"n": 1', b'"n": ' + number)) != ""


def test_metadata_is_kept_as_it_came():
    metadata = {"a": [1, -(2**63), 1.5, None, True, {"b": "ð"}], "": {}, "x": "y" * 16_000}

    member = MemberChangedV1.from_json(upsert(metadata=metadata)).member

    assert member is not None
    assert member.metadata == metadata


def test_metadata_nests_eight_levels_and_no_more():
    eight: object = "end"
    for _ in range(8):
        eight = {"a": eight}

    assert MemberChangedV1.from_json(upsert(metadata=eight)).member is not None
    assert refusal(upsert(metadata={"a": eight})) == "member.metadata: metadata may nest 8 levels"


@pytest.mark.parametrize("text", [b"\xff", b"", b"{", b"[]", b"null", b'{"a":"\\ud800"}', b"[" * 5000])
def test_what_is_no_json_object_is_refused(text):
    assert refusal(text) in {"not valid JSON", "must be an object"} or refusal(text).endswith("required")


def test_a_message_can_be_built_in_python():
    message = MemberChangedV1(
        company_id=COMPANY,
        connection_id=CONNECTION,
        external_id="member-1",
        action="upsert",
        version=3,
        updated_at=datetime(2026, 11, 2, 9, 30, tzinfo=timezone(timedelta(hours=2))),
        member=UpstreamMember(name="Ari", plan=None),
    )

    assert message.updated_at.tzinfo is UTC
    assert MemberChangedV1.from_json(message.to_json()) == message
    assert json.loads(message.to_json())["member"] == {"name": "Ari", "plan": None}


def test_python_times_need_an_offset():
    with pytest.raises(ValidationError) as refused:
        UpstreamMember(starts_at=datetime(2026, 11, 2))  # noqa: DTZ001 - the naive time is the case
    assert describe(refused.value) == "starts_at: a time needs its offset from UTC"


def test_python_times_must_fit_utc():
    with pytest.raises(ValidationError) as refused:
        UpstreamMember(starts_at=datetime.min.replace(tzinfo=timezone(timedelta(hours=1))))
    assert describe(refused.value) == "starts_at: a time must lie in the years 1 to 9999 in UTC"


def test_lone_surrogates_are_refused_in_python_too():
    with pytest.raises(ValidationError) as refused:
        UpstreamMember(metadata={"a": "\ud800"})
    assert describe(refused.value) == "metadata: metadata must be valid Unicode"


def test_messages_are_frozen():
    message = MemberChangedV1.from_json(body())

    with pytest.raises(ValidationError):
        message.version = 2  # type: ignore[misc]  # the assignment is the case
