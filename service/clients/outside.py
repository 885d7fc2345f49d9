"""What the operator allows calls to the outside, and the one way to make them."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from service.clients.guarded_transport import Resolver, resolve
from service.clients.outward_http import OutwardBroken, OutwardHttp, OutwardLimits
from service.domain.addresses import Network

__all__ = ["Outside"]

_LIMITS: Final = OutwardLimits()


@dataclass(frozen=True, slots=True)
class Outside:
    """What the operator allows, and how patient calls to the outside are."""

    opened: Sequence[Network] = ()
    csv_dir: Path | None = None
    limits: OutwardLimits = _LIMITS
    resolver: Resolver = resolve
    ssl_context: ssl.SSLContext | None = None

    def http(self, url: str, headers: Mapping[str, str] | None = None, limits: OutwardLimits | None = None) -> OutwardHttp:
        """A client for the origin of `url`, to be entered: it checks the address that it dials, and sends `headers` nowhere else.

        Raises OutwardBroken for an address that is none.
        """
        try:
            origin = httpx.URL(url).copy_with(path="/", query=None, fragment=None)
        except httpx.InvalidURL:
            raise OutwardBroken("this is no address that could be called") from None
        return OutwardHttp(
            str(origin),
            headers,
            opened=self.opened,
            limits=limits or self.limits,
            resolver=self.resolver,
            ssl_context=self.ssl_context,
        )
