"""What an installation adds: which extensions are there, and what is wrong with those that cannot be used."""

from __future__ import annotations

from service.cli.findings import Finding, broken, well
from service.settings import Settings
from service.store.database import Database
from service.wiring.extensions import load_extensions, made_reconcilers

__all__ = ["extension_findings"]

_ABOUT = "extensions"


def extension_findings(settings: Settings, db: Database) -> list[Finding]:
    """One line for each, or one that there are none; reconcilers are made as a worker makes them, and asked nothing."""
    extensions = load_extensions()
    _, unmade = made_reconcilers(extensions, settings, db)
    unusable = (*extensions.unusable, *unmade)
    lost = {(one.group, one.name) for one in unusable}
    findings = [
        well(_ABOUT, f"{name} of {origin} ({group}) can be used")
        for (group, name), origin in sorted(extensions.origins.items())
        if (group, name) not in lost
    ]
    findings += [broken(_ABOUT, f"{str(one).removeprefix('the extension ')}; mend or uninstall it") for one in unusable]
    return findings or [well(_ABOUT, "none installed")]
