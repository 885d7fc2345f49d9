"""A trace as a tree: parents before children, in the order of time, with the time since its beginning."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from deploy.demo.screen import Screen
from deploy.demo.trace_tree import trace_tree, tree_lines

TRACE, OTHER = 1, 2
MS = 1_000_000


def span(
    name: str, number: int, parent: int | None, began: int, ended: int, *, trace: int = TRACE, error: str = ""
) -> ReadableSpan:
    """From `began` to `ended` in milliseconds."""

    def context(of: int) -> SpanContext:
        return SpanContext(trace, of, is_remote=False, trace_flags=TraceFlags(1))

    return ReadableSpan(
        name,
        context(number),
        parent=None if parent is None else context(parent),
        kind=SpanKind.INTERNAL,
        start_time=began * MS,
        end_time=ended * MS,
        attributes={"error.type": error} if error else {},
    )


SPANS = [
    # As they end: children before their parents; 99 is the sender's own.
    span("second child", 4, 2, 130, 140, error="Park"),
    span("first child", 3, 2, 110, 120),
    span("root", 2, 99, 100, 150),
    span("grandchild", 5, 3, 112, 113),
    span("of another trace", 6, None, 90, 95, trace=OTHER),
    span("later root", 7, 98, 160, 161),
]


def test_spans_stand_below_their_parents_in_the_order_of_their_beginning() -> None:
    root, later = trace_tree(SPANS, TRACE)
    assert (root.name, later.name) == ("root", "later root")
    assert [child.name for child in root.children] == ["first child", "second child"]
    assert [child.name for child in root.children[0].children] == ["grandchild"]


def test_a_line_tells_when_it_began_and_how_long_it_took() -> None:
    lines = tree_lines(trace_tree(SPANS, TRACE))
    assert [(line.drawn + line.name, line.after, line.lasted, line.error) for line in lines] == [
        ("root", 0.0, 50.0, None),
        ("├─ first child", 10.0, 10.0, None),
        ("│  └─ grandchild", 12.0, 1.0, None),
        ("└─ second child", 30.0, 10.0, "Park"),
        ("later root", 60.0, 1.0, None),
    ]


def test_of_no_spans_there_is_no_tree() -> None:
    assert trace_tree(SPANS, 3) == ()
    assert tree_lines(()) == []


def test_the_screen_draws_it_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().tree(tree_lines(trace_tree(SPANS, TRACE)))
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 5
    assert shown[1].split() == ["├─", "first", "child", "10.0", "ms", "10.00", "ms", "internal"]
    assert shown[3].endswith("internal Park")
    assert len({line.index(" ms") for line in shown}) == 1
