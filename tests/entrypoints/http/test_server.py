"""The one HTTP server of every process, before anything is served."""

from __future__ import annotations

import socket

from service.entrypoints.http.server import HttpServer


def test_no_part_of_an_answer_waits_for_the_client_whatever_the_event_loop() -> None:
    """Else a body waits 40 ms: asyncio sees to it for sockets that it makes, and not for those that it is given."""
    server = HttpServer([], "127.0.0.1", 0)
    with server._socket as listening, socket.create_connection(("127.0.0.1", server.port)):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
