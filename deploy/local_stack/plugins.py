"""RabbitMQ's own tree with only the plugins that a node runs: Erlang looks for each module in every one of them.

With all seventy, a start makes tens of thousands of failing file lookups and takes about twice as long.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path


def lean_scripts(scripts: Path, plugins: Iterable[str], into: Path) -> Path:
    """Return the scripts of a copy below `into` with links to the needed plugins, or those given if they lie unusually."""
    home = (scripts / "rabbitmq-server").resolve().parent.parent
    applications = _applications(home / "plugins")
    needed = {"rabbit", *plugins}
    if not (home / "escript").is_dir() or not (home / "sbin").is_dir() or needed - applications.keys():
        return scripts
    shutil.copytree(home / "sbin", into / "sbin")
    (into / "escript").symlink_to(home / "escript")
    (into / "plugins").mkdir()
    for name in _with_dependencies(needed, applications):
        directory = applications[name][0]
        (into / "plugins" / directory.name).symlink_to(directory)
    return into / "sbin"


def _applications(plugins: Path) -> dict[str, tuple[Path, frozenset[str]]]:
    """Return each plugin's directory and what its application file says it depends on."""
    found = {}
    for file in plugins.glob("*/ebin/*.app"):
        text = file.read_text(encoding="utf-8", errors="replace")
        lists = re.findall(r"\{\s*(?:included_)?applications\s*,\s*\[(.*?)\]", text, re.DOTALL)
        found[file.stem] = (file.parent.parent, frozenset(re.findall(r"\w+", " ".join(lists))))
    return found


def _with_dependencies(wanted: Iterable[str], applications: dict[str, tuple[Path, frozenset[str]]]) -> set[str]:
    found: set[str] = set()
    left = list(wanted)
    while left:
        name = left.pop()
        if name in applications and name not in found:  # what is no plugin is part of Erlang
            found.add(name)
            left += applications[name][1]
    return found
