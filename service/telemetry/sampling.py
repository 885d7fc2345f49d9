"""Which traces are recorded: as `OTEL_TRACES_SAMPLER` says, and every batch that a recorded message is in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

__all__ = ["LinkedSampler", "SamplerName", "sampler"]

SamplerName: TypeAlias = Literal[
    "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"
]
_PARENT_BASED: Final = "parentbased_"


def sampler(name: SamplerName, ratio: float) -> Sampler:
    """The sampler of that name; `ratio` is of those that have one."""
    kind = name.removeprefix(_PARENT_BASED)
    root: Sampler = {"always_on": ALWAYS_ON, "always_off": ALWAYS_OFF}.get(kind) or TraceIdRatioBased(ratio)
    return ParentBased(root) if name.startswith(_PARENT_BASED) else root


class LinkedSampler(Sampler):
    """Records a trace that begins with a link to a recorded span: its other end leads here. Asks another about everything else."""

    def __init__(self, configured: Sampler) -> None:
        self._configured = configured

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Record or not."""
        is_root = not get_current_span(parent_context).get_span_context().is_valid
        if is_root and links and any(link.context.trace_flags.sampled for link in links):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return self._configured.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Both samplers by name."""
        return f"LinkedSampler{{{self._configured.get_description()}}}"
