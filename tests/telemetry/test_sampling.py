"""What is recorded: what the SDK's sampler of that name would record, and what is linked with a recorded span."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from service.telemetry.sampling import SamplerName, Sampling

SAMPLED, UNSAMPLED = (SpanContext(7, 9, is_remote=True, trace_flags=TraceFlags(flags)) for flags in (1, 0))
PARENTS = st.sampled_from((None, SAMPLED, UNSAMPLED))
# Those around the bound of each ratio among them.
TRACE_IDS = st.integers(1, 2**128 - 1) | st.builds(
    lambda high, ratio, off: (high << 64) | max(0, min(2**64 - 1, round(ratio * 2**64) + off)),
    st.integers(1, 2**64 - 1),
    st.sampled_from((0.0, 0.1, 0.5, 1.0)),
    st.integers(-2, 2),
)


def of_the_sdk(name: SamplerName, ratio: float) -> Sampler:
    samplers: dict[SamplerName, Sampler] = {
        "always_on": ALWAYS_ON,
        "always_off": ALWAYS_OFF,
        "traceidratio": TraceIdRatioBased(ratio),
        "parentbased_always_on": DEFAULT_ON,
        "parentbased_always_off": DEFAULT_OFF,
        "parentbased_traceidratio": ParentBasedTraceIdRatio(ratio),
    }
    return samplers[name]


@given(
    st.sampled_from(get_args(SamplerName)),
    st.sampled_from((0.0, 0.1, 0.5, 1.0)) | st.floats(0, 1),
    PARENTS,
    TRACE_IDS,
)
def test_each_sampler_decides_as_the_sdks_does(name: SamplerName, ratio: float, parent: SpanContext | None, trace_id: int) -> None:
    around = None if parent is None else set_span_in_context(NonRecordingSpan(parent))
    theirs = of_the_sdk(name, ratio).should_sample(around, trace_id, "handle").decision.is_sampled()
    assert Sampling(name, ratio).records(trace_id, parent, ()) is theirs


@pytest.mark.parametrize("name", get_args(SamplerName))
def test_who_respects_parents_is_who_is_based_on_them(name: SamplerName) -> None:
    assert Sampling(name, 0.5).respects_parents is isinstance(of_the_sdk(name, 0.5), ParentBased)


@pytest.mark.parametrize("name", get_args(SamplerName))
def test_a_root_that_is_linked_with_a_recorded_span_is_recorded_whatever_the_sampler_says(name: SamplerName) -> None:
    sampling = Sampling(name, 0.0)
    assert sampling.records(2**64 - 1, None, (UNSAMPLED, SAMPLED))
    assert sampling.records(2**64 - 1, None, (UNSAMPLED,)) is name.endswith("always_on")


def test_below_a_parent_links_decide_nothing() -> None:
    assert not Sampling("parentbased_always_on", 1.0).records(7, UNSAMPLED, (SAMPLED,))
