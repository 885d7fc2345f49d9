"""The one way to change a member: lock, decide, and write the members, their audit, the inbox and the outbox in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeAlias

from uuid_utils.compat import uuid7

from service import translation
from service.actions.rules_of_changes import LocalRules, rules_of_change, rules_of_locals, rules_of_upstream
from service.domain.backoff import Backoff
from service.domain.change import (
    Change,
    InboxKey,
    LocalChange,
    MemberCreated,
    MemberEdited,
    Rules,
    UpstreamChange,
    UpstreamRemoval,
    UpstreamUpsert,
)
from service.domain.errors import Contention, UnfitData
from service.domain.fold import Fold, Version
from service.domain.member import ConnectionId, Member, MemberId
from service.domain.outcome import Outcome, Result
from service.store.clock import read_clock
from service.store.connections import rules_of_connections
from service.store.database import Database, Tx
from service.store.inbox import claim_messages, release_messages
from service.store.member_events import insert_member_events
from service.store.members import MemberKeys, delete_tombstones, insert_members, lock_members, read_members, update_members
from service.store.outbox import insert_outbox
from service.telemetry.metrics import UNMEASURED, Metrics

__all__ = ["Admission", "Admitted", "Alongside", "Foreseen", "apply_changes", "foresee_changes"]

# Called with each transaction's changes and results before it commits: what it writes is true exactly when the changes are.
Alongside: TypeAlias = Callable[[Tx, Sequence[Change], Sequence[Result]], Awaitable[None]]

_ATTEMPTS: Final = 6
_BACKOFF: Final = Backoff(timedelta(milliseconds=5), timedelta(milliseconds=320))

_DUPLICATE: Final = Result(Outcome.DUPLICATE, "this message was taken in before")


@dataclass(frozen=True, slots=True)
class Admitted:
    """Whose local changes are decided in a transaction."""

    # These are neither locked nor decided, and their changes come to these results.
    withheld: Mapping[MemberId, Result]
    # All others, where they were locked and read on the way.
    members: Sequence[Member] | None = None


# Called first in each transaction, about its changes.
Admission: TypeAlias = Callable[[Tx, Sequence[Change]], Awaitable[Admitted]]
_ALL: Final = Admitted({})


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a change would come to; `changed` has the values before and after by the names of the fields, which are personal."""

    result: Result
    changed: Mapping[str, tuple[Any, Any]]


class _EntangledError(Exception):
    """What one change gives up another one takes: they need a transaction each, which a single change never does."""


async def apply_changes(
    db: Database,
    changes: Sequence[Change],
    *,
    default_grace_days: int,
    metrics: Metrics = UNMEASURED,
    admission: Admission | None = None,
    alongside: Alongside | None = None,
    quiet: bool = False,
    gives_up: bool = False,
) -> list[Result]:
    """Apply changes in their order and answer what became of each, in the same order.

    One transaction for all of them; where the database refuses the data of one, the batch is split until that one stands alone
    and is Refused. Raises Unavailable, and Contention where others stay in the way: what was committed by then answers
    `duplicate` when the same changes are given again. What `alongside` raises rolls back and is raised. `quiet`: new members make
    no event of their own, but one MEMBERS_IMPORTED for all that a transaction makes. `gives_up`: a single change in whose way
    others stay is Refused and Contention is not raised, so that nobody loses the results of what was committed.
    """
    if not changes:
        return []
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await _apply_together(db, changes, default_grace_days, admission, alongside, quiet=quiet)
        except Contention:
            if attempt == _ATTEMPTS and len(changes) == 1:
                if not gives_up:
                    raise
                return await _refuse(db, changes, "others stay in its way", alongside)
            metrics.contention_met()
            await asyncio.sleep(_BACKOFF.after(attempt).total_seconds())
        except UnfitData as error:
            if len(changes) == 1:
                return await _refuse(db, changes, str(error), alongside)
            break
        except _EntangledError:
            break
    # In order: a member's later change must find its earlier one applied.
    metrics.batch_split()
    results: list[Result] = []
    middle = len(changes) // 2
    for half in (changes[:middle], changes[middle:]):
        results += await apply_changes(
            db,
            half,
            default_grace_days=default_grace_days,
            metrics=metrics,
            admission=admission,
            alongside=alongside,
            quiet=quiet,
            gives_up=gives_up,
        )
    return results


async def _refuse(db: Database, changes: Sequence[Change], reason: str, alongside: Alongside | None) -> list[Result]:
    """Nothing comes of the only change."""
    refused = [Result(Outcome.REFUSED, reason)]
    if alongside is not None:
        async with db.transaction() as tx:
            await alongside(tx, changes, refused)
    return refused


async def foresee_changes(db: Database, changes: Sequence[Change], *, default_grace_days: int) -> list[Foreseen]:
    """What `apply_changes` would make of them now, by the same decisions; nothing is written and nobody has to wait.

    Only for changes without an inbox key. Raises Unavailable and Contention.
    """
    if any(_inbox_key(change) is not None for change in changes):
        raise ValueError("whether a message was taken in before can only be found out by taking it in")
    async with db.transaction() as tx:
        fold, results, _ = await _decide(tx, changes, default_grace_days, lock=False)
    versions = iter(fold.versions)
    return [Foreseen(one, next(versions).transition.changed if one.outcome is Outcome.APPLIED else {}) for one in results]


