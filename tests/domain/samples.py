"""Members, changes and rules as the tests of the domain and of applying need them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

import orjson

from service.domain.change import (
    SOURCE_FIELDS,
    Cause,
    HoldPlaced,
    HoldReleased,
    InboxKey,
    MemberCreated,
    MemberEdited,
    MemberErased,
    MemberRemoved,
    Reason,
    Rules,
    TimePassed,
    UpstreamRemoval,
    UpstreamUpsert,
    VersionKind,
)
from service.domain.member import CompanyId, ConnectionId, Member, MemberId, Standing, UpstreamState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
COMPANY = CompanyId(UUID(int=1))
OTHER_COMPANY = CompanyId(UUID(int=2))
CONNECTION = ConnectionId(UUID(int=11))
OTHER_CONNECTION = ConnectionId(UUID(int=12))
NEW_ID = MemberId(UUID(int=999))
PERSON = {"name": "Anna", "national_id": "0101012345"}
CAUSE = Cause(Reason.UPSTREAM_CHANGE, "connection:test", "correlation")
ADMIN = Cause(Reason.ADMIN, "key:test", "correlation")


def rules(**given: Any) -> Rules:
    return Rules(
        **{
            "company_id": COMPANY,
            "grace": timedelta(0),
            "version_kind": VersionKind.SEQUENCE,
            "mapped_fields": SOURCE_FIELDS,
            **given,
        }
    )


def content_hash(fields: dict[str, Any] | None) -> bytes:
    return blake2b(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def _common(version: int, message: str | None, fields: dict[str, Any] | None, given: dict[str, Any]) -> dict[str, Any]:
    common = {
        "company_id": COMPANY,
        "connection_id": CONNECTION,
        "external_id": "ext-1",
        "source_version": version,
        "updated_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=version),
        "source_hash": content_hash(fields),
        "cause": CAUSE,
        **given,
    }
    if message is not None:
        common["inbox_key"] = InboxKey(common["connection_id"], "tests", message)
    return common


def upsert(version: int = 1, fields: dict[str, Any] | None = None, /, message: str | None = None, **given: Any) -> UpstreamUpsert:
    fields = {"name": "Anna"} if fields is None else fields
    return UpstreamUpsert(fields=fields, **_common(version, message, fields, given))


def removal(version: int = 1, /, message: str | None = None, **given: Any) -> UpstreamRemoval:
    return UpstreamRemoval(**_common(version, message, None, given))


def hold(member_id: MemberId, read_version: int, reason: str = "unpaid") -> HoldPlaced:
    return HoldPlaced(member_id=member_id, read_version=read_version, cause=ADMIN, hold=reason)


def release(member_id: MemberId, read_version: int) -> HoldReleased:
    return HoldReleased(member_id=member_id, read_version=read_version, cause=ADMIN)


def create(fields: dict[str, Any] | None = None, /, **given: Any) -> MemberCreated:
    common = {"company_id": COMPANY, "member_id": MemberId(UUID(int=201)), "cause": ADMIN, **given}
    return MemberCreated(fields={"name": "Anna"} if fields is None else fields, **common)


def edit(member_id: MemberId, read_version: int, fields: dict[str, Any], company_id: CompanyId = COMPANY) -> MemberEdited:
    return MemberEdited(member_id=member_id, read_version=read_version, cause=ADMIN, company_id=company_id, fields=fields)


def take_out(member_id: MemberId, read_version: int) -> MemberRemoved:
    return MemberRemoved(member_id=member_id, read_version=read_version, cause=ADMIN)


def erase(member_id: MemberId, read_version: int) -> MemberErased:
    return MemberErased(member_id=member_id, read_version=read_version, cause=ADMIN)


def time_passed(member_id: MemberId, read_version: int) -> TimePassed:
    return TimePassed(member_id=member_id, read_version=read_version, cause=Cause(Reason.EXPIRY_RECONCILIATION, "system", "run"))


def member(**given: Any) -> Member:
    """A live member of CONNECTION at version 1, its source at 1; what is given wins."""
    facts = {
        "id": MemberId(UUID(int=101)),
        "company_id": COMPANY,
        "connection_id": CONNECTION,
        "external_id": "ext-1",
        "name": "Anna",
        "upstream_state": UpstreamState.ACTIVE,
        "state": Standing.ACTIVE,
        "source_version": 1,
        "source_hash": content_hash({"name": "Anna"}),
        "upstream_applied_at": NOW - DAY,
        "version": 1,
        **given,
    }
    return Member(**facts)


def removed(**given: Any) -> Member:
    return member(
        **{"upstream_state": UpstreamState.REMOVED, "state": Standing.REMOVED, "removed_at": NOW - DAY, "version": 2, **given}
    )


def tombstone(**given: Any) -> Member:
    return removed(**{"id": MemberId(UUID(int=102)), "name": None, "version": 0, "source_hash": content_hash(None), **given})
