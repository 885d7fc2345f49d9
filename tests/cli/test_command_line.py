"""What the command consists of, and that only what is asked for is imported."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import pytest
import typer

from service import cli
from service.cli import command_line


@cache
def _commands(*names: str) -> dict[str, Any]:
    return dict(typer.main.get_command(command_line(*names)).commands)  # type: ignore[attr-defined]  # a group has commands


def test_there_is_what_the_table_names_and_nothing_else() -> None:
    assert _commands().keys() == cli._MODULES.keys()


@pytest.mark.parametrize("command", sorted(cli._MODULES))
def test_a_command_by_itself_is_the_whole_one(command: str) -> None:
    alone, whole = _commands(command)[command], _commands()[command]
    assert sorted(getattr(alone, "commands", ())) == sorted(getattr(whole, "commands", ()))


def test_a_command_imports_no_role_that_it_does_not_need() -> None:
    code = "import sys; from service.cli import command_line; command_line('jobs'); print('faststream' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
