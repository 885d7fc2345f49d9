"""Three sources of webhooks, each signing as its provider does: the official libraries, and for GitHub what GitHub documents."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Final

from service.domain.change import VersionKind
from service.domain.errors import RollcallError
from service.domain.webhooks.schemes import SchemeName

__all__ = ["GitHub", "LibraryMissing", "StandardWebhooks", "Step", "Stripe", "WebhookSource", "check_libraries", "load_libraries"]

_SECRET_BYTES: Final = 24
_LIBRARIES: Final = ("standardwebhooks", "stripe")


class LibraryMissing(RollcallError):
    """The demo's webhooks are signed by the official libraries, and one is not installed."""


def check_libraries() -> None:
    """Raise LibraryMissing where one of the official libraries is not installed."""
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        message = f"{', '.join(missing)}: not installed, and the demo's webhooks are signed by it; `pip install 'rollcall[stack]'`"
        raise LibraryMissing(message)


def load_libraries() -> None:
    """Import them: what takes a second or two may happen beside something else."""
    for name in _LIBRARIES:
        import_module(name)


@dataclass(frozen=True, slots=True)
class Step:
    """What a source knows of one of its members at one time; who leaves keeps what was known of him."""

    member: str
    name: str
    plan: str
    state: str
    at: datetime
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class WebhookSource(ABC):
    """A provider with a secret of its own; `settings` and `mapping` are what an operator would give its connection."""

    secret: str = field(repr=False)
    name: ClassVar[str]
    scheme: ClassVar[SchemeName]
    versions: ClassVar[VersionKind] = VersionKind.UPDATED_AT
    mapping: ClassVar[Mapping[str, Any] | None] = None
    signs_time: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def with_new_secret(cls) -> WebhookSource:
        """With a secret as the provider makes them."""

    @abstractmethod
    def payload(self, step: Step) -> bytes:
        """The body that the provider posts."""

    @abstractmethod
    def sign(self, body: bytes, message_id: str, at: datetime) -> dict[str, str]:
        """The headers that the provider puts beside it."""

    @abstractmethod
    def believes(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Whether whoever keeps to the provider's own library or documents believes it now."""

    @abstractmethod
    def key(self, body: bytes, headers: Mapping[str, str]) -> str:
        """What makes a webhook of this provider the same one."""


class StandardWebhooks(WebhookSource):
    """Any sender that keeps to the specification; its payload needs no mapping."""

    name = "standard-webhooks"
    scheme = SchemeName.STANDARD_WEBHOOKS

    @classmethod
    def with_new_secret(cls) -> StandardWebhooks:
        """As the specification asks: random bytes in base64."""
        return cls(f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}")

    def payload(self, step: Step) -> bytes:
        """The members of a club's own system."""
        head = {"id": step.member, "action": "delete" if step.leaves else "update", "updated_at": step.at.isoformat()}
        rest = {} if step.leaves else {"name": step.name, "state": step.state, "plan": step.plan}
        return json.dumps(head | rest).encode()

    def sign(self, body: bytes, message_id: str, at: datetime) -> dict[str, str]:
        """By the library `standardwebhooks`."""
        import standardwebhooks

        signature = standardwebhooks.Webhook(self.secret).sign(message_id, at, body.decode())
        return {"webhook-id": message_id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}

    def believes(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """By the library `standardwebhooks`."""
        import standardwebhooks

        try:
            standardwebhooks.Webhook(self.secret).verify(body, dict(headers), json_parse=False)
        except standardwebhooks.WebhookVerificationError:
            return False
        return True

    def key(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The id that is signed."""
        return headers["webhook-id"]


class Stripe(WebhookSource):
    """Subscriptions at Stripe."""

    name = "stripe"
    scheme = SchemeName.STRIPE
    mapping: ClassVar[Mapping[str, Any] | None] = {
        "externalId": "data.object.customer",
        "action": "type",
        "actions": {"customer.subscription.updated": "upsert", "customer.subscription.deleted": "remove"},
        "updatedAt": "created",
        "times": "seconds",
        "states": {"past_due": "suspended"},
        "member": {
            "name": "data.object.metadata.name",
            "state": "data.object.status",
            "plan": "data.object.plan.nickname",
        },
    }

    @classmethod
    def with_new_secret(cls) -> Stripe:
        """As an endpoint's secret looks."""
        return cls(f"whsec_{secrets.token_hex(_SECRET_BYTES)}")

    def payload(self, step: Step) -> bytes:
        """An event about a subscription."""
        number = hashlib.sha256(f"{step.member} {step.at}".encode()).hexdigest()[:24]
        subscription = {
            "id": f"sub_{step.member}",
            "object": "subscription",
            "customer": step.member,
            "status": {"suspended": "past_due"}.get(step.state, step.state),
            "plan": {"nickname": step.plan},
            "metadata": {"name": step.name},
        }
        event = {
            "id": f"evt_{number}",
            "object": "event",
            "type": f"customer.subscription.{'deleted' if step.leaves else 'updated'}",
            "created": int(step.at.timestamp()),
            "data": {"object": subscription},
        }
        return json.dumps(event).encode()

    def sign(self, body: bytes, message_id: str, at: datetime) -> dict[str, str]:
        """By the library `stripe`; the id is in the body."""
        import stripe

        header = stripe.WebhookSignature.generate_signature_header(body.decode(), self.secret, int(at.timestamp()))
        return {"stripe-signature": header}

    def believes(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """By the library `stripe`."""
        import stripe

        try:
            stripe.WebhookSignature.verify_header(
                body, headers.get("stripe-signature"), self.secret, stripe.Webhook.DEFAULT_TOLERANCE
            )
        except stripe.SignatureVerificationError:
            return False
        return True

    def key(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The event's id."""
        return str(json.loads(body)["id"])


class GitHub(WebhookSource):
    """The members of an organisation at GitHub, whose webhooks carry no time."""

    name = "github"
    scheme = SchemeName.GITHUB
    versions = VersionKind.NONE
    signs_time = False
    mapping: ClassVar[Mapping[str, Any] | None] = {
        "externalId": "membership.user.login",
        "action": "action",
        "actions": {"member_added": "upsert", "member_removed": "remove"},
        "member": {"name": "membership.user.name", "state": "membership.state", "plan": "membership.role"},
    }

    @classmethod
    def with_new_secret(cls) -> GitHub:
        """Any text."""
        return cls(secrets.token_urlsafe(_SECRET_BYTES))

    def payload(self, step: Step) -> bytes:
        """An event about an organisation."""
        user = {"login": step.member, "name": step.name}
        action = "member_removed" if step.leaves else "member_added"
        body = {"action": action, "membership": {"user": user, "state": step.state, "role": step.plan}}
        return json.dumps(body).encode()

    def sign(self, body: bytes, message_id: str, at: datetime) -> dict[str, str]:
        """As documented: a hex HMAC-SHA256 of the body; the delivery's id is not signed."""
        digest = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        return {"x-github-event": "organization", "x-github-delivery": message_id, "x-hub-signature-256": f"sha256={digest}"}

    def believes(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """As documented."""
        digest = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(f"sha256={digest}", headers.get("x-hub-signature-256", ""))

    def key(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The body itself."""
        return f"sha256:{hashlib.sha256(body).hexdigest()}"
