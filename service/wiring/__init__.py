"""The composition root: the only room that knows everything."""

from service.wiring.worker import worker_app

__all__ = ["worker_app"]
