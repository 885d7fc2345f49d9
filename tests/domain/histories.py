"""Histories of members at their sources, and ways of delivering them, for Hypothesis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from hypothesis import strategies as st

from service.domain.change import UpstreamChange, UpstreamUpsert
from service.domain.member import Member, UpstreamState
from tests.domain.samples import CONNECTION, OTHER_CONNECTION, removal, upsert

T = TypeVar("T")

# What jsonb keeps and the contract lets through.
_TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=6)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=4,
)
METADATA = st.dictionaries(_TEXT, _JSON, max_size=2)
_INSTANTS = st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # Hypothesis adds the zone
_LIVE_STATES = st.sampled_from([UpstreamState.PENDING, UpstreamState.ACTIVE, UpstreamState.SUSPENDED])
_NAMES = st.sampled_from(["Anna", "Berta", "Čeněk"])


def full_fields(national_ids: st.SearchStrategy[str | None]) -> st.SearchStrategy[dict[str, Any]]:
    """Every field that a source can own."""
    return st.fixed_dictionaries(
        {
            "national_id": national_ids,
            "name": _NAMES,
            "email": st.none() | st.just("a@example.org"),
            "phone": st.none() | st.just("1"),
            "state": _LIVE_STATES,
            "plan": st.none() | st.sampled_from(["gold", "silver"]),
            "starts_at": _INSTANTS,
            "expires_at": _INSTANTS,
            "metadata": st.none() | METADATA,
        }
    )


@st.composite
def histories(draw: st.DrawFn) -> list[UpstreamChange]:
    """The changes of a few members, in no order: full field sets, versions with gaps, no two members with one national id."""
    changes: list[UpstreamChange] = []
    for number in range(draw(st.integers(1, 3))):
        # One that stays, as the usual ones do, and one that comes and goes.
        national_ids = st.sampled_from([None, f"id{number}", f"other{number}"])
        given = {"external_id": f"ext-{number}"}
        for version in draw(st.lists(st.integers(0, 20), min_size=1, max_size=5, unique=True)):
            message = f"{number}/{version}"
            fields = draw(st.none() | full_fields(national_ids))
            changes.append(
                removal(version, message=message, **given) if fields is None else upsert(version, fields, message=message, **given)
            )
    return changes


@st.composite
def deliveries(draw: st.DrawFn, changes: Sequence[UpstreamChange]) -> list[list[UpstreamChange]]:
    """The same changes in any order, some of them more than once, in batches of any size."""
    repeated = draw(st.lists(st.sampled_from(changes), max_size=5))
    return split(draw, draw(st.permutations([*changes, *repeated])))


def split(draw: st.DrawFn, items: Sequence[T]) -> list[list[T]]:
    """Batches of one to all items."""
    batches: list[list[T]] = []
    rest = list(items)
    while rest:
        size = draw(st.integers(1, len(rest)))
        batches.append(rest[:size])
        rest = rest[size:]
    return batches


@st.composite
def troubles(draw: st.DrawFn) -> list[UpstreamChange]:
    """Changes in each other's way: two connections, few keys, two people, keys that replace others, parts of the fields."""
    changes: list[UpstreamChange] = []
    for _ in range(draw(st.integers(1, 10))):
        connection = draw(st.sampled_from([CONNECTION, OTHER_CONNECTION]))
        given: dict[str, Any] = {"connection_id": connection, "external_id": draw(st.sampled_from(["a", "b", "c"]))}
        version = draw(st.integers(0, 4))
        fields = draw(
            st.none()
            | st.fixed_dictionaries(
                {}, optional={"name": _NAMES, "national_id": st.sampled_from([None, "id1", "id2"]), "state": _LIVE_STATES}
            )
        )
        if fields is None:
            changes.append(removal(version, **given))
            continue
        if replaced := draw(st.none() | st.sampled_from(["a", "b", "c"])):
            given |= {"replaces_external_id": replaced, "from_snapshot": True}
        changes.append(upsert(version, fields, **given))
    return changes


def upstream_facts(members: Iterable[Member]) -> dict[str, dict[str, Any]]:
    """By external id, what the source has said: of a removed member, only that it is gone."""
    return {
        str(member.external_id): {
            "state": member.upstream_state,
            "source_version": member.source_version,
            **(
                {
                    name: getattr(member, name)
                    for name in ("national_id", "name", "email", "phone", "plan", "starts_at", "expires_at", "metadata")
                }
                if member.live
                else {}
            ),
        }
        for member in members
    }


def newest(changes: Iterable[UpstreamChange]) -> dict[str, dict[str, Any]]:
    """What `upstream_facts` must come to: each member as its newest change has it."""
    latest: dict[str, UpstreamChange] = {}
    for change in changes:
        if change.external_id not in latest or latest[change.external_id].source_version < change.source_version:
            latest[change.external_id] = change
    facts: dict[str, dict[str, Any]] = {}
    for external_id, change in latest.items():
        facts[external_id] = {"state": UpstreamState.REMOVED, "source_version": change.source_version}
        if isinstance(change, UpstreamUpsert):
            facts[external_id] |= {**change.fields, "metadata": change.fields["metadata"] or {}}
    return facts
