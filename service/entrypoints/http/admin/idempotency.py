"""`Idempotency-Key` on POST: the same request again has no second effect, and the answer of the first.

Effect and answer commit in one transaction. While it runs, the key is locked; where it fails, nothing is kept, and the request may
come again. So there is no state between "never happened" and "answered".
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import orjson
from fastapi import Depends, Header
from starlette.requests import Request
from starlette.responses import Response

from service.entrypoints.http.admin.api_model import AnswerModel
from service.entrypoints.http.admin.principal import Caller
from service.entrypoints.http.admin.problems import ProblemError, documented
from service.entrypoints.http.admin.setting import Db
from service.store.database import Database, Tx
from service.store.idempotency_keys import (
    KeptAnswer,
    discard_old_answers,
    find_answer,
    hold_idempotency_key,
    keep_answer,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["IDEMPOTENT", "AlreadyAnswered", "Once", "Reply", "add_replay_handler"]

_REPLAYED: Final = {"Idempotency-Replayed": "true"}

# What a route with `Once` may also answer.
IDEMPOTENT: Final = documented({409: "it contradicts what is there, or a request with the same Idempotency-Key is being answered"})


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of 2xx; `kept` is what a repetition gets, where that must not be all of it."""

    status: HTTPStatus
    body: AnswerModel | None
    headers: Mapping[str, str] = field(default_factory=dict)
    kept: AnswerModel | None = None

    @property
    def response(self) -> Response:
        """As it is sent."""
        return _response(self.status, _written(self.body), self.headers)


class AlreadyAnswered(Exception):
    """The request was answered before; raised inside a transaction it rolls that back."""

    def __init__(self, answer: KeptAnswer) -> None:
        super().__init__("the request was answered before")
        self.response = _response(answer.status, answer.body, {**answer.headers, **_REPLAYED})


class OncePerKey:
    """One request that may carry an Idempotency-Key; without one nothing of this does anything."""

    def __init__(self, db: Database, principal: str, key: str | None, fingerprint: bytes) -> None:
        self._db, self._principal, self._key, self._fingerprint = db, principal, key, fingerprint

    async def answer(self, work: Callable[[Tx], Awaitable[Reply]]) -> Response:
        """Do the work in one transaction with what is kept of its answer; raises what the work does, and Retry errors."""
        async with self._db.transaction() as tx:
            await self.claim(tx)
            reply = await work(tx)
            await self.keep(tx, reply)
        return reply.response

    async def look(self) -> None:
        """Raise AlreadyAnswered where it was; for work whose action opens the transaction itself, before it begins."""
        if self._key is not None:
            async with self._db.transaction() as tx:
                await self.claim(tx)

    async def claim(self, tx: Tx) -> None:
        """Let nobody else answer under this key until the transaction ends; raises AlreadyAnswered, or a problem."""
        if self._key is None:
            return
        if not await hold_idempotency_key(tx, self._principal, self._key):
            raise ProblemError(HTTPStatus.CONFLICT, "a request with this Idempotency-Key is being answered; try again")
        if (answer := await find_answer(tx, self._principal, self._key)) is None:
            return
        if answer.fingerprint != self._fingerprint:
            raise ProblemError.wrong("header.Idempotency-Key", "was used for another request within a day")
        raise AlreadyAnswered(answer)

    async def keep(self, tx: Tx, reply: Reply, *, about: UUID | None = None) -> None:
        """Keep the answer in the transaction of its effect, after `claim`; `about` is the member whose data it holds."""
        if self._key is None:
            return
        answer = KeptAnswer(
            fingerprint=self._fingerprint,
            status=reply.status,
            headers=reply.headers,
            body=_written(reply.body if reply.kept is None else reply.kept),
        )
        await keep_answer(tx, self._principal, self._key, answer, about)
        await discard_old_answers(tx)


async def _once(
    request: Request,
    db: Db,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="Any text of up to 255 characters: for a day the same request with it has no second effect and gets "
            "the same answer, with `Idempotency-Replayed: true`.",
        ),
    ] = None,
) -> OncePerKey:
    caller: Caller = request.state.caller
    company = request.headers.get("rollcall-company", "") if caller.is_operator else caller.company_id
    said = orjson.dumps(getattr(request.state, "body", None), option=orjson.OPT_SORT_KEYS)
    asked = "\n".join((request.method, request.url.path, request.url.query)).encode()
    fingerprint = hashlib.sha256(asked + b"\n" + said).digest()
    return OncePerKey(db, f"{caller.actor} {company}", key, fingerprint)


# A parameter's type: `async def route(once: Once)`.
Once = Annotated[OncePerKey, Depends(_once)]


def add_replay_handler(app: FastAPI) -> None:
    """Let a request that was answered before be answered so again."""

    @app.exception_handler(AlreadyAnswered)
    async def replayed(_: Request, answered: AlreadyAnswered) -> Response:
        return answered.response


def _written(body: AnswerModel | None) -> str:
    return "" if body is None else body.model_dump_json()


def _response(status: int, body: str, headers: Mapping[str, str]) -> Response:
    return Response(body or None, status, headers=dict(headers), media_type="application/json" if body else None)
