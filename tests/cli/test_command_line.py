"""What the command consists of, and that only what is asked for is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from service import cli
from service.cli import command_line


def _names(app: typer.Typer) -> set[str]:
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # a group has commands


def test_there_is_what_the_table_names_and_nothing_else() -> None:
    assert _names(command_line()) == cli._MODULES.keys()


@pytest.mark.parametrize("command", sorted(cli._MODULES))
def test_a_command_by_itself_is_the_whole_one(command: str) -> None:
    alone, whole = (typer.main.get_command(app).commands[command] for app in (command_line(command), command_line()))  # type: ignore[attr-defined]  # a group has commands
    assert sorted(getattr(alone, "commands", ())) == sorted(getattr(whole, "commands", ()))


def test_a_command_imports_no_role_that_it_does_not_need() -> None:
    code = "import sys; from service.cli import command_line; command_line('jobs'); print('faststream' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
