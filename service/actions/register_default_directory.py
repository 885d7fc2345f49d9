"""The operator's own directory, of DJANGO_BASE_URL and DJANGO_API_KEY, as a connection like any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from service.domain.change import VersionKind
from service.domain.directories.configuration import DJANGO, InvalidDirectory, directory
from service.domain.errors import RollcallError
from service.domain.member import CompanyId, ConnectionId
from service.store.companies import find_company, offer_company
from service.store.connections import (
    find_company_of_default_directory,
    find_default_directory,
    move_default_directory,
    offer_default_directory,
)
from service.store.database import Database, Tx
from service.store.secret_grants import offer_secret

__all__ = ["DEFAULT_COMPANY", "DEFAULT_KEY", "DefaultDirectory", "register_default_directory"]

DEFAULT_COMPANY: Final = "default"
# Of all variables this one and those that begin with ROLLCALL_SECRET_ may be referred to.
DEFAULT_KEY: Final = "env:DJANGO_API_KEY"


@dataclass(frozen=True, slots=True)
class DefaultDirectory:
    """The company and the connection, and whether the directory was somewhere else before."""

    company_id: CompanyId
    connection_id: ConnectionId
    moved: bool


async def register_default_directory(db: Database, base_url: str) -> DefaultDirectory:
    """Make the company `default` and its connection `default`, where they are not there yet: any number of processes may at once.

    A company that has the connection is that one, whatever it was renamed to. What was changed about the connection since, such as
    its mapping, stays; where it is asked is what the environment says. Raises RollcallError where the names mean something else.
    """
    settings = {"baseUrl": base_url}
    try:
        described = directory(DJANGO, settings)
    except InvalidDirectory as error:
        message = f"DJANGO_BASE_URL: {error}"
        raise RollcallError(message) from None
    async with db.transaction() as tx:
        company_id = await _company(tx)
        # A grant that was taken back stays so: the connection is there, and its key is refused until it is granted again.
        await offer_secret(tx, company_id, DEFAULT_KEY)
        mapped = described.mapping.mapped_fields
        await offer_default_directory(tx, company_id, VersionKind.NONE, mapped, settings, DEFAULT_KEY)
        moved = await move_default_directory(tx, company_id, base_url)
        connection_id = await find_default_directory(tx, company_id)
    if connection_id is None:
        raise RollcallError(
            "the company `default` has a connection `default` that is not of DJANGO_BASE_URL; rename it, or unset the variable"
        )
    return DefaultDirectory(company_id, connection_id, moved)


async def _company(tx: Tx) -> CompanyId:
    """The company that has the operator's directory, or else the one called `default`, which is made where there is none."""
    known = await find_company_of_default_directory(tx)
    if known is not None:
        return known
    await offer_company(tx, DEFAULT_COMPANY)
    company = await find_company(tx, DEFAULT_COMPANY)
    if company is None:
        raise RollcallError("the company `default` went away while it was made")
    return company.id
