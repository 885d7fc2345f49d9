"""The names are those of OpenTelemetry's own conventions, and no span or attribute is named elsewhere."""

from __future__ import annotations

import ast
import pkgutil
from importlib import import_module
from pathlib import Path

from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv.attributes import db_attributes, error_attributes, http_attributes, server_attributes, url_attributes

import service.store
from service.store.queries import REGISTRY, statement_name
from service.telemetry import names

for module in pkgutil.iter_modules(service.store.__path__):
    import_module(f"service.store.{module.name}")

ROOT = Path(__file__).resolve().parents[2]
CONVENTIONS = (messaging_attributes, db_attributes, error_attributes, http_attributes, server_attributes, url_attributes)


def test_attributes_are_the_conventions_or_our_own() -> None:
    known = {value for module in CONVENTIONS for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}
    attributes = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str) and "." in value}
    assert {attribute for attribute in attributes if not attribute.startswith("rollcall.")} <= known
    assert len(attributes) > 15


def test_spans_and_attributes_are_named_in_one_place() -> None:
    told = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str) and "." in value}
    told |= {names.APPLY_CHANGES, names.RELAY_WINDOW, names.ENQUEUE_DELIVERIES, names.NOTIFY_SUBSCRIBER}
    for file in (ROOT / "service").rglob("*.py"):
        if file.parent.name == "telemetry":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant):
                assert node.value not in told, f"{file.name} writes {node.value!r}"


def test_every_statement_has_a_name_of_its_own() -> None:
    found = [statement_name(query.sql) for query in REGISTRY.values()]
    assert {name.summary for name in found} == {f"{table}.{query}" for table, query in REGISTRY}
    assert {name.operation for name in found} == {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"}


def test_operations_are_those_of_the_statements() -> None:
    def operation(table: str, query: str) -> str | None:
        return statement_name(REGISTRY[table, query].sql).operation

    assert operation("members", "lock_members") == "SELECT"
    assert operation("members", "update_members") == "UPDATE"
    assert operation("outbox", "insert_outbox") == "INSERT"
    assert operation("outbox", "delete_published") == "DELETE"
    assert operation("outbox", "claim_messages") == "SELECT"


def test_a_statement_that_nobody_knows_shows_nothing_of_its_text() -> None:
    name = statement_name("select 'ada@example.com'")
    assert (name.summary, name.operation, name.table) == ("other statement", None, None)
