"""The figures of the scenarios: a line of JSON each, a table on the screen, and the part of docs/reliability.md that holds them."""

from __future__ import annotations

import ast
import inspect
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parents[1] / "docs" / "reliability.md"
BEGIN = "<!-- figures: written by python -m tests.chaos --write-docs -->"
END = "<!-- end of figures -->"

_COLUMNS = (
    "scenario",
    "faults",
    "accepted",
    "delivered",
    "lost",
    "ghosts",
    "out of order",
    "twice",
    "repeated",
    "caught up after, median",
    "most",
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one scenario found; `recoveries` are seconds, `notes` are figures that only it has."""

    scenario: str
    title: str
    faults: int
    accepted: int
    delivered: int
    lost: int
    ghosts: int
    inverted: int
    twice: int
    repeated: int
    overtaken: int
    recoveries: list[float]
    notes: dict[str, str] = field(default_factory=dict)
    setting: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: str) -> Self:
        return cls(**json.loads(line))

    def add_to(self, file: Path) -> None:
        """Put them down; the latest of a scenario count."""
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(self)) + "\n")

    @property
    def cells(self) -> tuple[str, ...]:
        times = self.recoveries
        counts = (self.faults, self.accepted, self.delivered, self.lost, self.ghosts, self.inverted, self.twice, self.repeated)
        seconds = (f"{statistics.median(times):.1f} s", f"{max(times):.1f} s") if times else ("", "")
        return (self.title, *(f"{count:,}" for count in counts), *seconds)


@dataclass(frozen=True, slots=True)
class Described:
    """A scenario as its source describes it: the name it is run by, and the sentences of its docstring."""

    name: str
    text: str

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0].rstrip(".")


def described() -> Iterator[Described]:
    """Every scenario, in the order of the files and of the functions in them."""
    for file in sorted(FOLDER.glob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        marked = any(isinstance(node, ast.Assign) and ast.unparse(node) == "pytestmark = pytest.mark.chaos" for node in tree.body)
        for node in tree.body:
            if marked and isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield Described(node.name, inspect.cleandoc(ast.get_docstring(node) or ""))


def read(file: Path) -> list[Figures]:
    """The latest figures of each scenario, in the order in which they are described."""
    found = (
        {one.scenario: one for one in map(Figures.parse, file.read_text(encoding="utf-8").splitlines())} if file.exists() else {}
    )
    order = [one.name for one in described()]
    return sorted(found.values(), key=lambda one: (order.index(one.scenario.partition("[")[0]), one.scenario))


def missing(figures: Sequence[Figures]) -> list[str]:
    """Scenarios without figures."""
    have = {one.scenario.partition("[")[0] for one in figures}
    return [one.name for one in described() if one.name not in have]


def show(figures: Sequence[Figures], console: Console) -> None:
    """Show the figures to people."""
    table = Table()
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for one in figures:
        table.add_row(*one.cells)
    console.print(table)
    for one in figures:
        for name, value in _notes(one):
            console.print(f"{one.title}: {name}: {value}")


def write_into(page: Path, figures: Sequence[Figures]) -> None:
    """Replace what is between the page's two comments; raises ValueError where one is missing, or a scenario has no figures."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        message = f"{page.name} must hold {BEGIN} and then {END}, once each"
        raise ValueError(message)
    if lacking := missing(figures):
        message = f"no figures of {', '.join(lacking)}: run them first, with the same --figures"
        raise ValueError(message)
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{_to_markdown(figures)}\n\n{END}{after}", encoding="utf-8")


def _to_markdown(figures: Sequence[Figures]) -> str:
    lines = [_row(_COLUMNS), _row(["---", *["--:"] * (len(_COLUMNS) - 1)])]
    lines += [_row(one.cells) for one in figures]
    total = [
        sum(getattr(one, name) for one in figures) for name in ("faults", "accepted", "delivered", "lost", "ghosts", "inverted")
    ]
    total += [sum(getattr(one, name) for one in figures) for name in ("twice", "repeated")]
    lines += [_row(["**all**", *(f"{count:,}" for count in total), "", ""]), ""]
    settings = {"; ".join(f"{name} {value}" for name, value in one.setting.items()) for one in figures}
    lines += [f"Measured on {setting}." for setting in sorted(settings)]
    texts = {one.name: one for one in described()}
    for name, text in texts.items():
        lines += ["", f"### {text.title}", "", *text.text.partition("\n")[2].strip().splitlines()]
        mine = [one for one in figures if one.scenario.partition("[")[0] == name]
        said = [(one, note) for one in mine for note in _notes(one)]
        lines += (
            ["", *(f"- {one.title if len(mine) > 1 else 'found'}: {label}: {value}" for one, (label, value) in said)]
            if said
            else []
        )
    return "\n".join(lines)


def _notes(figures: Figures) -> Iterator[tuple[str, str]]:
    yield from figures.notes.items()
    if figures.overtaken:
        yield "overtaken by a later one at the broker, and so not applied or filtered", f"{figures.overtaken:,}"


def _row(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"
