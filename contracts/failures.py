"""What a message carries of its failures: headers beside those of its envelope."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

# Why it is parked, whose queue it came from, and when that was.
REASON_HEADER: Final = "x-rollcall-reason"
QUEUE_HEADER: Final = "x-rollcall-queue"
PARKED_AT_HEADER: Final = "x-rollcall-parked-at"
# Failed attempts so far, and the first of them.
ATTEMPTS_HEADER: Final = "x-rollcall-attempts"
FIRST_ERROR_HEADER: Final = "x-rollcall-first-error"
FIRST_FAILED_AT_HEADER: Final = "x-rollcall-first-failed-at"
# How often a parked message was sent to its queue again; of an event, that it is not new.
REPLAYED_HEADER: Final = "x-rollcall-replayed"

_OF_PARKING: Final = frozenset({REASON_HEADER, QUEUE_HEADER, PARKED_AT_HEADER})
_OWN_PREFIX: Final = "x-rollcall-"
# What a broker notes on its way. In a copy they would count what befell another message; CC would send the copy elsewhere too.
_OF_THE_BROKER: Final = frozenset({"x-death", "x-delivery-count", "x-acquired-count", "CC", "BCC"})
_OF_THE_BROKER_PREFIXES: Final = ("x-first-death-", "x-last-death-")


def failed_attempts(headers: Mapping[str, Any]) -> int:
    """How often handling the message failed."""
    return _count(headers.get(ATTEMPTS_HEADER))


def times_replayed(headers: Mapping[str, Any]) -> int:
    """How often the message was sent again after it had been parked."""
    return _count(headers.get(REPLAYED_HEADER))


def headers_after_failure(headers: Mapping[str, Any], error: str, at: datetime) -> dict[str, Any]:
    """The headers of the copy that waits for its retry, or is parked: one more attempt, and the first one's error and time."""
    attempts = failed_attempts(headers)
    first = {} if attempts else {FIRST_ERROR_HEADER: error, FIRST_FAILED_AT_HEADER: at.isoformat()}
    kept = {name: value for name, value in headers.items() if not _is_the_brokers(name) and name not in _OF_PARKING}
    return {**kept, **first, ATTEMPTS_HEADER: attempts + 1}


def headers_when_parked(headers: Mapping[str, Any], reason: str, queue: str, at: datetime) -> dict[str, Any]:
    """The headers of a parked copy, whose last failure is already in `headers`."""
    return {**headers, REASON_HEADER: reason, QUEUE_HEADER: queue, PARKED_AT_HEADER: at.isoformat()}


def headers_of_replay(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers with which a parked message is sent again: its own, and of what befell it the number of replays."""
    kept = {name: value for name, value in headers.items() if not _is_the_brokers(name) and not name.startswith(_OWN_PREFIX)}
    return {**kept, REPLAYED_HEADER: times_replayed(headers) + 1}


def _is_the_brokers(name: str) -> bool:
    return name in _OF_THE_BROKER or name.startswith(_OF_THE_BROKER_PREFIXES)


def _count(value: object) -> int:
    # Anybody can write headers: what is no count counts nothing.
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
