"""Whose row a record is about, when keys, people and connections move."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.domain.change import VersionKind
from service.domain.jobs import JobState
from tests.directory_rig import Upstream
from tests.sync_rig import Syncs, add_directory, counts, open_syncs


@pytest.fixture
async def syncs(module_database_url: str, upstream: Upstream) -> AsyncIterator[Syncs]:
    upstream.reset(50)
    async with open_syncs(module_database_url, upstream) as syncs:
        await syncs.sync()
        yield syncs


async def id_of(syncs: Syncs, external_id: str) -> object:
    sql = "select id from members where external_id = $1 and connection_id = $2"
    ((found,),) = await syncs.fetch(sql, external_id, syncs.connection)
    return found


async def test_a_new_key_takes_the_row_over_that_a_complete_snapshot_lacks(syncs: Syncs) -> None:
    member = await id_of(syncs, "7")
    syncs.upstream.dress({7: {"id": 1007}})
    foreseen = await syncs.sync(dry_run=True)
    row = await syncs.sync()
    assert row.state is JobState.SUCCEEDED
    assert counts(await syncs.log(row.id)) == counts(await syncs.log(foreseen.id)) == {"updated": 1, "verified": 49}
    assert await id_of(syncs, "1007") == member
    assert len(await syncs.live()) == 50


async def test_every_key_may_change_at_once_without_anybody_leaving(syncs: Syncs) -> None:
    syncs.upstream.dress({number: {"id": 1000 + number} for number in range(1, 51)})
    row = await syncs.sync()
    assert row.state is JobState.SUCCEEDED
    assert counts(await syncs.log(row.id)) == {"updated": 50}
    assert await syncs.live() == {str(1000 + number) for number in range(1, 51)}


async def test_a_new_key_takes_nothing_over_while_the_old_one_is_still_there(syncs: Syncs) -> None:
    ((national_id,),) = await syncs.fetch("select national_id from members where external_id = '7'")
    syncs.upstream.change(insert=[51])
    syncs.upstream.dress({51: {"kennitala": national_id}})
    row = await syncs.sync()
    assert row.state is JobState.PARTIAL
    (entry,) = await syncs.entries(row.id)
    assert (entry.what, entry.external_id) == ("conflicting", "51")
    assert "51" not in await syncs.live()


async def test_a_new_key_takes_nothing_over_by_an_incomplete_snapshot(syncs: Syncs) -> None:
    syncs.upstream.dress({7: {"id": 1007}})
    syncs.upstream.fault("count", page=0, count=60)
    row = await syncs.sync()
    assert row.state is JobState.PARTIAL
    assert await syncs.live() == {str(number) for number in range(1, 51)}


async def test_a_person_whose_new_record_cannot_be_taken_is_not_removed_with_the_old_key(syncs: Syncs) -> None:
    syncs.upstream.dress({7: {"id": 1007, "email": "x" * 400}})
    row = await syncs.sync()
    assert row.state is JobState.PARTIAL
    assert "7" in await syncs.live()


async def test_a_key_that_is_the_national_id_is_not_taken_and_nobody_is_absent_for_it(syncs: Syncs) -> None:
    ((national_id,),) = await syncs.fetch("select national_id from members where external_id = '7'")
    syncs.upstream.change(insert=[51])
    # Somebody known gets such a key, somebody's key comes to be one, and somebody new has one from the start.
    syncs.upstream.dress({7: {"id": f"{national_id[:6]}-{national_id[6:]}"}, 8: {"kennitala": "8"}, 51: {"kennitala": "5-1"}})
    foreseen = await syncs.sync(dry_run=True)
    row = await syncs.sync()
    assert row.state is JobState.PARTIAL
    assert counts(await syncs.log(row.id)) == counts(await syncs.log(foreseen.id)) == {"verified": 48, "error_count": 3}
    entries = await syncs.entries(row.id)
    assert {entry.what for entry in entries} == {"invalid"}
    assert {entry.reason for entry in entries} == {"externalId is the member's own national id, and would travel in events"}
    assert await syncs.live() == {str(number) for number in range(1, 51)}


async def test_somebody_who_was_removed_returns_under_another_key_and_is_the_same(syncs: Syncs) -> None:
    member = await id_of(syncs, "7")
    syncs.upstream.change(delete=[7])
    await syncs.sync()
    syncs.upstream.change(insert=[7])
    syncs.upstream.dress({7: {"id": 1007}})
    row = await syncs.sync()
    assert counts(await syncs.log(row.id)) == {"reactivated": 1, "verified": 49}
    assert await id_of(syncs, "1007") == member


async def test_somebody_who_was_removed_returns_under_another_connection(syncs: Syncs) -> None:
    member = await id_of(syncs, "7")
    syncs.upstream.change(delete=range(1, 51), insert=[7])
    held = await syncs.sync()
    assert held.state is JobState.QUARANTINED
    first = syncs.connection
    async with syncs.database.transaction() as tx:
        syncs.connection = second = await add_directory(tx, syncs.company, syncs.upstream, name="other")
    # Live members belong to their connection.
    conflicting = await syncs.sync()
    assert [entry.what for entry in await syncs.entries(conflicting.id)] == ["conflicting"]
    syncs.connection = first
    syncs.upstream.change(delete=[7], insert=[1])
    held = await syncs.sync()
    assert (await syncs.approve(held.id)).state is JobState.SUCCEEDED
    assert await syncs.live() == {"1"}
    syncs.connection = second
    syncs.upstream.change(delete=[1], insert=[7])
    row = await syncs.sync()
    assert counts(await syncs.log(row.id)) == {"reactivated": 1}
    assert await id_of(syncs, "7") == member


async def test_who_left_by_state_and_was_never_known_is_nobody(module_database_url: str, upstream: Upstream) -> None:
    upstream.reset(10)
    upstream.change(update={3: {"is_active": False}})
    async with open_syncs(module_database_url, upstream, nested=True) as syncs:
        row = await syncs.sync()
        assert counts(await syncs.log(row.id)) == {"added": 9, "verified": 1}
        again = await syncs.sync()
        assert counts(await syncs.log(again.id)) == {"verified": 10}


async def test_a_key_that_was_given_up_and_is_taken_back_keeps_its_member(module_database_url: str, upstream: Upstream) -> None:
    mapping = {"externalId": "id", "version": "v", "member": {"nationalId": "kennitala", "name": "name", "email": "email"}}
    upstream.reset(40)
    async with open_syncs(module_database_url, upstream, versions=VersionKind.SEQUENCE, mapping=mapping) as syncs:
        told = []
        # The directory gives its records no newer versions as it renumbers them.
        for key in (5, 500, 5, 5):
            upstream.dress({number: {"v": 1} for number in range(1, 41)} | {5: {"v": 1, "id": key}})
            row = await syncs.sync()
            assert row.state is JobState.SUCCEEDED
            told.append(counts(await syncs.log(row.id)))
        assert told == [{"added": 40}, {"updated": 1, "verified": 39}, {"updated": 1, "verified": 39}, {"verified": 40}]
        assert len(await syncs.live()) == 40
