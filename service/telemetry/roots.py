"""Where traces begin: which of them are recorded is known before there is a span.

The SDK takes twenty microseconds to find out that a root is not recorded, which most are not. Here its id is drawn and its sampler
asked first; only one that is recorded comes to the SDK, which then begins it with that id.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import SpanKind

__all__ = ["Roots"]

_NOWHERE: Final = Context()
# Not sampled; the id is random (W3C Trace Context level 2), as the SDK says of its own.
_FLAGS: Final = "02"


class Roots(RandomIdGenerator):
    """The ids of a tracer, whose sampler asks `sampler` about roots.

    The caller of `unrecorded` begins a root at once after it answered None, in the same thread.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._drawn: int | None = None

    def unrecorded(self, name: str, kind: SpanKind) -> str | None:
        """The `traceparent` of a new trace that the sampler does not record; None where it does, and a span is to be begun."""
        trace_id = super().generate_trace_id()
        if self._sampler.should_sample(_NOWHERE, trace_id, name, kind).decision is not Decision.DROP:
            self._drawn = trace_id
            return None
        return f"00-{trace_id:032x}-{self.generate_span_id():016x}-{_FLAGS}"

    def generate_trace_id(self) -> int:
        """The id that the sampler was asked about, once; any other time a new one."""
        drawn, self._drawn = self._drawn, None
        return super().generate_trace_id() if drawn is None else drawn
