"""What OpenAPI says of the admin API; `python -m service.entrypoints.http.admin.openapi [--check]` writes or checks the file.

The file is committed, so that a change of the API is seen where it is reviewed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi

from service.entrypoints.http.admin.api_model import shown_examples
from service.entrypoints.http.admin.problems import PROBLEM_JSON, Problem

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["OPENAPI_FILE", "complete_description", "main", "written_openapi"]

OPENAPI_FILE: Final = Path(__file__).parents[4] / "docs" / "openapi.json"


def complete_description(app: FastAPI) -> None:
    """Let the description hold the schema of problems, which no route answers as its own, and an example of each body."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
            )
            template = "#/components/schemas/{model}"
            problem = Problem.model_json_schema(by_alias=True, ref_template=template, mode="serialization")
            found["components"]["schemas"] |= {**problem.pop("$defs"), "Problem": problem}
            for name, example in shown_examples():
                # Not through the framework, which drops what is null in them.
                if name in found["components"]["schemas"]:
                    found["components"]["schemas"][name]["examples"] = [example]
            found["components"]["responses"] = _shared_problems(found["paths"])
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # the framework's own way


def _shared_problems(paths: Mapping[str, Any]) -> dict[str, Any]:
    """The problems that routes have in common, each of which then stands once; in the routes are references."""
    shared: dict[str, Any] = {}
    for methods in paths.values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if PROBLEM_JSON not in answer.get("content", {}):
                    continue
                alike = [name for name, known in shared.items() if known == answer]
                name = alike[0] if alike else _name(status, shared)
                shared[name] = answer
                operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return shared


def _name(status: str, taken: Mapping[str, Any]) -> str:
    """A name for one more of this status."""
    name = HTTPStatus(int(status)).phrase.title().replace(" ", "")
    alike = sum(known.rstrip("0123456789") == name for known in taken)
    return f"{name}{alike + 1}" if alike else name


def written_openapi() -> str:
    """The description as the file holds it; the release is left out, or every one would change it."""
    from service.entrypoints.http.admin.app import described_api

    described = {**described_api().openapi()}
    described["info"] = {**described["info"], "version": "1"}
    return json.dumps(described, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the file, or with --check say whether it is as it would be written."""
    written = written_openapi()
    if "--check" not in arguments:
        OPENAPI_FILE.write_text(written, encoding="utf-8")
        return 0
    if OPENAPI_FILE.is_file() and OPENAPI_FILE.read_text(encoding="utf-8") == written:
        return 0
    sys.stderr.write(f"docs/{OPENAPI_FILE.name} is stale: run `make generate`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
