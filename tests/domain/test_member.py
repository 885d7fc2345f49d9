from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.domain.member import Standing, UpstreamState, standing
from tests.domain.samples import DAY, NOW, member

PENDING, ACTIVE, SUSPENDED, REMOVED = UpstreamState
TICK = timedelta(microseconds=1)
NO_GRACE = timedelta(0)


@pytest.mark.parametrize(
    ("upstream_state", "hold", "expires_at", "grace", "expected"),
    [
        # Each rule wins over everything below it.
        (REMOVED, "unpaid", NOW - DAY, 7 * DAY, Standing.REMOVED),
        (REMOVED, None, None, NO_GRACE, Standing.REMOVED),
        (PENDING, "unpaid", NOW - DAY, 7 * DAY, Standing.PENDING),
        (PENDING, None, None, NO_GRACE, Standing.PENDING),
        (ACTIVE, "unpaid", NOW - TICK, 7 * DAY, Standing.EXPIRED),
        (SUSPENDED, None, NOW - TICK, 7 * DAY, Standing.EXPIRED),
        (ACTIVE, None, NOW - TICK, 7 * DAY, Standing.GRACE),
        (ACTIVE, None, NOW - TICK, NO_GRACE, Standing.EXPIRED),
        (ACTIVE, None, NOW - 8 * DAY, 7 * DAY, Standing.EXPIRED),
        (ACTIVE, "unpaid", None, NO_GRACE, Standing.SUSPENDED),
        (ACTIVE, "unpaid", NOW + DAY, NO_GRACE, Standing.SUSPENDED),
        (SUSPENDED, None, None, NO_GRACE, Standing.SUSPENDED),
        (SUSPENDED, None, NOW, 7 * DAY, Standing.SUSPENDED),
        (ACTIVE, None, None, NO_GRACE, Standing.ACTIVE),
        (ACTIVE, None, NOW + DAY, NO_GRACE, Standing.ACTIVE),
        # A membership that ends now is still one, and the grace includes its last instant.
        (ACTIVE, None, NOW, NO_GRACE, Standing.ACTIVE),
        (ACTIVE, None, NOW, 7 * DAY, Standing.ACTIVE),
        (ACTIVE, None, NOW - 7 * DAY, 7 * DAY, Standing.GRACE),
        (ACTIVE, None, NOW - 7 * DAY - TICK, 7 * DAY, Standing.EXPIRED),
        # An empty reason is a hold all the same.
        (ACTIVE, "", None, NO_GRACE, Standing.SUSPENDED),
        # The ends of the calendar overflow nothing.
        (ACTIVE, None, datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), timedelta(days=3650), Standing.ACTIVE),
        (ACTIVE, None, datetime(1, 1, 1, tzinfo=UTC), timedelta(days=3650), Standing.EXPIRED),
    ],
)
def test_the_first_rule_that_fits_decides(upstream_state, hold, expires_at, grace, expected):
    assert standing(upstream_state, hold, expires_at, grace=grace, now=NOW) is expected


@pytest.mark.parametrize("year", [1, 9999])
def test_any_now_of_the_calendar_can_be_asked_about(year):
    now = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)

    assert standing(ACTIVE, None, now - TICK, grace=timedelta(days=3650), now=now) is Standing.GRACE


def test_the_repr_of_a_member_which_may_end_in_a_log_holds_nothing_personal():
    secret = "personal-data"
    shown = repr(
        member(national_id=secret, name=secret, email=secret, phone=secret, metadata={secret: secret}, hold=secret, held_at=NOW)
    )

    assert secret not in shown
    assert "ext-1" in shown
