"""The directory as a process: says its port on stdout, is switched by JSON lines on stdin, and ends when stdin does.

Each line is {"do": …}; each is answered by one line, so that whoever asked knows that it is done.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from pathlib import Path
from socketserver import ThreadingMixIn
from tempfile import TemporaryDirectory
from typing import Any

import django
from django.conf import settings


def configure(database: Path) -> None:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database, "OPTIONS": {"timeout": 30}}},
        MIDDLEWARE=[
            "tests.upstream.faults.Faults",
            "django.middleware.common.CommonMiddleware",
        ],
        ROOT_URLCONF="tests.upstream.api",
        REST_FRAMEWORK={"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"], "UNAUTHENTICATED_USER": None},
        INSTALLED_APPS=[],
        USE_TZ=True,
        SECRET_KEY="not a secret",
        LOGGING_CONFIG=None,
    )
    django.setup()
    logging.disable()


def create_table() -> None:
    from django.db import connection

    from tests.upstream.api import Member

    with connection.cursor() as cursor:
        cursor.execute("pragma journal_mode = wal")
    with connection.schema_editor() as editor:
        editor.create_model(Member)


def serve() -> int:
    """Serve in the background; answers the port."""
    from django.core.servers.basehttp import WSGIRequestHandler, WSGIServer
    from django.core.wsgi import get_wsgi_application

    from tests.upstream.faults import HERE

    class Quiet(WSGIRequestHandler):
        # Else the body waits 40 ms for the client's word that it has the headers.
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            HERE.connection = self.connection

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Clients hang up on purpose here."""

    server = Server(("127.0.0.1", 0), Quiet)
    server.set_app(get_wsgi_application())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_port)


def main() -> None:
    with TemporaryDirectory(prefix="rollcall-upstream-") as folder:
        configure(Path(folder) / "members.sqlite3")
        create_table()
        from tests.upstream.control import obey

        print(json.dumps(serve()), flush=True)
        for line in sys.stdin:
            print(json.dumps(obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
