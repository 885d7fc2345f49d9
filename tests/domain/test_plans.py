from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.change import Cause, PendingPlan, PlanChangeCancelled, PlanChangeDue, PlanChangeRequested, Reason, TimePassed
from service.domain.decide import decide
from service.domain.decision import Decision, Refused, Stale
from service.domain.member import Member, Standing
from service.domain.plans import InvalidPlanChange, add_months, planned, today_in, zone_of
from service.domain.transition import Transition, Unchanged
from tests.domain.samples import DAY, NEW_ID, NOW, member, removed, rules

CAUSE = Cause(Reason.PLAN_CHANGE, "job:x", "run")
TODAY = NOW.date()
GOLD = PendingPlan("gold", TODAY, NOW + 365 * DAY)
OURS = frozenset({"name"})


def decided(known: Member, change: object, mapped: frozenset[str] = OURS) -> Decision:
    return decide(known, change, NOW, rules(mapped_fields=mapped), NEW_ID)  # type: ignore[arg-type]


def request(plan: PendingPlan, version: int = 1) -> PlanChangeRequested:
    return PlanChangeRequested(member_id=member().id, read_version=version, cause=CAUSE, planned=plan)


def due(plan: PendingPlan = GOLD, version: int = 1) -> PlanChangeDue:
    return PlanChangeDue(member_id=member().id, read_version=version, cause=CAUSE, due=plan)


def with_plan(planned: PendingPlan = GOLD, /, **given: object) -> Member:
    return member(
        **{
            "plan": "basic",
            "pending_plan": planned.plan,
            "pending_start": planned.starts_on,
            "pending_expires_at": planned.expires_at,
            **given,
        }
    )


class TestMonths:
    @pytest.mark.parametrize(
        ("day", "months", "expected"),
        [
            ("2026-01-31", 1, "2026-02-28"),
            ("2024-01-31", 1, "2024-02-29"),
            ("2026-01-31", 2, "2026-03-31"),
            ("2026-08-31", 1, "2026-09-30"),
            ("2026-11-15", 2, "2027-01-15"),
            ("2024-02-29", 12, "2025-02-28"),
            ("2024-02-29", 48, "2028-02-29"),
            ("2026-12-31", 1, "2027-01-31"),
        ],
    )
    def test_they_clamp(self, day: str, months: int, expected: str) -> None:
        assert add_months(date.fromisoformat(day), months) == date.fromisoformat(expected)

    @given(st.dates(date(2000, 1, 1), date(2900, 1, 1)), st.integers(1, 1200))
    def test_the_day_stays_or_is_the_month_s_last(self, day: date, months: int) -> None:
        after = add_months(day, months)
        assert (after.year - day.year) * 12 + after.month - day.month == months
        assert after.day == day.day or (after.day < day.day and (after.replace(day=after.day) + DAY).day == 1)


class TestPlanned:
    def test_a_term_ends_at_midnight_by_the_company_s_clocks(self) -> None:
        found = planned("gold", date(2026, 1, 31), ZoneInfo("America/New_York"), term_months=1)
        assert found == PendingPlan("gold", date(2026, 1, 31), datetime(2026, 2, 28, 5, tzinfo=UTC))

    def test_with_neither_the_dates_stay(self) -> None:
        assert planned("gold", date(2026, 1, 31), ZoneInfo("UTC")).expires_at is None

    def test_an_end_is_after_the_beginning(self) -> None:
        end = datetime(2026, 2, 1, tzinfo=UTC)
        assert planned("gold", date(2026, 1, 31), ZoneInfo("UTC"), expires_at=end).expires_at == end
        with pytest.raises(InvalidPlanChange):
            planned("gold", date(2026, 2, 1), ZoneInfo("UTC"), expires_at=end)

    @pytest.mark.parametrize(
        "given", [{"term_months": 0}, {"term_months": 1201}, {"term_months": -1}, {"term_months": 1, "expires_at": NOW}]
    )
    def test_what_is_no_term_is_refused(self, given: dict[str, object]) -> None:
        with pytest.raises(InvalidPlanChange):
            planned("gold", date(2026, 1, 1), ZoneInfo("UTC"), **given)  # type: ignore[arg-type]

    @pytest.mark.parametrize("day", [date.min, date(1999, 12, 31), date(3000, 1, 1), date.max])
    def test_what_is_no_day_of_ours_is_refused(self, day: date) -> None:
        with pytest.raises(InvalidPlanChange):
            planned("gold", day, ZoneInfo("UTC"), term_months=1200)

    def test_the_day_is_that_of_the_zone(self) -> None:
        late = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
        assert today_in(zone_of("Europe/Berlin"), late) == date(2026, 3, 2)
        assert today_in(zone_of("America/New_York"), late) == date(2026, 3, 1)
        for name in ("", "Europe/Atlantis", "/etc/passwd", "Europe"):
            with pytest.raises(InvalidPlanChange):
                zone_of(name)


