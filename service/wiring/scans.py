"""Scans by the settings: who looks, which secrets and networks there are."""

from __future__ import annotations

from pydantic import SecretStr

from service.actions.scan_providers.company_scan import ScanAccess
from service.actions.scan_providers.provider import ScanProviders
from service.actions.scan_providers.registry import built_in_scan_providers, by_name
from service.domain.errors import SourceUnavailable
from service.settings import SecretUnavailable, Settings, resolve_secret
from service.wiring.extensions import Extensions
from service.wiring.outside import outside_of

__all__ = ["scan_access", "scan_providers"]


def scan_providers(settings: Settings, extensions: Extensions) -> ScanProviders:
    """Every provider that companies may configure, by its name: the built-in ones, and those that the installation adds."""
    return {**by_name(built_in_scan_providers(breach_api=settings.breach_api_url)), **extensions.scan_providers}


def scan_access(settings: Settings) -> ScanAccess:
    """What providers may use."""

    def secret(reference: str) -> SecretStr:
        try:
            return resolve_secret(reference, settings.secrets_dir)
        except SecretUnavailable as error:
            # Of this process: another one may have it, and so may this one later.
            raise SourceUnavailable(str(error)) from None

    return ScanAccess(secret=secret, outside=outside_of(settings))
