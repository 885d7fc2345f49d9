"""What the settings allow calls to the outside."""

from __future__ import annotations

from service.clients.outside import Outside
from service.settings import Settings

__all__ = ["outside_of"]


def outside_of(settings: Settings) -> Outside:
    """The networks that the operator has opened, and the folder of CSV directories."""
    return Outside(opened=settings.allow_networks or (), csv_dir=settings.csv_dir)
