from __future__ import annotations

from uuid import UUID

import pytest

from service.domain.identity import Match, Mismatch, identify
from tests.domain.samples import OTHER_CONNECTION, PERSON, member, removed, tombstone, upsert

OTHER = {"id": UUID(int=201), "external_id": "ext-2", "national_id": "0101012345"}


def test_a_key_and_a_national_id_that_nobody_has_are_a_new_member():
    assert identify(upsert(1, PERSON), None, None) == Match(None)


def test_the_key_decides_where_nobody_else_has_the_national_id():
    known = member()

    assert identify(upsert(1, PERSON), known, None) == Match(known)
    assert identify(upsert(1, PERSON), known, known) == Match(known)


@pytest.mark.parametrize(
    "namesake",
    [
        member(**OTHER),
        removed(**OTHER),
        removed(**OTHER, connection_id=OTHER_CONNECTION),
        member(**{**OTHER, "connection_id": None}),
    ],
)
@pytest.mark.parametrize("known", [member(), removed()])
def test_a_known_member_cannot_take_the_national_id_of_another_row(known, namesake):
    assert isinstance(identify(upsert(2, PERSON), known, namesake), Mismatch)


@pytest.mark.parametrize("namesake", [member(**OTHER), removed(**OTHER)])
def test_another_key_of_the_same_connection_needs_a_snapshot_that_lacks_the_old_one(namesake):
    assert isinstance(identify(upsert(1, PERSON), None, namesake), Mismatch)
    assert isinstance(identify(upsert(1, PERSON, replaces_external_id="ext-3", from_snapshot=True), None, namesake), Mismatch)

    change = upsert(1, PERSON, replaces_external_id="ext-2", from_snapshot=True)
    assert identify(change, None, namesake) == Match(namesake, takes_over=True)


def test_a_live_member_of_another_connection_is_not_taken_even_by_a_snapshot():
    namesake = member(**OTHER, connection_id=OTHER_CONNECTION)

    assert isinstance(identify(upsert(1, PERSON, replaces_external_id="ext-2", from_snapshot=True), None, namesake), Mismatch)


def test_a_live_member_without_a_connection_is_not_taken():
    assert isinstance(identify(upsert(1, PERSON), None, member(**{**OTHER, "connection_id": None, "external_id": None})), Mismatch)


def test_a_removed_member_of_another_connection_passes_over():
    namesake = removed(**OTHER, connection_id=OTHER_CONNECTION)

    assert identify(upsert(1, PERSON), None, namesake) == Match(namesake, takes_over=True)


def test_the_tombstone_of_the_new_key_makes_room():
    namesake, grave = removed(**OTHER, connection_id=OTHER_CONNECTION), tombstone()

    assert identify(upsert(2, PERSON), grave, namesake) == Match(namesake, takes_over=True, absorbs=grave.id)


def test_a_mismatch_names_neither_the_key_nor_the_national_id():
    answer = identify(upsert(1, PERSON), None, member(**OTHER))

    assert isinstance(answer, Mismatch)
    assert not any(value in answer.reason for value in ("0101012345", "ext-1", "ext-2"))
