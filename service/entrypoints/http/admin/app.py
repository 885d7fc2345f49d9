"""The admin API, put together: routes, problems, what OpenAPI says of it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final, NoReturn

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from service.domain.errors import Unavailable
from service.entrypoints.http.admin import (
    audit,
    companies,
    deliveries,
    directories,
    drift,
    jobs,
    keys,
    member_changes,
    members,
    plan_changes,
    scans,
    schedules,
    subscribers,
    syncs,
)
from service.entrypoints.http.admin.docs_page import docs_page
from service.entrypoints.http.admin.door import AdminDoor
from service.entrypoints.http.admin.idempotency import add_replay_handler
from service.entrypoints.http.admin.openapi import complete_description
from service.entrypoints.http.admin.problems import add_problem_handlers
from service.entrypoints.http.admin.setting import AdminSetting
from service.entrypoints.http.request_body import BodyReader
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["ROUTERS", "admin_api", "admin_door", "described_api"]

_LARGEST_BODY: Final = 1024 * 1024
_ALL_BODIES: Final = 16 * 1024 * 1024
_RECEIVE_SECONDS: Final = 10.0

_DESCRIPTION: Final = (
    "Rollcall keeps every system's idea of who is a member in step. This API administers it: a key, `rc_<id>_<secret>`, belongs to "
    "one company, and all that it sees and changes is that company's. Errors are problem details (RFC 9457). Lists come in pages: "
    "`nextCursor` of one is the `cursor` of the next. A POST with an `Idempotency-Key` may be sent again for a day and has one "
    "effect. Every answer says in `X-Correlation-Id` under which id logs and audit know the request."
)
_TAGS: Final = {
    "companies": "Whose members they are.",
    "members": "Who they are and what they may: read as of now, changed with an audit.",
    "directories": "Where members come from, and how that is asked.",
    "syncs": "Bringing members in step with a directory.",
    "scans": "Looking for what is wrong with members: duplicates, foreign addresses, breaches.",
    "schedules": "What runs by itself, and when.",
    "drift": "Whether members still are what their directories and their audit say.",
    "jobs": "What takes longer than a request, and what waits for somebody.",
    "subscribers": "Who is told of events over HTTP, and how that goes.",
    "keys": "Who may use this API for a company.",
    "audit": "Who administered what.",
}

ROUTERS: Final[tuple[APIRouter, ...]] = (
    companies.router,
    members.router,
    member_changes.router,
    plan_changes.router,
    directories.router,
    syncs.router,
    scans.router,
    schedules.router,
    drift.router,
    jobs.router,
    subscribers.router,
    deliveries.router,
    keys.router,
    audit.router,
)


def admin_api(setting: AdminSetting) -> FastAPI:
    """The application with all its routes."""
    app = FastAPI(
        title="Rollcall",
        version=version("rollcall"),
        description=_DESCRIPTION,
        openapi_tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        # Its pages load scripts from elsewhere; ours needs none.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    complete_description(app)
    app.state.setting = setting
    app.state.bodies = BodyReader(_LARGEST_BODY, _RECEIVE_SECONDS, _ALL_BODIES)
    add_problem_handlers(app)
    add_replay_handler(app)
    for router in ROUTERS:
        # As they are: included, they would stand behind one more router each, which hides from others what methods a path has.
        app.router.routes.extend(router.routes)
    app.add_route("/docs", docs_page, include_in_schema=False)
    return app


def admin_door(setting: AdminSetting, metrics: Metrics = UNMEASURED, tracing: Tracing = NO_TRACING) -> ASGIApp:
    """The same, traced and counted."""
    return AdminDoor(admin_api(setting), metrics, tracing)


def described_api() -> FastAPI:
    """The application for its description alone: no request to it can be answered."""

    def nowhere(*_: object) -> NoReturn:
        raise Unavailable("this application only describes itself")

    return admin_api(
        AdminSetting(
            database=nowhere,
            operator_key=None,
            default_grace_days=0,
            sync_enabled=False,
            opened=nowhere,
            described=nowhere,
            bind=nowhere,
            scan_providers={},
        )
    )