async def _apply_together(
    db: Database,
    changes: Sequence[Change],
    default_grace_days: int,
    admission: Admission | None,
    alongside: Alongside | None,
    *,
    quiet: bool,
) -> list[Result]:
    async with db.transaction() as tx:
        admits = _ALL if admission is None else await admission(tx, changes)
        withheld = admits.withheld
        admitted = [change for change in changes if _local_id(change) not in withheld] if withheld else changes
        fold, decided, new_keys = await _decide(tx, admitted, default_grace_days, lock=True, locked=admits.members)
        if fold.entangled:
            raise _EntangledError
        await _write(tx, fold, quiet=quiet)
        if unsettled := _unsettled(admitted, decided, new_keys):
            await release_messages(tx, unsettled)
        results = _in_order(changes, withheld, decided) if withheld else decided
        if alongside is not None:
            await alongside(tx, changes, results)
        return results


async def _decide(
    tx: Tx, changes: Sequence[Change], default_grace_days: int, *, lock: bool, locked: Sequence[Member] | None = None
) -> tuple[Fold, list[Result], set[InboxKey]]:
    """Decide each change over the members as they are, under their lock or not; the keys are those that were taken in for it."""
    upstream = [change for change in changes if isinstance(change, UpstreamUpsert | UpstreamRemoval)]
    connections = await rules_of_connections(tx, {change.connection_id for change in upstream}, default_grace_days)
    # What is refused anyway neither takes an inbox key nor locks a row, least of all one of another company.
    known = [change for change in upstream if rules_of_upstream(change, connections) is not None]
    inbox_keys = {change.inbox_key for change in known if change.inbox_key is not None}
    new_keys = await claim_messages(tx, inbox_keys) if inbox_keys else set()
    local = [change for change in changes if not isinstance(change, UpstreamUpsert | UpstreamRemoval)]
    keys = _keys(known, local)
    if locked is None or keys.external or keys.national:
        locked = await lock_members(tx, keys) if lock else await read_members(tx, keys)
    members = locked
    local_rules = await rules_of_locals(tx, local, members, default_grace_days)
    fold = Fold(members, await read_clock(tx))
    return fold, _fold(fold, changes, connections, local_rules, new_keys), new_keys


def _local_id(change: Change) -> MemberId | None:
    """The member that a local change names."""
    return None if isinstance(change, UpstreamUpsert | UpstreamRemoval) else change.member_id


def _in_order(changes: Sequence[Change], withheld: Mapping[MemberId, Result], decided: Sequence[Result]) -> list[Result]:
    """The results of all, in the order of the changes."""
    rest = iter(decided)
    return [withheld[named] if (named := _local_id(change)) is not None and named in withheld else next(rest) for change in changes]


def _keys(upstream: Sequence[UpstreamChange], local: Sequence[LocalChange]) -> MemberKeys:
    national_ids = (
        (change.company_id, national_id)
        for change in (*upstream, *local)
        if isinstance(change, UpstreamUpsert | MemberCreated | MemberEdited)
        and (national_id := change.fields.get("national_id")) is not None
    )
    keys = {(change.connection_id, change.external_id) for change in upstream}
    return MemberKeys(keys, set(national_ids), {change.member_id for change in local})


def _fold(
    fold: Fold,
    changes: Sequence[Change],
    connections: Mapping[ConnectionId, Rules],
    local_rules: LocalRules,
    new_keys: set[InboxKey],
) -> list[Result]:
    """Decide each change over what the ones before it left; a message that comes twice in one batch counts once."""
    results: list[Result] = []
    open_keys = set(new_keys)
    for change in changes:
        rules, key = rules_of_change(change, connections, local_rules), _inbox_key(change)
        if isinstance(rules, Result):
            results.append(rules)
        elif key is not None and key not in open_keys:
            results.append(_DUPLICATE)
        else:
            # Only what a source tells of may need a row that nobody has named yet.
            new_id = MemberId(uuid7()) if isinstance(change, UpstreamUpsert | UpstreamRemoval) else change.member_id
            results.append(result := fold.take(change, rules, new_id))
            if key is not None and result.settled:
                open_keys.discard(key)
    return results


def _unsettled(changes: Sequence[Change], results: Sequence[Result], new_keys: set[InboxKey]) -> set[InboxKey]:
    """Messages taken in by this transaction whose every copy was refused or in conflict."""
    settled = {_inbox_key(change) for change, result in zip(changes, results, strict=True) if result.settled}
    return new_keys - settled


def _inbox_key(change: Change) -> InboxKey | None:
    return change.inbox_key if isinstance(change, UpstreamUpsert | UpstreamRemoval) else None


async def _write(tx: Tx, fold: Fold, *, quiet: bool) -> None:
    if absorbed := fold.absorbed:
        await delete_tombstones(tx, absorbed)
    if updated := fold.updated:
        written = await update_members(tx, updated)
        if written != len(updated):
            message = f"{len(updated) - written} members changed under their lock"
            raise Contention(message)
    if inserted := fold.inserted:
        await insert_members(tx, inserted)
    if fold.versions:
        await insert_member_events(tx, [translation.to_member_event(version, fold.now) for version in fold.versions])
        imported = [version for version in fold.versions if quiet and _is_import(version)]
        told = [version for version in fold.versions if not (quiet and _is_import(version))]
        events = [translation.to_membership_updated(version, fold.now) for version in told]
        events += translation.to_members_imported(imported, fold.now)
        await insert_outbox(tx, events)


def _is_import(version: Version) -> bool:
    """Whether a source brought somebody new; who has no connection was added by hand."""
    return version.transition.after.version == 1 and version.transition.after.connection_id is not None
