"""Ask for a drift run of one read model, in the transaction of whoever asks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from service.actions.enqueue_job import AlreadyRunning, Enqueued, enqueue_job
from service.actions.read_models.audit import AUDIT
from service.actions.read_models.directory import DIRECTORY
from service.actions.reconcile_drift import DRIFT_FULL, DRIFT_SAMPLED
from service.domain.member import CompanyId, ConnectionId
from service.store.connections import DirectoryRow, find_directory
from service.store.drift_streaks import has_drift_streak

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["NothingToCompare", "request_drift_run"]

_ACTIVE: Final = "active"


@dataclass(frozen=True, slots=True)
class NothingToCompare:
    """There is such a read model, but nothing that it could agree with now; `reason` says why."""

    reason: str


DriftRequest: TypeAlias = Enqueued | AlreadyRunning | NothingToCompare


async def request_drift_run(
    tx: Tx,
    read_model: str,
    *,
    company_id: CompanyId,
    whole_installation: bool,
    added: Collection[str],
    full: bool,
    most: int | None,
    requested_by: str,
) -> DriftRequest | None:
    """Queue it; None where there is no such read model, or it is not theirs. Raises Retry errors.

    A company has the directories that are its own; what is compared over all companies is `whole_installation`'s alone, the read
    models that the installation has `added` among it.
    """
    kind = DRIFT_FULL if full else DRIFT_SAMPLED
    parameters = {"readModel": read_model, **({} if most is None else {"most": most})}
    connection_id = _connection(read_model)
    if connection_id is None:
        if not whole_installation or not (read_model in (AUDIT, *added) or await has_drift_streak(tx, read_model)):
            return None
        return await enqueue_job(tx, kind=kind, company_id=None, subject_id=None, requested_by=requested_by, parameters=parameters)
    row = await find_directory(tx, connection_id)
    if row is None or row.company_id != company_id:
        return None
    if (reason := _obstacle(row)) is not None:
        return NothingToCompare(reason)
    return await enqueue_job(
        tx, kind=kind, company_id=company_id, subject_id=connection_id, requested_by=requested_by, parameters=parameters
    )


def _connection(read_model: str) -> ConnectionId | None:
    """Whose directory it is, where it is one as those are written."""
    family, _, rest = read_model.partition(":")
    if family != DIRECTORY:
        return None
    try:
        found = UUID(rest)
    except ValueError:
        return None
    return ConnectionId(found) if str(found) == rest else None


def _obstacle(row: DirectoryRow) -> str | None:
    """What the registry leaves out, in words."""
    if row.status != _ACTIVE:
        return f"the connection is {row.status}"
    if row.last_full_sync_at is None:
        return "the directory was never synced in full: there is nothing yet that could agree with it"
    return None
