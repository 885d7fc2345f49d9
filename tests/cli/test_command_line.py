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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Usage"),
        (("sink",), "No such command"),
        (("sync", "--dry-runs"), "No such option"),
        (("sync", "--wait", "soon"), "--wait"),
        (("sync", "--full", "--incremental"), "for --incremental"),
        (("sync", "approve"), "Missing argument"),
        (("keys",), "Usage"),
        (("dev", "--port", "70000"), "--port"),
    ],
)
def test_what_is_asked_wrongly_is_no_finding_of_a_command(
    arguments: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    # A dry run that found changes ends with 2.
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    out, err = capfd.readouterr()
    assert said in out + err
    assert ended.value.code == 64


def test_help_is_no_failure() -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(("sync", "--help"))
    assert not ended.value.code
