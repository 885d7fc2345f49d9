"""What was answered to requests that may come again: kept for a day, written with the effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "KeptAnswer",
    "discard_answers_about",
    "discard_old_answers",
    "find_answer",
    "hold_idempotency_key",
    "keep_answer",
]

_SQL: Final = queries("idempotency_keys")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """An answer and the fingerprint of the request that it answered; its body may hold personal data, never a secret."""

    fingerprint: bytes
    status: int
    headers: Mapping[str, str]
    body: str = field(repr=False)


async def hold_idempotency_key(tx: Tx, principal: str, key: str) -> bool:
    """Answer under this key alone until the transaction ends; False where somebody else does."""
    return await tx.fetchval(_SQL["hold_idempotency_key"].sql, principal, key) is True


async def find_answer(tx: Tx, principal: str, key: str) -> KeptAnswer | None:
    """What was answered under this key within a day."""
    record = await tx.fetchrow(_SQL["find_answer"].sql, principal, key)
    return None if record is None else KeptAnswer(**record)


async def keep_answer(tx: Tx, principal: str, key: str, answer: KeptAnswer, member_id: UUID | None) -> None:
    """Keep an answer in the transaction of its effect; `member_id` is whose personal data it holds."""
    await tx.execute(
        _SQL["keep_answer"].sql, principal, key, answer.fingerprint, answer.status, answer.headers, answer.body, member_id
    )


async def discard_old_answers(tx: Tx) -> None:
    """Take away a few answers that mean nothing any more."""
    await tx.execute(_SQL["discard_old_answers"].sql)


async def discard_answers_about(tx: Tx, member_id: UUID) -> None:
    """Take away every answer that holds this member's data."""
    await tx.execute(_SQL["discard_answers_about"].sql, member_id)
