"""The only reader of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = [
    "SecretUnavailable",
    "Settings",
    "SettingsError",
    "given_urls",
    "is_reference",
    "load_settings",
    "resolve_secret",
    "without_password",
]

S = TypeVar("S", bound=BaseSettings)


class SettingsError(Exception):
    """The environment does not fit; the text names each variable and what it should hold, never its value."""


def _blank_is_unset(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _url_of(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            fits = parts.scheme in schemes and (parts.port is None or parts.port > 0)
        except ValueError:
            fits = False
        if not fits:
            message = f"must be a URL of the form {schemes[0]}://user:password@host:port/name"
            raise ValueError(message)
        return value

    return AfterValidator(check)


Secret = Annotated[SecretStr | None, BeforeValidator(_blank_is_unset)]
PostgresUrl = Annotated[SecretStr, _url_of("postgresql", "postgres")]
AmqpUrl = Annotated[SecretStr, _url_of("amqp", "amqps")]


class Settings(BaseSettings):
    """Everything that can be set from outside; `.env.example` explains each."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    database_url: PostgresUrl
    # Where DATABASE_URL is a pooler in transaction mode: the direct address, for LISTEN alone.
    database_listen_url: Annotated[PostgresUrl | None, BeforeValidator(_blank_is_unset)] = None
    rabbitmq_url: AmqpUrl
    # Where the HTTP server listens; every process answers probes, and they come from outside.
    host: str = "0.0.0.0"  # noqa: S104  # meant
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    admin_api_key: Secret = None
    cron_secret: Secret = None
    grace_days: Annotated[int, Field(ge=0, le=3650)] = 0
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    secrets_dir: Annotated[Path | None, BeforeValidator(_blank_is_unset)] = None
    # Of webhooks that are not signed right, by address; a burst may be four times as many.
    forged_webhooks_per_second: Annotated[int, Field(ge=1, le=100_000)] = 50
    # Whose X-Forwarded-For is believed.
    trusted_proxies: str = "127.0.0.1"
    # How long SIGTERM waits for what is in flight.
    shutdown_grace_seconds: Annotated[float, Field(gt=0, le=600)] = 25

    @property
    def grace(self) -> timedelta:
        """The days of grace after expiry that hold where a company has none of its own."""
        return timedelta(days=self.grace_days)

    @property
    def behind_pooler(self) -> bool:
        """Whether DATABASE_URL is a pooler, which must not be asked to remember prepared statements."""
        return self.database_listen_url is not None

    @property
    def listen_url(self) -> SecretStr:
        """Where to LISTEN."""
        return self.database_listen_url or self.database_url


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment; raises SettingsError."""
    return _checked(Settings, **overrides)


def _checked(kind: Callable[..., S], **overrides: object) -> S:
    try:
        return kind(**overrides)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        message = "the environment does not fit; see .env.example\n  " + "\n  ".join(lines)
        raise SettingsError(message) from None


def without_password(url: str) -> str:
    """The host, port and path of a URL, for logs and error texts."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def given_urls() -> tuple[str | None, str | None]:
    """DATABASE_URL and RABBITMQ_URL where they are set, for the commands that can do without; raises SettingsError."""

    class Given(BaseSettings):
        model_config = Settings.model_config

        database_url: Annotated[PostgresUrl | None, BeforeValidator(_blank_is_unset)] = None
        rabbitmq_url: Annotated[AmqpUrl | None, BeforeValidator(_blank_is_unset)] = None

    given = _checked(Given)
    urls = given.database_url, given.rabbitmq_url
    database_url, rabbitmq_url = (url.get_secret_value() if url else None for url in urls)
    return database_url, rabbitmq_url


class SecretUnavailable(Exception):
    """A reference leads to no secret; the text names the reference, which is not secret, and why."""


_ENVIRONMENT: Final = re.compile(r"env:(ROLLCALL_SECRET_[A-Z0-9_]+)")
_FILE: Final = re.compile(r"file:[^/\s][^\x00-\x1f]*")
_LARGEST_SECRET: Final = 64 * 1024


def is_reference(text: str) -> bool:
    """Whether a text has the form of a reference, wherever it may lead."""
    return _ENVIRONMENT.fullmatch(text) is not None or _FILE.fullmatch(text) is not None


def resolve_secret(reference: str, secrets_dir: Path | None) -> SecretStr:
    """The value behind `env:ROLLCALL_SECRET_…` or `file:<path below SECRETS_DIR>`; blank is unset. Raises SecretUnavailable."""
    if (variable := _ENVIRONMENT.fullmatch(reference)) is not None:
        value = os.environ.get(variable[1], "")
    elif _FILE.fullmatch(reference) is not None:
        value = _secret_file(reference, secrets_dir)
    else:
        message = f"{reference} is no reference: env:ROLLCALL_SECRET_NAME, or file:NAME below SECRETS_DIR"
        raise SecretUnavailable(message)
    if not value.strip():
        message = f"{reference} is not set"
        raise SecretUnavailable(message)
    return SecretStr(value.rstrip("\r\n"))


def _secret_file(reference: str, secrets_dir: Path | None) -> str:
    if secrets_dir is None:
        message = f"{reference} needs SECRETS_DIR"
        raise SecretUnavailable(message)
    try:
        folder = secrets_dir.resolve(strict=True)
        # Links are followed first: mounted secrets are links, and one that leads outside is refused.
        path = (folder / reference.removeprefix("file:")).resolve(strict=True)
        if not path.is_relative_to(folder) or not path.is_file():
            message = f"{reference} is no file below SECRETS_DIR"
            raise SecretUnavailable(message)
        with path.open("rb") as file:
            content = file.read(_LARGEST_SECRET + 1)
        if len(content) > _LARGEST_SECRET:
            message = f"{reference} is larger than {_LARGEST_SECRET} bytes"
            raise SecretUnavailable(message)
        return content.decode()
    except (OSError, ValueError, RuntimeError) as error:
        message = f"{reference} cannot be read ({type(error).__name__})"
        raise SecretUnavailable(message) from None
