"""The only reader of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, FilePath, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = [
    "SdkSettings",
    "SecretUnavailable",
    "Settings",
    "SettingsError",
    "given_urls",
    "is_reference",
    "load_database_settings",
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


def _collector(value: str) -> str:
    parts = urlsplit(value)
    try:
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits:
        message = "must be a URL of the form http://host:port"
        raise ValueError(message)
    return value


CollectorUrl = Annotated[str | None, BeforeValidator(_blank_is_unset), AfterValidator(lambda url: url and _collector(url))]
PostgresUrl = Annotated[SecretStr, _url_of("postgresql", "postgres")]
AmqpUrl = Annotated[SecretStr, _url_of("amqp", "amqps")]
OtlpProtocol = Literal["grpc", "http/protobuf"]


def _networks(value: object) -> object:
    """The networks of a comma-separated list of CIDRs and addresses."""
    if not isinstance(value, str):
        return value
    networks: list[IPv4Network | IPv6Network] = []
    for part in filter(None, (part.strip() for part in value.split(","))):
        try:
            networks.append(ip_network(part))
        except ValueError:
            message = "must be networks such as 10.20.0.0/16, comma-separated, without bits behind their prefix"
            raise ValueError(message) from None
    return tuple(networks) or None


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...] | None, NoDecode, BeforeValidator(_networks)]


def _directory_url(value: object) -> object:
    if not isinstance(value, str) or not value.strip():
        return None
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        message = "must be a URL of the form https://host, without user and query"
        raise ValueError(message)
    return value


DirectoryUrl = Annotated[str | None, BeforeValidator(_directory_url)]
BreachApiUrl = Annotated[str, BeforeValidator(_directory_url)]


class DatabaseSettings(BaseSettings):
    """Where the database is: all that migrating it takes."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    database_url: PostgresUrl
    # Where DATABASE_URL is a pooler in transaction mode: the direct address, for LISTEN and migrations.
    database_listen_url: Annotated[PostgresUrl | None, BeforeValidator(_blank_is_unset)] = None

    @property
    def listen_url(self) -> SecretStr:
        """The server itself, where a session is one session."""
        return self.database_listen_url or self.database_url


