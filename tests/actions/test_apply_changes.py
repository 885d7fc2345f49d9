from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.change import VersionKind
from service.domain.member import CompanyId, ConnectionId, MemberId
from tests.apply_rig import Books, open_books
from tests.domain.histories import deliveries, histories, newest
from tests.domain.samples import PERSON, hold, release, time_passed


def as_stored(facts: dict[str, Any]) -> dict[str, Any]:
    """With the numbers of the metadata as JSON has them: 1e16 is stored as the digits of an integer."""
    return {**facts, "metadata": json.loads(json.dumps(facts.get("metadata")), parse_int=float)}


@pytest.fixture
async def books(module_database_url: str) -> AsyncIterator[Books]:
    async with open_books(module_database_url) as books:
        yield books


class TestOutcomes:
    async def test_applied_writes_member_audit_message_and_inbox(self, books: Books) -> None:
        fields = {"name": "Anna", "email": "a@example.org", "plan": "gold", "metadata": {"shoe": 38}}
        (result,) = await books.apply(books.upsert(5, fields, message="m1"))

        ((member,), (event,), (message,)) = await books.members(), await books.events(), await books.outbox()
        assert (result.outcome, result.version, result.member_id) == ("applied", 1, member["id"])
        assert (member["name"], member["metadata"], member["source_version"], member["version"]) == ("Anna", {"shoe": 38}, 5, 1)
        assert (event["before"], event["after"]["email"], event["actor"]) == (
            {"state": None} | dict.fromkeys(["connectionId", "externalId", "name", "email", "metadata", "upstreamState", "plan"]),
            "a@example.org",
            "connection:test",
        )
        assert await books.inbox() == ["m1"]
        body = json.loads(message["body"])
        assert (body["memberId"], body["newState"], body["previousState"], body["plan"]) == (
            str(member["id"]),
            "active",
            None,
            "gold",
        )
        assert message["order_key"] == member["id"]
        assert not any(personal in message["body"] for personal in ("Anna", "a@example.org", "shoe"))
        await books.check()

    async def test_unchanged_writes_no_version_and_advances_what_is_known_of_the_source(self, books: Books) -> None:
        await books.apply(books.upsert(5, message="m1"))
        (before,) = await books.members()
        again = books.upsert(9, message="m2")

        assert await books.outcomes(again) == ["unchanged"]

        (after,) = await books.members()
        assert (after["source_version"], after["source_hash"], after["version"]) == (9, again.source_hash, 1)
        assert after["upstream_applied_at"] > before["upstream_applied_at"]
        assert await books.counts() == (1, 1, 1, 2)
        assert await books.outcomes(books.upsert(8, {"name": "Berta"}, message="m3")) == ["stale"]

    async def test_duplicate_messages_have_one_effect(self, books: Books) -> None:
        first = books.upsert(1, message="m1")

        assert await books.outcomes(first, first) == ["applied", "duplicate"]
        # Whatever it says by now: the message is the same one.
        assert await books.outcomes(first, books.removal(9, message="m1")) == ["duplicate", "duplicate"]
        assert await books.counts() == (1, 1, 1, 1)

    async def test_stale_is_settled_and_writes_the_inbox_alone(self, books: Books) -> None:
        await books.apply(books.upsert(5, message="m1"))

        assert await books.outcomes(books.upsert(4, {"name": "Berta"}, message="m2")) == ["stale"]
        assert await books.counts() == (1, 1, 1, 2)

    async def test_a_conflict_leaves_nothing_and_takes_effect_once_its_cause_is_mended(self, books: Books) -> None:
        await books.apply(books.upsert(1, PERSON, message="m1"))
        rival = books.upsert(1, PERSON, external_id="ext-2", message="m2")

        assert await books.outcomes(rival, rival) == ["conflict", "conflict"]
        assert await books.counts() == (1, 1, 1, 1)

        await books.apply(books.upsert(2, {"national_id": None}, message="m3"))
        assert await books.outcomes(rival) == ["applied"]
        assert await books.inbox() == ["m1", "m2", "m3"]

    async def test_a_refusal_leaves_nothing_and_takes_effect_once_its_cause_is_mended(self, books: Books) -> None:
        await books.fetch("update connections set status = 'archived' where id = $1", books.connection)
        change = books.upsert(1, message="m1")
        assert await books.outcomes(change) == ["refused"]
        assert await books.counts() == (0, 0, 0, 0)

        await books.fetch("update connections set status = 'blocked' where id = $1", books.connection)
        assert await books.outcomes(change) == ["applied"]

    async def test_the_same_version_with_other_content_is_a_conflict(self, books: Books) -> None:
        await books.apply(books.upsert(1, message="m1"))

        assert await books.outcomes(books.upsert(1, {"name": "Berta"}, message="m2")) == ["conflict"]
        assert await books.inbox() == ["m1"]

    async def test_a_connection_that_the_company_does_not_have_is_refused(self, books: Books) -> None:
        await books.apply(books.upsert(1, PERSON))
        unknown = books.upsert(1, PERSON, connection_id=ConnectionId(uuid4()), message="m1")
        foreign = books.upsert(1, PERSON, company_id=CompanyId(uuid4()), message="m2")

        results = await books.apply(unknown, foreign, foreign)

        assert [result.outcome for result in results] == ["refused"] * 3
        # Nothing tells the two cases apart, and nothing that there is somebody of that national id.
        assert len({result.reason for result in results}) == 1
        assert await books.counts() == (1, 1, 1, 0)

    async def test_what_is_left_blank_of_a_national_id_is_refused(self, books: Books) -> None:
        (result,) = await books.apply(books.upsert(1, {"name": "Anna", "national_id": ""}))

        assert (result.outcome, "national id" in str(result.reason)) == ("refused", True)

    async def test_nothing_at_all_needs_no_transaction(self, books: Books) -> None:
        assert await books.apply() == []
        assert books.database.transactions == 1  # the one that opened the books

    async def test_a_refused_batch_among_others_answers_in_the_order_given(self, books: Books) -> None:
        outcomes = await books.outcomes(
            books.upsert(1, external_id="a", message="1"),
            books.upsert(1, {"email": None}, external_id="b", message="2"),
            books.removal(1, external_id="c", message="3"),
            books.upsert(2, {"name": "Berta"}, external_id="a", message="4"),
            books.upsert(1, external_id="a", message="5"),
            books.upsert(1, external_id="a", message="1"),
            hold(MemberId(uuid4()), 1),
        )

        assert outcomes == ["applied", "refused", "unchanged", "applied", "stale", "duplicate", "refused"]
        assert await books.inbox() == ["1", "3", "4", "5"]
        await books.check()


