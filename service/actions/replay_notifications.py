"""Send a subscriber once more what happened in a time, as it was said and under the same ids."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from service import translation
from service.actions.enqueue_deliveries import add_deliveries
from service.domain.errors import Park
from service.domain.jobs import JobResult
from service.domain.notifications.subscriber import SubscriberId
from service.store.member_events import list_events_since
from service.store.sync_log import list_baselines

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database
    from service.store.member_events import PastEvent

__all__ = ["replay_notifications"]

_PAGE: Final = 500


async def replay_notifications(db: Database, job: RunningJob) -> JobResult:
    """One attempt of a `notification_replay` job, whose subject is a subscriber; raises Park, Retry errors and StopJob.

    An attempt that begins anew adds nothing twice: the job is part of a delivery's key.
    """
    if job.subject_id is None or job.company_id is None:
        raise Park("a replay is of a subscriber, and the job names none")
    subscriber_id = SubscriberId(job.subject_id)
    since, until = (datetime.fromisoformat(job.parameters[name]) for name in ("since", "until"))
    last = added = looked_at = 0
    while True:
        async with db.transaction() as tx:
            await job.hold(tx)
            page = await list_events_since(tx, last, since, until, job.company_id, _PAGE)
            silent = await list_baselines(tx, {event.correlation_id for event in page.events})
            told = [translation.to_told(event) for event in page.events if not _was_silent(event, silent)]
            if told:
                added += await add_deliveries(tx, told, only=subscriber_id, replay_id=job.id)
        looked_at += len(page.events)
        await job.progress(phase="replay", events=looked_at, deliveries=added)
        if page.last is None:
            return JobResult.succeeded({"events": looked_at, "deliveries": added})
        last = page.last


def _was_silent(event: PastEvent, baselines: set[str]) -> bool:
    """Whether a first import made the version, of which nobody was told."""
    return event.version == 1 and event.connection_id is not None and event.correlation_id in baselines
