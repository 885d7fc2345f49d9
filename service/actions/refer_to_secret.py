"""Whether a company may refer to one of the operator's secrets; where the operator says so for it, it may from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.domain.member import CompanyId
from service.settings import is_reference
from service.store.secret_grants import is_granted, offer_secret

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["refer_to_secret"]


async def refer_to_secret(tx: Tx, company_id: CompanyId, reference: str, *, by_operator: bool) -> str | None:
    """Let a company refer to a secret; why it may not, None where it may."""
    if not is_reference(reference):
        return "must be env:ROLLCALL_SECRET_NAME, or file:NAME below SECRETS_DIR"
    if by_operator:
        if not await offer_secret(tx, company_id, reference):
            return "was revoked for this company; `rollcall secrets grant` gives it back"
    elif not await is_granted(tx, company_id, reference):
        return "is not granted to this company; the operator grants it"
    return None
