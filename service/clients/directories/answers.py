"""What the answer of a directory's server means, before anybody looks into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import SecretStr

from service.clients.outward_http import DestinationRefused, OutwardBroken, OutwardUnavailable
from service.domain.errors import SourceBroken, SourceRefused, SourceUnavailable

__all__ = ["NotCalled", "accept_status", "authorization", "translated"]

_OK: Final = 200
_NOT_FOUND: Final = 404
_REFUSALS: Final = frozenset({401, 403})


class NotCalled(SourceBroken):
    """The source's address may not be called, so nobody knows anything of it."""


@contextmanager
def translated(where: str = "") -> Iterator[None]:
    """The errors of the way as those of a source; `where` stands before their texts."""
    try:
        yield
    except DestinationRefused as error:
        raise NotCalled(where + str(error)) from None
    except OutwardUnavailable as error:
        raise SourceUnavailable(where + str(error), error.retry_after) from None
    except OutwardBroken as error:
        raise SourceBroken(where + str(error)) from None


def accept_status(status: int, host: str, where: str, *, keyed: bool) -> None:
    """Return where the answer is what was asked for; raises SourceRefused and SourceBroken."""
    if status in _REFUSALS:
        why = "it does not accept the key" if keyed else "it needs a key, and the connection has none"
        raise SourceRefused(f"{where}{host} answers {status}: {why}")
    if status == _NOT_FOUND:
        raise SourceBroken(f"{where}{host} has nothing at this path (404)")
    if status != _OK:
        raise SourceBroken(f"{where}{host} answers {status}, which is no list of members")


def authorization(scheme: str, key: SecretStr | None) -> dict[str, str]:
    """The header that a key goes in; raises SourceRefused where the key cannot stand in a header."""
    if key is None:
        return {}
    value = key.get_secret_value()
    if not value.isascii() or not value.isprintable():
        raise SourceRefused("the key holds characters that no HTTP header can, such as a line break in its middle")
    return {"authorization": f"{scheme} {value}"}
