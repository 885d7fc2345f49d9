from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.change import SOURCE_FIELDS, LocalChange, MemberCreated, MemberEdited, MemberErased, MemberRemoved
from service.domain.decide import decide
from service.domain.decide_local import ERASED_HOLD
from service.domain.decision import Conflict, Decision, Refused, Stale
from service.domain.fold import Fold
from service.domain.member import Member, MemberId, Standing, UpstreamState
from service.domain.outcome import Outcome
from service.domain.transition import Transition, Unchanged
from tests.domain.histories import full_fields
from tests.domain.samples import (
    CONNECTION,
    DAY,
    NEW_ID,
    NOW,
    create,
    edit,
    erase,
    member,
    removal,
    removed,
    rules,
    take_out,
    tombstone,
    upsert,
)

NO_SOURCE: dict[str, Any] = {
    "connection_id": None,
    "external_id": None,
    "source_version": None,
    "source_hash": None,
    "upstream_applied_at": None,
}
UNMAPPED = rules(mapped_fields=frozenset())
PERSONAL: dict[str, Any] = {
    "national_id": "0101012345",
    "name": "Anna",
    "email": "anna@example.org",
    "phone": "+354 1",
    "metadata": {"shoe": 38},
    "hold": "owes Berta",
    "held_at": NOW - DAY,
}


def decided(known: Member | None, change: LocalChange, given=UNMAPPED, *, namesake: Member | None = None) -> Decision:
    return decide(known, change, NOW, given, NEW_ID, namesake=namesake)


def applied(*args: Any, **given: Any) -> Member:
    answer = decided(*args, **given)
    assert isinstance(answer, Transition), answer
    return answer.after


def ours(**given: Any) -> Member:
    """A member without a connection."""
    return member(**{**NO_SOURCE, **given})


class TestCreation:
    def test_a_member_without_a_connection_is_version_1_under_the_id_that_was_given(self):
        answer = decided(None, create({"name": "Anna", "plan": "gold", "state": UpstreamState.PENDING}))

        assert isinstance(answer, Transition)
        assert (answer.after.id, answer.after.version, answer.previous_state) == (create().member_id, 1, None)
        assert (answer.after.connection_id, answer.after.external_id, answer.after.state) == (None, None, Standing.PENDING)

    def test_without_a_state_it_is_active(self):
        assert applied(None, create()).state is Standing.ACTIVE

    @pytest.mark.parametrize(
        "fields", [{}, {"name": " "}, {"name": "A", "national_id": " "}, {"name": "A", "state": UpstreamState.REMOVED}]
    )
    def test_what_is_no_member_is_refused(self, fields):
        assert isinstance(decided(None, create(fields)), Refused)

    def test_the_national_id_of_a_live_member_is_a_conflict(self):
        assert isinstance(decided(None, create({"name": "A", "national_id": "1"}), namesake=member(national_id="1")), Conflict)

    def test_who_left_a_source_comes_back_under_the_old_id_as_what_is_said_now(self):
        left = removed(national_id="1", email="old@example.org", plan="gold", metadata={"old": 1}, source_version=7)
        answer = decided(None, create({"name": "Anna B", "national_id": "1"}), namesake=left)

        assert isinstance(answer, Transition)
        after = answer.after
        assert (after.id, after.version, answer.previous_state) == (left.id, left.version + 1, Standing.REMOVED)
        assert (after.name, after.email, after.plan, after.metadata) == ("Anna B", None, None, {})
        assert (after.connection_id, after.external_id, after.source_version, after.removed_at) == (None, None, None, None)
        # A late change of the old key finds a tombstone, and is stale.
        assert answer.leaves is not None
        assert (answer.leaves.external_id, answer.leaves.source_version) == ("ext-1", 7)
        late = decide(answer.leaves, upsert(6), NOW, rules(), NEW_ID)
        assert isinstance(late, Stale)


