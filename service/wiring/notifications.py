"""The notifier by the settings: what it may call, and where its secrets are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from service.actions.bind_notifications import Bound, bind_notifications
from service.actions.find_webhook import SecretMissing
from service.actions.notify_subscriber import Keys
from service.clients.notification_sender import NotificationSender
from service.domain.member import CompanyId
from service.entrypoints.loops.notifier import Notifier, NotifierOptions
from service.settings import SecretUnavailable, Settings, resolve_secret
from service.store.database import Database
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["bound_notifications", "opened_notifier"]


def opened_notifier(
    settings: Settings,
    database: Database,
    options: NotifierOptions | None = None,
    *,
    metrics: Metrics = UNMEASURED,
    tracing: Tracing = NO_TRACING,
) -> Notifier:
    """A notifier that stops within the process's grace."""
    options = options or NotifierOptions()
    options = replace(options, stop_within=min(options.stop_within, timedelta(seconds=settings.shutdown_grace_seconds / 2)))

    def open_secret(reference: str) -> str:
        try:
            return resolve_secret(reference, settings.secrets_dir).get_secret_value()
        except SecretUnavailable as error:
            raise SecretMissing(str(error)) from None

    sender = NotificationSender(settings.allow_networks or ())
    return Notifier(database, sender, Keys(open_secret), name="worker", options=options, metrics=metrics, tracing=tracing)


async def bound_notifications(settings: Settings, company_id: CompanyId) -> Bound:
    """Let a company's events reach the notifier, before it has a subscriber; raises Unavailable."""
    return await bind_notifications(settings.rabbitmq_url.get_secret_value(), company_id)
