"""`make chaos`: every scenario once, its figures shown, and put into docs/reliability.md where asked."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.chaos.figures import FOLDER, PAGE, missing, read, show, write_into
from tests.chaos.scenario import FIGURES, SEED


def main(
    only: Annotated[str, typer.Option(help="Scenarios whose names match, as pytest's -k.")] = "",
    seed: Annotated[int | None, typer.Option(help="Of an earlier run, to make the same choices again.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Where figures are kept; those of scenarios that do not run stay.")] = None,
    write_docs: Annotated[bool, typer.Option("--write-docs", help="Put the figures into docs/reliability.md.")] = False,
) -> None:
    """Run the scenarios on servers of their own; exit status 1 where one of them does not hold."""
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = 180
    with tempfile.TemporaryDirectory() as folder:
        file = (figures or Path(folder) / "figures").resolve()
        arguments = ["-m", "chaos", str(FOLDER), "-v", "--durations=0", "--durations-min=1", *(["-k", only] if only else [])]
        environment = {**os.environ, FIGURES: str(file), **({} if seed is None else {SEED: str(seed)})}
        root = FOLDER.parents[1]
        status = subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environment, cwd=root, check=False).returncode
        found = read(file)
        show(found, console)
        if status:
            raise typer.Exit(1)
        if write_docs:
            if lacking := missing(found):
                console.print(f"docs/reliability.md is left as it is: no figures of {', '.join(lacking)}")
                raise typer.Exit(1)
            write_into(PAGE, found)


if __name__ == "__main__":
    typer.run(main)