class TestMembers:
    async def test_changes_of_one_member_in_one_batch_are_versions_in_order(self, books: Books) -> None:
        await books.apply(
            books.upsert(1),
            books.upsert(1, external_id="ext-2"),
            books.upsert(2, {"plan": "gold"}),
            books.removal(3),
            books.upsert(4, {"plan": "silver"}),
        )

        messages = [json.loads(row["body"]) for row in await books.outbox()]
        assert [(body["externalId"], body["version"]) for body in messages] == [
            ("ext-1", 1),
            ("ext-2", 1),
            ("ext-1", 2),
            ("ext-1", 3),
            ("ext-1", 4),
        ]
        ids = [row["id"] for row in await books.outbox()]
        assert ids == list(range(ids[0], ids[0] + 5))
        await books.check()

    async def test_a_removal_that_comes_first_keeps_an_older_upsert_out_for_good(self, books: Books) -> None:
        assert await books.outcomes(books.removal(5, message="m1")) == ["unchanged"]
        assert await books.counts() == (1, 0, 0, 1)
        assert await books.outcomes(books.upsert(4, message="m2")) == ["stale"]
        assert await books.outcomes(books.upsert(6, message="m3")) == ["applied"]

        (event,) = await books.events()
        assert (event["version"], event["previous_state"], event["new_state"]) == (1, None, "active")

    async def test_local_changes_go_the_same_way(self, books: Books) -> None:
        await books.apply(books.upsert(1, {"name": "Anna", "expires_at": datetime(2020, 1, 1, tzinfo=UTC)}))
        identity = await books.member_id()
        await books.fetch("update members set state = 'active'")

        assert await books.outcomes(
            time_passed(identity, 1), hold(identity, 2), release(identity, 3), time_passed(identity, 4)
        ) == [
            "applied",
            "applied",
            "applied",
            "unchanged",
        ]
        events = [(row["reason_code"], row["new_state"], row["changed_fields"]) for row in await books.events()]
        assert events[1:] == [
            ("EXPIRY_RECONCILIATION", "expired", ["state"]),
            ("ADMIN", "expired", ["hold"]),
            ("ADMIN", "expired", ["hold"]),
        ]

    async def test_a_local_change_of_what_somebody_changed_meanwhile_is_stale(self, books: Books) -> None:
        await books.apply(books.upsert(1), books.upsert(2, {"plan": "gold"}))

        assert await books.outcomes(hold(await books.member_id(), 1)) == ["stale"]

    async def test_the_grace_is_the_companys_or_else_the_operators(self, books: Books) -> None:
        yesterday = datetime.now(UTC) - timedelta(days=1)
        await books.apply(books.upsert(1, {"name": "Anna", "expires_at": yesterday}), grace_days=7)
        await books.fetch("update companies set grace_days = 0")
        await books.apply(books.upsert(2, {"plan": "gold"}), grace_days=7)
        await books.fetch("update companies set grace_days = 3")
        await books.apply(hold(await books.member_id(), 2), grace_days=0)
        await books.apply(release(await books.member_id(), 3), grace_days=0)

        assert [row["new_state"] for row in await books.events()] == ["grace", "expired", "expired", "grace"]

    async def test_a_source_touches_only_what_is_mapped(self, books: Books) -> None:
        connection = await books.connect(VersionKind.SEQUENCE, ["name"])
        fields = {"name": "Anna", "plan": "gold", "national_id": "0101012345"}
        await books.apply(books.upsert(1, PERSON))

        # Nor is anybody looked for by a field that is not the source's.
        assert await books.outcomes(books.upsert(1, fields, connection_id=connection, external_id="x")) == ["applied"]
        (member,) = [row for row in await books.members() if row["external_id"] == "x"]
        assert (member["plan"], member["national_id"]) == (None, None)

    async def test_without_versions_the_last_to_arrive_wins(self, books: Books) -> None:
        connection = await books.connect(VersionKind.NONE)
        for name in ("Anna", "Berta", "Anna"):
            await books.apply(books.upsert(7, {"name": name}, connection_id=connection))

        assert [row["after"]["name"] for row in await books.events()] == ["Anna", "Berta", "Anna"]

    async def test_the_ends_of_the_calendar_are_unfit_rather_than_infinite(self, books: Books) -> None:
        never = datetime.max.replace(tzinfo=UTC)
        first = datetime.min.replace(tzinfo=UTC) + timedelta.resolution

        assert await books.outcomes(books.upsert(1, {"name": "Anna", "expires_at": never})) == ["refused"]
        kept = {"name": "Anna", "starts_at": first, "expires_at": never - timedelta.resolution}
        assert await books.outcomes(books.upsert(1, kept), books.upsert(2, {"plan": "gold"})) == ["applied", "applied"]
        (member,) = await books.members()
        assert (member["starts_at"], member["expires_at"]) == (kept["starts_at"], kept["expires_at"])


