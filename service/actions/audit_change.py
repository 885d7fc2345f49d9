"""Note in the audit what was administered, by API or command, and is no member, in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from uuid_utils.compat import uuid7

from service.domain.jobs import JobId
from service.domain.member import CompanyId
from service.store.admin_events import NewAdminEvent, insert_admin_event
from service.store.jobs import find_job
from service.telemetry.handling import handling

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["Author", "audit_change", "audit_job", "differences"]


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes something, and in which company; `actor` is `key:<id>`, `operator` or `cli`."""

    company_id: CompanyId
    actor: str


async def audit_change(tx: Tx, author: Author, action: str, subject_id: UUID, changes: Mapping[str, Any] | None = None) -> None:
    """Note it; `action` is `subject.verb` in the past tense, `changes` hold no secret."""
    event = NewAdminEvent(
        company_id=author.company_id,
        actor=author.actor,
        action=action,
        subject_kind=action.partition(".")[0],
        subject_id=subject_id,
        correlation_id=handling().correlation_id or str(uuid7()),
        changes=changes or {},
    )
    await insert_admin_event(tx, event)


async def audit_job(tx: Tx, job_id: JobId, actor: str, action: str) -> None:
    """Note what somebody did with a job in its company's audit; one of the whole installation is in nobody's."""
    job = await find_job(tx, job_id)
    if job is not None and job.company_id is not None:
        await audit_change(tx, Author(CompanyId(job.company_id), actor), action, job_id)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What is not as it was: `{field: {before, after}}`."""
    names = [*before, *(name for name in after if name not in before)]
    return {name: {"before": before.get(name), "after": after.get(name)} for name in names if before.get(name) != after.get(name)}
