"""Tracing as the environment asks for it."""

from __future__ import annotations

from service.settings import Settings
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["open_tracing"]


def open_tracing(settings: Settings) -> Tracing:
    """Tracing to the collector that the environment names, or NO_TRACING where it names none; raises SettingsError."""
    endpoint = settings.traces_endpoint
    if endpoint is None:
        return NO_TRACING
    # A quarter of a second of imports, which a command that traces nothing is spared.
    from service.telemetry.export import tracing_over_otlp

    return tracing_over_otlp(settings, endpoint)
