"""GET /metrics: what this process counts and measures, for Prometheus."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.telemetry.metrics import Metrics

__all__ = ["metrics_routes"]


def metrics_routes(metrics: Metrics) -> list[Route]:
    """The route that Prometheus scrapes."""

    async def exposed(request: Request) -> Response:
        text, media_type = metrics.exposed(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": media_type})

    return [Route("/metrics", exposed)]
