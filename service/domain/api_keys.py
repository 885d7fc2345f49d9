"""Keys of the admin API: `rc_<id>_<secret>`, of which only a hash is kept; pure but for the random numbers of a new one."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NewType
from uuid import UUID

__all__ = ["ApiKeyId", "GivenKey", "KeyScope", "digest", "fits", "new_secret", "parse_key", "written_key"]

ApiKeyId = NewType("ApiKeyId", UUID)

_KEY: Final = re.compile(r"rc_([0-9a-f]{32})_([0-9a-f]{64})", re.ASCII)
_SECRET_BYTES: Final = 32


class KeyScope(StrEnum):
    """What a key may do; none includes another."""

    READ = "read"
    SYNC = "sync"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class GivenKey:
    """A key as somebody sent it; believed only when its secret fits the hash."""

    id: ApiKeyId
    secret: str = field(repr=False)


def parse_key(text: str) -> GivenKey | None:
    """The parts of a key; None where it has not the form of one."""
    found = _KEY.fullmatch(text)
    return None if found is None else GivenKey(ApiKeyId(UUID(found[1])), found[2])


def new_secret() -> str:
    """256 random bits in hex."""
    return secrets.token_hex(_SECRET_BYTES)


def written_key(key_id: ApiKeyId, secret: str) -> str:
    """The key as it is shown once."""
    return f"rc_{key_id.hex}_{secret}"


def digest(secret: str) -> bytes:
    """What is kept of a secret; so many random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


def fits(secret: str, sha256: bytes) -> bool:
    """Whether a secret has this hash, in constant time."""
    return hmac.compare_digest(digest(secret), sha256)
