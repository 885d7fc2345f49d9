"""Members whose e-mail address appears in a data breach, by Have I Been Pwned's domain search."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from service.actions.scan_providers.company_scan import CompanyScan
from service.clients.breaches import Breach, breached_aliases, headers_of, known_breaches
from service.domain.member import MemberId
from service.domain.scans import BATCH, Found, InvalidProviderSettings, Severity, domain_names, domain_spellings

__all__ = ["BreachProvider"]

_DOMAINS: Final = "domains"
_SECRET: Final = "secretReference"  # noqa: S105  # the name of a setting
_KIND: Final = "breached_account"
# Of these whoever has them can come in.
_OPENING: Final = frozenset({"Passwords", "Auth tokens", "Security questions and answers", "PINs"})
_MOST_CLASSES: Final = 30


class BreachProvider:
    """Asks for the company's `domains`, with the key behind `secretReference`, which the operator grants to the company."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")

    @property
    def name(self) -> str:
        """As companies configure it."""
        return "breach"

    def check(self, settings: Mapping[str, Any]) -> None:
        """`secretReference` and `domains`, which were verified for its key; raises InvalidProviderSettings."""
        if unknown := sorted(settings.keys() - {_DOMAINS, _SECRET}):
            message = f"unknown: {', '.join(unknown)}"
            raise InvalidProviderSettings(message)
        if not isinstance(settings.get(_SECRET), str):
            message = f"{_SECRET} must name the key, such as env:ROLLCALL_SECRET_HIBP"
            raise InvalidProviderSettings(message)
        domain_names(settings.get(_DOMAINS), _DOMAINS)

    async def find(self, scan: CompanyScan) -> AsyncGenerator[Sequence[Found], None]:
        """One finding for each member and breach."""
        domains = domain_names(scan.settings.get(_DOMAINS), _DOMAINS)
        key = await scan.secret(str(scan.settings.get(_SECRET)))
        async with scan.http(self._base_url, headers_of(key.get_secret_value())) as http:
            known = await known_breaches(http, self._base_url)
            for domain in domains:
                async with aclosing(breached_aliases(http, self._base_url, domain, BATCH)) as batches:
                    async for entries in batches:
                        breaches: dict[str, set[str]] = defaultdict(set)
                        for alias, names in entries:
                            for spelling in domain_spellings([domain]):
                                breaches[f"{alias.strip()}@{spelling}"].update(names)
                        members = await scan.members_at(breaches.keys())
                        found = [
                            _found(member.id, known.get(name) or Breach(name, name, None, ()))
                            for member in members
                            for name in sorted(breaches[member.address])
                        ]
                        for first in range(0, len(found), BATCH):
                            yield found[first : first + BATCH]


def _found(member_id: MemberId, breach: Breach) -> Found:
    severity = Severity.HIGH if _OPENING & set(breach.data_classes) else Severity.MEDIUM
    return Found(
        member_id,
        _KIND,
        severity,
        key=breach.name,
        detail={
            "breach": breach.title,
            "happenedOn": breach.happened_on,
            "dataClasses": list(breach.data_classes[:_MOST_CLASSES]),
        },
    )
