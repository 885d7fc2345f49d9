from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from contracts.errors import describe
from contracts.schedule_tick import ScheduleTickV1


def test_a_tick_says_when_it_was_due_and_where_it_comes_from():
    tick = ScheduleTickV1.from_json(b'{"scheduledFor":"2026-11-02T09:30:00Z","origin":"ticker"}')

    assert (tick.scheduled_for, tick.origin) == (datetime(2026, 11, 2, 9, 30, tzinfo=UTC), "ticker")


def test_a_cloud_scheduler_says_only_that_it_is_time():
    tick = ScheduleTickV1.from_json(b'{"sync_type":"scheduled","attempt":1}')

    assert (tick.scheduled_for, tick.origin) == (None, None)


@pytest.mark.parametrize("text", [b"{}", b'{"sync_type":"manual"}', b'{"sync_type":null}', b'{"scheduledFor":0}'])
def test_what_is_neither_form_is_refused(text):
    with pytest.raises(ValidationError):
        ScheduleTickV1.from_json(text)


def test_the_reason_names_the_field():
    with pytest.raises(ValidationError) as refused:
        ScheduleTickV1.from_json(b'{"scheduledFor":"soon"}')
    assert describe(refused.value).startswith("scheduledFor: ")
