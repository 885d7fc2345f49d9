"""Members whose e-mail address nobody can receive at, since its domain is reserved for examples and tests: a provider, whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from service.actions.scan_providers.company_scan import CompanyScan
from service.domain.scans import Found, InvalidProviderSettings, Severity, domain_names

# RFC 2606 and RFC 6761; whatever lies below them is reserved too.
_RESERVED = ("example", "invalid", "localhost", "test", "example.com", "example.net", "example.org")


class ReservedAddresses:
    """What the entry point names: one object for all companies, which remembers none of them."""

    @property
    def name(self) -> str:
        """The entry point's name, by which companies ask for it."""
        return "reserved_addresses"

    def check(self, settings: Mapping[str, Any]) -> None:
        """`alsoDomains`, if anything; raises InvalidProviderSettings."""
        if unknown := sorted(settings.keys() - {"alsoDomains"}):
            raise InvalidProviderSettings(f"unknown: {', '.join(unknown)}; there is alsoDomains")
        if "alsoDomains" in settings:
            domain_names(settings["alsoDomains"], "alsoDomains")

    async def find(self, scan: CompanyScan) -> AsyncGenerator[Sequence[Found], None]:
        """One finding for each member, without the address; who is missing from a complete answer is resolved."""
        also = domain_names(scan.settings["alsoDomains"], "alsoDomains") if "alsoDomains" in scan.settings else ()
        domains = (*_RESERVED, *also)
        async with aclosing(scan.members()) as batches:
            async for members in batches:
                yield [
                    Found(member.id, "address_is_reserved", Severity.MEDIUM)
                    for member in members
                    if member.email is not None and _is_below(member.email, domains)
                ]


def _is_below(address: str, domains: Sequence[str]) -> bool:
    host = address.rpartition("@")[2].rstrip(".").lower()
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)
