"""Whether members are what their audit ends in: state, plan, dates and version (semantics: Drift)."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.actions.read_models.member_keys import member_keys
from service.domain.change import AuditedFacts, Cause, DriftRepaired
from service.domain.drift import ReconciliationMode, SampleResult
from service.store.audited_members import compare_with_audit, list_audited

if TYPE_CHECKING:
    from service.store.database import Database

__all__ = ["AUDIT", "AuditReconciler"]

AUDIT: Final = "audit"
_UNAUDITED: Final = "audit"


class AuditReconciler:
    """Compares rows of members with the newest row of their audit; keys are the members' ids."""

    def __init__(self, db: Database, offset: Callable[[], float] = random.random) -> None:
        self._db, self._offset = db, offset

    @property
    def read_model_name(self) -> str:
        """Its name."""
        return AUDIT

    async def list_sample_keys(self, mode: ReconciliationMode, budget: int) -> AsyncGenerator[Sequence[str], None]:
        """All ids in their order by keyset, so that who comes or goes meanwhile hides nobody else; or an even sample of them."""
        async with aclosing(member_keys(self._db.reading, mode, budget, self._offset)) as batches:
            async for batch in batches:
                yield batch

    async def reconcile(self, key: str) -> SampleResult | None:
        """Compare one member."""
        return next(iter(await self.reconcile_many([key])), None)

    async def reconcile_many(self, keys: Sequence[str]) -> Sequence[SampleResult]:
        """Compare members; row and audit are read as of one moment."""
        async with self._db.statement() as tx:
            found = await compare_with_audit(tx, [UUID(key) for key in keys])
        return [
            SampleResult(str(one.id), in_sync=not one.differing, reason=_reason(one.differing) if one.differing else None)
            for one in found
        ]

    async def repairs(self, keys: Sequence[str], cause: Cause) -> Sequence[DriftRepaired]:
        """What restores the audited values; of a member without an audit nobody can say what is right."""
        async with self._db.statement() as tx:
            audited = await list_audited(tx, [UUID(key) for key in keys])
        return [
            DriftRepaired(
                member_id=one.id,
                # Whoever changes the member by the apply path numbers it on, and leaves nothing to repair.
                read_version=one.read_version,
                cause=cause,
                audited=AuditedFacts(
                    version=one.version,
                    state=one.state,
                    plan=one.plan,
                    starts_at=one.starts_at,
                    expires_at=one.expires_at,
                    upstream_state=one.upstream_state,
                ),
            )
            for one in audited
        ]


def _reason(differing: Sequence[str]) -> str:
    if differing == [_UNAUDITED]:
        return "there is no audit of the member"
    return f"the row differs from its audit in {', '.join(differing)}"
