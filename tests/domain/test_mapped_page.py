"""A page is mapped column by column, and comes to what each of its records comes to by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.directories.mapped_page import mapped_page
from service.domain.directories.mapping import DEFAULT_SETTINGS, Unmappable, directory_mapping, mapped_record
from tests.directory_rig import NESTED

TIMELESS = {
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
        "metadata": "extra",
    },
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from(["", " ", "\t", "-", "0101-01 12", "left", "3", "active", "removed", "Anna", "\x1f", "\u2028", "ö"]),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(0, 3), max_size=3),
)


def assert_alike(described: Mapping[str, Any], records: list[dict[str, Any]]) -> None:
    """A page comes to what each of its records comes to."""
    mapping = directory_mapping(described)
    page = mapped_page(mapping, records)
    assert len(page.external_ids) == len(records)
    for place, one in enumerate(mapped_record(mapping, record) for record in records):
        row = (page.external_ids[place], page.source_hashes[place], page.contents[place], page.versions[place])
        row += (page.updated_ats[place], page.national_ids[place], page.reasons.get(place))
        if isinstance(one, Unmappable):
            assert row == (one.external_id, None, None, None, None, None, one.reason)
        else:
            national_id = None if one.fields is None else one.fields.get("national_id")
            assert row == (one.external_id, one.source_hash, one.content, one.version, one.updated_at, national_id, None)


ALL_TOLD = st.fixed_dictionaries(dict.fromkeys(("kennitala", "name", "email", "phone", "state", "plan", "extra"), VALUES))
# Nearly all that a directory holds: pages of it go the quick way.
PLAIN = st.sampled_from(
    ["Anna", "Ö", "", " ", "a-b", 'a"b', "a\\b", "%s", "a\nb", "a\x00b", "\xa0", "{}", "\u2028", "\ud800"]
) | st.text(max_size=5)
DATED = st.sampled_from(
    ["2026-11-01T00:00:00Z", "2026-11-01T01:00:00+02:00", "0001-01-01T00:00:00Z", "2026-13-01", "never", "", None]
)


@given(st.lists(ALL_TOLD, max_size=4), st.lists(st.integers() | PLAIN | st.booleans(), min_size=4, max_size=4))
def test_a_page_of_anything_comes_to_what_its_records_come_to(told: list[dict[str, Any]], keys: list[Any]) -> None:
    records = [{"id": key, "updated_at": "2026-11-01T00:00:00Z", **one} for key, one in zip(keys, told, strict=False)]
    assert_alike(TIMELESS, records)


@given(
    st.lists(st.fixed_dictionaries({"id": st.integers(0, 10**6), "name": PLAIN, "kennitala": PLAIN, "email": st.none() | PLAIN}))
)
def test_a_page_of_the_seeds_shape_comes_to_what_its_records_come_to(records: list[dict[str, Any]]) -> None:
    assert_alike(DEFAULT_SETTINGS, records)


@given(
    st.lists(
        st.fixed_dictionaries({"u": DATED, "v": st.integers(-1, 9) | st.just("7"), "n": PLAIN, "s": DATED, "e": DATED}), max_size=4
    )
)
@pytest.mark.parametrize("extra", [{}, {"version": "v"}, {"timeZone": "Europe/Paris"}])
def test_a_page_of_dated_records_comes_to_what_they_come_to(extra: dict[str, Any], told: list[dict[str, Any]]) -> None:
    described = {"externalId": "id", "updatedAt": "u", "member": {"name": "n", "startsAt": "s", "expiresAt": "e"}, **extra}
    assert_alike(described, [{"id": number, **one} for number, one in enumerate(told)])


@pytest.mark.parametrize("lacking", ["ssn", "name", "contact_info"])
def test_a_page_of_nested_records_of_which_one_lacks_something(lacking: str) -> None:
    whole = {"uid": "p", "updated_at": "2026-11-01T01:00:00+01:00", "ssn": "010101 1234", "name": "Anna", "is_active": True}
    records = [{**whole, "uid": f"p{n}", "contact_info": {"email": "a@b", "phone": None}} for n in range(3)]
    assert_alike(NESTED, records)
    del records[1][lacking]
    assert_alike(NESTED, records)


def test_one_record_too_large_or_with_a_nul_spoils_no_other() -> None:
    for name in ("x" * (81 * 1024), "a\x00b", "\\u0000"):
        assert_alike(DEFAULT_SETTINGS, [{"id": 1, "kennitala": None, "name": "Anna", "email": None}, {"id": 2, "name": name}])
        assert_alike(
            DEFAULT_SETTINGS, [{"id": n, "kennitala": "1", "name": said, "email": "a@b"} for n, said in enumerate(["Anna", name])]
        )


@pytest.mark.parametrize("depth", [252, 253, 254, 255])
def test_what_is_nested_too_deep_is_refused_alike(depth: int) -> None:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    assert_alike(TIMELESS, [{"id": "1", "name": "Anna", "extra": value}, {"id": "2", "name": value}])
