"""One company's scan in the hands of a provider: its settings, its members, and the way out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from service.clients.outside import Outside
from service.clients.outward_http import OutwardHttp
from service.domain.errors import SourceRefused
from service.domain.member import CompanyId, MemberId
from service.domain.scans import BATCH
from service.store.scanned_members import (
    MemberAt,
    ScannedMember,
    SharingMember,
    list_members_at,
    list_members_outside,
    list_scanned_members,
    stream_members_sharing_email,
    stream_members_sharing_national_id,
)
from service.store.secret_grants import is_granted

if TYPE_CHECKING:
    from service.store.database import Database

__all__ = ["CompanyScan", "ScanAccess", "Shared"]


class Shared(Enum):
    """What only one member should have."""

    EMAIL = "email"
    NATIONAL_ID = "national_id"


_SHARING: Final = {Shared.EMAIL: stream_members_sharing_email, Shared.NATIONAL_ID: stream_members_sharing_national_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanAccess:
    """What the operator allows: which secrets a reference leads to, and which networks may be called."""

    # Raises SourceUnavailable where it leads to none in this process.
    secret: Callable[[str], SecretStr]
    outside: Outside = field(default_factory=Outside)


@dataclass(frozen=True, slots=True)
class CompanyScan:
    """What a provider may look at and call; members are live ones, in batches of at most a thousand."""

    company_id: CompanyId
    # The provider's own in this company, which its `check` has accepted.
    settings: Mapping[str, Any]
    db: Database = field(repr=False)
    access: ScanAccess = field(repr=False)

    async def members(self) -> AsyncGenerator[Sequence[ScannedMember], None]:
        """All of them; each batch is read for itself, so one who joins meanwhile may be among them or not."""
        after: MemberId | None = None
        while True:
            async with self.db.transaction() as tx:
                some = await list_scanned_members(tx, self.company_id, after, BATCH)
            if not some:
                return
            after = some[-1].id
            yield some

    async def members_outside(self, domains: Collection[str]) -> AsyncGenerator[Sequence[ScannedMember], None]:
        """Those whose address is in none of these domains, which are in small letters."""
        after: MemberId | None = None
        while True:
            async with self.db.transaction() as tx:
                some = await list_members_outside(tx, self.company_id, domains, after, BATCH)
            if not some:
                return
            after = some[-1].id
            yield some

    async def members_at(self, addresses: Collection[str]) -> Sequence[MemberAt]:
        """Those who have one of these e-mail addresses, without case and blanks around it, with the `address` that was asked for.

        A thousand addresses at a time.
        """
        async with self.db.transaction() as tx:
            return await list_members_at(tx, self.company_id, addresses)

    async def members_sharing(self, what: Shared) -> AsyncGenerator[Sequence[SharingMember], None]:
        """Those who have an e-mail address or a national id that another one has too, as of one moment."""
        async with self.db.transaction() as tx, aclosing(_SHARING[what](tx, self.company_id, BATCH)) as batches:
            async for some in batches:
                yield some

    async def secret(self, reference: str) -> SecretStr:
        """The secret behind `env:ROLLCALL_SECRET_…` or `file:…`; raises SourceRefused where it is not granted to the company, or no
        longer, and SourceUnavailable where it cannot be read here.
        """
        async with self.db.transaction() as tx:
            granted = await is_granted(tx, self.company_id, reference)
        if not granted:
            message = f"{reference} is not granted to this company; `rollcall secrets grant` does that"
            raise SourceRefused(message)
        return self.access.secret(reference)

    def http(self, origin: str, headers: Mapping[str, str]) -> OutwardHttp:
        """A client for one origin, such as `https://host`, to be entered: it dials no address inside, repeats and waits.

        Raises OutwardBroken for an address that is none.
        """
        return self.access.outside.http(origin, headers)
