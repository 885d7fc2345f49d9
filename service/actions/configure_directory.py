"""Add a connection to a directory, or change how one is asked and what its records mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from service.actions.audit_change import Author, audit_change, differences
from service.actions.enqueue_job import AlreadyRunning
from service.actions.refer_to_secret import refer_to_secret
from service.actions.register_default_directory import DEFAULT_KEY
from service.actions.request_sync import CONNECTION_REMOVAL, DIRECTORY_SYNC
from service.actions.stage_snapshot import Meaning
from service.domain.change import SOURCE_FIELDS, VersionKind
from service.domain.directories.configuration import (
    AddedDirectory,
    CsvDirectory,
    Directory,
    InvalidDirectory,
    UnknownKind,
    directory,
    is_local_file,
)
from service.domain.directories.guard import RemovalLimits
from service.domain.directories.kinds import AddedKinds
from service.domain.errors import Park
from service.domain.member import CompanyId, ConnectionId
from service.store.connections import ConnectionRow, insert_directory
from service.store.directories import (
    DirectoryView,
    change_directory,
    find_directory_named,
    lock_directory,
    show_directory,
)
from service.store.jobs import find_active_job

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["DirectoryRefused", "NameTaken", "NewDirectory", "register_directory", "revise_directory", "versions_of"]

# Of these only that they changed is told: an address may hold what opens it.
_UNTOLD: Final = frozenset({"settings"})


@dataclass(frozen=True, slots=True)
class DirectoryRefused:
    """It cannot be so; `where` is the part that does not fit, `reason` says why and shows no secret."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class NameTaken:
    """The company has another connection of that name, archived or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDirectory:
    """A directory as somebody describes it; None: what its mapping says."""

    name: str
    kind: str
    settings: Mapping[str, Any]
    secret_reference: str | None = None
    versions: VersionKind | None = None
    fields: Sequence[str] | None = None


_Refusal: TypeAlias = DirectoryRefused | NameTaken


def versions_of(described: Directory) -> VersionKind:
    """How its records are ordered, by what its mapping has of it."""
    if described.mapping.version is not None:
        return VersionKind.SEQUENCE
    return VersionKind.NONE if described.mapping.updated_at is None else VersionKind.UPDATED_AT


async def register_directory(
    tx: Tx, author: Author, new: NewDirectory, *, added: AddedKinds, by_operator: bool
) -> ConnectionRow | _Refusal:
    """Add a connection; where the operator does, the company is granted its secret. `added` are the installation's own kinds.

    Raises Contention where the name is taken at the same moment.
    """
    described = _described(new.kind, new.settings, added, by_operator=by_operator)
    if isinstance(described, DirectoryRefused):
        return described
    versions = new.versions or versions_of(described)
    fields = sorted(described.mapping.mapped_fields if new.fields is None else new.fields)
    if (refused := _unordered(described, versions, fields)) is not None:
        return refused
    refused_key = await _refused_key(tx, author.company_id, new.secret_reference, by_operator=by_operator)
    if refused_key is not None:
        return refused_key
    if await find_directory_named(tx, author.company_id, new.name) is not None:
        return NameTaken()
    row = await insert_directory(tx, author.company_id, new.name, new.kind, versions, fields, new.settings, new.secret_reference)
    told = {"name": new.name, "kind": new.kind, "secretReference": new.secret_reference}
    await audit_change(tx, author, "directory.registered", row.id, differences({}, told))
    return row


async def revise_directory(
    tx: Tx, author: Author, connection_id: ConnectionId, given: Mapping[str, Any], *, added: AddedKinds, by_operator: bool
) -> DirectoryView | _Refusal | AlreadyRunning | None:
    """Change `name`, `settings`, `secret_reference`, `fields` or `limits`, those that are given; a blocked one is released.

    None where the company has no such connection. What its records mean is not changed under a sync that reads them; after such a
    change a full sync compares all members anew, whatever is remembered of them.
    """
    if not await lock_directory(tx, connection_id, author.company_id):
        return None
    before = await show_directory(tx, connection_id, author.company_id)
    if before is None:
        return None
    revised = _revised(before, given, added, by_operator=by_operator)
    if isinstance(revised, DirectoryRefused):
        return revised
    after, means_something_else = revised
    obstacle = await _obstacle(tx, before, after, means_something_else=means_something_else, by_operator=by_operator)
    if obstacle is not None:
        return obstacle
    await change_directory(
        tx,
        connection_id,
        name=after.name,
        directory=after.directory,
        secret_reference=after.secret_reference,
        mapped_fields=after.mapped_fields,
        limits=after.limits,
        means_something_else=means_something_else,
    )
    if changed := _changes(before, after):
        await audit_change(tx, author, "directory.changed", connection_id, changed)
    return await show_directory(tx, connection_id, author.company_id)


async def _obstacle(
    tx: Tx, before: DirectoryView, after: DirectoryView, *, means_something_else: bool, by_operator: bool
) -> _Refusal | AlreadyRunning | None:
    """What others hold against the change."""
    if means_something_else:
        for kind in (DIRECTORY_SYNC, CONNECTION_REMOVAL):
            if (job_id := await find_active_job(tx, kind, before.id)) is not None:
                return AlreadyRunning(job_id)
    if after.secret_reference != before.secret_reference:
        refused = await _refused_key(tx, before.company_id, after.secret_reference, by_operator=by_operator)
        if refused is not None:
            return refused
    if after.name != before.name and await find_directory_named(tx, before.company_id, after.name) is not None:
        return NameTaken()
    return None


def _changes(before: DirectoryView, after: DirectoryView) -> dict[str, Any]:
    changes = differences(_told(before), _told(after))
    if before.status == "blocked":
        changes["status"] = {"before": "blocked", "after": "active"}
    return changes | {name: {"before": None, "after": None} for name in _UNTOLD & changes.keys()}


def _revised(
    before: DirectoryView, given: Mapping[str, Any], added: AddedKinds, *, by_operator: bool
) -> tuple[DirectoryView, bool] | DirectoryRefused:
    """The connection as it is to be, and whether its records mean something else then."""
    if before.status == "archived":
        return DirectoryRefused("status", "the connection is archived")
    after = replace(before, name=given.get("name", before.name))
    if (limits := given.get("limits")) is not None:
        after = _limited(after, limits)
    if before.directory is None:
        if unfit := sorted({"settings", "secret_reference", "fields"} & given.keys()):
            return DirectoryRefused(unfit[0], "the connection's source is not asked: it tells by itself")
        return after, False
    settings = given.get("settings", before.directory)
    if before.secret_reference == DEFAULT_KEY and not by_operator and settings.get("baseUrl") != before.directory.get("baseUrl"):
        return DirectoryRefused("settings", "baseUrl: the operator's own directory is where the operator says, and nowhere else")
    after = replace(after, directory=settings, secret_reference=given.get("secret_reference", before.secret_reference))
    # What is not touched was allowed when it was set.
    described = _described(before.kind, settings, added, by_operator=by_operator or "settings" not in given)
    if isinstance(described, DirectoryRefused):
        return described
    was = _as_it_was(before.kind, before.directory, added)
    mapping_changed = was is None or described.mapping != was.mapping
    if "fields" in given or mapping_changed:
        asked = given.get("fields")
        after = replace(after, mapped_fields=sorted(described.mapping.mapped_fields if asked is None else asked))
    refused = _unordered(described, VersionKind(before.version_kind), after.mapped_fields)
    if refused is not None:
        return refused
    # Records of another place, or other records of the same: what is remembered of the old ones says nothing of them.
    return after, was is None or mapping_changed or after.mapped_fields != before.mapped_fields or _place(described) != _place(was)


def _as_it_was(kind: str, settings: Mapping[str, Any], added: AddedKinds) -> Directory | None:
    """None where what is stored means nothing any more: an extension may ask for other settings than it did."""
    try:
        return directory(kind, settings, added)
    except InvalidDirectory:
        return None


def _place(described: Directory) -> tuple[object, ...]:
    """Where it is asked, and for what."""
    if isinstance(described, AddedDirectory):
        # Nobody here knows what its settings do.
        return (described.settings,)
    if isinstance(described, CsvDirectory):
        return (described.location,)
    return described.base_url, described.path, described.modified_since


def _limited(view: DirectoryView, limits: RemovalLimits) -> DirectoryView:
    return replace(view, most_removals=limits.most, most_removed_percent=limits.most_percent, few_removals=limits.few)


def _described(kind: str, settings: Mapping[str, Any], added: AddedKinds, *, by_operator: bool) -> Directory | DirectoryRefused:
    try:
        described = directory(kind, settings, added)
    except UnknownKind as error:
        return DirectoryRefused("kind", str(error))
    except InvalidDirectory as error:
        return DirectoryRefused("settings", str(error))
    if isinstance(described, CsvDirectory) and is_local_file(described.location) and not by_operator:
        return DirectoryRefused("settings", "location: files of this host are the operator's alone; give a URL")
    if isinstance(described, AddedDirectory) and described.operators_alone and not by_operator:
        return DirectoryRefused("kind", f"directories of the kind {kind} are the operator's alone")
    return described


def _unordered(described: Directory, versions: VersionKind, fields: Sequence[str]) -> DirectoryRefused | None:
    """Why its records cannot be taken as the connection wants them."""
    if unknown := sorted(set(fields) - SOURCE_FIELDS):
        return DirectoryRefused("fields", f"unknown: {', '.join(unknown)}")
    if "name" not in fields:
        return DirectoryRefused("fields", "name must be among them: a new member needs one")
    try:
        Meaning(described.mapping, versions, national_ids=False).check()
    except Park as error:
        return DirectoryRefused("settings", f"mapping: {error}")
    return None


async def _refused_key(tx: Tx, company_id: CompanyId, reference: str | None, *, by_operator: bool) -> DirectoryRefused | None:
    if reference is None:
        return None
    refused = await refer_to_secret(tx, company_id, reference, by_operator=by_operator)
    return None if refused is None else DirectoryRefused("secretReference", refused)


def _told(view: DirectoryView) -> dict[str, Any]:
    return {
        "name": view.name,
        "settings": view.directory,
        "secretReference": view.secret_reference,
        "fields": view.mapped_fields,
        "mostRemovals": view.most_removals,
        "mostRemovedPercent": view.most_removed_percent,
        "fewRemovals": view.few_removals,
    }
