from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import jobs
from service.domain.jobs import ENDED, MOST_ATTEMPTS, CancelAsked, Ended, Job, JobId, JobResult, JobState, Transition

MINUTE = timedelta(minutes=1)


def job(state: JobState = JobState.RUNNING, *, attempts: int = 1, cancel_requested: bool = False) -> Job:
    return Job(id=JobId(UUID(int=1)), state=state, attempts=attempts, fence=7, cancel_requested=cancel_requested)


def middle() -> float:
    return 0.5


def test_retries_come_after_1_5_15_and_60_minutes_and_then_no_more() -> None:
    waits = [jobs.retry_delay(attempts, None, middle) for attempts in range(1, MOST_ATTEMPTS + 1)]

    assert waits == [1 * MINUTE, 5 * MINUTE, 15 * MINUTE, 60 * MINUTE, None]


@given(st.integers(1, MOST_ATTEMPTS - 1), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_spread_by_a_fifth_at_most(attempts: int, chance: float) -> None:
    wait = jobs.retry_delay(attempts, None, lambda: chance)

    assert wait is not None
    assert 0.8 <= wait / jobs.RETRY_DELAYS[attempts - 1] <= 1.2


def test_the_spread_reaches_both_ends() -> None:
    assert jobs.retry_delay(1, None, lambda: 0.0) == 0.8 * MINUTE
    assert jobs.retry_delay(1, None, lambda: 1.0) == 1.2 * MINUTE


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        (timedelta(seconds=7), timedelta(seconds=7)),
        (timedelta(hours=3), timedelta(hours=3)),
        (timedelta(0), timedelta(seconds=1)),
        (timedelta(seconds=-5), timedelta(seconds=1)),
        (timedelta(days=400), timedelta(days=1)),
    ],
)
def test_what_the_source_asks_for_wins_between_a_second_and_a_day(asked: timedelta, waits: timedelta) -> None:
    assert jobs.retry_delay(2, asked, lambda: 0.0) == waits


def test_what_the_source_asks_for_buys_no_further_attempt() -> None:
    assert jobs.retry_delay(MOST_ATTEMPTS, timedelta(seconds=7), middle) is None


@pytest.mark.parametrize(
    "result",
    [JobResult.succeeded({"n": 1}), JobResult.partial({"n": 1}), JobResult.quarantined({"n": 1}), JobResult.failed("no", {"n": 1})],
    ids=lambda result: result.state,
)
@pytest.mark.parametrize("cancel_requested", [False, True])
def test_what_the_function_says_is_the_end_even_where_a_cancellation_came_too_late(
    result: JobResult, cancel_requested: bool
) -> None:
    step = jobs.ended(job(cancel_requested=cancel_requested), result)

    assert (step.was, step.state, step.result, step.error) == (JobState.RUNNING, result.state, {"n": 1}, result.error)
    assert not step.sends_message


def test_only_a_failed_result_says_why() -> None:
    for state, error in ((JobState.FAILED, None), (JobState.FAILED, ""), (JobState.SUCCEEDED, "because")):
        with pytest.raises(ValueError, match="says why"):
            JobResult(state, {}, error)  # type: ignore[arg-type]  # SUCCEEDED and FAILED are two of its literals


def test_a_failed_attempt_waits_for_its_retry_without_a_message() -> None:
    step = jobs.attempt_failed(job(attempts=2), "away", may_retry=True, jitter=middle)

    assert (step.state, step.attempts, step.wait, step.error) == (JobState.QUEUED, 2, 5 * MINUTE, "away")
    assert not step.sends_message


@pytest.mark.parametrize(("attempts", "may_retry"), [(MOST_ATTEMPTS, True), (1, False)])
def test_a_failed_attempt_that_was_the_last_or_cannot_be_helped_is_the_end(attempts: int, may_retry: bool) -> None:
    step = jobs.attempt_failed(job(attempts=attempts), "away", may_retry=may_retry, jitter=middle)

    assert (step.state, step.wait, step.error) == (JobState.FAILED, None, "away")


def test_nobody_waits_for_a_retry_of_what_was_cancelled() -> None:
    cancelled = job(cancel_requested=True)

    steps = [
        jobs.attempt_failed(cancelled, "away", may_retry=True, jitter=middle),
        jobs.put_off(cancelled, "away"),
        jobs.given_back(cancelled),
        jobs.overdue(cancelled),
        jobs.stopped(cancelled),
    ]

    assert {step.state for step in steps} == {JobState.CANCELLED}


def test_infrastructure_that_is_away_and_a_worker_that_ends_cost_no_attempt() -> None:
    put_off, given_back = jobs.put_off(job(attempts=3), "away"), jobs.given_back(job(attempts=3))

    assert (put_off.state, put_off.attempts, put_off.wait, put_off.sends_message) == (JobState.QUEUED, 2, MINUTE, False)
    assert (given_back.state, given_back.attempts, given_back.wait, given_back.sends_message) == (JobState.QUEUED, 2, None, True)


def test_a_silent_worker_costs_an_attempt_and_the_fifth_is_the_end() -> None:
    again, over = jobs.overdue(job(attempts=4)), jobs.overdue(job(attempts=MOST_ATTEMPTS))

    assert (again.state, again.attempts, again.sends_message) == (JobState.QUEUED, 4, True)
    assert (over.state, over.sends_message) == (JobState.FAILED, False)
    assert over.error is not None


def test_a_queued_job_that_is_due_is_told_of_again_however_often_it_was_tried() -> None:
    step = jobs.overdue(job(JobState.QUEUED, attempts=MOST_ATTEMPTS))

    assert (step.was, step.state, step.sends_message) == (JobState.QUEUED, JobState.QUEUED, True)


@pytest.mark.parametrize("state", JobState)
def test_cancelling_is_at_once_a_request_or_too_late(state: JobState) -> None:
    cancellation = jobs.cancelled(job(state))

    if state is JobState.QUEUED:
        assert isinstance(cancellation, Transition)
        assert cancellation.state is JobState.CANCELLED
    elif state is JobState.RUNNING:
        assert cancellation == CancelAsked()
    else:
        assert cancellation == Ended(state)


@pytest.mark.parametrize("state", JobState)
def test_only_what_is_quarantined_can_be_approved_or_rejected(state: JobState) -> None:
    approved, rejected = jobs.approved(job(state, attempts=5)), jobs.rejected(job(state), "not now")

    if state is not JobState.QUARANTINED:
        assert (approved, rejected) == (None, None)
        return
    assert approved is not None
    assert (approved.state, approved.attempts, approved.sends_message) == (JobState.QUEUED, 0, True)
    assert rejected is not None
    assert (rejected.state, rejected.error) == (JobState.CANCELLED, "not now")


@given(st.sampled_from(JobState), st.integers(1, MOST_ATTEMPTS), st.booleans())
def test_a_step_leads_from_where_the_job_is_and_keeps_its_fence(state: JobState, attempts: int, cancel: bool) -> None:
    found = job(state, attempts=attempts, cancel_requested=cancel)
    steps = [jobs.overdue(found), jobs.given_back(found), jobs.put_off(found, "away"), jobs.stopped(found)]

    for step in steps:
        assert (step.id, step.was, step.fence) == (found.id, state, 7)
        assert step.attempts >= 0
        assert (step.wait is None) or step.state is JobState.QUEUED


def test_what_has_ended_is_neither_queued_nor_running() -> None:
    assert set(JobState) - ENDED == {JobState.QUEUED, JobState.RUNNING}
