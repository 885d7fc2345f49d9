"""What `connections add --django`, `--csv` and `--source` say of a directory, checked and stored."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, assert_never

import orjson
import typer

from service.actions.audit_change import Author
from service.actions.configure_directory import (
    DirectoryRefused,
    NameTaken,
    NewDirectory,
    register_directory,
    versions_of,
)
from service.cli.mapping_file import read_mapping
from service.domain.change import VersionKind
from service.domain.directories.configuration import CSV, DJANGO, Directory, InvalidDirectory, directory
from service.domain.directories.kinds import NONE_ADDED, AddedKinds
from service.domain.errors import RollcallError
from service.domain.member import CompanyId
from service.settings import is_reference
from service.store.connections import ConnectionRow
from service.store.database import Tx
from service.wiring.extensions import load_extensions

__all__ = ["DirectorySetup", "read_directory"]

_NUMBERS: Final = frozenset({"pageSize"})
# What a shell writes more easily than the character.
_DELIMITERS: Final = {"tab": "\t", "semicolon": ";", "comma": ",", "pipe": "|"}


@dataclass(frozen=True, slots=True)
class DirectorySetup:
    """How a connection's directory will be asked."""

    kind: str
    settings: dict[str, Any]
    described: Directory
    reference: str | None
    added: AddedKinds

    @property
    def mapped_fields(self) -> list[str]:
        """The member fields that the mapping fills."""
        return self.described.mapping.mapped_fields

    @property
    def versions(self) -> VersionKind:
        """How its records are ordered, by what its mapping has of it."""
        return versions_of(self.described)

    async def store(self, tx: Tx, company_id: CompanyId, name: str, versions: VersionKind, fields: Sequence[str]) -> ConnectionRow:
        """Write the connection and grant its secret: whoever runs this is the operator. Raises RollcallError and Contention."""
        new = NewDirectory(
            name=name,
            kind=self.kind,
            settings=self.settings,
            secret_reference=self.reference,
            versions=versions,
            fields=fields,
        )
        answer = await register_directory(tx, Author(company_id, "cli"), new, added=self.added, by_operator=True)
        match answer:
            case NameTaken():
                message = f"the company has a connection named {name} already"
                raise RollcallError(message)
            case DirectoryRefused(where="secretReference", reason=reason):
                # `rollcall secrets grant` is what it speaks of.
                command = shlex.join(["rollcall", "secrets", "grant", str(company_id), str(self.reference)])
                message = f"{self.reference} {reason.replace('`rollcall secrets grant`', f'`{command}`')}"
                raise RollcallError(message)
            case DirectoryRefused(where=where, reason=reason):
                message = f"{where}: {reason}"
                raise RollcallError(message)
            case ConnectionRow():
                return answer
            case _:
                assert_never(answer)


def read_directory(
    django: str | None, csv: str | None, source: str | None, pairs: Sequence[str], key: str | None
) -> DirectorySetup | None:
    """The directory that the options describe, None where they describe none; raises BadParameter for the one that does not fit."""
    given: dict[str, dict[str, Any]] = {}
    if django is not None:
        given["--django"] = {"baseUrl": django}
    if csv is not None:
        given["--csv"] = {"location": csv}
    if source is not None:
        given["--source"] = {}
    if not given:
        if pairs or key is not None:
            raise typer.BadParameter("needed with --directory and --key", param_hint="--django, --csv or --source")
        return None
    if len(given) > 1:
        raise typer.BadParameter("a connection has one directory: --django, --csv or --source", param_hint=list(given)[-1])
    if key is not None and not is_reference(key):
        raise typer.BadParameter("must be env:ROLLCALL_SECRET_NAME, or file:NAME below SECRETS_DIR", param_hint="--key")
    ((option, settings),) = given.items()
    kind = source or {"--django": DJANGO, "--csv": CSV}[option]
    settings |= dict(_setting(pair, own=source is None) for pair in pairs)
    # Nobody waits for extensions to be imported who names none.
    added = NONE_ADDED if source is None else load_extensions().sources
    try:
        described = directory(kind, settings, added)
    except InvalidDirectory as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    return DirectorySetup(kind, settings, described, key, added)


def _setting(pair: str, *, own: bool) -> tuple[str, Any]:
    name, separator, value = pair.partition("=")
    if not separator:
        raise typer.BadParameter("must be NAME=VALUE", param_hint="--directory")
    if name == "mapping":
        if not value.startswith("@"):
            raise typer.BadParameter("a mapping is a JSON file: mapping=@FILE", param_hint="--directory")
        return name, read_mapping(Path(value[1:]), "--directory")
    if not own:
        return _of_an_extension(name, value)
    if name in _NUMBERS and value.isascii() and value.isdigit():
        return name, int(value[:9])
    return name, _DELIMITERS.get(value, value) if name == "delimiter" else value


def _of_an_extension(name: str, value: str) -> tuple[str, Any]:
    """A text, or with a colon at the name's end any JSON: nobody here knows what an extension takes for a number."""
    if not name.endswith(":"):
        return name, value
    try:
        return name[:-1], orjson.loads(value)
    except orjson.JSONDecodeError:
        raise typer.BadParameter(f"{name}= wants JSON, such as {name}=5", param_hint="--directory") from None
