from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.change import AuditedFacts, Cause, DriftRepaired, Reason
from service.domain.decide import decide
from service.domain.decision import Refused, Stale
from service.domain.member import Member, Standing, UpstreamState
from service.domain.transition import Transition, Unchanged
from tests.domain.samples import DAY, NEW_ID, NOW, member, removed, rules, tombstone

CAUSE = Cause(Reason.DRIFT_REPAIR, "job:test", "run")


def repair(of: Member, *, read_version: int | None = None, **audited: Any) -> DriftRepaired:
    facts = {"version": 1, "state": Standing.ACTIVE, "plan": None, "starts_at": None, "expires_at": None, **audited}
    return DriftRepaired(
        member_id=of.id,
        read_version=of.version if read_version is None else read_version,
        cause=CAUSE,
        audited=AuditedFacts(**facts),
    )


def decided(of: Member | None, change: DriftRepaired) -> Any:
    return decide(of, change, NOW, rules(), NEW_ID)


def test_who_is_what_the_audit_says_is_left_alone() -> None:
    found = member(plan="gold")
    assert decided(found, repair(found, plan="gold")) == Unchanged(found)


def test_what_belongs_to_the_source_is_restored_too_and_its_version_stays() -> None:
    found = member(plan="gold", source_version=7)
    decision = decided(found, repair(found, plan="basic"))
    assert isinstance(decision, Transition)
    assert (decision.changed, decision.previous_state) == ({"plan": ("gold", "basic")}, Standing.ACTIVE)
    assert decision.after == replace(found, plan="basic", version=2)


def test_the_standing_follows_from_the_facts_and_the_time() -> None:
    found = member(state=Standing.SUSPENDED, expires_at=NOW + DAY)
    decision = decided(found, repair(found, expires_at=NOW - DAY))
    assert isinstance(decision, Transition)
    assert (decision.after.state, decision.previous_state) == (Standing.EXPIRED, Standing.ACTIVE)
    assert decision.changed == {"expiresAt": (NOW + DAY, NOW - DAY), "state": (Standing.SUSPENDED, Standing.EXPIRED)}


@pytest.mark.parametrize("version", [1, 2, 9])
def test_the_next_version_follows_the_audited_one(version: int) -> None:
    found = member(version=version, plan="gold")
    decision = decided(found, repair(found, version=5))
    assert isinstance(decision, Transition)
    assert decision.after.version == 6


def test_who_left_past_the_audit_is_back_and_who_came_back_past_it_leaves() -> None:
    gone = removed(version=1, removed_at=NOW - DAY)
    back = decided(gone, repair(gone, upstream_state=UpstreamState.ACTIVE))
    assert isinstance(back, Transition)
    assert (back.after.state, back.after.removed_at) == (Standing.ACTIVE, None)
    found = member()
    left = decided(found, repair(found, upstream_state=UpstreamState.REMOVED, state=Standing.REMOVED))
    assert isinstance(left, Transition)
    assert (left.after.state, left.after.removed_at, left.previous_state) == (Standing.REMOVED, NOW, Standing.REMOVED)


def test_the_nameless_do_not_come_back() -> None:
    gone = removed(version=1, name=None)
    assert isinstance(decided(gone, repair(gone, upstream_state=UpstreamState.ACTIVE)), Refused)


def test_who_was_changed_since_is_left_alone_and_who_is_not_there_refused() -> None:
    found = member(version=2)
    assert isinstance(decided(found, repair(found, read_version=1)), Stale)
    assert isinstance(decided(None, repair(found)), Refused)
    assert isinstance(decided(tombstone(), repair(tombstone())), Refused)


@given(
    st.sampled_from([None, "basic", "gold"]),
    st.sampled_from([None, NOW - DAY, NOW + DAY]),
    st.sampled_from([Standing.ACTIVE, Standing.SUSPENDED, Standing.EXPIRED]),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_a_repaired_member_has_nothing_left_to_repair(
    plan: str | None, expires_at: Any, state: Standing, version: int, audited: int
) -> None:
    found = member(plan=plan, expires_at=expires_at, state=state, version=version)
    decision = decided(found, repair(found, version=audited, plan="basic"))
    if isinstance(decision, Unchanged):
        return
    assert isinstance(decision, Transition)
    after = decision.after
    again = repair(
        after, version=after.version, plan=after.plan, state=after.state, starts_at=after.starts_at, expires_at=after.expires_at
    )
    assert decide(after, again, NOW + timedelta(0), rules(), NEW_ID) == Unchanged(after)
