"""What is being handled in this task: for the log, and for whatever works on it further in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from service.telemetry.traced import UNTRACED, Traced

__all__ = ["Handling", "handle", "handled", "handling"]


@dataclass(frozen=True, slots=True)
class Handling:
    """A message or a request, by its correlation id and its place in its trace."""

    correlation_id: str | None = None
    traced: Traced = UNTRACED


_NOTHING: Final = Handling()
_HANDLING: Final[ContextVar[Handling | None]] = ContextVar("handling", default=None)


def handling() -> Handling:
    """What this task handles; of nothing in particular it knows no ids."""
    return _HANDLING.get() or _NOTHING


def handle(what: Handling) -> None:
    """From here on this task handles that; a message and a request have a task of their own, which ends with them."""
    _HANDLING.set(what)


@contextmanager
def handled(what: Handling) -> Iterator[None]:
    """The same inside, for a task that goes on to something else."""
    token = _HANDLING.set(what)
    try:
        yield
    finally:
        _HANDLING.reset(token)
