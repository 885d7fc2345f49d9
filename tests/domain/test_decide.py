from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from service.domain.change import SOURCE_FIELDS, VersionKind
from service.domain.decide import decide, source_version_of
from service.domain.decision import Conflict, Refused, Stale
from service.domain.member import Member, Standing, UpstreamState
from service.domain.transition import Transition, Unchanged
from tests.domain.samples import (
    COMPANY,
    CONNECTION,
    DAY,
    NEW_ID,
    NOW,
    OTHER_COMPANY,
    OTHER_CONNECTION,
    PERSON,
    content_hash,
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


def decided(known, change, given=None, *, namesake=None, now=NOW):
    return decide(known, change, now, given or rules(), NEW_ID, namesake=namesake)


def applied(*args, **given) -> Member:
    answer = decided(*args, **given)
    assert isinstance(answer, Transition), answer
    return answer.after


def reason_of(answer) -> str:
    assert isinstance(answer, Refused | Conflict | Stale), answer
    return answer.reason


class TestNewMembers:
    def test_an_upsert_of_an_unknown_key_makes_version_1_with_no_previous_state(self):
        answer = decided(None, upsert(5, {"name": "Anna", "email": "a@example.org"}))

        assert isinstance(answer, Transition)
        after = answer.after
        assert (after.id, after.version, answer.previous_state) == (NEW_ID, 1, None)
        assert (after.company_id, after.connection_id, after.external_id) == (COMPANY, CONNECTION, "ext-1")
        assert (after.name, after.email, after.state) == ("Anna", "a@example.org", Standing.ACTIVE)
        assert (after.source_version, after.upstream_applied_at) == (5, NOW)

    @pytest.mark.parametrize("state", [UpstreamState.PENDING, UpstreamState.ACTIVE, UpstreamState.SUSPENDED])
    def test_its_state_is_what_the_source_says(self, state):
        assert applied(None, upsert(1, {"name": "Anna", "state": state})).upstream_state is state

    def test_without_a_state_it_is_active(self):
        assert applied(None, upsert(1, {"name": "Anna"})).upstream_state is UpstreamState.ACTIVE

    def test_it_may_be_expired_from_the_start(self):
        assert applied(None, upsert(1, {"name": "Anna", "expires_at": NOW - DAY})).state is Standing.EXPIRED

    @pytest.mark.parametrize("known", [None, tombstone()])
    def test_it_needs_a_name(self, known):
        assert "needs a name" in reason_of(decided(known, upsert(2, {"email": "a@example.org"})))

    def test_null_metadata_is_none_at_all(self):
        assert applied(None, upsert(1, {"name": "Anna", "metadata": None})).metadata == {}


class TestUpserts:
    def test_an_absent_field_is_untouched_and_null_clears(self):
        after = applied(member(email="a@example.org", phone="1", plan="gold"), upsert(2, {"email": None, "plan": "silver"}))

        assert (after.email, after.phone, after.plan, after.name) == (None, "1", "silver", "Anna")

    def test_clearing_metadata_leaves_an_empty_object(self):
        assert applied(member(metadata={"a": 1}), upsert(2, {"metadata": None})).metadata == {}

    def test_a_field_that_is_not_mapped_stays_as_it_is(self):
        mapped = rules(mapped_fields=frozenset({"name"}))
        fields = {"name": "Berta", "plan": "gold", "email": "x@example.org", "state": UpstreamState.SUSPENDED, "metadata": {"a": 1}}
        known = member(plan="local", expires_at=NOW + DAY)

        after = applied(known, upsert(2, fields), mapped)

        assert (after.name, after.plan, after.email, after.metadata) == ("Berta", "local", None, {})
        assert (after.upstream_state, after.expires_at) == (UpstreamState.ACTIVE, NOW + DAY)

    def test_active_neither_lifts_a_hold_nor_renews(self):
        known = member(hold="unpaid", held_at=NOW - DAY, expires_at=NOW - DAY, state=Standing.EXPIRED)
        after = applied(known, upsert(2, {"name": "Berta", "state": UpstreamState.ACTIVE}))

        assert (after.hold, after.expires_at, after.state) == ("unpaid", NOW - DAY, Standing.EXPIRED)

    @pytest.mark.parametrize("expires_at", [None, NOW + DAY])
    def test_a_later_or_no_expiry_renews(self, expires_at):
        known = member(expires_at=NOW - DAY, state=Standing.EXPIRED)

        assert applied(known, upsert(2, {"expires_at": expires_at})).state is Standing.ACTIVE

    def test_one_that_alters_nothing_still_advances_what_is_known_of_the_source(self):
        change = upsert(9, {"name": "Anna"})
        answer = decided(member(), change)

        assert answer == Unchanged(
            member(source_version=9, source_hash=change.source_hash, upstream_applied_at=NOW),
        )

    def test_other_capitals_make_no_other_email(self):
        change = upsert(9, {"name": "Anna", "email": "ADA@example.org"})
        known = member(email="Ada@Example.org")

        assert decided(known, change) == Unchanged(
            member(email="Ada@Example.org", source_version=9, source_hash=change.source_hash, upstream_applied_at=NOW)
        )
        # Nor do they beside a change, nor of somebody who comes back.
        beside = decided(known, upsert(9, {"name": "Berta", "email": "ADA@example.org"}))
        assert isinstance(beside, Transition)
        assert (set(beside.changed), beside.after.email) == ({"name"}, "Ada@Example.org")
        assert applied(removed(email="Ada@Example.org"), change).email == "Ada@Example.org"

    @pytest.mark.parametrize("told", ["ada@example.com", "Ada@Example.org ", None])
    def test_another_email_is_another_one(self, told):
        assert applied(member(email="Ada@Example.org"), upsert(2, {"email": told})).email == told
        assert applied(member(email=None), upsert(2, {"email": "Ada@Example.org"})).email == "Ada@Example.org"

    def test_capitals_count_in_every_other_field(self):
        assert applied(member(phone="ext a"), upsert(2, {"name": "anna", "phone": "ext A"})).phone == "ext A"

    def test_local_facts_survive_and_the_grace_of_the_company_counts(self):
        known = member(expires_at=NOW - DAY, pending_plan="gold", pending_start=NOW.date())
        after = applied(known, upsert(2, {"name": "Berta"}), rules(grace=2 * DAY))

        assert (after.state, after.pending_plan, after.pending_start) == (Standing.GRACE, "gold", NOW.date())


class TestRemovals:
    def test_a_member_leaves(self):
        answer = decided(member(), removal(2))

        assert isinstance(answer, Transition)
        assert (answer.after.state, answer.after.removed_at, answer.after.version) == (Standing.REMOVED, NOW, 2)
        assert set(answer.changed) == {"upstreamState", "state"}

    def test_the_removal_of_an_unknown_key_is_remembered_without_an_event(self):
        answer = decided(None, removal(3))

        assert isinstance(answer, Unchanged)
        assert answer.after.tombstone
        assert (answer.after.id, answer.after.source_version, answer.after.state) == (NEW_ID, 3, Standing.REMOVED)

    @pytest.mark.parametrize("known", [removed(), tombstone()])
    def test_a_second_newer_removal_only_advances_the_version(self, known):
        answer = decided(known, removal(7))

        assert answer == Unchanged(replace(known, source_version=7, source_hash=content_hash(None), upstream_applied_at=NOW))

    @pytest.mark.parametrize("known", [removed(source_version=5), tombstone(source_version=5)])
    def test_a_late_older_upsert_does_not_bring_it_back(self, known):
        assert isinstance(decided(known, upsert(4)), Stale)

    def test_a_newer_upsert_brings_it_back_as_active_with_its_local_facts(self):
        known = removed(hold="unpaid", held_at=NOW - DAY, plan="gold")
        answer = decided(known, upsert(2, {"name": "Anna"}))

        assert isinstance(answer, Transition)
        assert (answer.after.upstream_state, answer.after.state, answer.after.removed_at) == (
            UpstreamState.ACTIVE,
            Standing.SUSPENDED,
            None,
        )
        assert (answer.previous_state, answer.after.plan, answer.after.version) == (Standing.REMOVED, "gold", 3)

    def test_it_comes_back_with_the_state_that_the_source_gives(self):
        assert applied(removed(), upsert(2, {"state": UpstreamState.PENDING})).state is Standing.PENDING

    def test_it_comes_back_as_active_where_the_state_is_not_mapped(self):
        mapped = rules(mapped_fields=frozenset({"name"}))

        assert applied(removed(), upsert(2, {"state": UpstreamState.SUSPENDED}), mapped).state is Standing.ACTIVE

    def test_the_first_upsert_after_a_tombstone_is_version_1_of_the_same_row(self):
        answer = decided(tombstone(), upsert(2))

        assert isinstance(answer, Transition)
        assert (answer.after.id, answer.after.version, answer.previous_state) == (tombstone().id, 1, None)
        assert answer.after.removed_at is None

    def test_a_member_whose_name_was_erased_needs_one_to_come_back(self):
        assert "erased" in reason_of(decided(removed(name=None), upsert(2, {"email": "a@example.org"})))
        assert applied(removed(name=None), upsert(2, {"name": "Anna"})).name == "Anna"

    def test_an_erased_member_can_be_removed_again(self):
        assert isinstance(decided(removed(name=None), removal(2)), Unchanged)


class TestVersions:
    def test_an_older_version_is_stale(self):
        assert isinstance(decided(member(source_version=5), upsert(4)), Stale)
        assert isinstance(decided(member(source_version=5), removal(4)), Stale)

    def test_the_same_version_with_the_same_content_is_unchanged_and_says_that_it_was_seen(self):
        change = upsert(5)
        known = member(source_version=5, source_hash=change.source_hash)

        assert decided(known, change) == Unchanged(replace(known, upstream_applied_at=NOW))

    def test_the_same_version_with_other_content_is_a_conflict(self):
        known = member(source_version=5, source_hash=content_hash({"name": "Berta"}))

        assert isinstance(decided(known, upsert(5)), Conflict)
        assert isinstance(decided(known, removal(5)), Conflict)

    def test_a_row_of_a_snapshot_applies_at_the_same_version_but_not_at_an_older_one(self):
        known = member(source_version=5, source_hash=b"another")

        assert applied(known, upsert(5, {"name": "Berta"}, from_snapshot=True)).name == "Berta"
        assert isinstance(decided(known, upsert(4, {"name": "Berta"}, from_snapshot=True)), Stale)

    def test_updated_at_orders_where_the_connection_says_so(self):
        by_time = rules(version_kind=VersionKind.UPDATED_AT)
        first, second = NOW - 2 * DAY, NOW - DAY
        known = applied(None, upsert(9, {"name": "Anna"}, updated_at=second), by_time)

        assert known.source_version == (second - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        assert isinstance(decided(known, upsert(99, {"name": "Berta"}, updated_at=first), by_time), Stale)
        assert applied(known, upsert(1, {"name": "Berta"}, updated_at=second + timedelta(microseconds=1)), by_time).name == "Berta"

    def test_without_versions_the_order_of_arrival_decides(self):
        by_arrival = rules(version_kind=VersionKind.NONE)
        known = applied(None, upsert(9, {"name": "Anna"}), by_arrival)
        after = applied(known, upsert(1, {"name": "Berta"}), by_arrival)

        assert (known.source_version, after.source_version, after.name) == (None, None, "Berta")

    @pytest.mark.parametrize("kind", VersionKind)
    def test_a_time_more_than_a_day_ahead_is_refused_whatever_orders(self, kind):
        given = rules(version_kind=kind)

        assert "a day ahead" in reason_of(decided(None, upsert(1, updated_at=NOW + DAY + timedelta(microseconds=1)), given))
        assert isinstance(decided(None, upsert(1, updated_at=NOW + DAY), given), Transition)
        assert isinstance(decided(None, removal(1, updated_at=NOW + 2 * DAY), given), Refused)

    @pytest.mark.parametrize("year", [1, 1969, 9999])
    def test_every_time_of_the_calendar_has_a_version_that_a_bigint_holds(self, year):
        version = source_version_of(upsert(1, updated_at=datetime(year, 6, 1, tzinfo=UTC)), VersionKind.UPDATED_AT)

        assert version is not None
        assert -(2**63) <= version < 2**63


class TestRefusals:
    @pytest.mark.parametrize("change", [upsert(2), removal(2)])
    def test_a_connection_of_another_company(self, change):
        given = rules(company_id=OTHER_COMPANY)

        assert "another company" in reason_of(decided(member(), change, given))

    @pytest.mark.parametrize("change", [upsert(2), removal(2)])
    def test_an_archived_connection(self, change):
        assert "archived" in reason_of(decided(member(), change, rules(archived=True)))

    def test_what_is_refused_tells_nothing_of_whose_the_national_id_is(self):
        change = upsert(1, {"name": "Anna", "national_id": "0101012345"})
        namesake = member(id=UUID(int=7), company_id=OTHER_COMPANY, connection_id=OTHER_CONNECTION, national_id="0101012345")

        assert isinstance(decided(None, change, rules(company_id=OTHER_COMPANY), namesake=namesake), Refused)

    @pytest.mark.parametrize("blank", ["", " ", "\u00a0"])
    def test_a_national_id_of_which_nothing_is_left(self, blank):
        change = upsert(1, {"name": "Anna", "national_id": blank})

        assert "national id" in reason_of(decided(None, change))
        assert applied(None, change, rules(mapped_fields=SOURCE_FIELDS - {"national_id"})).national_id is None

    @pytest.mark.parametrize(
        ("key", "national_id"), [("0101012345", "0101012345"), ("010101-2345", "0101012345"), ("0101012345", "010101 2345")]
    )
    @pytest.mark.parametrize("known", [None, member(), removed()])
    @pytest.mark.parametrize("mapped", [SOURCE_FIELDS, frozenset({"name"})])
    def test_a_key_that_is_the_members_own_national_id_for_it_travels_in_events(self, key, national_id, known, mapped):
        known = known and replace(known, external_id=key)
        change = upsert(9, {"name": "Anna", "national_id": national_id}, external_id=key)

        reason = reason_of(decided(known, change, rules(mapped_fields=mapped)))

        assert "externalId is the member's own national id" in reason
        assert "0101" not in reason

    def test_a_key_that_merely_contains_the_national_id_or_has_none_beside_it_is_its_sources_affair(self):
        for key, national_id in (("m-0101012345", "0101012345"), ("0101012345", None), ("1", "0101012345")):
            assert applied(None, upsert(1, {"name": "Anna", "national_id": national_id}, external_id=key)).external_id == key
        assert isinstance(decided(member(external_id="0101012345"), removal(9, external_id="0101012345")), Transition)

    def test_no_national_id_is_not_a_blank_one(self):
        assert applied(member(national_id="0101012345"), upsert(2, {"national_id": None})).national_id is None

    @pytest.mark.parametrize("known", [None, member(), removed()])
    def test_a_blank_name(self, known):
        assert "blank" in reason_of(decided(known, upsert(2, {"name": " "})))

    def test_a_state_that_says_removed(self):
        assert "removal" in reason_of(decided(member(), upsert(2, {"state": UpstreamState.REMOVED})))


class TestIdentity:
    def elsewhere(self, **given):
        given = {
            "id": UUID(int=7),
            "external_id": "ext-old",
            "national_id": "0101012345",
            "source_version": 70,
            "version": 4,
            **given,
        }
        return removed(**{"connection_id": OTHER_CONNECTION, **given})

    def test_a_removed_member_passes_to_the_new_connection_and_starts_its_versions_anew(self):
        answer = decided(None, upsert(3, PERSON), namesake=self.elsewhere(hold="unpaid", held_at=NOW - DAY))

        assert isinstance(answer, Transition)
        after = answer.after
        assert (after.id, after.version, answer.previous_state) == (UUID(int=7), 5, Standing.REMOVED)
        assert (after.connection_id, after.external_id, after.source_version) == (CONNECTION, "ext-1", 3)
        assert (after.hold, after.state) == ("unpaid", Standing.SUSPENDED)
        assert {"connectionId", "externalId"} <= set(answer.changed)

    def test_it_leaves_a_tombstone_that_keeps_late_changes_of_its_old_key_out(self):
        answer = decided(None, upsert(3, PERSON), namesake=self.elsewhere())

        assert isinstance(answer, Transition)
        left = answer.leaves
        assert left is not None
        assert left.tombstone
        assert (left.id, left.connection_id, left.external_id) == (NEW_ID, OTHER_CONNECTION, "ext-old")
        assert (left.source_version, left.national_id, left.name) == (70, None, None)
        late = upsert(69, {"name": "Anna"}, connection_id=OTHER_CONNECTION, external_id="ext-old")
        assert isinstance(decided(left, late), Stale)

    def test_it_leaves_none_where_nothing_orders_the_changes_of_the_old_key(self):
        answer = decided(None, upsert(3, PERSON), namesake=self.elsewhere(source_version=None))

        assert isinstance(answer, Transition)
        assert answer.leaves is None

    def test_the_tombstone_of_the_new_key_is_absorbed_and_its_version_still_counts(self):
        grave = tombstone(source_version=5)

        assert isinstance(decided(grave, upsert(4, PERSON), namesake=self.elsewhere()), Stale)
        answer = decided(grave, upsert(6, PERSON), namesake=self.elsewhere())
        assert isinstance(answer, Transition)
        assert (answer.after.id, answer.absorbs) == (UUID(int=7), grave.id)

    def test_a_complete_snapshot_replaces_the_key_of_a_live_member(self):
        known = member(id=UUID(int=7), external_id="ext-old", national_id="0101012345", source_version=70)
        answer = decided(None, upsert(3, PERSON, replaces_external_id="ext-old", from_snapshot=True), namesake=known)

        assert isinstance(answer, Transition)
        assert (answer.after.external_id, answer.after.source_version, answer.after.version) == ("ext-1", 3, 2)
        assert answer.leaves is not None
        assert (answer.leaves.external_id, answer.leaves.source_version) == ("ext-old", 70)

    def test_a_national_id_that_somebody_else_has_is_a_conflict(self):
        other = member(id=UUID(int=7), external_id="ext-old", national_id="0101012345")

        assert isinstance(decided(member(), upsert(2, PERSON), namesake=other), Conflict)
        assert isinstance(decided(None, upsert(2, PERSON), namesake=other), Conflict)

    def test_a_change_that_was_overtaken_is_stale_whoever_has_its_national_id_by_now(self):
        other = member(id=UUID(int=7), external_id="ext-old", national_id="0101012345")

        assert isinstance(decided(member(source_version=5), upsert(4, PERSON), namesake=other), Stale)

    def test_a_removal_asks_for_no_national_id(self):
        assert isinstance(decided(member(), removal(2), namesake=self.elsewhere()), Transition)


class TestLocalChanges:
    def test_a_hold_suspends_and_its_release_lifts_it(self):
        held = applied(member(), hold(member().id, 1))
        freed = applied(held, release(held.id, 2))

        assert (held.state, held.hold, held.held_at, held.version) == (Standing.SUSPENDED, "unpaid", NOW, 2)
        assert (freed.state, freed.hold, freed.held_at, freed.version) == (Standing.ACTIVE, None, None, 3)

    def test_they_touch_nothing_that_is_the_sources(self):
        held = applied(member(), hold(member().id, 1))

        assert replace(held, hold=None, held_at=None, state=Standing.ACTIVE, version=1) == member()

    def test_another_reason_is_a_version_of_its_own_and_keeps_the_date(self):
        held = member(hold="unpaid", held_at=NOW - DAY, state=Standing.SUSPENDED)

        assert isinstance(decided(held, hold(held.id, 1)), Unchanged)
        assert applied(held, hold(held.id, 1, "fraud")).held_at == NOW - DAY

    def test_a_release_without_a_hold_changes_nothing(self):
        assert decided(member(), release(member().id, 1)) == Unchanged(member())

    @pytest.mark.parametrize("build", [hold, release, time_passed])
    def test_who_read_another_version_was_overtaken(self, build):
        assert isinstance(decided(member(version=3), build(member().id, 2)), Stale)

    @pytest.mark.parametrize("build", [hold, release, time_passed])
    def test_nobody_can_do_anything_to_a_member_that_is_not_there(self, build):
        assert isinstance(decided(None, build(member().id, 1)), Refused)
        assert isinstance(decided(tombstone(), build(tombstone().id, 0)), Refused)

    def test_a_removed_member_cannot_be_held_but_its_hold_can_be_lifted(self):
        gone = removed(hold="unpaid", held_at=NOW - DAY)

        assert isinstance(decided(gone, hold(gone.id, 2)), Refused)
        assert applied(gone, release(gone.id, 2)).state is Standing.REMOVED

    def test_a_hold_needs_its_reason(self):
        assert "reason" in reason_of(decided(member(), hold(member().id, 1, " ")))

    def test_time_expires_a_member_and_is_a_version_once(self):
        known = member(expires_at=NOW - DAY)
        answer = decided(known, time_passed(known.id, 1), rules(grace=2 * DAY))

        assert isinstance(answer, Transition)
        assert (answer.after.state, answer.changed) == (Standing.GRACE, {"state": (Standing.ACTIVE, Standing.GRACE)})
        again = time_passed(known.id, 2)
        assert decided(answer.after, again, rules(grace=2 * DAY)) == Unchanged(answer.after)
        assert applied(answer.after, again, rules(grace=2 * DAY), now=NOW + 2 * DAY).state is Standing.EXPIRED


class TestChangedMeaning:
    """What was told before the source's records came to mean something else proves nothing of what they say now."""

    def known(self) -> Member:
        return applied(None, upsert(7, {"name": "Anna", "email": "anna@example.org"}), rules(mapped_fields=frozenset({"name"})))

    def test_the_same_record_of_a_snapshot_is_understood_anew(self) -> None:
        known = self.known()
        record = upsert(7, {"name": "Anna", "email": "anna@example.org"}, from_snapshot=True)
        before = decided(known, record, rules(mapped_fields=frozenset({"name", "email"})), now=NOW + DAY)
        after = decided(
            known,
            record,
            rules(mapped_fields=frozenset({"name", "email"}), meaning_changed_at=NOW + timedelta(hours=1)),
            now=NOW + DAY,
        )

        assert isinstance(before, Unchanged)
        assert isinstance(after, Transition)
        assert (after.after.email, after.after.version) == ("anna@example.org", known.version + 1)

    def test_what_was_told_since_is_not_understood_anew(self) -> None:
        known = self.known()
        changed = rules(mapped_fields=frozenset({"name", "email"}), meaning_changed_at=NOW - timedelta(hours=1))

        answer = decided(known, upsert(7, {"name": "Anna", "email": "anna@example.org"}, from_snapshot=True), changed)

        assert isinstance(answer, Unchanged)

    def test_a_repeated_event_stays_a_repeat(self) -> None:
        known = self.known()
        changed = rules(mapped_fields=frozenset({"name", "email"}), meaning_changed_at=NOW + timedelta(hours=1))

        answer = decided(known, upsert(7, {"name": "Anna", "email": "anna@example.org"}), changed, now=NOW + DAY)

        assert isinstance(answer, Unchanged)
