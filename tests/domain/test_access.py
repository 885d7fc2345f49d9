from __future__ import annotations

import pytest

from service.domain.access import Denial, access
from service.domain.member import Standing
from tests.domain.samples import DAY, NOW


@pytest.mark.parametrize("standing", list(Standing))
@pytest.mark.parametrize("starts_at", [None, NOW, NOW - DAY, NOW + DAY], ids=["no start", "now", "yesterday", "tomorrow"])
def test_who_is_active_or_in_grace_and_has_begun_may_come_in(standing, starts_at):
    found = access(standing, starts_at, NOW)

    assert found.granted == (standing in (Standing.ACTIVE, Standing.GRACE) and (starts_at is None or starts_at <= NOW))
    if found.denial is not None:
        assert found.denial == (Denial.NOT_STARTED if standing in (Standing.ACTIVE, Standing.GRACE) else Denial(standing))
