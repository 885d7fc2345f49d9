"""The providers that every installation has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from service.actions.scan_providers.breach import BreachProvider
from service.actions.scan_providers.duplicates import DuplicatesProvider
from service.actions.scan_providers.email_domain import EmailDomainProvider
from service.actions.scan_providers.provider import ScanProvider, ScanProviders
from service.domain.scans import provider_name

__all__ = ["BREACH_API", "built_in_scan_providers", "by_name"]

BREACH_API: Final = "https://haveibeenpwned.com"


def built_in_scan_providers(*, breach_api: str = BREACH_API) -> tuple[ScanProvider, ...]:
    """Duplicates, addresses outside the company's domains, and breaches, which are asked for at `breach_api`."""
    return DuplicatesProvider(), EmailDomainProvider(), BreachProvider(breach_api)


def by_name(providers: Iterable[ScanProvider]) -> ScanProviders:
    """The providers by their names; raises ValueError where one has none that fits, or that of another."""
    found: dict[str, ScanProvider] = {}
    for provider in providers:
        if not provider_name(provider.name):
            message = (
                f"a scan provider is called {provider.name!r}: its name must be small letters, digits, hyphens and underscores"
            )
            raise ValueError(message)
        if found.setdefault(provider.name, provider) is not provider:
            message = f"two scan providers are called {provider.name}"
            raise ValueError(message)
    return found
