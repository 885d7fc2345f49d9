"""Private processes: started as somebody harmless, watched by the reaper, ended whole."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.local_stack import reaper as reaping
from deploy.local_stack.errors import StackUnavailable

_PROJECT = Path(__file__).resolve().parents[2]
_REAPER_ENDS_WITHIN = 15.0
# The program starts only once the reaper knows its pid; if we die before that, `read` meets end of file.
_GATE = 'read -r go && exec "$@" </dev/null'


class Reaper:
    """The watching child: it ends what it was told of as soon as this process is gone or closes it.

    Data directories lie in `home`, by default where temporary files do.
    """

    def __init__(self, home: Path | None = None) -> None:
        self._home = home or Path(tempfile.gettempdir())
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(reaping.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [str(_PROJECT), os.environ.get("PYTHONPATH")]))),
        )

    @property
    def pid(self) -> int:
        """The reaper's own pid."""
        return self._process.pid

    def watch(self, leader: reaping.Leader) -> None:
        """End this process and its descendants when the time comes."""
        self._tell({"watch": leader.pid, "born": leader.born, "farewell": leader.farewell})

    def forget(self, pid: int) -> None:
        """Leave a process alone that has ended."""
        self._tell({"forget": pid}, needed=False)

    def make_directory(self, owner: Owner | None) -> Path:
        """Make a data directory that only its owner can enter and that is deleted in the end."""
        path = Path(tempfile.mkdtemp(prefix="rollcall-", dir=_directory_for(owner, self._home)))
        self._tell({"directory": str(path), "gone": False})
        if owner is not None:
            os.chown(path, owner.uid, owner.gid)
        return path

    def remove_directory(self, path: Path) -> None:
        """Delete a data directory now; one that cannot be deleted yet is tried again in the end."""
        if reaping.remove_directory(path):
            self._tell({"directory": str(path), "gone": True}, needed=False)

    def adopt_database(self, url: str) -> None:
        """Drop this database in the end."""
        self._tell({"database": url, "gone": False})

    def release_database(self, url: str) -> None:
        """Leave a database alone that has been dropped."""
        self._tell({"database": url, "gone": True}, needed=False)

    def close(self) -> None:
        """End all that is still watched and wait for it; raise StackUnavailable when it does not come to an end."""
        with self._lock:
            if self._process.stdin is not None and not self._process.stdin.closed:
                with contextlib.suppress(BrokenPipeError):  # it has gone before us
                    self._process.stdin.close()
        try:
            self._process.wait(_REAPER_ENDS_WITHIN)
        except subprocess.TimeoutExpired as error:
            raise StackUnavailable(f"the local stack's reaper (pid {self.pid}) is still busy ending processes") from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it."""
        self.close()

    def _tell(self, message: Mapping[str, object], *, needed: bool = True) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            stdin = self._process.stdin
            heard = stdin is not None and not stdin.closed
            if stdin is not None and heard:
                try:
                    stdin.write(line)
                    stdin.flush()
                except BrokenPipeError:
                    heard = False
            if needed and not heard:
                raise StackUnavailable("the local stack is being ended: its reaper is gone")


@dataclass(frozen=True, slots=True)
class Owner:
    """The unprivileged user that a server is run as by root."""

    uid: int
    gid: int


def unprivileged_owner() -> Owner | None:
    """Return `nobody` for root, None for an ordinary user, who runs servers as himself."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Owner(65534, 65534)
    return Owner(entry.pw_uid, entry.pw_gid)


def open_to_all(path: Path) -> bool:
    """Tell whether any user can reach and enter or run what lies at this path."""
    whole = path.resolve()
    return all(step.stat().st_mode & 0o001 for step in [whole, *whole.parents])


def _directory_for(owner: Owner | None, preferred: Path) -> Path:
    if owner is None:
        return preferred
    for candidate in (preferred, Path("/tmp"), Path("/var/tmp")):  # noqa: S108 - mkdtemp makes a private one in it
        if candidate.is_dir() and open_to_all(candidate):
            return candidate
    raise StackUnavailable(
        f"root must run PostgreSQL as an unprivileged user, but that user can enter neither {preferred} nor /tmp; "
        "set TMPDIR to a directory whose parents all may be entered (mode o+x)"
    )


class PrivateProcess:
    """One program in a session of its own, with its descendants."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        reaper: Reaper,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        owner: Owner | None = None,
        farewell: signal.Signals = signal.SIGKILL,
    ) -> None:
        self._reaper = reaper
        self.program = Path(argv[0]).name
        identity: dict[str, Any] = {}
        if owner is not None:
            identity = {"user": owner.uid, "group": owner.gid, "extra_groups": []}
        with log.open("ab") as output:
            try:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _GATE, "sh", *argv],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(env),
                    cwd=cwd,
                    start_new_session=True,
                    **identity,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise StackUnavailable(f"{argv[0]} could not be started in {cwd}: {error}") from error
        self.pid = self._process.pid
        self._leader = reaping.Leader(self.pid, reaping.birth(self.pid), farewell)
        stdin = self._process.stdin
        try:
            reaper.watch(self._leader)
            if stdin is not None:
                stdin.write(b"go\n")
        finally:
            if stdin is not None:
                stdin.close()

    @property
    def exit_code(self) -> int | None:
        """How it ended, None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int:
        """Return its exit code; raise StackUnavailable when it is still busy after `seconds`."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self.end(signal.SIGKILL)
            raise StackUnavailable(f"{self.program} took more than {seconds:.0f} s") from error
        self._reaper.forget(self.pid)
        return code

    def end(self, farewell: signal.Signals | None = None, patience: float = reaping.PATIENCE) -> None:
        """End it and its descendants: the farewell signal first, SIGKILL after `patience` seconds."""
        leader = self._leader if farewell is None else reaping.Leader(self.pid, self._leader.born, farewell)
        if not reaping.end([leader], patience):
            raise StackUnavailable(f"{self.program} (process {self.pid}) does not end, even by SIGKILL")
        self._process.wait(5)
        self._reaper.forget(self.pid)

    def pause(self) -> None:
        """Stop it and its descendants in their tracks (SIGSTOP)."""
        self._signal_family(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them run on (SIGCONT)."""
        self._signal_family(signal.SIGCONT)

    def _signal_family(self, number: signal.Signals) -> None:
        for pid in reaping.family(self.pid) or [self.pid]:
            reaping.send(pid, number)