class Settings(DatabaseSettings):
    """Everything that can be set from outside; `.env.example` explains each."""

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
    # Off: no sync changes anything, whoever asks for it; dry runs go on.
    sync_enabled: bool = True
    # Off: nothing begins by itself.
    cron_enabled: bool = True
    # How often the directory of DJANGO_BASE_URL is synced, until somebody says otherwise.
    sync_interval_minutes: Annotated[int, Field(ge=5, le=527_040)] = 60
    # How often it is looked for members of whom time makes something else.
    reconciliation_interval_ms: Annotated[int, Field(ge=1000, le=86_400_000)] = 300_000
    # Makes the company `default` with one connection, which is asked with this key.
    django_base_url: DirectoryUrl = None
    django_api_key: Secret = None
    # Where CSV directories lie whose location is `file:NAME`.
    csv_dir: Annotated[Path | None, BeforeValidator(_blank_is_unset)] = None
    # Networks that directories and other addresses which companies name may lie in, besides the public internet.
    allow_networks: Networks = None
    # Whom the scan provider `breach` asks: the operator's word, since the key of the companies goes there.
    breach_api_url: BreachApiUrl = "https://haveibeenpwned.com"
    # Of webhooks that are not signed right, by address; a burst may be four times as many.
    forged_webhooks_per_second: Annotated[int, Field(ge=1, le=100_000)] = 50
    # Whose X-Forwarded-For is believed.
    trusted_proxies: str = "127.0.0.1"
    # How long SIGTERM waits for what is in flight.
    shutdown_grace_seconds: Annotated[float, Field(gt=0, le=600)] = 25
    # OpenTelemetry's own names; what is not here (headers, timeouts, certificates, limits) its SDK reads by itself.
    otel_sdk_disabled: bool = False
    otel_service_name: str = "rollcall"
    otel_traces_exporter: Literal["otlp", "none"] | None = None
    otel_exporter_otlp_endpoint: CollectorUrl = None
    otel_exporter_otlp_traces_endpoint: CollectorUrl = None
    otel_exporter_otlp_protocol: OtlpProtocol = "http/protobuf"
    otel_exporter_otlp_traces_protocol: OtlpProtocol | None = None
    otel_traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = "parentbased_always_on"
    otel_traces_sampler_arg: Annotated[float, Field(ge=0, le=1)] = 1.0
    # Ended spans that wait for their export; of more the oldest are lost.
    otel_bsp_max_queue_size: Annotated[int, Field(ge=1024, le=1_000_000)] = 16_384
    # A batch links to each recorded message in it, of which there may be 500.
    otel_span_link_count_limit: Annotated[int, Field(ge=0, le=10_000)] = 1024
    otel_span_attribute_count_limit: Annotated[int | None, Field(ge=0), BeforeValidator(_blank_is_unset)] = None

    @property
    def grace(self) -> timedelta:
        """The days of grace after expiry that hold where a company has none of its own."""
        return timedelta(days=self.grace_days)

    @property
    def behind_pooler(self) -> bool:
        """Whether DATABASE_URL is a pooler, which must not be asked to remember prepared statements."""
        return self.database_listen_url is not None

    @property
    def traces_protocol(self) -> OtlpProtocol:
        """How traces are sent."""
        return self.otel_exporter_otlp_traces_protocol or self.otel_exporter_otlp_protocol

    @property
    def traces_endpoint(self) -> str | None:
        """Where traces are sent, in full; None where there is no tracing."""
        given = self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint
        if self.otel_sdk_disabled or self.otel_traces_exporter == "none" or not (given or self.otel_traces_exporter):
            return None
        if self.traces_protocol == "grpc":
            return given or "http://localhost:4317"
        if self.otel_exporter_otlp_traces_endpoint is not None:
            return self.otel_exporter_otlp_traces_endpoint
        return f"{(given or 'http://localhost:4318').rstrip('/')}/v1/traces"


class SdkSettings(BaseSettings):
    """What OpenTelemetry's SDK reads by itself; of a wrong value it would take its default and log the value."""

    model_config = Settings.model_config

    otel_bsp_schedule_delay: Annotated[float | None, Field(gt=0)] = None
    otel_bsp_max_export_batch_size: Annotated[int | None, Field(gt=0, le=1024)] = None
    otel_bsp_export_timeout: Annotated[float | None, Field(ge=0)] = None
    otel_exporter_otlp_timeout: Annotated[float | None, Field(gt=0)] = None
    otel_exporter_otlp_traces_timeout: Annotated[float | None, Field(gt=0)] = None
    otel_exporter_otlp_compression: Literal["none", "gzip", "deflate"] | None = None
    otel_exporter_otlp_traces_compression: Literal["none", "gzip", "deflate"] | None = None
    otel_exporter_otlp_certificate: FilePath | None = None
    otel_exporter_otlp_traces_certificate: FilePath | None = None
    otel_exporter_otlp_client_certificate: FilePath | None = None
    otel_exporter_otlp_traces_client_certificate: FilePath | None = None
    otel_exporter_otlp_client_key: FilePath | None = None
    otel_exporter_otlp_traces_client_key: FilePath | None = None
    otel_resource_attributes: Annotated[str | None, Field(pattern=r"^\s*[^=,\s]+\s*=[^,]*(,\s*[^=,\s]+\s*=[^,]*)*,?\s*$")] = None


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment; raises SettingsError."""
    _checked(SdkSettings)
    return _checked(Settings, **overrides)


def load_database_settings() -> DatabaseSettings:
    """Where the database is, for what needs nothing else; raises SettingsError."""
    return _checked(DatabaseSettings)


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
        message = f"{reference} is not set{' (it is blank)' if value else ''}"
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
