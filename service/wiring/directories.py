"""Directories by the settings: how they are opened, and the default one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import structlog
from pydantic import SecretStr

from service.actions.register_default_directory import DEFAULT_KEY, DefaultDirectory, register_default_directory
from service.actions.register_schedules import register_sync
from service.clients.directories.added import NO_SOURCES_ADDED, AddedSources
from service.clients.directories.opening import open_source
from service.clients.directories.source import Source
from service.domain.directories.configuration import Directory, InvalidDirectory, directory
from service.domain.directories.kinds import NONE_ADDED, AddedKinds
from service.domain.errors import RollcallError, SourceBroken, SourceRefused, SourceUnavailable
from service.settings import SecretUnavailable, Settings, resolve_secret, without_password
from service.store.connections import DirectoryRow
from service.store.database import Database
from service.wiring.outside import outside_of
from service.wiring.waiting import until_there

__all__ = ["add_default_directory", "default_directory", "described", "opened_source"]

_log: Final = structlog.get_logger(__name__)


def described(row: DirectoryRow, added: AddedKinds = NONE_ADDED) -> Directory:
    """A connection's directory as it is stored; raises SourceBroken."""
    try:
        return directory(row.kind, row.directory, added)
    except InvalidDirectory as error:
        message = f"the connection's directory is not described right: {error}"
        raise SourceBroken(message) from None


@asynccontextmanager
async def opened_source(settings: Settings, row: DirectoryRow, *, added: AddedSources = NO_SOURCES_ADDED) -> AsyncIterator[Source]:
    """The source of a connection, closed at the end; raises SourceUnavailable, SourceRefused and SourceBroken."""
    async with open_source(described(row, added), _key(settings, row), outside_of(settings), added) as source:
        yield source


async def default_directory(settings: Settings, db: Database) -> DefaultDirectory | None:
    """The directory of DJANGO_BASE_URL, made with its schedule where it is not there yet; None where the variable is unset.

    Raises RollcallError.
    """
    if settings.django_base_url is None:
        return None
    found = await register_default_directory(db, settings.django_base_url)
    await register_sync(db, found.company_id, found.connection_id, timedelta(minutes=settings.sync_interval_minutes))
    if found.moved:
        _log.warning("the default directory is asked somewhere else now", connection_id=str(found.connection_id))
    return found


async def add_default_directory(settings: Settings, db: Database) -> None:
    """Make the directory of DJANGO_BASE_URL as a process starts; where its names are taken, say so and go on without it."""
    where = without_password(settings.database_url.get_secret_value())
    try:
        await until_there("the database", where, lambda: default_directory(settings, db))
    except RollcallError as error:
        _log.error("there is no default directory", reason=str(error))


def _key(settings: Settings, row: DirectoryRow) -> SecretStr | None:
    reference = row.secret_reference
    if reference is None:
        return None
    if row.secret_revoked:
        message = f"{reference} was revoked for this company; `rollcall secrets grant` gives it back"
        raise SourceRefused(message)
    if reference == DEFAULT_KEY:
        if settings.django_api_key is None:
            message = f"{reference} is not set"
            raise SourceUnavailable(message)
        return settings.django_api_key
    try:
        return resolve_secret(reference, settings.secrets_dir)
    except SecretUnavailable as error:
        # Of this process, not of the source: another one may have it, and so may this one later.
        raise SourceUnavailable(str(error)) from None
