"""A place in a trace: which traceparents are sampled, and what is read of them."""

from __future__ import annotations

import pytest

from service.telemetry.traced import ids, is_sampled

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True), ("fe", False)]
)
def test_the_lowest_bit_of_the_flags_says_whether_it_is_recorded(flags: str, sampled: bool) -> None:
    assert is_sampled(f"00-{TRACE}-{SPAN}-{flags}") is sampled


@pytest.mark.parametrize("value", [None, "", "01", 1, b"x", f"00-{TRACE}-{SPAN}-0", f"00-{TRACE}-{SPAN}-01-more"])
def test_what_is_no_traceparent_is_not_sampled(value: object) -> None:
    assert not is_sampled(value)


def test_the_ids_of_a_traceparent_are_read() -> None:
    assert ids(f"00-{TRACE}-{SPAN}-01") == (TRACE, SPAN, "01")


@pytest.mark.parametrize(
    "value",
    [
        None,
        "junk",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
    ],
)
def test_what_the_standard_forbids_has_no_ids(value: object) -> None:
    assert ids(value) is None
