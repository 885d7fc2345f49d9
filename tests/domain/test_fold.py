from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.change import Change, Rules, VersionKind
from service.domain.fold import Fold, Version
from service.domain.member import Member, MemberId, Standing
from service.domain.outcome import Outcome, Result
from tests.domain.histories import deliveries, histories, newest, split, troubles, upstream_facts
from tests.domain.samples import (
    DAY,
    NEW_ID,
    NOW,
    OTHER_CONNECTION,
    PERSON,
    hold,
    member,
    release,
    removal,
    removed,
    rules,
    time_passed,
    tombstone,
    upsert,
)


@dataclass
class Store:
    """What a database would hold after each batch."""

    rules: Rules = field(default_factory=rules)
    members: dict[MemberId, Member] = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)
    taken: int = 0

    def take(self, batch: Sequence[Change]) -> list[Result]:
        fold = Fold(self.members.values(), NOW)
        results = []
        for change in batch:
            self.taken += 1
            results.append(fold.take(change, self.rules, MemberId(UUID(int=10_000 + self.taken))))
        for after, _ in () if fold.entangled else fold.updated:
            # As a database checks it, row by row: nobody else still has what the row takes.
            others = [one for one in self.members.values() if one.id != after.id and one.id not in fold.absorbed]
            assert (after.connection_id, after.external_id) not in [(one.connection_id, one.external_id) for one in others]
            assert after.national_id is None or after.national_id not in [one.national_id for one in others]
        for identity in fold.absorbed:
            assert self.members.pop(identity).tombstone
        for after, read in fold.updated:
            assert self.members[after.id].version == read.version
            self.members[after.id] = after
        for after in fold.inserted:
            assert after.id not in self.members
            self.members[after.id] = after
        self.versions += fold.versions
        return results

    def check(self) -> None:
        """What must hold whatever was taken."""
        numbers: dict[MemberId, list[int]] = {}
        for version in self.versions:
            numbers.setdefault(version.transition.after.id, []).append(version.transition.after.version)
        for identity, found in numbers.items():
            assert found == list(range(1, len(found) + 1))
            assert self.members[identity].version == len(found)
        keys = [(one.connection_id, one.external_id) for one in self.members.values()]
        assert len(keys) == len(set(keys))
        people = [one.national_id for one in self.members.values() if one.national_id is not None]
        assert len(people) == len(set(people))


class TestConvergence:
    @given(st.data())
    def test_any_order_batches_and_duplicates_come_to_what_the_source_said_last(self, data):
        history = data.draw(histories())
        store = Store()
        for batch in data.draw(deliveries(history)):
            results = store.take(batch)
            assert {result.outcome for result in results} <= {Outcome.APPLIED, Outcome.UNCHANGED, Outcome.STALE}

        assert upstream_facts(store.members.values()) == newest(history)
        store.check()

    @given(st.data())
    def test_a_batch_is_the_same_as_its_changes_one_by_one(self, data):
        changes = data.draw(troubles())
        kind = rules(version_kind=data.draw(st.sampled_from(list(VersionKind))))
        together, alone = Store(kind), Store(kind)

        in_batches = [result for batch in split(data.draw, changes) for result in together.take(batch)]
        one_by_one = [result for change in changes for result in alone.take([change])]

        assert in_batches == one_by_one
        assert together.members == alone.members
        assert [version.transition for version in together.versions] == [version.transition for version in alone.versions]
        together.check()

    @given(st.data())
    def test_a_source_never_touches_a_hold(self, data):
        history = data.draw(histories())
        store, held = Store(), {}
        for change in data.draw(st.permutations(history)):
            store.take([change])
            known = data.draw(st.sampled_from([None, *store.members.values()]))
            if known is not None:
                local = data.draw(st.sampled_from([hold(known.id, known.version), release(known.id, known.version)]))
                (result,) = store.take([local])
                if result.outcome is Outcome.APPLIED:
                    held[known.id] = store.members[known.id].hold

        assert {identity: one.hold for identity, one in store.members.items() if identity in held} == held
        assert upstream_facts(store.members.values()) == newest(history)
        store.check()

    @given(st.permutations(range(5)))
    def test_without_versions_the_last_to_arrive_wins(self, order):
        store = Store(rules(version_kind=VersionKind.NONE))
        store.take([upsert(version, {"name": f"name {version}"}) for version in order])

        assert [one.name for one in store.members.values()] == [f"name {order[-1]}"]
        assert len(store.versions) == len(order)


