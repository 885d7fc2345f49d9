"""Sending one signed webhook, as a source would: what `rollcall webhooks send` does."""

from __future__ import annotations

import http.client
from typing import Final
from urllib.parse import urlsplit

from service.domain.errors import Unavailable

__all__ = ["send_webhook"]

_SECONDS: Final = 15.0
_MOST: Final = 64 * 1024


def send_webhook(url: str, headers: list[tuple[str, str]], body: bytes) -> tuple[int, str]:
    """POST and answer status and text; raises Unavailable where nobody answers within 15 s, ValueError for no http URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        message = f"{url} is no http or https URL"
        raise ValueError(message)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=_SECONDS)
    try:
        connection.request("POST", parts.path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        message = f"{parts.scheme}://{parts.netloc} does not answer ({type(error).__name__}): is an edge running there?"
        raise Unavailable(message) from None
    finally:
        connection.close()
