from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.schedule import Advance, InvalidSchedule, advance, cron, every, next_slot

SLOT = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def slots(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next slots, as the clocks of the zone show them, with their offset."""
    rhythm = cron(expression, zone)
    found = []
    at = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    for _ in range(count):
        at = next_slot(rhythm, at)
        found.append(f"{at.astimezone(ZoneInfo(zone)):%m-%d %H:%M %z}")
    return found


class TestEvery:
    def test_a_slot_that_is_run_in_time_is_followed_by_the_next_on_the_grid(self) -> None:
        assert advance(every(HOUR), SLOT, SLOT + timedelta(seconds=9)) == Advance(SLOT + HOUR, 0)

    def test_after_an_outage_it_goes_on_after_now_and_counts_what_it_left_out(self) -> None:
        assert advance(every(HOUR), SLOT, SLOT + timedelta(hours=2, minutes=30)) == Advance(SLOT + 3 * HOUR, 2)

    def test_a_slot_of_this_very_moment_is_left_out_too(self) -> None:
        assert advance(every(HOUR), SLOT, SLOT + HOUR) == Advance(SLOT + 2 * HOUR, 1)

    @given(
        st.timedeltas(timedelta(seconds=1), timedelta(days=366)),
        st.timedeltas(timedelta(0), timedelta(days=3000)),
    )
    def test_the_next_is_the_first_of_the_grid_after_now(self, interval: timedelta, late: timedelta) -> None:
        now = SLOT + late
        ahead = advance(every(interval), SLOT, now)
        assert ahead.next_run_at > now
        assert ahead.next_run_at - interval <= now
        assert ahead.next_run_at == SLOT + (ahead.skipped + 1) * interval

    @pytest.mark.parametrize("interval", [timedelta(0), timedelta(seconds=-5), timedelta(milliseconds=999), timedelta(days=367)])
    def test_what_is_no_interval_is_refused(self, interval: timedelta) -> None:
        with pytest.raises(InvalidSchedule):
            every(interval)


class TestCron:
    def test_it_goes_by_the_clocks_of_its_zone(self) -> None:
        assert slots("17 3 * * *", "UTC", "2026-03-01", 2) == ["03-01 03:17 +0000", "03-02 03:17 +0000"]
        assert slots("17 3 * * *", "Asia/Kolkata", "2026-03-01", 1) == ["03-01 03:17 +0530"]

    def test_a_slot_that_the_clocks_skip_comes_once_after_it(self) -> None:
        # 02:00 to 03:00 is not there on 29 March.
        assert slots("30 2 * * *", "Europe/Berlin", "2026-03-28", 3) == [
            "03-28 02:30 +0100",
            "03-29 03:00 +0200",
            "03-30 02:30 +0200",
        ]
        assert slots("0,30 2 * * *", "Europe/Berlin", "2026-03-28T03:00", 3) == [
            "03-29 03:00 +0200",
            "03-30 02:00 +0200",
            "03-30 02:30 +0200",
        ]
        assert slots("0 2,3 * * *", "Europe/Berlin", "2026-03-28T04:00", 2) == ["03-29 03:00 +0200", "03-30 02:00 +0200"]
        assert slots("*/30 2 * * *", "Europe/Berlin", "2026-03-28T03:00", 2) == ["03-29 03:00 +0200", "03-30 02:00 +0200"]
        assert slots("0 */2 * * *", "Europe/Berlin", "2026-03-29T00:00", 2) == ["03-29 03:00 +0200", "03-29 04:00 +0200"]

    def test_a_slot_that_the_clocks_show_twice_comes_the_first_time(self) -> None:
        # 02:00 to 03:00 is there twice on 25 October.
        assert slots("30 2 * * *", "Europe/Berlin", "2026-10-24", 3) == [
            "10-24 02:30 +0200",
            "10-25 02:30 +0200",
            "10-26 02:30 +0100",
        ]
        assert slots("*/30 2 * * *", "Europe/Berlin", "2026-10-25T00:00", 3) == [
            "10-25 02:00 +0200",
            "10-25 02:30 +0200",
            "10-26 02:00 +0100",
        ]

    def test_who_asks_in_the_second_hour_is_not_sent_back_to_the_first(self) -> None:
        second = datetime(2026, 10, 25, 2, 15, fold=1, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
        found = next_slot(cron("30 2 * * *", "Europe/Berlin"), second)
        assert found == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)

    def test_what_is_done_each_hour_neither_pauses_nor_repeats(self) -> None:
        for expression, apart in (("*/10 * * * *", timedelta(minutes=10)), ("5 * * * *", HOUR)):
            for day in (datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC)):
                rhythm, at = cron(expression, "Europe/Berlin"), day
                found = [at := next_slot(rhythm, at) for _ in range(60)]
                assert {late - early for early, late in pairwise(found)} == {apart}

    def test_a_midnight_that_is_not_there_comes_an_hour_later(self) -> None:
        assert slots("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00", 2) == ["04-24 01:00 +0300", "04-25 00:00 +0300"]

    def test_a_day_that_is_not_there_comes_with_the_next(self) -> None:
        # Samoa had no 30 December 2011.
        assert slots("0 10 * * *", "Pacific/Apia", "2011-12-29T12:00", 2) == ["12-31 00:00 +1400", "12-31 10:00 +1400"]

    def test_after_an_outage_it_goes_on_after_now_and_counts_what_it_left_out(self) -> None:
        daily = cron("0 12 * * *", "UTC")
        assert advance(daily, SLOT, SLOT + timedelta(minutes=1)) == Advance(SLOT + timedelta(days=1), 0)
        assert advance(daily, SLOT, SLOT + timedelta(days=3, hours=1)) == Advance(SLOT + timedelta(days=4), 3)

    @given(
        st.sampled_from(["30 2 * * *", "0 0 1 * *", "*/15 * * * *", "0 */6 * * MON", "15,45 1-3 * * *"]),
        st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham"]),
        st.integers(1_577_836_800, 2_051_222_400).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    )
    def test_every_slot_is_after_the_one_before(self, expression: str, zone: str, after: datetime) -> None:
        rhythm = cron(expression, zone)
        first = next_slot(rhythm, after)
        assert after < first < next_slot(rhythm, first)
        # Whoever asks a little later, but before it, is told the same.
        assert next_slot(rhythm, first - timedelta(seconds=1)) in (first, next_slot(rhythm, after))

    @pytest.mark.parametrize(
        ("expression", "zone"),
        [
            ("* * * *", "UTC"),
            ("0 * * * * *", "UTC"),
            ("61 * * * *", "UTC"),
            ("x * * * *", "UTC"),
            ("", "UTC"),
            ("0 0 30 2 *", "UTC"),
            ("* * */20 * 1L", "UTC"),
            ("0 0 * * *", "Europe/Atlantis"),
            ("0 0 * * *", "../etc/passwd"),
            ("0 0 * * *", ""),
        ],
    )
    def test_what_is_no_cron_expression_is_refused(self, expression: str, zone: str) -> None:
        with pytest.raises(InvalidSchedule):
            cron(expression, zone)
