"""What the directory routes take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

from pydantic import Field

from service.actions.probe_directory import Probe, SeenRecord
from service.actions.schedule_sync import SHORTEST_SYNC_INTERVAL
from service.domain.change import VersionKind
from service.domain.directories.configuration import without_queries
from service.domain.directories.guard import RemovalLimits
from service.domain.directories.sync_options import SyncMode
from service.domain.source_mapping import MEMBER_FIELDS
from service.entrypoints.http.admin.api_model import AnswerModel, Name, RequestModel, Whole
from service.entrypoints.http.admin.example_ids import ADDED_AT, REGISTER
from service.store.directories import DirectoryView

__all__ = [
    "Directory",
    "DirectoryPatch",
    "Limits",
    "NewDirectoryBody",
    "Preview",
    "TestResult",
    "domain_fields",
    "shown_directory",
    "shown_preview",
    "shown_test",
]

_CONTRACT_NAMES: Final = {name: contract_name for contract_name, name in MEMBER_FIELDS.items()}
_SAMPLE: Final = 20
_MINUTE_MS: Final = 60_000

MemberField = Literal["nationalId", "name", "email", "phone", "state", "plan", "startsAt", "expiresAt", "metadata"]
Fields = Annotated[
    list[MemberField] | None,
    Field(max_length=9, description="The member fields that belong to the source; absent or null: those of the mapping."),
]
Settings = Annotated[
    dict[str, Any],
    Field(
        description="Of `django`: baseUrl, path, auth, paging, pageSize, pageSizeParameter, modifiedSince, mapping; "
        "of `csv`: location, auth, delimiter, encoding, mapping. docs/architecture/directories.md explains each. "
        "Of an added kind: what it asks for, and mapping.",
        examples=[{"baseUrl": "https://members.example.com", "path": "/api/members/"}],
    ),
]
SecretReference = Annotated[
    str | None,
    Field(
        max_length=500,
        description="Where the key is, never the key: env:ROLLCALL_SECRET_NAME or file:NAME, granted by the operator.",
        examples=["env:ROLLCALL_SECRET_REGISTER"],
    ),
]


class Limits(RequestModel):
    """What one sync may remove unasked: up to `most`, and up to `mostPercent` of the live members where those are over `few`."""

    most: Whole = Field(default=500, ge=0, le=2_147_483_647)
    most_percent: float = Field(default=5, ge=0, le=100)
    few: Whole = Field(default=5, ge=0, le=2_147_483_647)


class ShownLimits(AnswerModel):
    """What one sync may remove unasked."""

    most: int
    most_percent: float
    few: int


class NewDirectoryBody(RequestModel):
    """A directory to be asked for members."""

    name: Name = Field(examples=["register"])
    kind: str = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,49}$",
        description="`django`, `csv`, or one that this installation adds (docs/extending/source.md).",
        examples=["django"],
    )
    settings: Settings
    secret_reference: SecretReference = None
    versions: VersionKind | None = Field(default=None, description="How its records are ordered; absent: what the mapping has.")
    fields: Fields = None
    removal_limits: Limits | None = None

    example: ClassVar[dict[str, Any]] = {
        "name": "register",
        "kind": "django",
        "settings": {"baseUrl": "https://members.example.com", "path": "/api/members/", "pageSize": 500},
        "secretReference": "env:ROLLCALL_SECRET_REGISTER",
        "removalLimits": {"most": 100, "mostPercent": 2, "few": 5},
    }


class DirectoryPatch(RequestModel):
    """What is to change; what is absent stays. `settings` take the place of all that were there."""

    name: Name = Field(default_factory=str)
    settings: Settings = Field(default_factory=dict)
    secret_reference: SecretReference = None
    fields: Fields = None
    removal_limits: Limits = Field(default_factory=Limits)
    auto_sync_interval_minutes: Whole | None = Field(
        default=None,
        ge=SHORTEST_SYNC_INTERVAL,
        le=527_040,
        description="It is synced after each of these, at first at once; null: no more by itself.",
        examples=[60],
    )
    sync_mode: SyncMode = Field(
        default=SyncMode.FULL,
        description="Of the syncs after each interval: all members, or those that changed, and all once a day. `full` until it is "
        "chosen; a later change of the interval leaves it as it is.",
    )

    example: ClassVar[dict[str, Any]] = {"autoSyncIntervalMinutes": 60, "removalLimits": {"most": 200, "mostPercent": 5, "few": 5}}


class Directory(AnswerModel):
    """A connection to a source of members; `settings` are null where the source is not asked, but tells by itself."""

    id: UUID
    name: str
    kind: str
    status: Literal["active", "blocked", "archived"]
    versions: VersionKind
    fields: list[MemberField]
    settings: dict[str, Any] | None
    secret_reference: str | None
    removal_limits: ShownLimits
    takes_webhooks: bool
    auto_sync_interval_minutes: int | None
    sync_mode: SyncMode = Field(description="Of the syncs after each interval.")
    last_full_sync_at: datetime | None
    last_incremental_sync_at: datetime | None
    created_at: datetime
    archived_at: datetime | None

    example: ClassVar[dict[str, Any]] = {
        "id": REGISTER,
        "name": "register",
        "kind": "django",
        "status": "active",
        "versions": "none",
        "fields": ["email", "name", "nationalId"],
        "settings": {"baseUrl": "https://members.example.com", "path": "/api/members/", "pageSize": 500},
        "secretReference": "env:ROLLCALL_SECRET_REGISTER",
        "removalLimits": {"most": 100, "mostPercent": 2.0, "few": 5},
        "takesWebhooks": False,
        "autoSyncIntervalMinutes": 60,
        "syncMode": "full",
        "lastFullSyncAt": "2026-12-01T11:30:00Z",
        "lastIncrementalSyncAt": None,
        "createdAt": ADDED_AT,
        "archivedAt": None,
    }


class TestResult(AnswerModel):
    """Whether the directory can be synced; a question that an earlier answer left without sense is null."""

    works: bool
    reachable: bool
    authorised: bool | None
    shape: bool | None
    problem: str | None
    released: bool = Field(description="It was blocked, and is no longer.")
    count: int | None = Field(description="How many members the directory says that it holds.")
    on_first_page: int
    fit_on_first_page: int

    example: ClassVar[dict[str, Any]] = {
        "works": True,
        "reachable": True,
        "authorised": True,
        "shape": True,
        "problem": None,
        "released": False,
        "count": 1204,
        "onFirstPage": 500,
        "fitOnFirstPage": 500,
    }


class PreviewedRecord(AnswerModel):
    """What one record would mean; `unfit` says why it would not be taken, without its values."""

    external_id: str | None
    action: Literal["upsert", "remove"] | None
    unfit: str | None
    updated_at: datetime | None
    version: int | None
    member: dict[str, Any] | None

    example: ClassVar[dict[str, Any]] = {
        "externalId": "ada",
        "action": "upsert",
        "unfit": None,
        "updatedAt": None,
        "version": None,
        "member": {"nationalId": "1012159991", "name": "Ada Lovelace", "email": "ada@example.org"},
    }


class Preview(AnswerModel):
    """What the first page would mean: personal data."""

    problem: str | None
    count: int | None
    items: list[PreviewedRecord]

    example: ClassVar[dict[str, Any]] = {"problem": None, "count": 1204, "items": [PreviewedRecord.example]}


def domain_fields(fields: list[MemberField] | None) -> list[str] | None:
    """By the domain's names."""
    return None if fields is None else sorted({MEMBER_FIELDS[field] for field in fields})


