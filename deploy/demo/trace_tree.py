"""One trace as a tree with its timings; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Node", "TreeLine", "trace_tree", "tree_lines"]


@dataclass(frozen=True, slots=True)
class Node:
    """A span among its kin; times are nanoseconds of the epoch, `error` is the kind of its failure."""

    name: str
    kind: str
    began: int
    ended: int
    error: str | None
    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class TreeLine:
    """A span as a line: what is drawn before its name; in milliseconds how long after the trace began, and for how long."""

    drawn: str
    name: str
    kind: str
    after: float
    lasted: float
    error: str | None


def trace_tree(spans: Sequence[ReadableSpan], trace_id: int) -> tuple[Node, ...]:
    """The ended spans of one trace below their parents, in the order of their beginnings; whose parent is elsewhere is a root."""
    own = {found.span_id: span for span in spans if (found := span.get_span_context()) is not None and found.trace_id == trace_id}
    below: dict[int | None, list[int]] = {}
    for number in sorted(own, key=lambda number: (own[number].start_time or 0, own[number].end_time or 0)):
        parent = own[number].parent
        below.setdefault(parent.span_id if parent is not None and parent.span_id in own else None, []).append(number)

    def node(number: int) -> Node:
        span = own[number]
        error = (span.attributes or {}).get("error.type")
        return Node(
            span.name,
            span.kind.name,
            span.start_time or 0,
            span.end_time or 0,
            None if error is None else str(error),
            tuple(map(node, below.get(number, ()))),
        )

    return tuple(map(node, below.get(None, ())))


def tree_lines(roots: Sequence[Node]) -> list[TreeLine]:
    """The tree line by line, parents before their children."""
    if not roots:
        return []
    origin = min(root.began for root in roots)
    return [line for root in roots for line in _lines(root, origin, "", "")]


def _lines(node: Node, origin: int, drawn: str, indent: str) -> Iterator[TreeLine]:
    yield TreeLine(drawn, node.name, node.kind, (node.began - origin) / 1e6, (node.ended - node.began) / 1e6, node.error)
    for child in node.children:
        is_last = child is node.children[-1]
        yield from _lines(child, origin, f"{indent}{'└─ ' if is_last else '├─ '}", f"{indent}{'   ' if is_last else '│  '}")
