"""Which of the operator's secrets a company may refer to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.domain.member import CompanyId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["grant_secret"]

_GRANT: Final = queries("secret_grants")["grant_secret"].sql


async def grant_secret(tx: Tx, company_id: CompanyId, reference: str) -> None:
    """Let a company refer to a secret; the operator's decision alone. Safe to repeat, raises UnfitData for what is no reference."""
    await tx.execute(_GRANT, company_id, reference)
