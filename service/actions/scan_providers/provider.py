"""What a scan asks for findings: the one thing to write for a provider of one's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from service.actions.scan_providers.company_scan import CompanyScan
from service.domain.scans import Found

__all__ = ["ScanProvider", "ScanProviders"]


class ScanProvider(Protocol):
    """Looks at the members of one company at a time; one object serves all companies, so it remembers none.

    `find` reads what it needs from the `CompanyScan` that it is given, and asks outside only by it: its calls pass the guard, its
    secrets are those that were granted to the company. It writes nothing.
    """

    @property
    def name(self) -> str:
        """By which companies ask for it, and findings are kept: small letters, digits, hyphens and underscores. It stays."""
        ...

    def check(self, settings: Mapping[str, Any]) -> None:
        """Whether a company may configure it so; raises InvalidProviderSettings, which names the setting that does not fit.

        A reference to a secret is the setting `secretReference`: whether it is granted is asked elsewhere.
        """
        ...

    def find(self, scan: CompanyScan) -> AsyncGenerator[Sequence[Found], None]:
        """All that is to be found now, in batches of at most a thousand, closed by whoever iterates.

        What was found before and is missing here is resolved, so what cannot be looked at to its end must raise. SourceUnavailable:
        it may go well later, and its `retry_after` is honoured. A Park error such as SourceRefused or SourceBroken: somebody must
        act. The texts of both are shown; the errors of `scan.http` may go through as they are. Of anything else only the class is.
        """
        ...


# By their names.
ScanProviders: TypeAlias = Mapping[str, ScanProvider]