class TestEdits:
    def test_fields_that_are_not_given_are_untouched_and_null_clears(self):
        before = ours(email="a@example.org", phone="1", metadata={"a": 1})
        after = applied(before, edit(before.id, 1, {"phone": None, "metadata": None, "plan": "gold"}))

        assert (after.email, after.phone, after.metadata, after.plan) == ("a@example.org", None, {}, "gold")
        assert after.version == 2

    def test_the_same_again_makes_no_version(self):
        before = ours(plan="gold")
        assert isinstance(decided(before, edit(before.id, 1, {"plan": "gold"})), Unchanged)

    def test_other_capitals_are_what_somebody_here_wants_to_read(self):
        before = ours(email="ada@example.org")
        assert applied(before, edit(before.id, 1, {"email": "Ada@Example.org"})).email == "Ada@Example.org"

    def test_what_the_source_owns_is_refused_by_name_and_nothing_is_applied(self):
        before = member()
        answer = decided(before, edit(before.id, 1, {"plan": "gold", "starts_at": NOW, "email": None}), rules())

        assert isinstance(answer, Refused)
        assert answer.reason.endswith(": email, plan, startsAt")

    def test_what_it_does_not_own_is_free(self):
        before = member()
        after = applied(before, edit(before.id, 1, {"plan": "gold"}), rules(mapped_fields=SOURCE_FIELDS - {"plan"}))
        assert (after.plan, after.source_version, after.source_hash) == ("gold", before.source_version, before.source_hash)

    def test_a_source_that_is_archived_owns_nothing(self):
        before = member()
        assert applied(before, edit(before.id, 1, {"name": "Berta"}), rules(archived=True)).name == "Berta"

    def test_a_removed_member_comes_back_by_a_state_only(self):
        before = removed(**NO_SOURCE)

        assert isinstance(decided(before, edit(before.id, 2, {"plan": "gold"})), Refused)
        after = applied(before, edit(before.id, 2, {"state": UpstreamState.SUSPENDED}))
        assert (after.state, after.removed_at, after.name) == (Standing.SUSPENDED, None, "Anna")

    def test_one_that_left_its_source_comes_back_by_its_source_only(self):
        before = removed()
        assert isinstance(decided(before, edit(before.id, 2, {"state": UpstreamState.ACTIVE})), Refused)

    def test_an_erased_member_comes_back_with_a_name(self):
        before = removed(**NO_SOURCE, name=None)

        assert isinstance(decided(before, edit(before.id, 2, {"state": UpstreamState.ACTIVE})), Refused)
        assert applied(before, edit(before.id, 2, {"state": UpstreamState.ACTIVE, "name": "B"})).state is Standing.ACTIVE

    @pytest.mark.parametrize("other", [ours(id=MemberId(UUID(int=5)), national_id="1"), removed(national_id="1")])
    def test_the_national_id_of_somebody_else_is_a_conflict_be_they_gone(self, other):
        before = ours(id=MemberId(UUID(int=6)))
        assert isinstance(decided(before, edit(before.id, 1, {"national_id": "1"}), namesake=other), Conflict)

    def test_its_own_national_id_is_no_conflict(self):
        before = ours(national_id="1")
        assert applied(before, edit(before.id, 1, {"national_id": "1", "name": "B"}), namesake=before).name == "B"


class TestLeaving:
    def test_a_member_without_a_source_leaves_once(self):
        before = ours(expires_at=NOW - DAY, state=Standing.EXPIRED)
        after = applied(before, take_out(before.id, 1))

        assert (after.state, after.removed_at) == (Standing.REMOVED, NOW)
        assert isinstance(decided(after, take_out(after.id, 2)), Unchanged)

    def test_one_that_a_source_tells_of_does_not_leave_here(self):
        assert isinstance(decided(member(), take_out(member().id, 1)), Refused)

    def test_one_whose_source_is_archived_does(self):
        assert applied(member(), take_out(member().id, 1), rules(archived=True)).state is Standing.REMOVED


