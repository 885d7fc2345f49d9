"""Extensions as an installation has them: the examples of docs/extending as unpacked wheels, or modules with an entry point."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import pytest

EXAMPLES: Final = Path(__file__).resolve().parent.parent / "docs" / "extending" / "examples"

# An example's name -> it is installed.
Install: TypeAlias = Callable[[str], None]


def build_wheel(example: str, folder: Path) -> Path:
    """What `pip wheel` makes of an example; in a copy, so that nothing is left beside it."""
    source = shutil.copytree(EXAMPLES / example, folder / example, ignore=shutil.ignore_patterns("__pycache__"))
    built = folder / "wheels"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=60)
    (wheel,) = built.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pip does it for a wheel of Python alone."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        modules = [Path(name).stem for name in archive.namelist() if name.endswith(".py") and "/" not in name]
    _on_path(site, modules, monkeypatch)


def install_module(
    site: Path, monkeypatch: pytest.MonkeyPatch, *, distribution: str, module: str, text: str, points: dict[str, dict[str, str]]
) -> None:
    """A module of this text in a distribution with these entry points, by group and name."""
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(text)
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [
        line for group, names in points.items() for line in (f"[{group}]", *(f"{name} = {value}" for name, value in names.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    _on_path(site, [module], monkeypatch)


def _on_path(site: Path, modules: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in modules:
        # Another test's may have the name; what is put here is taken out again with the path.
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(str(site))
