"""What an installation adds without changing Rollcall: entry points of other distributions (docs/extending/).

One that cannot be used stops nobody else: processes say so as they start, `rollcall doctor` shows it, and what would need it fails
with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import structlog

from service.actions.read_models.access import ReconcilerAccess, ReconcilerFactory
from service.actions.read_models.audit import AUDIT
from service.actions.read_models.directory import DIRECTORY
from service.actions.read_models.reconciler import ReadModelReconciler
from service.actions.read_models.unusable import UnusableReconciler
from service.actions.scan_providers.provider import ScanProvider, ScanProviders
from service.actions.scan_providers.registry import built_in_scan_providers, by_name
from service.clients.directories.added import SourceExtension
from service.domain.directories.configuration import CSV, DJANGO, NOT_ASKED
from service.settings import Settings, resolve_secret
from service.store.database import Database
from service.wiring.outside import outside_of

__all__ = [
    "RECONCILERS",
    "SCAN_PROVIDERS",
    "SOURCES",
    "Extensions",
    "Unusable",
    "load_extensions",
    "made_reconcilers",
    "say_unusable",
]

SOURCES: Final = "rollcall.sources"
RECONCILERS: Final = "rollcall.reconcilers"
SCAN_PROVIDERS: Final = "rollcall.scan_providers"

_TAKEN: Final[Mapping[str, frozenset[str]]] = {
    SOURCES: frozenset({DJANGO, CSV}) | NOT_ASKED,
    RECONCILERS: frozenset({AUDIT, DIRECTORY}),
    SCAN_PROVIDERS: frozenset(by_name(built_in_scan_providers())),
}
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,49}")
# Of the Protocols; a test holds them to these.
SOURCE_PARTS: Final = ("operators_alone", "default_mapping", "place", "open")
SCAN_PROVIDER_PARTS: Final = ("name", "check", "find")
RECONCILER_PARTS: Final = ("read_model_name", "list_sample_keys", "reconcile")

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Unusable:
    """An extension that cannot be used: its group, its name, the distributions that it is of, and why."""

    group: str
    name: str
    origin: str
    reason: str

    def __str__(self) -> str:
        return f"the extension {self.name} of {self.origin} ({self.group}) cannot be used: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """What was found, by group and name; reconcilers are made when there are members to give them."""

    sources: Mapping[str, SourceExtension]
    reconcilers: Mapping[str, ReconcilerFactory]
    scan_providers: ScanProviders
    unusable: Sequence[Unusable]
    # By group and name, of those that can be used.
    origins: Mapping[tuple[str, str], str]


def load_extensions() -> Extensions:
    """Import every extension that is installed; never raises for what is wrong with one."""
    found = _Found()
    return Extensions(
        sources=dict(found.of(SOURCES, _source)),
        reconcilers=dict(found.of(RECONCILERS, _factory)),
        scan_providers=dict(found.of(SCAN_PROVIDERS, _scan_provider)),
        unusable=tuple(found.unusable),
        origins=found.origins,
    )


def made_reconcilers(extensions: Extensions, settings: Settings, db: Database) -> tuple[list[ReadModelReconciler], list[Unusable]]:
    """One for every reconciler that is installed under a name of its own, usable or not; and those that could not be made."""
    access = ReconcilerAccess(
        reading=db.reading,
        outside=outside_of(settings),
        secret=lambda reference: resolve_secret(reference, settings.secrets_dir),
        default_grace_days=settings.grace_days,
    )
    made: list[ReadModelReconciler] = []
    unusable: list[Unusable] = []
    for name, factory in extensions.reconcilers.items():
        try:
            made.append(_reconciler(name, factory, access))
        except _UnfitError as error:
            unusable.append(Unusable(RECONCILERS, name, extensions.origins[RECONCILERS, name], str(error)))
    lost = [one for one in (*extensions.unusable, *unusable) if one.group == RECONCILERS and _is_free(RECONCILERS, one.name)]
    return [*made, *(UnusableReconciler(one.name, str(one)) for one in lost)], unusable


def say_unusable(unusable: Iterable[Unusable]) -> None:
    """Log them."""
    for one in unusable:
        _log.error("an extension cannot be used", group=one.group, extension=one.name, origin=one.origin, reason=one.reason)


class _UnfitError(Exception):
    """An extension is not what it must be; the text says what is wrong."""


class _Found:
    """Goes through the entry points, and keeps which of them cannot be used."""

    def __init__(self) -> None:
        self.unusable: list[Unusable] = []
        self.origins: dict[tuple[str, str], str] = {}

    def of(self, group: str, made: Callable[[str, Any], Any]) -> Iterable[tuple[str, Any]]:
        """Those of a group that can be used."""
        by_name: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=group):
            by_name.setdefault(point.name, []).append(point)
        for name, points in sorted(by_name.items()):
            origin = " and ".join(sorted(_origin(point) for point in points))
            try:
                _check_name(group, name, points)
                extension = made(name, _loaded(points[0]))
            except _UnfitError as error:
                self.unusable.append(Unusable(group, name, origin, str(error)))
            else:
                self.origins[group, name] = origin
                yield name, extension


def _check_name(group: str, name: str, points: Sequence[EntryPoint]) -> None:
    if not _NAME.fullmatch(name):
        raise _UnfitError("its name must be small letters, digits, hyphens and underscores, with a letter first, at most 50")
    if not _is_free(group, name):
        raise _UnfitError(f"the name is Rollcall's own; others are {', '.join(sorted(_TAKEN[group]))}")
    if len(points) > 1:
        raise _UnfitError("several have that name; uninstall all but one")


def _is_free(group: str, name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name not in _TAKEN[group]


def _origin(point: EntryPoint) -> str:
    return "a distribution without a name" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001  # it is anybody's module, and whatever it raises must stop nobody else
        raise _UnfitError(f"{point.value} does not load: {_said(error)}") from None


def _factory(_: str, loaded: Any) -> ReconcilerFactory:
    if not callable(loaded):
        raise _UnfitError(f"it must name a class or function, not {_kind(loaded)}")
    factory: ReconcilerFactory = loaded
    return factory


def _scan_provider(name: str, loaded: Any) -> ScanProvider:
    provider: ScanProvider = _made(_factory(name, loaded))
    _check_parts(provider, SCAN_PROVIDER_PARTS, "ScanProvider")
    if provider.name != name:
        raise _UnfitError("its name is not the name of its entry point")
    return provider


def _source(name: str, loaded: Any) -> SourceExtension:
    source: SourceExtension = _made(_factory(name, loaded))
    _check_parts(source, SOURCE_PARTS, "SourceExtension")
    return source


def _reconciler(name: str, factory: ReconcilerFactory, access: ReconcilerAccess) -> ReadModelReconciler:
    reconciler: ReadModelReconciler = _made(factory, access)
    _check_parts(reconciler, RECONCILER_PARTS, "ReadModelReconciler")
    if reconciler.read_model_name != name:
        raise _UnfitError("its read_model_name is not the name of its entry point")
    return reconciler


def _made(factory: Callable[..., Any], *given: object) -> Any:
    try:
        return factory(*given)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # as above
        raise _UnfitError(f"it cannot be made: {_said(error)}") from None


def _check_parts(made: object, parts: Sequence[str], protocol: str) -> None:
    if missing := [part for part in parts if not _has(made, part)]:
        raise _UnfitError(f"{_kind(made)} is no {protocol}: it lacks {', '.join(missing)}")


def _has(made: object, part: str) -> bool:
    try:
        return hasattr(made, part)
    except Exception:  # noqa: BLE001  # a property of anybody's
        return False


def _kind(thing: object) -> str:
    return f"a {type(thing).__name__}"


def _said(error: BaseException) -> str:
    # It has seen no member yet; but lines of its own making would not be one line of ours.
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
