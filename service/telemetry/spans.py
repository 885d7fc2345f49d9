"""A span that is being recorded, and nothing that an export needs: so that whoever traces nothing imports no exporter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from typing import TypeAlias

from opentelemetry.trace import SpanContext, SpanKind

__all__ = ["Attributes", "Failure", "OpenSpan"]

Attributes: TypeAlias = Mapping[str, str | int]
# A text free of values, or None where there is no such text.
Failure: TypeAlias = tuple[str | None]


class OpenSpan:
    """What is said of an operation until it is over; then it goes to whoever records it, once.

    The SDK's own live span locks, checks and copies each attribute and each link, which costs ten times as much.
    """

    __slots__ = ("_record", "attributes", "began", "context", "ended", "failure", "kind", "links", "name", "parent")

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        parent: SpanContext | None,
        *,
        began: int | None,
        links: Sequence[SpanContext],
        record: Callable[[OpenSpan], None],
    ) -> None:
        self.name = name
        self.kind = kind
        self.context = context
        self.parent = parent
        # Nanoseconds of the epoch.
        self.began = time_ns() if began is None else began
        self.ended: int | None = None
        self.attributes: dict[str, str | int] = {}
        self.links = list(links)
        self.failure: Failure | None = None
        self._record = record

    def note(self, attributes: Attributes) -> None:
        """Say more of it; when it is over nothing can be said any more."""
        if self.ended is None:
            self.attributes.update(attributes)

    def link(self, other: SpanContext) -> None:
        """It has to do with that one."""
        if self.ended is None:
            self.links.append(other)

    def end(self, failure: Failure | None, at: int | None) -> None:
        """It is over, now or at that nanosecond."""
        if self.ended is None:
            self.failure = failure
            self.ended = time_ns() if at is None else at
            self._record(self)
