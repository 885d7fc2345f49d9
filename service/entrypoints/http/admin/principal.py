"""Who asks, what they may do, and for which company: of the key alone, or of the operator's word."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final, TypeAlias

from fastapi import Header, Security
from fastapi.security import HTTPBearer
from starlette.requests import Request

from service.domain.api_keys import KeyScope, fits, parse_key
from service.domain.member import CompanyId
from service.entrypoints.http.admin.problems import ProblemError
from service.entrypoints.http.admin.setting import AdminSetting, Db
from service.store.api_keys import find_api_key, note_api_key_use
from service.store.companies import find_company, list_companies

__all__ = ["Administrator", "Caller", "Operator", "Principal", "Reader", "Starter", "Syncer", "Watcher", "authenticate", "demand"]

_BEARER: Final = "bearer "
_ALL: Final = frozenset(KeyScope)

_scheme: Final = HTTPBearer(
    scheme_name="key",
    auto_error=False,
    description="A key of `rollcall keys create` or `POST /api/keys`, `rc_<id>_<secret>`, or the operator's `ADMIN_API_KEY`. "
    "What a route demands of `read`, `sync` and `admin` stands beside it; none includes another.",
)


# For the description alone: the key is checked before the body is read.
Key: TypeAlias = Annotated[object, Security(_scheme)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever sent a key that is believed; `company_id` None is the operator."""

    actor: str
    company_id: CompanyId | None
    scopes: frozenset[KeyScope]

    @property
    def is_operator(self) -> bool:
        """Whether all companies are theirs."""
        return self.company_id is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who acts, in which company; `actor` is what the audit says: `key:<id>` or `operator`."""

    actor: str
    company_id: CompanyId
    scopes: frozenset[KeyScope]
    is_operator: bool


async def authenticate(setting: AdminSetting, request: Request) -> Caller:
    """Whose key it is; raises a problem where it is nobody's, and Retry errors. What is no key costs no query, any other one."""
    if setting.operator_key is None:
        detail = "the admin API is switched off: the operator must set ADMIN_API_KEY"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail)
    given = request.headers.getlist("authorization")
    if len(given) != 1 or not given[0].lower().startswith(_BEARER):
        raise _unauthorised("a key is needed: `Authorization: Bearer rc_…`", "")
    token = given[0][len(_BEARER) :].strip()
    # As bytes: of other texts than ASCII it would compare none.
    if hmac.compare_digest(token.encode("latin-1"), setting.operator_key.get_secret_value().encode()):
        return Caller(actor="operator", company_id=None, scopes=_ALL)
    key = parse_key(token)
    if key is not None:
        db = setting.database()
        async with db.statement() as tx:
            usable = await find_api_key(tx, key.id)
        if usable is not None and fits(key.secret, usable.sha256):
            if usable.is_stale:
                async with db.statement() as tx:
                    await note_api_key_use(tx, key.id)
            scopes = frozenset(map(KeyScope, usable.scopes))
            return Caller(actor=f"key:{key.id}", company_id=usable.company_id, scopes=scopes)
    raise _unauthorised("this key opens nothing: it is unknown, revoked or expired", ', error="invalid_token"')


def _unauthorised(detail: str, error: str) -> ProblemError:
    return ProblemError(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": f'Bearer realm="rollcall"{error}'})


def _whoever_may(*scopes: KeyScope) -> Callable[..., Awaitable[Principal]]:
    """A dependency that lets in who has one of these scopes."""

    async def principal(
        request: Request,
        db: Db,
        _: Key,
        company: Annotated[
            str | None,
            Header(
                alias="Rollcall-Company",
                description="With the operator's key: which company, by id or name; needed where there are several. "
                "A key of a company's own is that company's, whatever stands here.",
            ),
        ] = None,
    ) -> Principal:
        caller = _caller(request)
        _demand(caller.scopes, scopes)
        company_id = caller.company_id if caller.company_id is not None else await _chosen(db, company)
        return Principal(actor=caller.actor, company_id=company_id, scopes=caller.scopes, is_operator=caller.is_operator)

    return principal


def demand(principal: Principal, scope: KeyScope) -> None:
    """Raise the problem of a missing scope, where a route's own does not say enough."""
    _demand(principal.scopes, (scope,))


def _demand(scopes: frozenset[KeyScope], wanted: Sequence[KeyScope]) -> None:
    if not scopes.intersection(wanted):
        named = " or ".join(f"`{scope}`" for scope in wanted)
        raise ProblemError(HTTPStatus.FORBIDDEN, f"the key lacks the scope {named}")


def _operator(request: Request, _: Key) -> Caller:
    caller = _caller(request)
    if not caller.is_operator:
        raise ProblemError(HTTPStatus.FORBIDDEN, "this is the operator's alone")
    return caller


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


async def _chosen(db: Db, given: str | None) -> CompanyId:
    """The company that the operator means."""
    async with db.transaction() as tx:
        if given is not None:
            company = await find_company(tx, _decoded(given))
            if company is None:
                raise ProblemError(HTTPStatus.NOT_FOUND, "there is no such company; GET /api/companies lists them")
            return company.id
        companies = await list_companies(tx)
    if len(companies) != 1:
        detail = (
            "there is no company yet; POST /api/companies makes one"
            if not companies
            else "there are several companies: say which by the header Rollcall-Company, with its id or name"
        )
        raise ProblemError(HTTPStatus.BAD_REQUEST, detail)
    return companies[0].id


def _decoded(header: str) -> str:
    """A header's text, which arrives as bytes read one by one."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _bearing(*scopes: KeyScope) -> list[str]:
    return [scope.value for scope in scopes]


# Each is a parameter's type: `async def route(principal: Reader)`.
Reader = Annotated[Principal, Security(_whoever_may(KeyScope.READ), scopes=_bearing(KeyScope.READ))]
Syncer = Annotated[Principal, Security(_whoever_may(KeyScope.SYNC), scopes=_bearing(KeyScope.SYNC))]
Administrator = Annotated[Principal, Security(_whoever_may(KeyScope.ADMIN), scopes=_bearing(KeyScope.ADMIN))]
# How syncs and jobs go, without anybody's data.
Watcher = Annotated[Principal, Security(_whoever_may(KeyScope.READ, KeyScope.SYNC), scopes=_bearing(KeyScope.READ, KeyScope.SYNC))]
# Who may start one kind of job or another: which of the two scopes it takes, the job's kind says.
Starter = Annotated[
    Principal, Security(_whoever_may(KeyScope.SYNC, KeyScope.ADMIN), scopes=_bearing(KeyScope.SYNC, KeyScope.ADMIN))
]
Operator = Annotated[Caller, Security(_operator, scopes=["operator"])]
