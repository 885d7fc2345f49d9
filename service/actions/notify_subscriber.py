"""Send one notification to its subscriber, signed with all of its secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from contracts.envelope import STRUCTURED_CONTENT_TYPE
from service.actions.claim_notifications import DueNotification
from service.actions.find_webhook import OpenSecret, SecretMissing
from service.clients.blocking_calls import BlockingCalls
from service.clients.notification_sender import NotificationSender
from service.domain.notifications.delivery import Attempt, Delivered, ErrorClass, Failed, Outcome
from service.domain.webhooks.schemes import PRESETS, InvalidScheme, SchemeName
from service.domain.webhooks.signatures import sign
from service.store.subscriber_secrets import SigningSecret
from service.telemetry import names
from service.telemetry.traced import Traced
from service.telemetry.tracing import NO_TRACING, SpanKind, Tracing
from service.translation import Notification

__all__ = ["Keys", "notify_subscriber"]

_SCHEME: Final = PRESETS[SchemeName.STANDARD_WEBHOOKS]
_FRESH: Final = timedelta(seconds=5)
# Longer than any disk that works, and short beside the lease of a delivery.
_WITHIN: Final = timedelta(seconds=5)


class Keys:
    """The keys behind references, asked for anew after a few seconds: a secret that is mended or replaced needs no restart."""

    def __init__(self, open_secret: OpenSecret, fresh: timedelta = _FRESH, *, within: timedelta = _WITHIN) -> None:
        self._open_secret = open_secret
        self._fresh, self._within = fresh.total_seconds(), within.total_seconds()
        self._reads = BlockingCalls()
        self._known: dict[str, tuple[float, bytes | str]] = {}

    async def of(self, secrets: Sequence[SigningSecret]) -> tuple[list[bytes], list[str]]:
        """The keys that can be used, and of the other references why not; shows no secret."""
        keys, problems = [], []
        for secret in secrets:
            if secret.revoked:
                problems.append(f"{secret.reference} was revoked for this company; `rollcall secrets grant` gives it back")
                continue
            found = await self._find(secret.reference)
            if isinstance(found, bytes):
                keys.append(found)
            else:
                problems.append(found)
        return keys, problems

    async def _find(self, reference: str) -> bytes | str:
        now = monotonic()
        until, found = self._known.get(reference, (0.0, ""))
        if now < until:
            return found
        try:
            async with asyncio.timeout(self._within):
                # A file may lie on a disk that does not answer.
                found = _SCHEME.key(await self._reads.call(reference, partial(self._open_secret, reference)))
        except TimeoutError:
            found = f"{reference} could not be read within {self._within:g} s"
        except (SecretMissing, InvalidScheme) as error:
            found = f"{reference}: {error}" if isinstance(error, InvalidScheme) else str(error)
        self._known[reference] = (now + self._fresh, found)
        return found


async def notify_subscriber(
    due: DueNotification, sender: NotificationSender, keys: Keys, *, tracing: Tracing = NO_TRACING
) -> Attempt:
    """One attempt, over when the subscriber has answered or its time is over; raises nothing that the other side could cause."""
    traced = tracing.start(names.NOTIFY_SUBSCRIBER, SpanKind.CLIENT, due.claimed.traceparent)
    started_at, began = datetime.now(UTC), monotonic()
    try:
        outcome = await _outcome(due, sender, keys, traced, started_at)
    except BaseException as error:
        traced.end(type(error).__name__)
        raise
    status = outcome.status if isinstance(outcome, Delivered | Failed) else HTTPStatus.GONE.value
    if traced.span is not None:
        parts = urlsplit(due.url)
        traced.note(
            {
                names.HTTP_REQUEST_METHOD: names.POST,
                names.SERVER_ADDRESS: parts.hostname or "",
                names.SUBSCRIBER_ID: str(due.claimed.subscriber_id),
                names.DELIVERY_ID: due.claimed.id,
                names.DELIVERY_ATTEMPT: due.claimed.attempts + 1,
                **({} if status is None else {names.HTTP_STATUS_CODE: status}),
            }
        )
    if isinstance(outcome, Failed):
        traced.end(outcome.error_class, outcome.why)
    else:
        traced.end()
    return Attempt(outcome=outcome, started_at=started_at, duration=timedelta(seconds=monotonic() - began))


async def _outcome(due: DueNotification, sender: NotificationSender, keys: Keys, traced: Traced, now: datetime) -> Outcome:
    if due.notification is None:
        return Failed(ErrorClass.NO_EVENT, "the audit does not have this version of the member any more")
    usable, problems = await keys.of(due.secrets)
    if not usable:
        return Failed(ErrorClass.NO_SECRET, "; ".join(problems) or "the subscriber has no secret")
    headers = _headers(due.notification, usable, traced.traceparent, now)
    return await sender.send(due.claimed.subscriber_id, due.url, headers, due.notification.body)


def _headers(notification: Notification, keys: Sequence[bytes], traceparent: str | None, now: datetime) -> dict[str, str]:
    headers: dict[str, str] = {"content-type": STRUCTURED_CONTENT_TYPE}
    signatures = []
    for key in keys:
        signed = dict(sign(_SCHEME, key, notification.body, message_id=notification.id, now=now))
        signatures.append(signed["webhook-signature"])
        headers |= signed
    # While a secret is replaced both sign, and the subscriber finds the one that it knows.
    headers["webhook-signature"] = " ".join(signatures)
    if traceparent is not None:
        headers["traceparent"] = traceparent
    return headers
