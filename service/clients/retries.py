"""Which call is tried again, and when: httpx-retries with a Retry-After that is not cut short."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
from httpx_retries import Retry

__all__ = ["may_pass", "retry_after_of", "retrying"]

_TOO_MANY_REQUESTS: Final = 429
# Not implemented, and the wrong version of HTTP: they will not pass.
_LASTING: Final = frozenset({501, 505})
_SERVER_ERRORS: Final = range(500, 600)
_LONGEST_NUMBER: Final = 9
_LONGEST_DATE: Final = 40
_LONGEST_WAIT: Final = timedelta(days=1)


class _Again(httpx.HTTPError):
    """A status that may be another one soon."""


def retrying(attempts: int, backoff: timedelta, longest_wait: timedelta) -> Retry:
    """So many attempts at a GET; waits double from `backoff`; one that is asked for is kept, up to `longest_wait`."""

    def judge(response: httpx.Response) -> None:
        if may_pass(response.status_code):
            wait = retry_after_of(response.headers)
            if wait is None or wait <= longest_wait:
                raise _Again("")

    return _Patience(
        total=attempts - 1,
        allowed_methods=["GET"],
        # Of a longer wait the library would come back too early: which status is tried again is for `judge` to say.
        status_forcelist=[0],
        retry_on_exceptions=[httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, _Again],
        backoff_factor=backoff.total_seconds() / 2,
        backoff_jitter=0.5,
        max_backoff_wait=longest_wait.total_seconds(),
        validate_response=judge,
    )


def may_pass(status: int) -> bool:
    """Whether the same call may be answered otherwise soon: 429, and 5xx but for what was never going to work."""
    return status == _TOO_MANY_REQUESTS or (status in _SERVER_ERRORS and status not in _LASTING)


def retry_after_of(headers: httpx.Headers) -> timedelta | None:
    """The wait that an answer asks for, in seconds or until a date (RFC 9110, 10.2.3); None where none can be read."""
    return _read_wait(headers.get("retry-after", ""))


def _read_wait(text: str) -> timedelta | None:
    text = text.strip()
    try:
        if text.isascii() and text.isdigit():
            wait = timedelta(seconds=int(text[:_LONGEST_NUMBER]))
        else:
            until = parsedate_to_datetime(text[:_LONGEST_DATE])
            wait = (until if until.tzinfo is not None else until.replace(tzinfo=UTC)) - datetime.now(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait, timedelta()), _LONGEST_WAIT)


class _Patience(Retry):
    """The library's retries, with a Retry-After that is not cut short and one that cannot be read ignored."""

    def parse_retry_after(self, retry_after: str) -> float:
        wait = _read_wait(retry_after)
        if wait is None:
            raise ValueError("not to be read")
        return wait.total_seconds()
