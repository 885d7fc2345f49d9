"""Which traces are recorded: as `OTEL_TRACES_SAMPLER` says, and every batch that a recorded message is in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from opentelemetry.trace import SpanContext

__all__ = ["SamplerName", "Sampling"]

SamplerName: TypeAlias = Literal[
    "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"
]
_PARENT_BASED: Final = "parentbased_"
# Of a trace id the low 64 bits are what is random for everybody, and what the SDK's samplers look at.
_LOW_BITS: Final = (1 << 64) - 1
_ALL: Final = 1 << 64
_SAMPLED: Final = 1


class Sampling:
    """The SDK's six samplers as one comparison; `ratio` is of those that have one.

    The SDK's own take a context, a span that stands in for the parent and a result, all made anew for each message, to say no.
    """

    def __init__(self, name: SamplerName, ratio: float) -> None:
        kind = name.removeprefix(_PARENT_BASED)
        # Trace ids below it are recorded.
        self._bound = {"always_on": _ALL, "always_off": 0}.get(kind, round(ratio * _ALL))
        # Whether nothing is recorded of a trace that its sender does not record.
        self.respects_parents = name.startswith(_PARENT_BASED)

    def records(self, trace_id: int, parent: SpanContext | None, links: Iterable[SpanContext]) -> bool:
        """Whether to record a span; a trace that begins with a link to a recorded span is: the link's other end leads there."""
        if parent is None:
            if any(link.trace_flags & _SAMPLED for link in links):
                return True
        elif self.respects_parents:
            return bool(parent.trace_flags & _SAMPLED)
        return trace_id & _LOW_BITS < self._bound
