"""What the API says of itself: committed, complete, and readable without fetching anything."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from service.entrypoints.http.admin.api_model import AnswerModel, RequestModel
from service.entrypoints.http.admin.app import described_api
from service.entrypoints.http.admin.openapi import OPENAPI_FILE, main, written_openapi
from tests.admin_rig import Admin

DESCRIBED = described_api().openapi()


def bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each JSON body that a route takes, and each that it answers where all went well, with its name for a failure."""
    for path, methods in DESCRIBED["paths"].items():
        for method, operation in methods.items():
            answers = {status: answer for status, answer in operation["responses"].items() if status.startswith("2")}
            for name, described in {"takes": operation.get("requestBody", {}), **answers}.items():
                for kind, content in described.get("content", {}).items():
                    if kind.endswith("json"):
                        yield f"{method} {path} {name}", content["schema"]


def model(schema: dict[str, Any]) -> dict[str, Any]:
    """What it refers to, also where the body may be left out."""
    (reference,) = [one["$ref"] for one in schema.get("anyOf", [schema]) if "$ref" in one]
    found: dict[str, Any] = DESCRIBED["components"]["schemas"][reference.rpartition("/")[2]]
    return found


BODIES = dict(bodies())


@pytest.mark.parametrize("body", BODIES)
def test_every_body_has_an_example_that_fits_it(body: str) -> None:
    examples = model(BODIES[body]).get("examples", [])
    assert examples
    whole = {**BODIES[body], "components": DESCRIBED["components"]}
    for example in examples:
        jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker()).validate(example)


def models(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for below in kind.__subclasses__():
        yield below
        yield from models(below)


@pytest.mark.parametrize("kind", [kind for kind in models(RequestModel) if kind.example], ids=lambda kind: kind.__name__)
def test_the_example_of_what_is_sent_is_taken(kind: type[RequestModel]) -> None:
    # What a model checks beyond what its schema says.
    kind.model_validate(kind.example)


@pytest.mark.parametrize("kind", [kind for kind in models(AnswerModel) if kind.example], ids=lambda kind: kind.__name__)
def test_the_example_of_an_answer_is_written_as_the_answer_is(kind: type[AnswerModel]) -> None:
    assert kind.model_validate(kind.example).model_dump(mode="json") == kind.example


def test_the_committed_description_is_that_of_the_code() -> None:
    assert OPENAPI_FILE.read_text(encoding="utf-8") == written_openapi(), "stale: run `make generate`"


def test_the_command_says_when_it_is_stale(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    there = tmp_path / "openapi.json"
    monkeypatch.setattr("service.entrypoints.http.admin.openapi.OPENAPI_FILE", there)
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0
    there.write_text(there.read_text().replace("Rollcall", "Rollmops"))
    assert main(["--check"]) == 1


def test_every_reference_leads_somewhere_and_every_name_is_camel_case() -> None:
    text = json.dumps(DESCRIBED)
    for reference in set(re.findall(r'"\$ref": "#/components/(\w+)/(\w+)"', text)):
        assert reference[1] in DESCRIBED["components"][reference[0]]
    for name, schema in DESCRIBED["components"]["schemas"].items():
        for field in schema.get("properties", {}):
            # As a cloud scheduler posts it.
            assert re.fullmatch(r"[a-z]+([A-Z][a-z]*)*", field) or (name, field) == ("SyncBody", "sync_type")


def test_operations_are_named_once_each_for_generated_clients() -> None:
    names = [operation["operationId"] for methods in DESCRIBED["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
    assert {"companies_add", "syncs_sync", "directories_change"} <= set(names)


def test_tags_are_explained() -> None:
    explained = {tag["name"] for tag in DESCRIBED["tags"]}
    used = {tag for methods in DESCRIBED["paths"].values() for operation in methods.values() for tag in operation["tags"]}
    assert used <= explained


async def test_the_page_for_people_names_every_route_and_loads_nothing(admin: Admin) -> None:
    page = await admin.client.get("/docs")

    assert page.status_code == 200
    for path in DESCRIBED["paths"]:
        assert f"<code>{path}</code>" in page.text
    assert not re.search(r"<script|<link|<img|src=|@import|url\(", page.text)
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert (await admin.client.get("/openapi.json")).json()["paths"] == DESCRIBED["paths"]


def test_who_serves_no_edge_does_not_wait_for_the_framework() -> None:
    program = "import sys, service.cli, service.wiring.process; sys.exit('fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
