"""GET /health: the process answers. GET /ready: it can do its work; 503 with what is missing otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

__all__ = ["Problems", "health_routes"]

# By part of the process: what keeps it from its work, by dependency.
Problems: TypeAlias = Callable[[], Awaitable[dict[str, dict[str, str]]]]


def health_routes(problems: Problems) -> list[Route]:
    """The two routes that an orchestrator asks."""

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "healthy", "service": "rollcall"})

    async def ready(_: Request) -> JSONResponse:
        found = await problems()
        if found:
            return JSONResponse({"status": "not ready", "problems": found}, status_code=503)
        return JSONResponse({"status": "ready"})

    return [Route("/health", health), Route("/ready", ready)]
