"""Members who have what only one of them should have."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from service.actions.scan_providers.company_scan import CompanyScan, Shared
from service.domain.scans import Found, InvalidProviderSettings, Severity

__all__ = ["DuplicatesProvider"]

# Two members with one national id are one person twice; an address may be a family's.
_KINDS: Final = ((Shared.NATIONAL_ID, "duplicate_national_id", Severity.HIGH), (Shared.EMAIL, "duplicate_email", Severity.MEDIUM))


class DuplicatesProvider:
    """Finds the same e-mail address, without case and blanks around it, and the same national id, by letters and digits, twice."""

    @property
    def name(self) -> str:
        """As companies configure it."""
        return "duplicates"

    def check(self, settings: Mapping[str, Any]) -> None:
        """There is nothing to set; raises InvalidProviderSettings."""
        if settings:
            raise InvalidProviderSettings("there is nothing to set")

    async def find(self, scan: CompanyScan) -> AsyncGenerator[Sequence[Found], None]:
        """One finding for each member who shares something: with how many, and who is one of them."""
        for shared, kind, severity in _KINDS:
            async with aclosing(scan.members_sharing(shared)) as batches:
                async for some in batches:
                    yield [
                        Found(one.id, kind, severity, detail={"members": one.sharing, "otherMemberId": str(one.other)})
                        for one in some
                    ]
