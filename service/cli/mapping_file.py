"""A mapping as a file on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import typer

__all__ = ["read_mapping"]


def read_mapping(path: Path, option: str) -> dict[str, Any]:
    """The JSON object in a file that an option names; raises BadParameter."""
    try:
        described = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{path} cannot be read as JSON ({type(error).__name__})"
        raise typer.BadParameter(message, param_hint=option) from None
    if not isinstance(described, dict):
        raise typer.BadParameter("a mapping is a JSON object", param_hint=option)
    return described
