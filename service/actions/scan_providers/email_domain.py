"""Members whose e-mail address is not at one of the company's own domains."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from service.actions.scan_providers.company_scan import CompanyScan
from service.domain.scans import Found, InvalidProviderSettings, Severity, domain_names, domain_spellings

__all__ = ["EmailDomainProvider"]

_ALLOWED: Final = "allowedDomains"
_KIND: Final = "email_outside_domains"


class EmailDomainProvider:
    """Finds addresses outside `allowedDomains`; a domain below an allowed one is another domain."""

    @property
    def name(self) -> str:
        """As companies configure it."""
        return "email_domain"

    def check(self, settings: Mapping[str, Any]) -> None:
        """`allowedDomains` and nothing else; raises InvalidProviderSettings."""
        if unknown := sorted(settings.keys() - {_ALLOWED}):
            message = f"unknown: {', '.join(unknown)}"
            raise InvalidProviderSettings(message)
        domain_names(settings.get(_ALLOWED), _ALLOWED)

    async def find(self, scan: CompanyScan) -> AsyncGenerator[Sequence[Found], None]:
        """One finding for each member; it does not repeat the address."""
        allowed = domain_spellings(domain_names(scan.settings.get(_ALLOWED), _ALLOWED))
        async with aclosing(scan.members_outside(allowed)) as batches:
            async for some in batches:
                yield [Found(one.id, _KIND, Severity.LOW) for one in some]
