"""What the admin API needs from outside, and how its routes get it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import Depends
from pydantic import SecretStr
from starlette.requests import Request

from service.actions.bind_notifications import BindNotifications
from service.actions.scan_providers.provider import ScanProviders
from service.clients.directories.source import Source
from service.domain.directories.configuration import Directory
from service.domain.directories.kinds import AddedKinds
from service.store.connections import DirectoryRow
from service.store.database import Database

__all__ = ["AdminSetting", "Db", "Setting"]

_PROBES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSetting:
    """The database, the operator's key and switches, and how directories are opened and described, who scans."""

    # Raises Unavailable while there is none.
    database: Callable[[], Database]
    # None: the admin API is switched off.
    operator_key: SecretStr | None
    default_grace_days: int
    sync_enabled: bool
    opened: Callable[[DirectoryRow], AbstractAsyncContextManager[Source]]
    described: Callable[[DirectoryRow], Directory]
    # Lets a company's events reach the notifier; raises Unavailable.
    bind: BindNotifications
    # Those that companies may configure.
    scan_providers: ScanProviders
    # The installation's own kinds of directories, and its own read models.
    added: AddedKinds = field(default_factory=dict)
    read_models: Collection[str] = ()
    # How many directories are asked at once, for a test or a preview.
    probes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PROBES))


def _setting(request: Request) -> AdminSetting:
    setting: AdminSetting = request.app.state.setting
    return setting


def _database(setting: Setting) -> Database:
    return setting.database()


Setting = Annotated[AdminSetting, Depends(_setting)]
# The pool; a route opens its transactions itself, or lets an action do so.
Db = Annotated[Database, Depends(_database)]
