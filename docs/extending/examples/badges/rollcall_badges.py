"""Whether the badges of a door system open for those who have access, and for nobody else: a reconciler of one's own, whole.

The door system answers `GET /badges?member=ID&member=ID…` with `{"open": [ID, …]}`. It is found by BADGES_URL, and its key is
what ROLLCALL_SECRET_BADGES holds.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

import httpx
import orjson

from service.actions.read_models.access import ReconcilerAccess
from service.actions.read_models.member_keys import member_keys
from service.clients.directories.answers import accept_status, authorization, translated
from service.domain.drift import ReconciliationMode, SampleResult
from service.domain.errors import SourceBroken
from service.store.member_standings import list_standings

_ASKED_AT_ONCE = 100


class Badges:
    """What the entry point names: made once a process, and asked for keys and comparisons run by run."""

    def __init__(self, access: ReconcilerAccess) -> None:
        self._access = access
        self._url = os.environ["BADGES_URL"]

    @property
    def read_model_name(self) -> str:
        """The entry point's name."""
        return "badges"

    def list_sample_keys(self, mode: ReconciliationMode, budget: int) -> AsyncGenerator[Sequence[str], None]:
        """All members, or a sample of them."""
        return member_keys(self._access.reading, mode, budget)

    async def reconcile(self, key: str) -> SampleResult | None:
        """Compare one member."""
        return next(iter(await self.reconcile_many([key])), None)

    async def reconcile_many(self, keys: Sequence[str]) -> Sequence[SampleResult]:
        """Compare a batch of members; those that are gone are missing from the answer."""
        async with self._access.reading() as tx:
            members = await list_standings(tx, [UUID(key) for key in keys], self._access.default_grace_days)
        # The transaction is over: no connection waits for somebody else's network.
        opening = await self._opening([str(member.id) for member in members])
        return [_compared(str(member.id), may_enter=member.may_enter, opens=str(member.id) in opening) for member in members]

    async def _opening(self, ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        url = httpx.URL(self._url)
        key = self._access.secret("env:ROLLCALL_SECRET_BADGES")
        # What cannot be reached ends the run as inconclusive, with the reason.
        with translated("the door system: "):
            async with self._access.outside.http(self._url, authorization("Bearer", key)) as http:
                for first in range(0, len(ids), _ASKED_AT_ONCE):
                    asked = httpx.QueryParams([("member", one) for one in ids[first : first + _ASKED_AT_ONCE]])
                    answer = await http.get(url.copy_with(path="/badges", query=str(asked).encode()))
                    accept_status(answer.status, url.host, "the door system: ", keyed=True)
                    found |= _open_of(answer.body)
        return found


def _open_of(body: bytes) -> set[str]:
    try:
        return set(orjson.loads(body)["open"])
    except (ValueError, KeyError, TypeError):
        raise SourceBroken("the door system: the answer does not say which badges open") from None


def _compared(key: str, *, may_enter: bool, opens: bool) -> SampleResult:
    if may_enter == opens:
        return SampleResult(key, in_sync=True)
    reason = "the badge opens, and the member has no access" if opens else "the member has access, and the badge does not open"
    return SampleResult(key, in_sync=False, reason=reason)
