"""A PostgreSQL server as a private process: own data directory, own port, loopback only."""

from __future__ import annotations

import secrets
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.local_stack.errors import StackUnavailable
from deploy.local_stack.ports import free_ports
from deploy.local_stack.processes import Owner, PrivateProcess, Reaper, open_to_all, unprivileged_owner

_START_SECONDS = 60.0
_INITDB_SECONDS = 120.0
_PORT_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """The directory with `postgres` and `initdb`, and their version; `tree` is what must be copied to move them."""

    directory: Path
    version: str
    tree: tuple[Path, ...] = ()


class PostgresServer:
    """A server of its own; `kill` keeps its data and port for the next `start`, `stop` deletes them.

    Not durable means no fsync: quick, and lost only with the machine. Raises StackUnavailable from every method.
    """

    def __init__(self, binaries: PostgresBinaries, *, durable: bool = True, reaper: Reaper | None = None) -> None:
        self._binaries = binaries
        self._durable = durable
        self._given_reaper = reaper
        self._own_reaper: Reaper | None = None
        self._owner: Owner | None = None
        self._directory: Path | None = None
        self._process: PrivateProcess | None = None
        self._password = secrets.token_hex(12)
        self.port = 0

    @property
    def url(self) -> str:
        """The URL of its maintenance database, `postgres`."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The postmaster's pid."""
        return self._running().pid

    @property
    def log(self) -> str:
        """All it has logged."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def start(self) -> Self:
        """Start it, the first time on a new data directory and a free port; return itself once it answers."""
        if self._process is not None:
            raise StackUnavailable("this PostgreSQL server is running already")
        try:
            if self._directory is not None:
                self._launch(self._directory)
                return self
            self._directory = self._initialised()
            for attempt in range(_PORT_ATTEMPTS):
                self.port = free_ports(1)[0]
                try:
                    self._launch(self._directory)
                    break
                except _PortTakenError:
                    if attempt == _PORT_ATTEMPTS - 1:
                        raise
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it, and delete its data; nothing to do when it never ran."""
        if self._process is not None:
            self._process.end(signal.SIGQUIT)
            self._process = None
        if self._directory is not None:
            self._reaper.remove_directory(self._directory)
            self._directory = None
        if self._own_reaper is not None:
            self._own_reaper.close()
            self._own_reaper = None

    def kill(self) -> None:
        """SIGKILL the postmaster and every backend; the data stays."""
        self._running().end(signal.SIGKILL)
        self._process = None

    def shut_down(self, *, immediate: bool = False) -> None:
        """End it in good order (fast shutdown), or at once, to recover from its log at the next start; the data stays."""
        self._running().end(signal.SIGQUIT if immediate else signal.SIGINT, patience=30)
        self._process = None

    def pause(self) -> None:
        """Let it hang: SIGSTOP to the postmaster and every backend."""
        self._running().pause()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._running().resume()

    def _running(self) -> PrivateProcess:
        if self._process is None:
            raise StackUnavailable("this PostgreSQL server is not running")
        return self._process

    @property
    def _reaper(self) -> Reaper:
        if self._given_reaper is not None:
            return self._given_reaper
        if self._own_reaper is None:
            self._own_reaper = Reaper()
        return self._own_reaper

    @property
    def _log(self) -> Path:
        if self._directory is None:
            raise StackUnavailable("this PostgreSQL server has no data any more")
        return self._directory / "log"

    def _initialised(self) -> Path:
        self._owner = unprivileged_owner()
        directory = self._directory = self._reaper.make_directory(self._owner)
        self._binaries = _reachable(self._binaries, directory, self._owner)
        secret = directory / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password, encoding="ascii")
        if self._owner is not None:
            shutil.chown(secret, self._owner.uid, self._owner.gid)
        options = ["-U", "postgres", "-A", "password", f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "--no-sync"]
        code = self._spawn("initdb", "-D", directory / "data", *options).wait(_INITDB_SECONDS)
        if code != 0:
            raise StackUnavailable(f"PostgreSQL {self._binaries.version}: initdb failed ({code}): {self._last_words()}")
        return directory

    def _launch(self, directory: Path) -> None:
        data = directory / "data"
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "dynamic_shared_memory_type": "mmap",  # lies in the data directory, so a SIGKILL leaves nothing elsewhere
            "timezone": "UTC",
        }
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        seen = len(self.log)
        process = self._process = self._spawn("postgres", "-D", data, *arguments, farewell=signal.SIGQUIT)
        deadline = time.monotonic() + _START_SECONDS
        while not _says_ready(data / "postmaster.pid", process.pid):
            if process.exit_code is not None or time.monotonic() > deadline:
                process.end()
                self._process = None
                words = self.log[seen:]
                failure = _PortTakenError if "could not bind" in words else StackUnavailable
                raise failure(f"PostgreSQL {self._binaries.version} did not come up: {self._last_words()}")
            time.sleep(0.01)

    def _spawn(self, program: str, *arguments: str | Path, farewell: signal.Signals = signal.SIGKILL) -> PrivateProcess:
        log = self._log
        return PrivateProcess(
            [self._binaries.directory / program, *arguments],
            reaper=self._reaper,
            env={"PATH": "/usr/bin:/bin", "HOME": str(log.parent), "LC_ALL": "C", "TZ": "UTC"},
            cwd=log.parent,
            log=log,
            owner=self._owner,
            farewell=farewell,
        )

    def _last_words(self) -> str:
        return " / ".join(self.log.strip().splitlines()[-4:]) or "it said nothing"


class _PortTakenError(StackUnavailable):
    """Somebody else listens on the port."""


def _reachable(binaries: PostgresBinaries, directory: Path, owner: Owner | None) -> PostgresBinaries:
    # An environment below /root is closed to the unprivileged user: run a copy that lies in his own directory.
    if owner is None or open_to_all(binaries.directory / "postgres"):
        return binaries
    if not binaries.tree:
        raise StackUnavailable(f"root must run PostgreSQL as another user, who cannot reach {binaries.directory}")
    home = directory / "programs"
    for part in binaries.tree:
        shutil.copytree(part, home / part.name, symlinks=True, ignore=shutil.ignore_patterns("include"))
    for path in [home, *home.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o055 if path.is_dir() else path.stat().st_mode | 0o044)
    for program in (home / binaries.directory.relative_to(binaries.tree[0].parent)).iterdir():
        program.chmod(0o755)
    return PostgresBinaries(home / binaries.directory.relative_to(binaries.tree[0].parent), binaries.version)


def _says_ready(pid_file: Path, pid: int) -> bool:
    try:
        lines = pid_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
