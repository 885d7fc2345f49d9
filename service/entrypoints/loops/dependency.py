"""A service that a loop waits for: reachable or not, said once per change."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from service.domain.backoff import Backoff

__all__ = ["Dependency"]

_RECONNECT: Final = Backoff(timedelta(seconds=0.2), timedelta(seconds=5))

_log = structlog.get_logger(__name__)


class Dependency:
    """Remembers whether a service answers and how long to wait before asking it again."""

    def __init__(self, name: str, *, waits_for: str) -> None:
        self._name = name
        self._waits_for = waits_for
        self._failures = 0
        self.ready = False

    def up(self) -> None:
        """It answered."""
        if not self.ready:
            _log.info("dependency.ready", dependency=self._name, used_by=self._waits_for)
        self.ready, self._failures = True, 0

    def down(self, reason: object) -> float:
        """It did not answer; returns the seconds to wait."""
        self._failures += 1
        if self.ready or self._failures == 1:
            _log.warning("dependency.away", dependency=self._name, used_by=self._waits_for, reason=str(reason))
        self.ready = False
        return _RECONNECT.after(self._failures).total_seconds()
