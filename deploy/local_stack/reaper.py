"""The child that ends what its parent started when the parent itself no longer can; also run as a script.

It reads one JSON object a line on standard input and acts at end of file, so it works after SIGKILL too. Only the
standard library at import: the script must start fast and whatever the state of the environment.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 3.0
"""Seconds a process is given after its farewell signal, before SIGKILL."""
_KILLED_WITHIN = 5.0
_IPC_RMID = 0
_PARENT_CHECK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Leader:
    """A process that leads its own session; `born` tells it from a later process of the same pid."""

    pid: int
    born: str | None
    farewell: int


def birth(pid: int) -> str | None:
    """Return the kernel's start time of a living process, None where /proc does not tell or it is gone."""
    status = _status(pid)
    return None if status is None or status[0] == "Z" else status[2]


def is_alive(pid: int, born: str | None) -> bool:
    """Tell whether the very process runs: a zombie or a stranger with its pid does not count."""
    if born is not None:
        return birth(pid) == born
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def family(pid: int) -> dict[int, str]:
    """Return the process and its living descendants with their start times; empty where there is no /proc."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        status = _status(int(entry.name))
        if status is not None and status[0] != "Z":
            parents[int(entry.name)] = (status[1], status[2])
    found: dict[int, str] = {}
    generation = [pid] if pid in parents else []
    while generation:
        found.update({member: parents[member][1] for member in generation})
        elders = set(generation)
        generation = [child for child, (parent, _) in parents.items() if parent in elders and child not in found]
    return found


def send(pid: int, number: int) -> None:
    """Signal a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def end(leaders: list[Leader], patience: float = PATIENCE) -> bool:
    """Say farewell to each, SIGKILL what is left of its family and group, and tell whether all are gone."""
    families = {leader: family(leader.pid) for leader in leaders if is_alive(leader.pid, leader.born)}
    for leader, members in families.items():
        if leader.farewell != signal.SIGKILL:
            send(leader.pid, leader.farewell)
            for pid in members:
                send(pid, signal.SIGCONT)
    _wait(families, patience if any(leader.farewell != signal.SIGKILL for leader in families) else 0)
    for leader, members in families.items():
        if is_alive(leader.pid, leader.born):
            members.update(family(leader.pid))
    for leader in leaders:
        _kill_group(leader)
    for members in families.values():
        for pid, born in members.items():
            if is_alive(pid, born):
                send(pid, signal.SIGKILL)
    return _wait(families, _KILLED_WITHIN)


def _kill_group(leader: Leader) -> None:
    # While a group has a member, the kernel gives its number to no new process. So the group is ours if the leader
    # still is who it was, or if no process has its pid.
    status = _status(leader.pid)
    if leader.born is None or status is None or status[2] == leader.born:
        try:
            os.killpg(leader.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
            return


def _wait(families: dict[Leader, dict[int, str]], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        left = [pid for members in families.values() for pid, born in members.items() if is_alive(pid, born)]
        left += [leader.pid for leader in families if is_alive(leader.pid, leader.born)]
        if not left or time.monotonic() >= deadline:
            return not left
        time.sleep(0.01)


def _status(pid: int) -> tuple[str, int, str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), fields[19]


def remove_directory(path: Path) -> bool:
    """Delete a tree that nobody writes to any more, shared memory included, and tell whether it is gone."""
    for pid_file in path.glob("*/postmaster.pid"):
        _remove_shared_memory(pid_file)
    for _ in range(5):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return True
        time.sleep(0.1)
    return False


def _remove_shared_memory(pid_file: Path) -> None:
    # A PostgreSQL that was killed leaves its (tiny) System V segment, and nobody but us would ever remove it.
    try:
        lines = pid_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    found = re.fullmatch(r"\s*\d+\s+(\d+)\s*", lines[6]) if len(lines) > 6 else None
    if found is not None:
        ctypes.CDLL(None).shmctl(int(found[1]), _IPC_RMID, None)


class Estate:
    """What is to be ended: process leaders, directories and databases, as the parent has told."""

    def __init__(self) -> None:
        self._leaders: dict[int, Leader] = {}
        self._directories: dict[str, None] = {}
        self._databases: dict[str, None] = {}

    def hear(self, line: bytes) -> None:
        """Take one message of the parent."""
        message = json.loads(line)
        match message:
            case {"watch": int(pid), "born": born, "farewell": int(farewell)}:
                self._leaders[pid] = Leader(pid, born, farewell)
            case {"forget": int(pid)}:
                self._leaders.pop(pid, None)
            case {"directory": str(path), "gone": bool(gone)}:
                self._directories.pop(path, None) if gone else self._directories.setdefault(path)
            case {"database": str(url), "gone": bool(gone)}:
                self._databases.pop(url, None) if gone else self._databases.setdefault(url)
            case _:
                raise ValueError(f"unknown message {message!r}")

    def wind_up(self) -> None:
        """End every process, then delete every directory and database; complain on standard error."""
        if not end(list(self._leaders.values())):
            _complain(f"some of the processes {sorted(self._leaders)} would not end")
        for path in self._directories:
            if not remove_directory(Path(path)):
                _complain(f"could not delete {path}")
        for url in self._databases:
            _drop_database(url)


def _drop_database(url: str) -> None:
    from deploy.local_stack.databases import drop_database, masked
    from deploy.local_stack.errors import StackUnavailable

    try:
        drop_database(url)
    except StackUnavailable as error:
        _complain(f"could not drop the database {masked(url)}: {error}")


def _complain(text: str) -> None:
    sys.stderr.write(f"local stack: {text}\n")


def main() -> None:
    """Listen until the parent is gone, then wind up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    estate, heard = Estate(), b""
    # A fork of the parent may hold the pipe open after it: hence also the look at who our parent is.
    while os.getppid() == parent:
        if not select.select([0], [], [], _PARENT_CHECK_SECONDS)[0]:
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            break
        *lines, heard = (heard + chunk).split(b"\n")
        for line in lines:
            estate.hear(line)
    estate.wind_up()


if __name__ == "__main__":
    main()
