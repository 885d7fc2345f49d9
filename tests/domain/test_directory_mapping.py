"""What records mean: the seed's shape, nested ones, and what is no member; and that the stream would say the same."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.envelope import Envelope
from contracts.member_changed import MemberChangedV1
from service.domain.change import UpstreamUpsert
from service.domain.directories.mapping import (
    DEFAULT_MAPPING,
    InvalidMapping,
    MappedRecord,
    Unmappable,
    directory_mapping,
    mapped_record,
)
from service.domain.source_mapping import ABSENT, MEMBER_FIELDS
from service.translation import to_change
from tests.directory_rig import NESTED

FULL = {
    "externalId": "id",
    "updatedAt": "updated_at",
    "states": {"true": "active", "false": "suspended", "3": "pending", "left": "removed"},
    "member": {
        "nationalId": "kennitala",
        "name": "name",
        "email": "email",
        "phone": "phone",
        "state": "state",
        "plan": "plan",
        "startsAt": "starts_at",
        "expiresAt": "expires_at",
        "metadata": "extra",
    },
}


def mapped(record: dict[str, Any], **changed: Any) -> MappedRecord:
    result = mapped_record(directory_mapping({**FULL, **changed}), record)
    assert isinstance(result, MappedRecord), result
    return result


def unmappable(record: dict[str, Any], **changed: Any) -> Unmappable:
    result = mapped_record(directory_mapping({**FULL, **changed}), record)
    assert isinstance(result, Unmappable), result
    return result


def one(**given: Any) -> dict[str, Any]:
    return {"id": 7, "updated_at": "2026-11-01T00:00:00Z", "name": "Anna"} | given


def test_the_shape_of_the_seed() -> None:
    record = {"id": 123, "kennitala": "010101-1234", "name": "Anna", "email": "Anna@Example.com", "shoe_size": 38}
    result = mapped_record(DEFAULT_MAPPING, record)
    assert isinstance(result, MappedRecord)
    assert result.external_id == "123"
    assert result.member == {"nationalId": "0101011234", "name": "Anna", "email": "Anna@Example.com"}
    assert result.fields == {"national_id": "0101011234", "name": "Anna", "email": "Anna@Example.com"}
    assert orjson.loads(result.content) == result.fields
    assert (result.updated_at, result.version, result.left) == (None, None, False)
    assert DEFAULT_MAPPING.mapped_fields == ["email", "name", "national_id"]


def test_nested_records() -> None:
    record = {
        "uid": "p-1",
        "updated_at": "2026-11-01T01:00:00+01:00",
        "ssn": "010101 1234",
        "name": "Anna",
        "is_active": True,
        "contact_info": {"email": "a@b", "phone": None},
    }
    result = mapped_record(directory_mapping(NESTED), record)
    assert isinstance(result, MappedRecord)
    assert result.member == {"nationalId": "0101011234", "name": "Anna", "email": "a@b", "phone": None, "state": "active"}
    assert result.updated_at == datetime(2026, 11, 1, tzinfo=UTC)
    assert result.version == 1793491200_000000


def test_absent_is_untouched_and_blank_clears() -> None:
    assert mapped(one(email="", plan="  ", kennitala="-")).fields == {
        "name": "Anna",
        "email": None,
        "plan": None,
        "national_id": None,
    }


@pytest.mark.parametrize(
    ("said", "meant"), [(True, "active"), (False, "suspended"), (3, "pending"), ("true", "active"), ("active", "active"), (4, 4)]
)
def test_states_are_mapped_by_what_they_are_written_as(said: object, meant: object) -> None:
    assert mapped(one(state=said)).fields == {"name": "Anna", "state": meant}


def test_a_state_that_means_removed_is_a_member_who_left() -> None:
    for state in ("left", "removed"):
        result = mapped(one(state=state))
        assert (result.left, result.fields, result.member, result.content) == (True, None, None, b"null")
        assert result.version is not None


def test_times_with_offsets_and_dates_in_the_zone_of_the_mapping() -> None:
    zoned = {"timeZone": "Europe/Paris"}
    result = mapped(one(starts_at="2026-07-01", expires_at="2026-12-31", updated_at="2026-07-01T12:00:00"), **zoned)
    assert result.fields is not None
    assert result.fields["starts_at"] == datetime(2026, 6, 30, 22, tzinfo=UTC)
    # A member is a member until the last instant of the day.
    assert result.fields["expires_at"] == datetime(2026, 12, 31, 22, 59, 59, 999999, tzinfo=UTC)
    assert result.updated_at == datetime(2026, 7, 1, 10, tzinfo=UTC)


def test_times_without_offset_are_refused_where_no_zone_is_said() -> None:
    for field in ("expires_at", "updated_at"):
        for text in ("2026-12-31", "2026-12-31T00:00:00"):
            found = unmappable(one(**{field: text}))
            assert (found.external_id, found.reason) == (
                "7",
                f"{field}: a time without its offset; the mapping's timeZone says which is meant",
            )


def test_times_that_are_counted() -> None:
    result = mapped(one(updated_at=1793491200, expires_at="1793491200"), times="seconds")
    assert result.fields is not None
    assert result.fields["expires_at"] == result.updated_at == datetime(2026, 11, 1, tzinfo=UTC)
    assert unmappable(one(updated_at=1793491200, expires_at=2**62), times="seconds").external_id == "7"


def test_the_ends_of_the_calendar_stay_finite() -> None:
    result = mapped(one(expires_at="9999-12-31T23:59:59.999999Z", starts_at="0001-01-01T00:00:00Z"))
    assert result.fields is not None
    assert result.fields["expires_at"] < datetime.max.replace(tzinfo=UTC)  # type: ignore[operator]
    assert result.fields["starts_at"] > datetime.min.replace(tzinfo=UTC)  # type: ignore[operator]


@pytest.mark.parametrize("key", [None, "", True, 1.5, "a\x00b", "a\nb", "x" * 256, ["a"], {"a": 1}])
def test_without_a_key_it_could_be_anybody(key: object) -> None:
    found = unmappable(one(id=key))
    assert found.external_id is None
    assert found.reason.startswith("id: the key must be a text")


def test_what_is_unfit_keeps_its_key_and_tells_no_value() -> None:
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"updated_at": "Anna"}, {}),
        ({"updated_at": None}, {}),
        ({"name": "An\x00na"}, {}),
        ({"extra": {"k\x00": 1}}, {}),
        ({"extra": {"bio": "Anna" * 50_000}}, {}),
        ({"rev": "Anna"}, {"version": "rev"}),
        ({"rev": -1}, {"version": "rev"}),
        ({"rev": 2**63}, {"version": "rev"}),
        ({"rev": True}, {"version": "rev"}),
        ({}, {"version": "rev"}),
    ]
    for record, changed in cases:
        found = unmappable(one(**record), **changed)
        assert found.external_id == "7"
        assert "Anna" not in found.reason


def test_a_text_about_a_nul_is_no_nul() -> None:
    assert mapped(one(name="say \\u0000")).fields is not None


def test_a_version_of_its_own() -> None:
    assert mapped(one(rev="12"), version="rev").version == 12
    assert mapped(one(rev=2**63 - 1), version="rev").version == 2**63 - 1


INVALID: list[tuple[dict[str, Any], str]] = [
    ({}, "member says where"),
    ({"member": {"name": "name"}}, "externalId says where"),
    ({"externalId": "id", "member": {"email": "email"}}, "member.name is needed"),
    ({"externalId": "id", "member": {"name": "name", "shoe": "x"}}, "member knows no shoe"),
    ({"externalId": "id", "member": {"name": "a..b"}}, "member.name is a path"),
    ({"externalId": "id", "member": {"name": 3}}, "member.name is a path"),
    ({"externalId": "id", "member": {"name": "name"}, "times": "days"}, "times is one of"),
    ({"externalId": "id", "member": {"name": "name"}, "timeZone": "Mars/Olympus"}, "timeZone is the name"),
    ({"externalId": "id", "member": {"name": "name"}, "timeZone": "../../etc/passwd"}, "timeZone is the name"),
    ({"externalId": "id", "member": {"name": "name"}, "timeZone": 1}, "timeZone is the name"),
    ({"externalId": "id", "member": {"name": "name"}, "states": {"a": 1}}, "states maps texts"),
    ({"externalId": "id", "member": {"name": "name"}, "status": "x"}, "unknown: status"),
    ({"externalId": "ssn", "member": {"name": "name", "nationalId": "ssn"}}, "must not be the national id"),
]


@pytest.mark.parametrize(("settings", "text"), INVALID, ids=[text for _, text in INVALID])
def test_a_mapping_that_does_not_fit_names_the_setting(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidMapping, match=text):
        directory_mapping(settings)


def test_columns_are_names_dots_and_all() -> None:
    mapping = directory_mapping({"externalId": "Member No.", "member": {"name": "full.name"}}, nested=False)
    result = mapped_record(mapping, {"Member No.": "7", "full.name": "Anna"})
    assert isinstance(result, MappedRecord)
    assert (result.external_id, result.fields) == ("7", {"name": "Anna"})


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
LINES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs"], exclude_characters="\u00a0"), min_size=1, max_size=20)
TIMES = st.datetimes(timezones=st.just(UTC)).map(lambda instant: instant.isoformat().replace("+00:00", "Z"))
MEMBERS = st.fixed_dictionaries(
    {"name": LINES},
    optional={
        "nationalId": LINES.filter(lambda text: text.replace("-", "").replace(" ", "") != ""),
        "email": st.none() | LINES,
        "phone": st.none() | LINES,
        "state": st.sampled_from(["active", "pending", "suspended"]),
        "plan": st.none() | LINES,
        "startsAt": st.none() | TIMES,
        "expiresAt": st.none() | TIMES,
        "metadata": st.none()
        | st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS | st.lists(TEXTS), max_size=4),
    },
)
CONTRACT_SHAPE = directory_mapping({"externalId": "id", "member": {name: name for name in FULL["member"]}})


@given(MEMBERS)
def test_a_record_has_the_hash_of_the_same_member_in_the_stream(member: dict[str, Any]) -> None:
    body = {
        "companyId": str(uuid4()),
        "connectionId": str(uuid4()),
        "externalId": "7",
        "action": "upsert",
        "version": 1,
        "updatedAt": "2026-11-01T00:00:00Z",
        "member": member,
    }
    envelope = Envelope(id="1", source="test", type="MEMBER_CHANGED", time=datetime.now(UTC))
    change = to_change(MemberChangedV1.from_json(orjson.dumps(body)), envelope)
    record = mapped_record(CONTRACT_SHAPE, {"id": "7", **member})
    assert isinstance(change, UpstreamUpsert)
    assert isinstance(record, MappedRecord)
    assert record.source_hash == change.source_hash
    assert record.fields == change.fields


def test_a_departure_has_the_hash_of_a_removal() -> None:
    body = {
        "companyId": str(uuid4()),
        "connectionId": str(uuid4()),
        "externalId": "7",
        "action": "remove",
        "version": 1,
        "updatedAt": "2026-11-01T00:00:00Z",
    }
    envelope = Envelope(id="1", source="test", type="MEMBER_CHANGED", time=datetime.now(UTC))
    change = to_change(MemberChangedV1.from_json(orjson.dumps(body)), envelope)
    assert mapped(one(state="left")).source_hash == change.source_hash


def plainly(described: dict[str, Any], record: dict[str, Any]) -> dict[str, object] | None:
    """The rules of a record's fields as one would say them, field by field: what the quick way must come to."""
    fields: dict[str, object] = {}
    for contract_name, path in described["member"].items():
        found = record.get(path, ABSENT)
        if found is ABSENT:
            continue
        name = MEMBER_FIELDS[contract_name]
        if isinstance(found, str) and not found.strip():
            found = None
        if name == "national_id" and isinstance(found, str):
            found = found.replace("-", "").replace(" ", "") or None
        if name == "state" and isinstance(found, str | int):
            written = str(found).lower() if isinstance(found, bool) else str(found)
            found = described["states"].get(written, found)
            if found == "removed":
                return None
        fields[name] = found
    return fields


