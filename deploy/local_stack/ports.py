"""Free TCP ports on the loopback address."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 15000
_ATTEMPTS = 200


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on; another process may still take one first, so callers try again.

    They lie below the range the kernel takes client ports from: else, while a server is down, some client's own port
    could be the server's (a client that retries on loopback can even connect to itself), and it could not come back.
    """
    highest = _first_client_port() - 1
    found: list[int] = []
    for _ in range(_ATTEMPTS):
        port = random.SystemRandom().randint(_LOWEST, highest)
        if port not in found and _is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports between {_LOWEST} and {highest} on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _first_client_port() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except OSError:
        return 32768
    # A machine whose client ports start very low leaves us no choice but to share them.
    return first if first > _LOWEST + 2000 else 60000
