"""What a reconciler that an installation adds is made with (docs/extending/reconciler.md)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pydantic import SecretStr

from service.actions.read_models.reconciler import ReadModelReconciler
from service.clients.outside import Outside

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["ReconcilerAccess", "ReconcilerFactory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerAccess:
    """The members, and the world outside; making a reconciler asks neither yet."""

    # A transaction in which nothing can be written; raises Retry errors.
    reading: Callable[[], AbstractAsyncContextManager[Tx]]
    # The guarded way out: `outside.http(url, headers)`.
    outside: Outside
    # The value behind `env:ROLLCALL_SECRET_NAME` or `file:NAME`; raises SecretUnavailable.
    secret: Callable[[str], SecretStr]
    # Of companies that have none of their own, as `list_standings` takes them.
    default_grace_days: int


# Called once for a process.
ReconcilerFactory: TypeAlias = Callable[[ReconcilerAccess], ReadModelReconciler]