class TestPeople:
    async def test_a_removed_member_passes_to_another_connection_and_its_old_key_stays_shut(self, books: Books) -> None:
        await books.apply(books.upsert(70, PERSON, message="m1"), books.removal(71, message="m2"))
        identity = await books.member_id()
        await books.apply(books.removal(2, connection_id=books.other, external_id="new", message="m3"))
        arrival = books.upsert(3, PERSON, connection_id=books.other, external_id="new", message="m4")

        (result,) = await books.apply(arrival)

        assert (result.outcome, result.member_id, result.version) == ("applied", identity, 3)
        rows = {(row["connection_id"], row["external_id"]): row for row in await books.members()}
        assert rows.keys() == {(books.other, "new"), (books.connection, "ext-1")}
        assert (rows[books.other, "new"]["id"], rows[books.other, "new"]["source_version"]) == (identity, 3)
        # An older message of the old key that brings no national id would otherwise make a second person.
        assert await books.outcomes(books.upsert(69, {"name": "Anna"}, message="m5")) == ["stale"]
        await books.check()

    async def test_a_complete_snapshot_gives_a_member_its_new_key(self, books: Books) -> None:
        await books.apply(books.upsert(70, PERSON))
        identity = await books.member_id()
        change = books.upsert(1, PERSON, external_id="new", replaces_external_id="ext-1", from_snapshot=True)

        assert await books.outcomes(change) == ["applied"]
        assert await books.member_id("new") == identity
        assert await books.outcomes(books.upsert(70, PERSON)) == ["unchanged"]
        (event,) = (await books.events())[1:]
        assert (event["version"], event["changed_fields"]) == (2, ["externalId"])
        await books.check()

    async def test_members_may_swap_keys_and_national_ids_within_one_batch(self, books: Books) -> None:
        await books.apply(
            books.upsert(1, PERSON, external_id="a"), books.upsert(1, {"name": "Berta", "national_id": "2"}, external_id="b")
        )
        before = books.database.transactions

        outcomes = await books.outcomes(
            books.upsert(2, {"national_id": None}, external_id="a"),
            books.upsert(2, {"national_id": "0101012345"}, external_id="b"),
            books.upsert(3, {"national_id": "2"}, external_id="a"),
        )

        assert outcomes == ["applied"] * 3
        assert {row["external_id"]: row["national_id"] for row in await books.members()} == {"a": "2", "b": "0101012345"}
        # Three that took effect, two that saw that they are too much at once, and the look at the members: nothing was tried again.
        assert books.database.transactions == before + 6
        await books.check()

    async def test_an_erased_member_comes_back_with_a_name(self, books: Books) -> None:
        await books.apply(books.upsert(1), books.removal(2))
        await books.fetch("update members set name = null")

        assert await books.outcomes(books.upsert(3, {"email": "a@example.org"}, message="m1")) == ["refused"]
        assert await books.outcomes(books.upsert(3, message="m2")) == ["applied"]
        await books.check()

    async def test_another_company_may_have_the_same_person(self, books: Books) -> None:
        await books.apply(books.upsert(1, PERSON))
        company = CompanyId(UUID(int=77))
        await books.fetch("insert into companies (id, name) values ($1, 'Second')", company)
        (copy,) = await books.fetch(
            "insert into connections (company_id, name, kind, version_kind, mapped_fields) "
            "select $1, name, kind, version_kind, mapped_fields from connections where id = $2 returning id",
            company,
            books.connection,
        )

        assert await books.outcomes(books.upsert(1, PERSON, company_id=company, connection_id=copy["id"])) == ["applied"]


