"""Write down what became of attempts: of the deliveries, of those that waited for them, and of their subscribers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from service.actions.audit_change import Author, audit_change, differences
from service.domain.notifications.delivery import (
    FAILING_FOR,
    RETRY_DELAYS,
    Attempt,
    Delivered,
    DeliveryId,
    DeliveryState,
    ErrorClass,
    Failed,
    Gone,
    Step,
    after,
)
from service.domain.notifications.subscriber import SubscriberId
from service.store.deliveries import (
    ClaimedDelivery,
    Line,
    NewAttempt,
    SettledDelivery,
    Settlement,
    give_back_deliveries,
    insert_attempts,
    let_go,
    list_targets,
    settle_deliveries,
)
from service.store.subscribers import DisabledSubscriber, disable_subscribers, lock_lines, note_failures, note_success
from service.telemetry.metrics import UNMEASURED, Metrics

if TYPE_CHECKING:
    from service.store.database import Database, Tx

__all__ = ["Finished", "give_back_notifications", "settle_notifications"]

# A subscriber that wants to be left alone is, but not for a day because of one strange answer.
_LONGEST_REST: Final = timedelta(hours=1)
_NOTIFIER: Final = "notifier"
# Of what was told an address that is no longer the subscriber's.
_ANEW: Final = Step(DeliveryState.PENDING, timedelta())

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """A claimed delivery, and the attempt that was made, where."""

    claimed: ClaimedDelivery
    attempt: Attempt
    url: str = field(repr=False)

    @property
    def is_test(self) -> bool:
        """Whether it is about nobody."""
        return self.claimed.member_id is None


async def settle_notifications(
    db: Database,
    finished: Sequence[Finished],
    *,
    delays: Sequence[timedelta] = RETRY_DELAYS,
    failing_for: timedelta = FAILING_FOR,
    metrics: Metrics = UNMEASURED,
) -> None:
    """Settle what was sent; of a delivery that another worker took meanwhile, or that is settled, nothing is written.

    Raises Retry errors.
    """
    async with db.transaction() as tx:
        # Whoever moves a failing subscriber waits for this, or has moved it before.
        held = [one for one in finished if one.claimed.in_order or not isinstance(one.attempt.outcome, Delivered)]
        if held:
            await lock_lines(tx, {one.claimed.subscriber_id for one in held})
        elsewhere = await _elsewhere(tx, finished)
        steps = [_ANEW if one in elsewhere else _step(one, delays) for one in finished]
        settled = {
            one.id: one for one in await settle_deliveries(tx, [_settlement(*pair) for pair in zip(finished, steps, strict=True)])
        }
        ours = [pair for pair in zip(finished, steps, strict=True) if pair[0].claimed.id in settled]
        await insert_attempts(tx, [_logged(one, settled[one.claimed.id].attempts) for one, _ in ours])
        if followed := _followed(ours, settled):
            await let_go(tx, followed)
        disabled = await _judge(tx, [one for one, _ in ours if one not in elsewhere], failing_for)
    for lost in disabled:
        _log.error("subscriber disabled", subscriber=str(lost.id), company=str(lost.company_id), because=lost.disabled_because)
    exhausted = [one for one, step in ours if step.state is DeliveryState.EXHAUSTED and not one.is_test]
    for one in exhausted:
        _log.warning("notification given up", delivery=one.claimed.id, subscriber=str(one.claimed.subscriber_id))
    metrics.notifications_settled(
        delivered=sum(step.state is DeliveryState.DELIVERED for _, step in ours),
        exhausted=len(exhausted),
        disabled=[lost.disabled_because for lost in disabled],
    )
    if len(ours) < len(finished):
        _log.warning("results of notifications came after their lease, or twice", deliveries=len(finished) - len(ours))


async def give_back_notifications(db: Database, claimed: Sequence[ClaimedDelivery]) -> None:
    """Let others have at once what was claimed and may not have been sent; raises Retry errors."""
    async with db.transaction() as tx:
        await give_back_deliveries(tx, claimed)


async def _elsewhere(tx: Tx, finished: Collection[Finished]) -> set[Finished]:
    """Attempts that failed at an address that the subscriber has been moved from meanwhile: they say nothing of where it is now."""
    failed = [one for one in finished if not isinstance(one.attempt.outcome, Delivered)]
    if not failed:
        return set()
    urls = {target.id: target.url for target in await list_targets(tx, {one.claimed.subscriber_id for one in failed})}
    return {one for one in failed if one.url != urls.get(one.claimed.subscriber_id)}


def _step(one: Finished, delays: Sequence[timedelta]) -> Step:
    return after(one.attempt.outcome, one.claimed.attempts_of_round, () if one.is_test else delays)


def _settlement(one: Finished, step: Step) -> Settlement:
    _, status, _, error, _ = _told(one.attempt)
    return Settlement(
        id=one.claimed.id,
        fence=one.claimed.fence,
        state=step.state,
        wait=step.wait,
        status=status,
        error=error,
        anew=step is _ANEW,
    )


def _logged(one: Finished, number: int) -> NewAttempt:
    outcome, status, error_class, error, response = _told(one.attempt)
    return NewAttempt(
        delivery_id=one.claimed.id,
        number=number,
        started_at=one.attempt.started_at,
        duration=one.attempt.duration,
        outcome=outcome,
        status=status,
        error_class=error_class,
        error=error,
        response=response,
    )


def _told(attempt: Attempt) -> tuple[str, int | None, str | None, str | None, str | None]:
    match attempt.outcome:
        case Delivered(status, response):
            return "delivered", status, None, None, response
        case Failed(error_class, why, status, _, response):
            return "failed", status, error_class, why, response
        case Gone(response):
            return "gone", 410, ErrorClass.STATUS, "it answers 410: nothing is wanted there any more", response
        case _:
            assert_never(attempt.outcome)


def _followed(ours: Sequence[tuple[Finished, Step]], settled: Mapping[DeliveryId, SettledDelivery]) -> set[Line]:
    """Whose later versions may wait for what has ended."""
    return {
        Line(one.claimed.subscriber_id, one.claimed.member_id, one.claimed.replay_id)
        for one, step in ours
        if step.state is not DeliveryState.PENDING and settled[one.claimed.id].in_order and one.claimed.member_id is not None
    }


async def _judge(tx: Tx, finished: Collection[Finished], failing_for: timedelta) -> list[DisabledSubscriber]:
    """Who answers again, who fails and since when, and who is called no more."""
    well = {one.claimed.subscriber_id for one in finished if isinstance(one.attempt.outcome, Delivered)}
    gone = {one.claimed.subscriber_id for one in finished if isinstance(one.attempt.outcome, Gone)}
    failures: dict[SubscriberId, tuple[datetime | None, timedelta | None]] = {}
    for one in finished:
        outcome, subscriber_id = one.attempt.outcome, one.claimed.subscriber_id
        if not isinstance(outcome, Failed) or one.is_test or outcome.error_class is ErrorClass.NO_EVENT:
            continue
        rest = None if outcome.retry_after is None else min(outcome.retry_after, _LONGEST_REST)
        since, known = failures.get(subscriber_id, (None, None))
        # Whoever answers beside it does not fail, and is left alone all the same where it asks for that.
        began = None if subscriber_id in well else min(filter(None, (since, one.attempt.started_at)))
        failures[subscriber_id] = (began, max(filter(None, (rest, known)), default=None))
    failures = {one: found for one, found in failures.items() if found != (None, None)}
    if well:
        await note_success(tx, well)
    if failures:
        await note_failures(tx, failures)
    if not failures and not gone:
        return []
    disabled = await disable_subscribers(tx, {*failures, *gone}, gone, failing_for)
    for lost in disabled:
        changes = differences({"state": "active"}, {"state": "disabled", "because": lost.disabled_because})
        await audit_change(tx, Author(lost.company_id, _NOTIFIER), "subscriber.disabled", lost.id, changes)
    return disabled
