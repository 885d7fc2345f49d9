"""What `connections add --webhook` says of a connection's webhooks, checked, stored, and shown as a request that works."""

from __future__ import annotations

import base64
import os
import secrets
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import typer
from uuid_utils.compat import uuid7

from service.cli.mapping_file import read_mapping
from service.domain.change import VersionKind
from service.domain.errors import RollcallError
from service.domain.member import CompanyId, ConnectionId
from service.domain.webhooks.mapping import DEFAULT_MAPPING, InvalidMapping, WebhookMapping, webhook_mapping
from service.domain.webhooks.schemes import InvalidScheme, Scheme, SchemeName, scheme
from service.domain.webhooks.signatures import sign
from service.settings import SecretUnavailable, Settings, is_reference, resolve_secret
from service.store.database import Tx
from service.store.secret_grants import offer_secret
from service.store.webhook_secrets import WebhookSecret, insert_webhook_secret
from service.store.webhooks import WebhookRow, insert_webhook

__all__ = [
    "WebhookSetup",
    "add_secret",
    "create_secret",
    "curl",
    "mapping_of",
    "read_setup",
    "scheme_of",
    "secret_key",
    "secret_problem",
    "signed_headers",
    "webhook_url",
]

_CONTENT_TYPE: Final = "application/json"
_SECRET_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class WebhookSetup:
    """How a connection's webhooks will be signed and mapped."""

    scheme: Scheme
    settings: dict[str, Any]
    mapping: dict[str, Any] | None
    reference: str
    rate_per_second: int

    @property
    def mapped_fields(self) -> list[str]:
        """The member fields that the mapping fills."""
        return (DEFAULT_MAPPING if self.mapping is None else webhook_mapping(self.mapping)).mapped_fields

    @property
    def versions(self) -> VersionKind:
        """How webhooks are ordered where nothing else is said."""
        return VersionKind.UPDATED_AT

    async def store(self, tx: Tx, connection_id: ConnectionId, company_id: CompanyId) -> None:
        """Write it with its secret; raises RollcallError."""
        await insert_webhook(
            tx,
            connection_id,
            company_id,
            scheme=self.scheme.name.value,
            settings=self.settings,
            mapping=self.mapping,
            rate_per_second=self.rate_per_second,
        )
        await add_secret(tx, connection_id, company_id, self.reference)


async def add_secret(tx: Tx, connection_id: ConnectionId, company_id: CompanyId, reference: str) -> None:
    """Add a secret to a connection, and grant it: whoever runs this is the operator. Raises RollcallError where it was revoked."""
    if not await offer_secret(tx, company_id, reference):
        # Taking it back was a decision of its own; nothing that comes along undoes it.
        again = shlex.join(["rollcall", "secrets", "grant", str(company_id), reference])
        message = f"{reference} was revoked for this company; `{again}` gives it back"
        raise RollcallError(message)
    await insert_webhook_secret(tx, connection_id, company_id, reference)


def read_setup(name: SchemeName, pairs: list[str], mapping: Path | None, reference: str | None, rate: int) -> WebhookSetup:
    """The setup that the options describe; raises BadParameter for the option that does not fit."""
    if reference is None:
        raise typer.BadParameter("webhooks are signed: env:ROLLCALL_SECRET_NAME or file:NAME", param_hint="--secret")
    if not is_reference(reference):
        raise typer.BadParameter("must be env:ROLLCALL_SECRET_NAME, or file:NAME below SECRETS_DIR", param_hint="--secret")
    settings = dict(_pair(pair) for pair in pairs)
    try:
        described = scheme(name, settings)
    except InvalidScheme as error:
        raise typer.BadParameter(str(error), param_hint="--hmac") from None
    return WebhookSetup(described, settings, _mapping(mapping), reference, rate)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise typer.BadParameter("must be NAME=VALUE", param_hint="--hmac")
    return name, value


def _mapping(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    described = read_mapping(path, "--mapping")
    try:
        webhook_mapping(described)
    except InvalidMapping as error:
        raise typer.BadParameter(str(error), param_hint="--mapping") from None
    return described


def create_secret(settings: Settings, reference: str) -> None:
    """Make a new random secret in the file that the reference names; raises RollcallError."""
    folder = settings.secrets_dir
    if folder is None or not reference.startswith("file:"):
        raise RollcallError("a new secret is made in a file: give --secret file:NAME, and set SECRETS_DIR")
    path = (folder / reference.removeprefix("file:")).resolve()
    if not path.is_relative_to(folder.resolve()):
        message = f"{reference} is no file below SECRETS_DIR"
        raise RollcallError(message)
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"
    try:
        # Whoever else may use the machine must not read it, not even for a moment.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret)
    except OSError as error:
        message = f"{reference} cannot be made: {error.strerror}"
        raise RollcallError(message) from None


def scheme_of(row: WebhookRow | WebhookSecret) -> Scheme:
    """The scheme of a stored connection; raises RollcallError."""
    try:
        return scheme(SchemeName(row.scheme), row.settings)
    except InvalidScheme as error:
        raise RollcallError(str(error)) from None


def mapping_of(row: WebhookRow) -> WebhookMapping:
    """The mapping of a stored connection; raises RollcallError."""
    try:
        return DEFAULT_MAPPING if row.mapping is None else webhook_mapping(row.mapping)
    except InvalidMapping as error:
        raise RollcallError(str(error)) from None


def secret_key(settings: Settings, by: Scheme, reference: str) -> bytes:
    """The key behind a reference, as this process can see it; raises RollcallError."""
    try:
        return by.key(resolve_secret(reference, settings.secrets_dir).get_secret_value())
    except (SecretUnavailable, InvalidScheme) as error:
        raise RollcallError(str(error)) from None


def secret_problem(settings: Settings, row: WebhookSecret, reference: str) -> str | None:
    """Why this process cannot use a connection's secret, without its value; None where it can."""
    try:
        secret_key(settings, scheme_of(row), reference)
    except RollcallError as error:
        return str(error)
    return None


def webhook_url(settings: Settings, connection_id: ConnectionId, base: str | None) -> str:
    """Where the webhooks of a connection are posted."""
    return f"{(base or f'http://localhost:{settings.port}').rstrip('/')}/webhooks/{connection_id}"


def signed_headers(by: Scheme, key: bytes, body: bytes, message_id: str | None = None) -> list[tuple[str, str]]:
    """The headers of a request signed now."""
    signed = sign(by, key, body, message_id=message_id or f"msg_{uuid7().hex}", now=datetime.now(UTC))
    return [("content-type", _CONTENT_TYPE), *signed]


def curl(url: str, headers: list[tuple[str, str]], body: bytes) -> str:
    """The request as a command line."""
    words = ["curl", "-i", url]
    for name, value in headers:
        words += ["-H", f"{name}: {value}"]
    return shlex.join([*words, "--data-binary", body.decode()])
