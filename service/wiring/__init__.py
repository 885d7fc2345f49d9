"""The composition root: the only room that knows everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faststream import FastStream

__all__ = ["worker_app"]


def worker_app() -> FastStream:
    """The worker as a FastStream application, for `faststream run --factory` and `faststream docs gen --factory`."""
    # Only here: a command that wants another module of this room would wait for all that a worker needs.
    from service.wiring.faststream_app import worker_app as whole_worker

    return whole_worker()