class TestBatches:
    def test_each_change_of_one_member_is_a_version_of_its_own_in_order(self):
        store = Store()
        results = store.take([upsert(1), upsert(2, {"email": "a@example.org"}), removal(3), upsert(4, {"plan": "gold"})])

        assert [result.version for result in results] == [1, 2, 3, 4]
        assert [version.transition.previous_state for version in store.versions] == [
            None,
            Standing.ACTIVE,
            Standing.ACTIVE,
            Standing.REMOVED,
        ]
        (only,) = store.members.values()
        assert (only.version, only.plan, only.email, only.removed_at) == (4, "gold", "a@example.org", None)

    def test_a_tombstone_made_in_the_batch_keeps_a_late_upsert_out(self):
        store = Store()
        outcomes = [result.outcome for result in store.take([removal(5), upsert(4), upsert(6)])]

        assert outcomes == [Outcome.UNCHANGED, Outcome.STALE, Outcome.APPLIED]
        assert [one.version for one in store.members.values()] == [1]

    def test_a_hold_that_read_an_older_version_than_the_batch_has_made_is_stale(self):
        known = member()
        store = Store(members={known.id: known})

        assert [result.outcome for result in store.take([upsert(2, {"plan": "gold"}), hold(known.id, 1), hold(known.id, 2)])] == [
            Outcome.APPLIED,
            Outcome.STALE,
            Outcome.APPLIED,
        ]

    def test_time_and_a_source_change_the_same_member(self):
        known = member(expires_at=NOW - DAY)
        store = Store(members={known.id: known})
        store.take([time_passed(known.id, 1), upsert(2, {"expires_at": NOW + DAY})])

        assert [version.transition.after.state for version in store.versions] == [Standing.EXPIRED, Standing.ACTIVE]

    @pytest.mark.parametrize("change", [hold(NEW_ID, 1), release(NEW_ID, 1), time_passed(NEW_ID, 1)])
    def test_a_local_change_of_nobody_is_refused(self, change):
        assert [result.outcome for result in Store().take([change])] == [Outcome.REFUSED]

    def test_results_name_the_member_whatever_became_of_the_change(self):
        known = member()
        store = Store(members={known.id: known})
        changes = [
            upsert(2, {"plan": "gold"}),
            upsert(2, {"plan": "gold"}),
            upsert(1),
            upsert(2, {"plan": "silver"}),
            upsert(3, {"name": " "}),
        ]

        results = store.take(changes)

        assert [result.outcome for result in results] == [
            Outcome.APPLIED,
            Outcome.UNCHANGED,
            Outcome.STALE,
            Outcome.CONFLICT,
            Outcome.REFUSED,
        ]
        assert {result.member_id for result in results} == {known.id}
        assert [result.reason is None for result in results] == [True, True, False, False, False]