class TestCulprits:
    @pytest.mark.parametrize(
        "culprit",
        [
            {"fields": {"name": "An\x00na"}},
            {"fields": {"name": "An\ud800na"}},
            {"fields": {"name": "Anna", "metadata": {"a": "\x00"}}},
            {"fields": {"name": "Anna", "metadata": {"a": 2**70}}},
            {"fields": {"name": "Anna", "metadata": ["no object"]}},
            {"fields": {"name": "Anna", "plan": "x" * 101}},
            {"fields": {"name": "Anna", "national_id": "010101-2345"}},
            {"fields": {"name": "Anna", "national_id": "".join(map(str, range(5000)))}},
            {"external_id": "x" * 256},
            {"source_version": 2**63},
            {"source": "".join(map(str, range(5000)))},
            {"source": "a\x00"},
        ],
        ids=lambda culprit: "-".join(culprit),
    )
    async def test_only_what_cannot_be_stored_is_refused(self, books: Books, culprit: dict[str, object]) -> None:
        bad = books.upsert(1, external_id="bad", message="bad")
        if source := culprit.pop("source", None):
            bad = replace(bad, inbox_key=replace(bad.inbox_key, source=source))
        bad = replace(bad, **culprit)
        good = [books.upsert(1, external_id=f"ext-{number}", message=str(number)) for number in range(4)]

        results = await books.apply(*good[:2], bad, *good[2:])

        assert [result.outcome for result in results] == ["applied", "applied", "refused", "applied", "applied"]
        reason = str(results[2].reason)
        assert not any(value in reason for value in ("na\x00", "010101", "x" * 10, "0123456789", "\x00"))
        assert await books.counts() == (4, 4, 4, 4)
        await books.check()

    async def test_one_among_500_is_refused_alone_and_the_order_kept(self, books: Books) -> None:
        changes = [
            books.upsert(number // 100 + 1, {"name": f"{number}"}, external_id=f"{number % 100}", message=f"{number}")
            for number in range(500)
        ]
        changes[321] = replace(changes[321], fields={"name": "Anna", "metadata": {"a": "\x00"}})

        outcomes = await books.outcomes(*changes)

        assert outcomes == ["refused" if number == 321 else "applied" for number in range(500)]
        assert {row["external_id"]: row["name"] for row in await books.members()} == {str(n): str(n + 400) for n in range(100)}
        # Halved until it stands alone, rather than one by one.
        assert books.database.transactions < 30
        await books.check()


class TestConvergence:
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    async def test_any_order_batches_and_duplicates_come_to_what_the_source_said_last(
        self, module_database_url: str, data: st.DataObject
    ) -> None:
        history = data.draw(histories())
        async with open_books(module_database_url, size=1) as books:
            for batch in data.draw(deliveries(history)):
                ours = [books.own(change) for change in batch]
                assert set(await books.outcomes(*ours)) <= {"applied", "unchanged", "stale", "duplicate"}

            expected = newest(history)
            rows = {row["external_id"]: row for row in await books.members()}
            assert rows.keys() == expected.keys()
            for external_id, facts in expected.items():
                row = rows[external_id]
                assert row["upstream_state"] == facts.pop("state")
                assert as_stored({name: row[name] for name in facts}) == as_stored(facts)
            await books.check()
