"""Kinds of directories beyond those that are built in: what an installation adds (docs/extending/source.md)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

__all__ = ["NONE_ADDED", "AddedKinds", "DirectoryKind"]


class DirectoryKind(Protocol):
    """What a connection's settings mean to a kind of directory that somebody has added; pure: nobody is asked here."""

    @property
    def operators_alone(self) -> bool:
        """Whether only the operator may describe such a directory: so it is where it may lie on this host or inside."""
        ...

    @property
    def default_mapping(self) -> Mapping[str, Any]:
        """What its records mean where a connection's settings hold no `mapping`."""
        ...

    def place(self, settings: Mapping[str, Any]) -> str:
        """Check all settings but `mapping`, and answer where the directory is, for people: nothing in it opens anything.

        Raises InvalidDirectory, whose text names the setting that does not fit and shows no value of it.
        """
        ...


# By the names that connections have as their kind.
AddedKinds: TypeAlias = Mapping[str, DirectoryKind]

NONE_ADDED: Final[AddedKinds] = MappingProxyType({})
