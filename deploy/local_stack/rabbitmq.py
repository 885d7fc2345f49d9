"""A RabbitMQ node as a private process: own Erlang port mapper, cookie, data directory and ports, loopback only."""

from __future__ import annotations

import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.local_stack.errors import StackUnavailable
from deploy.local_stack.plugins import lean_scripts
from deploy.local_stack.ports import free_ports
from deploy.local_stack.processes import PrivateProcess, Reaper

VHOST = "rollcall"
_START_SECONDS = 90.0
_EPMD_SECONDS = 10.0
_PORT_ATTEMPTS = 5
_TAKEN = re.compile(r"eaddrinuse|address already in use|already a epmd running", re.IGNORECASE)
# Two threads for file operations: with the usual ten, each of the many of a start wakes another, which takes longer.
_ERLANG = "+S 2:2 +SDio 2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"


@dataclass(frozen=True, slots=True)
class RabbitmqBinaries:
    """The directory with RabbitMQ's own scripts, the one with `erl` and `epmd`, and RabbitMQ's version."""

    scripts: Path
    erlang: Path
    version: str


@dataclass(frozen=True, slots=True)
class _Ports:
    amqp: int
    distribution: int
    epmd: int
    control: int
    plugin: int


class RabbitmqNode:
    """A node of its own; `kill` keeps its data and ports for the next `start`, `stop` deletes them.

    Raises StackUnavailable from every method. With the plugin `rabbitmq_management` its API is at `management_url`.
    """

    def __init__(self, binaries: RabbitmqBinaries, *, plugins: Sequence[str] = (), reaper: Reaper | None = None) -> None:
        self._binaries = binaries
        self._plugins = tuple(plugins)
        self._given_reaper = reaper
        self._own_reaper: Reaper | None = None
        self._directory: Path | None = None
        self._scripts = binaries.scripts
        self._epmd: PrivateProcess | None = None
        self._node: PrivateProcess | None = None
        self._ports = _Ports(0, 0, 0, 0, 0)
        self._name = f"rollcall-{secrets.token_hex(4)}@localhost"
        self._password = secrets.token_hex(12)

    @property
    def url(self) -> str:
        """The URL of its vhost `rollcall`, with the right to everything."""
        return f"amqp://rollcall:{self._password}@127.0.0.1:{self.port}/{VHOST}"

    @property
    def management_url(self) -> str:
        """The URL of the management API, credentials included; answers with the plugin `rabbitmq_management` only."""
        return f"http://rollcall:{self._password}@127.0.0.1:{self._ports.plugin}/api"

    @property
    def port(self) -> int:
        """The AMQP port."""
        return self._ports.amqp

    @property
    def pid(self) -> int:
        """The Erlang machine's pid (beam)."""
        return self._running().pid

    @property
    def log(self) -> str:
        """All it has logged."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def start(self) -> Self:
        """Start it, the first time on a new data directory and free ports; return itself once it is up."""
        if self._node is not None:
            raise StackUnavailable("this RabbitMQ node is running already")
        try:
            if self._directory is not None:
                self._launch()
                return self
            directory = self._directory = self._reaper.make_directory(None)
            self._scripts = lean_scripts(self._binaries.scripts, self._plugins, directory / "rabbitmq")
            for attempt in range(_PORT_ATTEMPTS):
                self._ports = _Ports(*free_ports(5))
                try:
                    self._launch()
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
        self._end(signal.SIGKILL)
        if self._directory is not None:
            self._reaper.remove_directory(self._directory)
            self._directory = None
        if self._own_reaper is not None:
            self._own_reaper.close()
            self._own_reaper = None

    def kill(self) -> None:
        """SIGKILL the Erlang machine, its helpers and its port mapper; the data stays."""
        self._running()
        self._end(signal.SIGKILL)

    def shut_down(self) -> None:
        """End it in good order; the data stays."""
        self._running()
        self._end(signal.SIGTERM, patience=30)

    def pause(self) -> None:
        """Let it hang: SIGSTOP, so that connections stay open and nothing is answered."""
        self._running().pause()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._running().resume()

    def ctl(self, *arguments: str, program: str = "rabbitmqctl", timeout: float = 60) -> str:
        """Run `rabbitmqctl` (or `rabbitmq-queues`, ...) against this node, `timeout` seconds at most; return its output."""
        self._running()
        argv = [str(self._scripts / program), *arguments]
        try:
            done = subprocess.run(
                argv,
                env=self._environment(),
                cwd=self._log.parent,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise StackUnavailable(f"{program} {' '.join(arguments)} took more than {timeout:.0f} s") from error
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise StackUnavailable(f"{program} {' '.join(arguments)} failed ({done.returncode}): {said}")
        return done.stdout

    def _running(self) -> PrivateProcess:
        if self._node is None:
            raise StackUnavailable("this RabbitMQ node is not running")
        return self._node

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
            raise StackUnavailable("this RabbitMQ node has no data any more")
        return self._directory / "log"

    def _end(self, farewell: signal.Signals, patience: float = 3) -> None:
        if self._node is not None:
            self._node.end(farewell, patience)
            self._node = None
        if self._epmd is not None:
            self._epmd.end(signal.SIGKILL)
            self._epmd = None

    def _launch(self) -> None:
        directory = self._log.parent
        (directory / "rabbitmq.conf").write_text(self._configuration(), encoding="utf-8")
        (directory / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n", encoding="utf-8")
        self._log.touch()
        seen = len(self.log)
        # Our port mapper must listen first: else Erlang starts one of its own, which would stay.
        self._epmd = self._spawn(self._binaries.erlang / "epmd", "-port", str(self._ports.epmd), "-address", "127.0.0.1")
        self._await(self._epmd, seen, _EPMD_SECONDS)
        self._node = self._spawn(self._scripts / "rabbitmq-server")
        self._await(self._node, seen, _START_SECONDS)

    def _await(self, process: PrivateProcess, seen: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not (self._epmd_listens(process) if process is self._epmd else "startup complete" in self.log[seen:]):
            if process.exit_code is not None or time.monotonic() > deadline:
                said = self.log[seen:]
                self._end(signal.SIGKILL)
                failure = _PortTakenError if _TAKEN.search(said) else StackUnavailable
                words = " / ".join(line for line in said.splitlines() if line.strip())[-600:]
                raise failure(f"RabbitMQ {self._binaries.version} did not come up: {words or 'it said nothing'}")
            time.sleep(0.02)

    def _epmd_listens(self, epmd: PrivateProcess) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", self._ports.epmd)) != 0:
                return False
        # Were it somebody else who listens, ours would end at once.
        time.sleep(0.1)
        return epmd.exit_code is None

    def _spawn(self, *argv: str | Path) -> PrivateProcess:
        return PrivateProcess(argv, reaper=self._reaper, env=self._environment(), cwd=self._log.parent, log=self._log)

    def _configuration(self) -> str:
        lines = [
            f"listeners.tcp.default = 127.0.0.1:{self._ports.amqp}",
            f"default_vhost = {VHOST}",
            "default_user = rollcall",
            f"default_pass = {self._password}",
            "log.console = true",
            "log.console.level = info",
            "log.file = false",
            "vm_memory_high_watermark.absolute = 1GiB",
            "disk_free_limit.absolute = 50MB",
        ]
        if "rabbitmq_management" in self._plugins:
            lines += ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {self._ports.plugin}"]
        return "\n".join(lines) + "\n"

    def _environment(self) -> dict[str, str]:
        home = self._log.parent
        return {
            "PATH": f"{self._binaries.erlang}:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            # Makes the start script become the Erlang machine instead of waiting for it: one pid, no shell between.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(self._ports.distribution),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(self._ports.control),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(self._ports.control + 20),
            "ERL_EPMD_PORT": str(self._ports.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": str(home / "erl_crash.dump"),
            "ERL_MAX_PORTS": "4096",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(home / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_PID_FILE": str(home / "rabbitmq.pid"),
        }


class _PortTakenError(StackUnavailable):
    """Somebody else listens on one of the ports."""
