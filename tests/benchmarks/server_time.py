"""The processor time of the server's sessions, which on a busy machine says more than the clock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

__all__ = ["ServerTime"]

_TICKS: Final = os.sysconf("SC_CLK_TCK")


class ServerTime:
    """The CPU seconds of the sessions of one database, where its server runs on this machine; None elsewhere."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._of: dict[int, float] = {}

    async def read(self) -> float | None:
        """By now; what a session did between the last look and its end is missing."""
        sql = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        for (pid,) in await self._connection.fetch(sql):
            if (seconds := _server_seconds(pid)) is None:
                return None
            self._of[pid] = seconds
        return sum(self._of.values())


def _server_seconds(pid: int) -> float | None:
    """What a session of the server has worked, in user and system mode; None where it is no process of this machine."""
    try:
        command, fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split("(", 1)[1].rsplit(")", 1)
    except OSError:
        return None
    if command != "postgres":
        return None
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / _TICKS
