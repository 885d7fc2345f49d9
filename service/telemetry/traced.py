"""An operation's place in its trace, as a `traceparent` (W3C Trace Context) and, where it is recorded, as a span."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from service.telemetry import names
from service.telemetry.spans import Attributes, OpenSpan

__all__ = ["UNTRACED", "Attributes", "Traced", "ids", "is_sampled"]

# As in contracts/envelope.py, which reads what comes from outside.
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32}-)([0-9a-f]{32})-(?!0{16}-)([0-9a-f]{16})-([0-9a-f]{2})")
_LENGTH: Final = 55
_SAMPLED_ENDS: Final = frozenset("13579bdf")


def is_sampled(traceparent: object) -> bool:
    """Whether whoever wrote this traceparent records its trace; no for what is none."""
    return isinstance(traceparent, str) and len(traceparent) == _LENGTH and traceparent[-1] in _SAMPLED_ENDS


def ids(traceparent: object) -> tuple[str, str, str] | None:
    """Trace id, span id and flags in hex; None where it is no traceparent."""
    found = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return None if found is None else (found[1], found[2], found[3])


@dataclass(frozen=True, slots=True)
class Traced:
    """An operation's place in its trace: what it hands on, and its span where that is recorded."""

    traceparent: str | None
    span: OpenSpan | None = None

    def note(self, attributes: Attributes) -> None:
        """Say more of it; never a member's data, a secret, or what somebody sent."""
        if self.span is not None:
            self.span.note(attributes)

    def end(self, error: str | None = None, why: str | None = None, *, at: int | None = None) -> None:
        """It is over, now or at that nanosecond; `error` is the kind of its failure, `why` a text free of values."""
        if self.span is None:
            return
        if error is not None:
            self.span.note({names.ERROR_TYPE: error})
        self.span.end(None if error is None else (why,), at)


UNTRACED: Final = Traced(None)
