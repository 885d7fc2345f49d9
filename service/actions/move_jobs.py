"""Let jobs make their steps, and tell a worker of those that are to be run now; in the transaction of whoever decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from service import translation
from service.domain.jobs import Transition
from service.store import jobs
from service.store.outbox import insert_outbox

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["move_jobs"]


async def move_jobs(tx: Tx, transitions: Sequence[Transition]) -> None:
    """Write the steps of jobs that the caller has locked, and their messages; raises Retry errors and UnfitData."""
    moved = await jobs.move_jobs(tx, transitions)
    told = {transition.id for transition in transitions if transition.sends_message}
    if messages := [translation.to_job_requested(notice) for notice in moved if notice.id in told]:
        await insert_outbox(tx, messages)
