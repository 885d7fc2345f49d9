"""What the routes that change a member share: over which version, by whom, and what is answered."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Depends, Header
from uuid_utils.compat import uuid7

from service.actions.change_member import Hindrance, MemberRefused, Then
from service.domain.change import Cause, Reason
from service.entrypoints.http.admin.idempotency import OncePerKey, Reply
from service.entrypoints.http.admin.member_models import shown_detail
from service.entrypoints.http.admin.members import ETAG, etag
from service.entrypoints.http.admin.principal import Principal
from service.entrypoints.http.admin.problems import ProblemError, documented
from service.store.database import Tx
from service.store.member_views import VerifiedMember
from service.telemetry.handling import handling

__all__ = ["CHANGED", "Versions", "accepted", "cause_of", "kept", "shown_change"]

_ENTITY_TAGS: Final = re.compile(r'\s*("[^"]*")\s*(?:,\s*("[^"]*")\s*)*')
_VERSION: Final = re.compile(r'"(0|[1-9][0-9]{0,18})"')
CHANGED: Final = {200: {"headers": ETAG}, **documented({412: "the member was changed since it was read"})}
_STATUS: Final = {
    Hindrance.NO_SUCH_MEMBER: HTTPStatus.NOT_FOUND,
    Hindrance.OTHER_VERSION: HTTPStatus.PRECONDITION_FAILED,
    Hindrance.NOT_POSSIBLE: HTTPStatus.CONFLICT,
}


def _versions(
    if_match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description='The `ETag` that was read, such as `"7"`: the change is made over that version or not at all. '
            "Without it, over whichever there is.",
        ),
    ] = None,
) -> frozenset[int] | None:
    """The versions over which the change may be made; None for any. What is no version of ours is none that there is."""
    if if_match is None or if_match.strip() == "*":
        return None
    if not _ENTITY_TAGS.fullmatch(if_match):
        return frozenset()
    return frozenset(int(version) for version in _VERSION.findall(if_match))


Versions = Annotated[frozenset[int] | None, Depends(_versions)]


def cause_of(principal: Principal) -> Cause:
    """Who is behind the change, and what it belongs to."""
    now = handling()
    return Cause(Reason.ADMIN, principal.actor, now.correlation_id or str(uuid7()), now.traced.traceparent)


def kept(once: OncePerKey, reply: Callable[[VerifiedMember], Reply]) -> Then:
    """Keep the answer in the transaction of the change."""

    async def then(tx: Tx, member: VerifiedMember) -> None:
        await once.claim(tx)
        await once.keep(tx, reply(member), about=member.id)

    return then


def shown_change(member: VerifiedMember) -> Reply:
    """The member as the change left it, with its version."""
    return Reply(HTTPStatus.OK, shown_detail(member), {"ETag": etag(member)})


def accepted(answer: VerifiedMember | MemberRefused) -> VerifiedMember:
    """The member; raises the problem that stood in the way."""
    if isinstance(answer, MemberRefused):
        raise ProblemError(_STATUS[answer.hindrance], answer.reason)
    return answer