TIMELESS = {**FULL, "member": {name: path for name, path in FULL["member"].items() if not name.endswith("At")}}  # type: ignore[attr-defined]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from(["", " ", "\t", "-", "0101-01 12", "left", "3", "active", "removed", "Anna", "\x1f", "\u2028", "ö"]),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(0, 3), max_size=3),
)


@given(st.dictionaries(st.sampled_from(["kennitala", "name", "email", "phone", "state", "plan", "extra"]), VALUES))
def test_the_quick_way_to_a_members_fields_comes_to_what_the_rules_say(told: dict[str, Any]) -> None:
    record = {"id": 7, "updated_at": "2026-11-01T00:00:00Z", **told}
    result = mapped_record(directory_mapping(TIMELESS), record)
    if isinstance(result, Unmappable):
        assert result.reason == "a field holds a NUL character"
        assert b"\\u0000" in orjson.dumps(told)
        return
    expected = plainly(TIMELESS, record)
    assert result.fields == expected
    assert repr(result.fields) == repr(expected)
    assert result.content == orjson.dumps(expected, option=orjson.OPT_SORT_KEYS)
    assert result.source_hash == blake2b(result.content, digest_size=16).digest()


@pytest.mark.parametrize("key", ["a", "Ö 7", "x" * 255, "\u200b", "\xa0", 7, -1, 2**70])
def test_keys_that_are_keys(key: object) -> None:
    assert mapped(one(id=key)).external_id == str(key)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "\x7f", "a\x85", "\x00", True, None, 1.5, ["a"]])
def test_keys_that_are_none(key: object) -> None:
    assert unmappable(one(id=key)).external_id is None