class TestRequest:
    def test_it_is_remembered_and_makes_no_version(self) -> None:
        decision = decided(member(plan="basic"), request(GOLD))
        assert isinstance(decision, Unchanged)
        after = decision.after
        assert (after.pending_plan, after.pending_start, after.pending_expires_at) == ("gold", TODAY, GOLD.expires_at)
        assert (after.version, after.plan) == (1, "basic")

    def test_a_second_takes_the_place_of_the_first(self) -> None:
        silver = PendingPlan("silver", TODAY + DAY)
        decision = decided(with_plan(), request(silver))
        assert isinstance(decision, Unchanged)
        assert (decision.after.pending_plan, decision.after.pending_expires_at) == ("silver", None)

    def test_the_plan_that_the_member_has_is_nothing_to_plan(self) -> None:
        known = member(plan="gold")
        assert decided(known, request(PendingPlan("gold", TODAY))) == Unchanged(known)
        # With another end it is a renewal; with something planned it takes its place.
        renewal = decided(known, request(GOLD))
        assert isinstance(renewal, Unchanged)
        assert renewal.after.pending_plan == "gold"
        other = decided(with_plan(plan="gold"), request(PendingPlan("gold", TODAY)))
        assert isinstance(other, Unchanged)
        assert other.after.pending_plan == "gold"

    def test_what_the_source_owns_is_refused(self) -> None:
        known = member(plan="basic")
        both = decided(known, request(GOLD), frozenset({"plan", "expires_at"}))
        assert isinstance(both, Refused)
        assert "plan, expiresAt" in both.reason
        assert isinstance(decided(known, request(GOLD), frozenset({"expires_at"})), Refused)
        assert isinstance(decided(known, request(PendingPlan("gold", TODAY)), frozenset({"expires_at"})), Unchanged)
        local = member(plan="basic", connection_id=None, external_id=None)
        assert isinstance(decided(local, request(GOLD), frozenset({"plan"})), Unchanged)

    def test_who_has_left_and_what_has_no_name_is_refused(self) -> None:
        assert isinstance(decided(removed(), request(GOLD, 2)), Refused)
        assert isinstance(decided(member(), request(PendingPlan(" ", TODAY))), Refused)

    def test_over_another_version_it_is_stale(self) -> None:
        assert isinstance(decided(member(version=3), request(GOLD)), Stale)


class TestCancel:
    def test_what_was_planned_is_gone(self) -> None:
        decision = decided(with_plan(), PlanChangeCancelled(member_id=member().id, read_version=1, cause=CAUSE))
        assert decision == Unchanged(member(plan="basic"))

    def test_nothing_planned_is_nothing_to_withdraw(self) -> None:
        known = member(plan="basic")
        assert decided(known, PlanChangeCancelled(member_id=known.id, read_version=1, cause=CAUSE)) == Unchanged(known)


class TestDue:
    def test_it_begins_and_renews(self) -> None:
        known = with_plan(expires_at=NOW - DAY, state=Standing.EXPIRED)
        decision = decided(known, due())
        assert isinstance(decision, Transition)
        after = decision.after
        assert (after.plan, after.expires_at, after.state, after.version) == ("gold", GOLD.expires_at, Standing.ACTIVE, 2)
        assert (after.pending_plan, after.pending_start, after.pending_expires_at) == (None, None, None)
        assert list(decision.changed) == ["plan", "expiresAt", "state"]

    def test_without_an_end_the_dates_stay(self) -> None:
        plan = PendingPlan("gold", TODAY)
        decision = decided(with_plan(plan, expires_at=NOW + DAY), due(plan))
        assert isinstance(decision, Transition)
        assert decision.after.expires_at == NOW + DAY
        assert list(decision.changed) == ["plan"]

    def test_another_version_does_not_matter(self) -> None:
        assert isinstance(decided(with_plan(version=7), due()), Transition)

    def test_what_is_planned_otherwise_by_now_is_stale(self) -> None:
        for other in (PendingPlan("silver", TODAY, GOLD.expires_at), PendingPlan("gold", TODAY + DAY), PendingPlan("gold", TODAY)):
            assert isinstance(decided(with_plan(other), due()), Stale)
        assert isinstance(decided(member(), due()), Stale)
        assert isinstance(decided(removed(version=1), due()), Stale)

    def test_the_plan_that_the_member_has_begins_without_a_version(self) -> None:
        plan = PendingPlan("basic", TODAY)
        decision = decided(with_plan(plan), due(plan))
        assert decision == Unchanged(member(plan="basic"))

    def test_what_the_source_owns_by_now_is_refused(self) -> None:
        assert isinstance(decided(with_plan(), due(), frozenset({"plan"})), Refused)


class TestTimePassed:
    def passed(self, known: Member, plan: PendingPlan | None = GOLD, mapped: frozenset[str] = OURS) -> Decision:
        return decided(known, TimePassed(member_id=known.id, read_version=1, cause=CAUSE, due=plan), mapped)

    def test_a_due_plan_begins_first_and_may_renew(self) -> None:
        decision = self.passed(with_plan(expires_at=NOW - DAY))
        assert isinstance(decision, Transition)
        assert (decision.after.state, decision.after.plan) == (Standing.ACTIVE, "gold")
        assert list(decision.changed) == ["plan", "expiresAt"]

    def test_one_that_does_not_renew_begins_in_the_same_version(self) -> None:
        plan = PendingPlan("gold", TODAY)
        decision = self.passed(with_plan(plan, expires_at=NOW - DAY), plan)
        assert isinstance(decision, Transition)
        assert (decision.after.state, decision.after.plan, decision.after.version) == (Standing.EXPIRED, "gold", 2)

    def test_one_that_is_planned_otherwise_by_now_is_left_to_the_next_pass(self) -> None:
        assert isinstance(self.passed(member(expires_at=NOW - DAY)), Stale)
