"""What the API says of itself: committed, complete, and readable without fetching anything."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from service.entrypoints.http.admin.app import described_api
from service.entrypoints.http.admin.openapi import OPENAPI_FILE, main, written_openapi
from tests.admin_rig import Admin

DESCRIBED = described_api().openapi()


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
