"""What goes wrong, as problem details (RFC 9457); they name what does not fit and where, and never repeat what was sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from service.domain.errors import Contention, Unavailable, UnfitData
from service.entrypoints.http.admin.api_model import AnswerModel, RequestModel
from service.telemetry.handling import handling
from service.telemetry.traced import ids

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

__all__ = ["PROBLEM_JSON", "Problem", "ProblemError", "WrongField", "add_problem_handlers", "documented"]

PROBLEM_JSON: Final = "application/problem+json"
_MOST_ERRORS: Final = 20
_UNFORESEEN: Final = "something failed in a way that has no rule; the log knows it by the correlation id"
_AWAY_RETRY_AFTER: Final = "5"
_CONTENTION_RETRY_AFTER: Final = "1"


class WrongField(AnswerModel):
    """What does not fit, and where: `body.members.0.name`, `query.limit`."""

    where: str
    what: str


class Problem(AnswerModel):
    """What went wrong. `correlationId` is what the logs and the audit know the request by."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    correlation_id: str | None = None
    trace_id: str | None = None
    # Of 422.
    errors: list[WrongField] | None = None
    # Of 409, where a job stands in the way.
    job_id: str | None = None


class ProblemError(Exception):
    """An answer that is an error; raised inside a transaction it rolls that back."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: Sequence[WrongField] | None = None,
        headers: Mapping[str, str] | None = None,
        job_id: object = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors, headers or {}
        self.job_id = None if job_id is None else str(job_id)

    @classmethod
    def wrong(cls, where: str, what: str) -> ProblemError:
        """422: one field does not fit, for a reason that only we know."""
        return cls(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {what}", errors=[WrongField(where=where, what=what)])

    @classmethod
    def not_found(cls, what: str) -> ProblemError:
        """404: it is not there, or not the company's."""
        return cls(HTTPStatus.NOT_FOUND, f"there is no such {what}")


def _response(request: Request, error: ProblemError) -> Response:
    """The answer with the ids under which its request is found."""
    # Whoever is refused before they are believed has a trace of their own.
    request.state.trace.answers()
    now = handling()
    trace = ids(now.traced.traceparent)
    problem = Problem(
        title=error.status.phrase,
        status=error.status.value,
        detail=error.detail,
        correlation_id=now.correlation_id,
        trace_id=None if trace is None else trace[0],
        errors=None if error.errors is None else list(error.errors),
        job_id=error.job_id,
    )
    return Response(
        problem.model_dump_json(exclude_none=True), error.status.value, headers=dict(error.headers), media_type=PROBLEM_JSON
    )


def documented(problems: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Problems as OpenAPI describes them, each by what it means here."""
    return {status: _documented(HTTPStatus(status), meaning) for status, meaning in problems.items()}


def _documented(status: HTTPStatus, meaning: str) -> dict[str, Any]:
    example = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": meaning,
        "correlationId": "019b2f6c-2f0e-7cc1-9a0d-5c1b0f8a7e11",
    }
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    return {"description": meaning[:1].upper() + meaning[1:], "content": content}


def add_problem_handlers(app: FastAPI) -> None:
    """Let whatever a route raises be answered as a problem."""

    @app.exception_handler(ProblemError)
    async def known(request: Request, error: ProblemError) -> Response:
        return _response(request, error)

    @app.exception_handler(RequestValidationError)
    async def unfit_request(request: Request, error: RequestValidationError) -> Response:
        return _response(request, _unfit(error.errors()))

    @app.exception_handler(UnfitData)
    async def unfit_data(request: Request, error: UnfitData) -> Response:
        return _response(request, ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)))

    @app.exception_handler(Unavailable)
    async def away(request: Request, error: Unavailable) -> Response:
        return _response(request, _later(str(error), _AWAY_RETRY_AFTER))

    @app.exception_handler(Contention)
    async def contended(request: Request, error: Contention) -> Response:
        return _response(request, _later(str(error), _CONTENTION_RETRY_AFTER))

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, __: Exception) -> Response:
        # Whoever serves this logs it.
        return _response(request, ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, _UNFORESEEN))

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        headers = {"Allow": _allowed(request)} if status is HTTPStatus.METHOD_NOT_ALLOWED else error.headers
        details = {HTTPStatus.NOT_FOUND: "there is nothing here", HTTPStatus.METHOD_NOT_ALLOWED: "not by this method"}
        return _response(request, ProblemError(status, details.get(status, status.phrase), headers=headers))


def _allowed(request: Request) -> str:
    """The methods that the path knows: the framework names those of its first route alone."""
    routes = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return ", ".join(sorted({method for route in routes for method in route.methods or ()}))


def _later(detail: str, seconds: str) -> ProblemError:
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, f"{detail}; try again", headers={"Retry-After": seconds})


# By pydantic's error type; placeholders are filled from what the API demands, never from the input, as pydantic's own texts are.
_MESSAGES: Final[Mapping[str, str]] = {
    "missing": "required",
    "extra_forbidden": "unknown field",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be an array",
    "string_type": "must be a string",
    "string_too_short": "too short (min {min_length})",
    "string_too_long": "too long (max {max_length})",
    "string_pattern_mismatch": "has a form that is not allowed",
    "too_short": "too few (min {min_length})",
    "too_long": "too many (max {max_length})",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "too large",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "datetime_type": "must be an RFC 3339 time",
    "datetime_parsing": "must be an RFC 3339 time",
    "datetime_from_date_parsing": "must be an RFC 3339 time",
    "datetime_object_invalid": "must be an RFC 3339 time",
    "timezone_aware": "must be an RFC 3339 time with its zone",
    "date_type": "must be a date",
    "date_parsing": "must be a date",
    "date_from_datetime_parsing": "must be a date",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
}


def _unfit(errors: Sequence[Any]) -> ProblemError:
    if any(one["loc"][:1] == ("path",) for one in errors):
        # What cannot be an id is nobody's id.
        return ProblemError(HTTPStatus.NOT_FOUND, "there is nothing here")
    wrong = [WrongField(where=_where(one["loc"]), what=_what(one)) for one in errors[:_MOST_ERRORS]]
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "the request does not fit; see errors", errors=wrong)


def _what(error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        # Of our own validators, whose texts hold no input.
        return str(error["msg"]).removeprefix("Value error, ")
    return _MESSAGES.get(error["type"], "does not fit").format_map(error.get("ctx", {}))


def _where(steps: Sequence[int | str]) -> str:
    part, *inside = steps
    if part != "body":
        # A parameter's name is ours.
        return ".".join(map(str, steps))
    known, named = _known_names(), ["body"]
    for step in inside:
        if isinstance(step, str) and step not in known:
            # A key of the input may be personal data itself.
            named.append("*")
            break
        named.append(str(step))
    return ".".join(named)


def _known_names() -> frozenset[str]:
    """Every field of every request, by its name on the wire."""

    def models(parent: type[BaseModel]) -> Iterator[type[BaseModel]]:
        for child in parent.__subclasses__():
            yield child
            yield from models(child)

    return frozenset(info.alias or name for model in models(RequestModel) for name, info in model.model_fields.items())
