from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.member import UpstreamState, standing

SQL = """
select standing(c.upstream_state, c.hold, c.expires_at, c.grace, c.at)
from unnest($1::text[], $2::text[], $3::timestamptz[], $4::interval[], $5::timestamptz[]) with ordinality
    as c (upstream_state, hold, expires_at, grace, at, position)
order by position
"""
TICK = timedelta(microseconds=1)
# The driver writes the very first and the very last instant as infinities, which the members table refuses.
FIRST, LAST = datetime.min.replace(tzinfo=UTC) + TICK, datetime.max.replace(tzinfo=UTC) - TICK


def cases(now: datetime, grace: timedelta, distance: timedelta) -> list[Any]:
    """Every combination of facts around `now`, mostly where something changes."""
    offsets = [timedelta(0), TICK, -TICK, -grace, -grace + TICK, -grace - TICK, distance]
    ends = [None, *(now + offset for offset in offsets if FIRST - now <= offset <= LAST - now)]
    return list(product(UpstreamState, [None, "", "unpaid"], ends, [grace], [now]))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([FIRST, LAST]) | st.datetimes(FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None), timezones=st.just(UTC)),
    st.sampled_from([0, 1, 30, 3650]) | st.integers(0, 3650),
    st.timedeltas(timedelta(days=-4000), timedelta(days=4000)),
    st.sampled_from(["UTC", "America/New_York", "Atlantic/Reykjavik"]),
)
async def test_sql_and_python_agree_on_what_a_member_is(
    database_url: str, now: datetime, grace_days: int, distance: timedelta, zone: str
) -> None:
    drawn = cases(now, timedelta(days=grace_days), distance)
    # The time zone of the session must not matter: behind a pooler it is whatever the server's is.
    connection = await asyncpg.connect(database_url, server_settings={"timezone": zone})
    try:
        found = [record[0] for record in await connection.fetch(SQL, *map(list, zip(*drawn, strict=True)))]
    finally:
        await connection.close()

    assert found == [standing(state, hold, expires_at, grace=grace, now=at) for state, hold, expires_at, grace, at in drawn]


async def test_the_night_in_which_the_clocks_change_has_no_say(database_url: str) -> None:
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "America/New_York"})
    try:
        # 2026-03-08 has 23 hours there: by the calendar the day of grace would end an hour too early.
        ends = datetime(2026, 3, 8, 1, tzinfo=UTC)
        found = await connection.fetchval(
            "select standing('active', null, $1, interval '1 day', $2)", ends, ends + timedelta(hours=23, minutes=30)
        )
    finally:
        await connection.close()

    assert found == "grace"
