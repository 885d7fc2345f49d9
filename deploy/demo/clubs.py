"""The companies of the demo and where their members come from, stored as an operator's commands would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from deploy.demo.webhook_sources import GitHub, StandardWebhooks, Stripe, WebhookSource
from service.domain.change import SOURCE_FIELDS, VersionKind
from service.domain.directories.configuration import directory
from service.domain.member import CompanyId, ConnectionId
from service.domain.webhooks.mapping import DEFAULT_MAPPING, webhook_mapping
from service.store.companies import insert_company
from service.store.connections import insert_connection, insert_directory
from service.store.database import Database, Tx
from service.store.secret_grants import grant_secret
from service.store.webhook_secrets import insert_webhook_secret
from service.store.webhooks import insert_webhook

__all__ = [
    "Directory",
    "SyncedDirectory",
    "TimedClub",
    "WebhookSources",
    "add_directory",
    "add_synced_directory",
    "add_timed_club",
    "add_webhook_sources",
]

_RATE: Final = 500
_KEY_FILE: Final = "directory-key"
_OTHER_KEY_FILE: Final = "timed-directory-key"


@dataclass(frozen=True, slots=True)
class Directory:
    """A company with one source, which publishes its changes itself."""

    company: CompanyId
    connection: ConnectionId


@dataclass(frozen=True, slots=True)
class WebhookSources:
    """A company whose sources send webhooks."""

    company: CompanyId
    by_connection: Mapping[UUID, WebhookSource]


@dataclass(frozen=True, slots=True)
class SyncedDirectory:
    """A company whose members are asked for."""

    company: CompanyId
    connection: ConnectionId


@dataclass(frozen=True, slots=True)
class TimedClub:
    """A company whose members are known here alone, and a directory that is asked by the clock, where there is one."""

    company: CompanyId
    connection: ConnectionId | None


async def add_synced_directory(database_url: str, secrets_dir: Path, base_url: str, key: str) -> SyncedDirectory:
    """The company of the third chapter; the key of its directory lies in a file below `secrets_dir`."""
    db = await Database.connect(database_url, name="rollcall demo", size=1)
    try:
        async with db.transaction() as tx:
            company = await insert_company(tx, "Demo Sailing Club", "UTC", 0)
            (secrets_dir / _KEY_FILE).write_text(key, encoding="utf-8")
            connection = await _add_directory(tx, company.id, base_url, _KEY_FILE)
    finally:
        await db.close()
    return SyncedDirectory(company.id, connection)


async def add_timed_club(database_url: str, secrets_dir: Path, base_url: str | None, key: str) -> TimedClub:
    """The company of the fourth chapter; without a directory where there is no `base_url`."""
    db = await Database.connect(database_url, name="rollcall demo", size=1)
    try:
        async with db.transaction() as tx:
            company = await insert_company(tx, "Demo Climbing Club", "UTC", 0)
            (secrets_dir / _OTHER_KEY_FILE).write_text(key, encoding="utf-8")
            connection = None if base_url is None else await _add_directory(tx, company.id, base_url, _OTHER_KEY_FILE)
    finally:
        await db.close()
    return TimedClub(company.id, connection)


async def add_directory(database_url: str) -> Directory:
    """The company of the first chapter."""
    db = await Database.connect(database_url, name="rollcall demo", size=1)
    try:
        async with db.transaction() as tx:
            company = await insert_company(tx, "Demo Rowing Club", "UTC", 0)
            fields = sorted(SOURCE_FIELDS)
            source = await insert_connection(tx, company.id, "demo directory", "stream", VersionKind.SEQUENCE, fields)
    finally:
        await db.close()
    return Directory(company.id, source.id)


async def add_webhook_sources(database_url: str, secrets_dir: Path) -> WebhookSources:
    """The company of the second chapter; each source's secret is made anew and lies in a file below `secrets_dir`."""
    sources: list[WebhookSource] = [kind.with_new_secret() for kind in (StandardWebhooks, Stripe, GitHub)]
    for source in sources:
        (secrets_dir / source.name).write_text(source.secret, encoding="utf-8")
    db = await Database.connect(database_url, name="rollcall demo", size=1)
    try:
        async with db.transaction() as tx:
            company = await insert_company(tx, "Demo Chess Club", "UTC", 0)
            by_connection: dict[UUID, WebhookSource] = {await _connect(tx, company.id, source): source for source in sources}
    finally:
        await db.close()
    return WebhookSources(company.id, by_connection)


async def _connect(tx: Tx, company: CompanyId, source: WebhookSource) -> ConnectionId:
    fields = (DEFAULT_MAPPING if source.mapping is None else webhook_mapping(source.mapping)).mapped_fields
    row = await insert_connection(tx, company, source.name, "stream", source.versions, fields)
    await insert_webhook(
        tx, row.id, company, scheme=source.scheme.value, settings={}, mapping=source.mapping, rate_per_second=_RATE
    )
    reference = f"file:{source.name}"
    await grant_secret(tx, company, reference)
    await insert_webhook_secret(tx, row.id, company, reference)
    return row.id


async def _add_directory(tx: Tx, company: CompanyId, base_url: str, key_file: str) -> ConnectionId:
    described = {"baseUrl": base_url, "path": "/api/members/", "paging": "cursor", "pageSize": 1000}
    meaning, reference = directory("django", described).mapping, f"file:{key_file}"
    await grant_secret(tx, company, reference)
    fields = sorted(meaning.mapped_fields)
    row = await insert_directory(tx, company, "members", "django", VersionKind.NONE, fields, described, reference)
    return row.id
