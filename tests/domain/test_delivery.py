from __future__ import annotations

from datetime import timedelta

import pytest

from service.domain.notifications.delivery import (
    RETRY_DELAYS,
    Delivered,
    DeliveryState,
    ErrorClass,
    Failed,
    Gone,
    Step,
    after,
)

FAILED = Failed(ErrorClass.STATUS, "answers 500", 500)


def test_the_delays_are_those_of_the_rules() -> None:
    minutes = [5 / 60, 5, 30, 120, 300, 600, 600]
    assert [delay.total_seconds() / 60 for delay in RETRY_DELAYS] == pytest.approx(minutes)


@pytest.mark.parametrize("failures", range(7))
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_a_failure_waits_for_anything_up_to_its_delay(failures: int, jitter: float) -> None:
    step = after(FAILED, failures, jitter=lambda: jitter)

    assert step == Step(DeliveryState.PENDING, RETRY_DELAYS[failures] * jitter)


def test_the_eighth_failure_is_the_last() -> None:
    assert after(FAILED, 7) == Step(DeliveryState.EXHAUSTED)


def test_success_and_farewell_are_ends() -> None:
    assert after(Delivered(204), 3) == Step(DeliveryState.DELIVERED)
    assert after(Gone(), 0) == Step(DeliveryState.EXHAUSTED)


def test_an_event_that_is_no_more_is_not_tried_again() -> None:
    assert after(Failed(ErrorClass.NO_EVENT, "the audit has it no more"), 0) == Step(DeliveryState.EXHAUSTED)


@pytest.mark.parametrize("jitter", [0.0, 0.999])
def test_a_wait_that_is_asked_for_is_never_cut_short(jitter: float) -> None:
    asked = Failed(ErrorClass.STATUS, "answers 429", 429, timedelta(minutes=10))

    wait = after(asked, 0, jitter=lambda: jitter).wait

    assert wait is not None
    assert timedelta(minutes=10) <= wait <= timedelta(minutes=11)


def test_a_shorter_wait_than_our_own_changes_nothing() -> None:
    asked = Failed(ErrorClass.STATUS, "answers 503", 503, timedelta(seconds=1))

    assert after(asked, 3, jitter=lambda: 0.5).wait == timedelta(hours=1)


def test_a_schedule_of_its_own_is_followed() -> None:
    assert after(FAILED, 1, [timedelta(seconds=1)]) == Step(DeliveryState.EXHAUSTED)
    assert after(FAILED, 0, [timedelta(seconds=1)], lambda: 0.5) == Step(DeliveryState.PENDING, timedelta(seconds=0.5))