def limits_of(given: Limits) -> RemovalLimits:
    """As the guard knows them."""
    return RemovalLimits(most=given.most, most_percent=given.most_percent, few=given.few)


def shown_directory(view: DirectoryView) -> Directory:
    """As it is answered."""
    return Directory.model_validate(
        {
            "id": view.id,
            "name": view.name,
            "kind": view.kind,
            "status": view.status,
            "versions": view.version_kind,
            "fields": sorted(_CONTRACT_NAMES[field] for field in view.mapped_fields),
            "settings": None if view.directory is None else without_queries(view.directory),
            "secret_reference": view.secret_reference,
            "removal_limits": {"most": view.most_removals, "most_percent": view.most_removed_percent, "few": view.few_removals},
            "takes_webhooks": view.takes_webhooks,
            "auto_sync_interval_minutes": None if view.sync_interval_ms is None else view.sync_interval_ms // _MINUTE_MS,
            "sync_mode": SyncMode(view.sync_mode),
            "last_full_sync_at": view.last_full_sync_at,
            "last_incremental_sync_at": view.last_incremental_sync_at,
            "created_at": view.created_at,
            "archived_at": view.archived_at,
        }
    )


def shown_test(probe: Probe) -> TestResult:
    """As it is answered."""
    health = probe.health
    return TestResult(
        works=probe.problem is None,
        reachable=health.reachable,
        authorised=health.authorised,
        shape=health.shape,
        problem=probe.problem,
        released=probe.released,
        count=None if health.page is None else health.page.count,
        on_first_page=len(probe.records),
        fit_on_first_page=probe.fit,
    )


def shown_preview(probe: Probe, *, people: bool = True) -> Preview:
    """As it is answered; without `people` it holds nothing that a directory says of them, not even keys: what a mapping that is
    being tried takes for a key may be a national id."""
    page = probe.health.page
    return Preview(
        problem=probe.health.problem,
        count=None if page is None else page.count,
        items=[_shown_record(record, people) for record in probe.records[:_SAMPLE]],
    )


def _shown_record(record: SeenRecord, people: bool) -> PreviewedRecord:
    action: Literal["upsert", "remove"] | None = None if record.unfit is not None else "remove" if record.left else "upsert"
    return PreviewedRecord(
        external_id=record.external_id if people else None,
        action=action,
        unfit=record.unfit,
        updated_at=record.updated_at,
        version=record.version,
        member=record.member if people else None,
    )
