"""The worker as FastStream's own command runs and documents it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from faststream import FastStream
from faststream.specification import AsyncAPI

from service.settings import SettingsError, load_settings
from service.telemetry.setup import open_tracing
from service.telemetry.tracing import NO_TRACING
from service.wiring.extensions import load_extensions, say_unusable
from service.wiring.job_kinds import job_kinds
from service.wiring.worker import Worker, worker_metrics

__all__ = ["worker_app"]


def worker_app() -> FastStream:
    """The worker as a FastStream application, for `faststream run --factory` and `faststream docs gen --factory`.

    Documentation needs no environment; a run without one raises SettingsError as it starts.
    """
    try:
        settings = load_settings()
    except SettingsError:
        settings = None
    extensions = load_extensions()
    say_unusable(extensions.unusable)
    tracing = open_tracing(settings) if settings is not None else NO_TRACING
    metrics = worker_metrics()
    worker = Worker(settings, metrics, tracing, find_kinds=partial(job_kinds, metrics=metrics, extensions=extensions))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        try:
            async with worker.lifespan():
                yield
        finally:
            tracing.close()

    return FastStream(
        worker.broker,
        lifespan=lifespan,
        logger=None,
        specification=AsyncAPI(title="Rollcall worker", description="What the worker consumes.", version="1.0.0"),
    )
