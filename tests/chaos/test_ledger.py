"""The ledger finds what it is there to find, and the page holds what was run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.chaos.figures import BEGIN, END, PAGE, described
from tests.chaos.ledger import Arrival, Deliveries, Findings, Ledger, Stored, caught_up_after, compare


class Books:
    """Two versions of one member and one of another, taken in, stored and delivered as they should be."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        for change, external_id, version in (("a1", "a", 1), ("a2", "a", 2), ("b1", "b", 1), ("p1", "p", 1)):
            self.ledger.offer(change, external_id, version)
            self.ledger.accepted[change] = 10.0
        self.ledger.to_park = {"p1"}
        self.stored = Stored(
            Counter({"a1": 1, "a2": 1, "b1": 1}),
            [("A", "a", 1, "a1"), ("A", "a", 2, "a2"), ("B", "b", 1, "b1")],
            {"A": 2, "B": 1},
            0,
        )
        self.arrivals = [Arrival("a1", "A", 1, 11.0), Arrival("b1", "B", 1, 12.0), Arrival("a2", "A", 2, 13.0)]

    def found(self) -> Findings:
        seen = Deliveries()
        seen.arrivals = self.arrivals
        seen.received = {(arrival.member, arrival.version) for arrival in self.arrivals}
        return compare(self.ledger, self.stored, seen)

    def wrong(self) -> set[str]:
        findings = self.found()
        return {kind for kind in ("lost", "ghosts", "twice", "inverted", "overtaken") if getattr(findings, kind)}


def test_books_that_balance_show_nothing() -> None:
    books = Books()
    findings = books.found()
    assert books.wrong() == set()
    assert (findings.accepted, findings.delivered, findings.repeated) == (4, 3, 0)


def test_a_repeat_is_counted_and_is_nothing_else() -> None:
    books = Books()
    books.arrivals.append(books.arrivals[0])
    assert books.wrong() == set()
    assert books.found().repeated == 1


def test_an_event_that_never_came_is_lost() -> None:
    books = Books()
    del books.arrivals[1]
    assert books.wrong() == {"lost"}


def test_an_accepted_change_that_was_never_taken_in_is_lost() -> None:
    books = Books()
    del books.stored.taken_in["b1"]
    assert books.wrong() == {"lost"}


def test_a_change_without_an_effect_is_lost_unless_a_later_one_came_first() -> None:
    books = Books()
    books.stored = replace(books.stored, versions=[("A", "a", 1, "a2"), ("B", "b", 1, "b1")], members={"A": 1, "B": 1})
    books.arrivals = [Arrival("a2", "A", 1, 11.0), Arrival("b1", "B", 1, 12.0)]
    assert books.wrong() == {"overtaken"}
    books.stored = replace(books.stored, versions=[("A", "a", 1, "a1"), ("B", "b", 1, "b1")])
    books.arrivals[0] = Arrival("a1", "A", 1, 11.0)
    assert books.wrong() == {"lost"}


def test_rows_that_are_left_in_the_outbox_are_lost() -> None:
    books = Books()
    books.stored = replace(books.stored, outbox=1)
    assert books.wrong() == {"lost"}


@pytest.mark.parametrize("change", ["x", "p1"])
def test_what_nobody_sent_or_what_must_be_parked_is_a_ghost(change: str) -> None:
    books = Books()
    books.stored.taken_in[change] = 1
    assert books.wrong() == {"ghosts"}


def test_an_event_without_its_version_is_a_ghost() -> None:
    books = Books()
    books.arrivals.append(Arrival("a2", "A", 1, 14.0))
    assert books.wrong() == {"ghosts"}


def test_two_versions_of_one_change_are_one_too_many() -> None:
    books = Books()
    books.stored = replace(books.stored, versions=[*books.stored.versions, ("A", "a", 3, "a2")], members={"A": 3, "B": 1})
    books.arrivals.append(Arrival("a2", "A", 3, 14.0))
    assert books.wrong() == {"twice", "inverted"}


def test_versions_against_the_order_of_the_source_are_inverted() -> None:
    books = Books()
    books.stored = replace(books.stored, versions=[("A", "a", 1, "a2"), ("A", "a", 2, "a1"), ("B", "b", 1, "b1")])
    books.arrivals = [Arrival("a2", "A", 1, 11.0), Arrival("b1", "B", 1, 12.0), Arrival("a1", "A", 2, 13.0)]
    assert books.wrong() == {"inverted"}


def test_an_event_that_came_first_after_a_later_one_was_overtaken() -> None:
    books = Books()
    books.arrivals.reverse()
    assert books.wrong() == {"overtaken"}


def test_the_time_to_catch_up_is_that_of_the_last_that_had_been_accepted() -> None:
    books = Books()
    seen = Deliveries()
    seen.arrivals = books.arrivals
    books.ledger.accepted["a2"] = 20.0
    assert caught_up_after(11.5, books.ledger, seen) == 0.5


def test_every_scenario_says_what_it_does_and_the_page_holds_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page.partition(BEGIN)[2].partition(END)[0]
    scenarios = list(described())
    assert len(scenarios) >= 12
    for one in scenarios:
        assert one.text.partition("\n")[2].strip(), one.name
        assert one.text.partition("\n")[2].strip() in section, f"{one.name}: python -m tests.chaos --write-docs"