class TestEntanglement:
    def test_taking_what_another_member_gives_up_in_the_same_batch_is_entangled(self):
        a, b = member(national_id="1"), member(id=UUID(int=202), external_id="ext-2", national_id="2")
        fold = Fold([a, b], NOW)
        fold.take(upsert(2, {"national_id": None}), rules(), NEW_ID)
        assert not fold.entangled
        fold.take(upsert(2, {"national_id": "1"}, external_id="ext-2"), rules(), NEW_ID)
        assert fold.entangled

    def test_so_is_taking_a_key(self):
        a, b = member(national_id="1"), member(id=UUID(int=202), external_id="ext-2", national_id="2")
        fold = Fold([a, b], NOW)
        snapshot = {"from_snapshot": True}
        fold.take(upsert(2, {"national_id": "1"}, external_id="new", replaces_external_id="ext-1", **snapshot), rules(), NEW_ID)
        assert not fold.entangled
        taken = upsert(2, {"national_id": "2"}, replaces_external_id="ext-2", **snapshot)
        assert fold.take(taken, rules(), MemberId(UUID(int=998))).outcome is Outcome.APPLIED
        assert fold.entangled

    def test_one_change_never_is(self):
        known = removed(national_id="0101012345", connection_id=OTHER_CONNECTION, external_id="old")
        fold = Fold([known, tombstone()], NOW)

        assert fold.take(upsert(9, PERSON), rules(), NEW_ID).outcome is Outcome.APPLIED
        assert not fold.entangled

    def test_a_new_member_may_take_it_for_it_is_written_last(self):
        fold = Fold([member(national_id="0101012345")], NOW)
        fold.take(upsert(2, {"national_id": None}), rules(), NEW_ID)
        fold.take(upsert(1, PERSON, external_id="ext-2"), rules(), NEW_ID)

        assert not fold.entangled


class TestPeople:
    def test_a_national_id_given_up_in_the_batch_can_be_taken_in_it(self):
        store = Store()
        store.take([upsert(1, PERSON)])
        results = store.take([upsert(2, {"national_id": None}), upsert(1, PERSON, external_id="ext-2")])

        assert [result.outcome for result in results] == [Outcome.APPLIED, Outcome.APPLIED]
        assert {one.external_id: one.national_id for one in store.members.values()} == {"ext-1": None, "ext-2": "0101012345"}

    def test_a_member_removed_in_the_batch_passes_on_in_it(self):
        store = Store()
        results = store.take(
            [
                upsert(7, PERSON),
                removal(8),
                upsert(1, PERSON, connection_id=OTHER_CONNECTION, external_id="new"),
                upsert(6, {"name": "Anna"}),
            ]
        )

        assert [result.outcome for result in results] == [Outcome.APPLIED, Outcome.APPLIED, Outcome.APPLIED, Outcome.STALE]
        moved, left = sorted(store.members.values(), key=lambda one: one.tombstone)
        assert (moved.connection_id, moved.external_id, moved.source_version, moved.version) == (OTHER_CONNECTION, "new", 1, 3)
        assert (left.external_id, left.source_version, left.tombstone) == ("ext-1", 8, True)

    def test_a_member_comes_back_to_the_key_that_it_left_over_its_tombstone(self):
        known = removed(national_id="0101012345", connection_id=OTHER_CONNECTION, external_id="old", source_version=3)
        grave = tombstone(source_version=8)
        store = Store(members={known.id: known, grave.id: grave})
        (result,) = store.take([upsert(9, PERSON)])

        assert (result.outcome, result.member_id) == (Outcome.APPLIED, known.id)
        assert grave.id not in store.members
        assert {(one.connection_id, one.external_id, one.tombstone) for one in store.members.values()} == {
            (known.connection_id, "old", True),
            (grave.connection_id, "ext-1", False),
        }

    def test_a_tombstone_made_and_absorbed_in_one_batch_is_never_stored(self):
        known = removed(national_id="0101012345", connection_id=OTHER_CONNECTION, external_id="old", source_version=None)
        store = Store(members={known.id: known})
        store.take([removal(1), upsert(2, PERSON)])

        assert [one.id for one in store.members.values()] == [known.id]

    @settings(max_examples=20)
    @given(st.permutations(range(4)))
    def test_two_connections_that_claim_one_person_never_make_two(self, order):
        changes = [
            upsert(1, PERSON),
            removal(2),
            upsert(1, PERSON, connection_id=OTHER_CONNECTION, external_id="b"),
            removal(2, connection_id=OTHER_CONNECTION, external_id="b"),
        ]
        store = Store()
        for number in order:
            store.take([changes[number]])

        store.check()
        assert sum(one.live for one in store.members.values()) <= 1