class TestErasure:
    def test_a_member_live_at_its_source_is_refused(self):
        assert isinstance(decided(member(**PERSONAL), erase(member().id, 1), rules()), Refused)

    @pytest.mark.parametrize(
        ("before", "given"),
        [
            (removed(**PERSONAL), rules()),
            (removed(**NO_SOURCE, **PERSONAL), UNMAPPED),
            (ours(**PERSONAL, version=2), UNMAPPED),
            (member(**PERSONAL, version=2), rules(archived=True)),
        ],
        ids=["left its source", "taken out", "never had a source", "its source is archived"],
    )
    def test_what_is_personal_goes_from_the_row_and_from_its_own_audit(self, before, given):
        answer = decided(before, erase(before.id, 2), given)

        assert isinstance(answer, Transition)
        after = answer.after
        assert (after.name, after.national_id, after.email, after.phone, after.metadata) == (None, None, None, None, {})
        assert (after.hold, after.held_at, after.state, after.version) == (ERASED_HOLD, before.held_at, Standing.REMOVED, 3)
        assert (after.id, after.connection_id, after.external_id) == (before.id, before.connection_id, before.external_id)
        told = {name for name in answer.changed if name not in ("state", "upstreamState")}
        assert told == {"name", "nationalId", "email", "phone", "metadata", "hold"}
        assert {answer.changed[name] for name in told} == {(None, None)}

    def test_a_second_one_changes_nothing(self):
        after = applied(removed(**PERSONAL), erase(member().id, 2))
        assert isinstance(decided(after, erase(after.id, 3)), Unchanged)

    def test_its_source_brings_it_back_with_a_new_name(self):
        after = applied(removed(**PERSONAL, source_version=2), erase(member().id, 2), rules())
        back = decide(after, upsert(3, {"name": "Anna", "national_id": "0101012345"}), NOW, rules(), NEW_ID)

        assert isinstance(back, Transition)
        assert (back.after.id, back.after.version, back.after.national_id) == (after.id, 4, "0101012345")


@pytest.mark.parametrize(
    "build",
    [lambda one, version: edit(one, version, {"name": "B"}), take_out, erase],
    ids=["edited", "taken out", "erased"],
)
def test_who_read_another_version_was_overtaken_and_who_is_not_there_is_not_touched(build):
    assert isinstance(decided(ours(version=3), build(ours().id, 2)), Stale)
    assert isinstance(decided(None, build(NEW_ID, 1)), Refused)
    assert isinstance(decided(tombstone(), build(tombstone().id, 0)), Refused)


IDS = [MemberId(UUID(int=number)) for number in (301, 302, 303)]
FIELDS = full_fields(st.sampled_from([None, "id1", "id2"])).flatmap(
    lambda fields: st.sets(st.sampled_from(sorted(fields))).map(lambda names: {name: fields[name] for name in names})
)


@st.composite
def deeds(draw: st.DrawFn) -> list[Any]:
    """What people and a source do to three members, each with a version that may have been overtaken."""
    found: list[Any] = []
    for number in range(draw(st.integers(1, 12))):
        identity, version = draw(st.sampled_from(IDS)), draw(st.integers(1, 4))
        found.append(
            draw(
                st.one_of(
                    FIELDS.map(lambda fields, one=identity: create(fields, member_id=one)),
                    FIELDS.map(lambda fields, one=identity, at=version: edit(one, at, fields)),
                    st.just(take_out(identity, version)),
                    st.just(erase(identity, version)),
                    FIELDS.map(lambda fields, at=number: upsert(at, {"name": "Source", **fields}, external_id="ext-9")),
                    st.just(removal(number, external_id="ext-9")),
                )
            )
        )
    return found


@given(deeds())
def test_whatever_people_do_versions_have_no_gaps_and_no_two_members_have_one_national_id(changes):
    fold = Fold([], NOW)
    numbers: dict[MemberId, list[int]] = {}
    for number, change in enumerate(changes):
        local = isinstance(change, MemberCreated | MemberEdited | MemberRemoved | MemberErased)
        owner = next((one for one in fold.inserted if local and one.id == change.member_id), None)
        given_rules = rules() if not local or (owner is not None and owner.connection_id == CONNECTION) else UNMAPPED
        result = fold.take(change, given_rules, MemberId(UUID(int=1000 + number)))
        assert (result.outcome is Outcome.APPLIED) == (result.version is not None)
        if result.version is not None and result.member_id is not None:
            numbers.setdefault(result.member_id, []).append(result.version)

        people = [one.national_id for one in fold.inserted if one.national_id is not None]
        assert len(people) == len(set(people))
        for one in fold.inserted:
            # As the constraints of the table have it.
            assert one.name is not None or not one.live
            assert (one.removed_at is None) == one.live
            assert (one.connection_id is None) == (one.external_id is None)
    for identity, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), identity
    for version in fold.versions:
        if isinstance(version.change, MemberErased):
            assert {values for name, values in version.transition.changed.items() if "tate" not in name} <= {(None, None)}


def test_changes_do_not_show_what_is_personal():
    shown = repr([create({"name": "Anna"}), edit(NEW_ID, 1, {"email": "a@example.org"})])
    assert "Anna" not in shown
    assert "example" not in shown
