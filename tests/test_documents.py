"""The documents say what is there: links, targets, commands, variables, tests, queues."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import typer.main

from contracts.channels import CHANNELS, EXCHANGES
from deploy.demo.clock_books import SCHEDULED
from deploy.demo.clock_scenario import PLANNED, TICKS
from deploy.demo.scenario import build_scenario
from deploy.demo.told_scenario import EDITED, TOLD
from deploy.demo.webhook_scenario import Kind, build_webhooks
from deploy.demo.webhook_sources import GitHub, StandardWebhooks, Stripe
from service.cli import command_line
from service.settings import SdkSettings, Settings, load_settings
from service.telemetry import names as telemetry_names
from service.wiring.extensions import RECONCILERS, SCAN_PROVIDERS, SOURCES

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "requirements").glob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
TABLE_ROW = re.compile(r"^\| `([A-Z_]+)` \| ([^|]+) \|", re.MULTILINE)
NODE = re.compile(r"(\w+)(?:\[\[\"[^\"]*\"\]\]|\[\(\"[^\"]*\"\)\]|\{\{\"[^\"]*\"\}\}|\[\"[^\"]*\"\])?")
ARROW = re.compile(r"\s*(?:-->|-\.->)(?:\|[^|]+\|)?\s*")


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(text: str) -> str:
    return FENCE.sub("", text)


def blocks(text: str, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(text) if language in languages]


def said(text: str) -> list[str]:
    """What is written as code: the lines of shell blocks and the spans between backticks."""
    lines = [line for body in blocks(text, "sh") for line in body.splitlines()]
    return [*lines, *CODE.findall(prose(text))]


def anchors(text: str) -> set[str]:
    """The fragments that GitHub gives to headings."""
    titles = (re.sub(r"[`*]", "", title).lower() for title in HEADING.findall(prose(text)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in LINK.findall(prose(document.read_text(encoding="utf-8"))):
        if target.startswith(("https://", "http://")):
            continue
        path, _, fragment = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if fragment:
            assert fragment in anchors(file.read_text(encoding="utf-8")), target


def test_every_decision_is_listed_dated_and_whole() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(folder.glob("[0-9]*.md"))
    listed = LINK.findall((folder / "README.md").read_text(encoding="utf-8"))
    assert listed == [record.name for record in records]
    for number, record in enumerate(records, 1):
        text = record.read_text(encoding="utf-8")
        assert record.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number:04} ")
        assert re.search(r"^\d{4}-\d\d-\d\d$", text, re.MULTILINE), record.name
        for part in ("**Context.**", "**Decision", "**Consequences.**", "**Revisit when**"):
            assert part in text, f"{record.name} has no {part}"


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    named = set()
    for code in said(document.read_text(encoding="utf-8")):
        named |= set(re.findall(r"\bmake (?:[A-Z]+=\S+ )*([a-z-]+)\b", code))
    assert named <= make_targets()


def test_contributing_lists_every_make_target() -> None:
    listed = re.findall(r"^\| `make ([a-z-]+)` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(listed) | {"help", "setup"} == make_targets()


@cache
def log_events() -> dict[str, re.Pattern[str]]:
    """Every event that the service logs, as it stands in the source, with what its text can be."""
    found = {}
    for file in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("_log.") and node.args:
                parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
                texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
                event = "".join("…" if text is None else str(text) for text in texts)
                found[event] = re.compile("".join(".+" if text is None else re.escape(str(text)) for text in texts))
    return found


def test_the_log_lines_in_the_operations_page_are_those_of_the_service() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.partition("\n## Log lines\n")[2].partition("\n## ")[0]
    told = [event for row in re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE) for event in CODE.findall(row)]
    for event, pattern in log_events().items():
        assert any(pattern.fullmatch(one) for one in told), f"{event} is not explained"
    for one in told:
        assert any(pattern.fullmatch(one) for pattern in log_events().values()), f"nothing logs {one}"


def commands(text: str) -> Iterator[list[str]]:
    """Every `rollcall` command line that a text shows, in words; one line may hold several."""
    for code in said(text):
        for part in re.split(r"&&|\|\s|;", code.partition(" #")[0]):
            words = shlex.split(part) if part.count('"') % 2 == 0 and "'" not in part else part.split()
            if words[:1] == ["rollcall"] and len(words) > 1 and part not in log_events():
                yield words[1:]


@cache
def rollcall() -> Any:
    return typer.main.get_command(command_line())


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command or group that the words name, and the words that are left for it."""
    command = rollcall()
    while words and (subcommands := getattr(command, "commands", None)):
        if words[0].startswith("-") and getattr(command, "invoke_without_command", False):
            break
        word, *words = words
        assert word in subcommands, f"rollcall has no {word}"
        command = subcommands[word]
    return command, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_every_rollcall_command_that_is_named_exists(document: Path) -> None:
    for words in commands(document.read_text(encoding="utf-8")):
        resolve(words)


def test_the_command_lines_of_the_readme_are_taken_by_the_command() -> None:
    lines = [words for body in blocks(README, "sh") for words in commands(f"```sh\n{body}```")]
    assert len(lines) >= 10
    for words in lines:
        command, rest = resolve(words)
        assert not hasattr(command, "commands"), f"{words} names no command"
        # Parses and checks every argument and option; runs nothing.
        command.make_context(command.name, rest)


def test_the_books_in_the_readme_are_those_of_the_demo() -> None:
    (shown_end,) = [body for body in blocks(README, "text") if "\nThe books\n" in body]
    books, _, of_webhooks = shown_end.partition("\nThe books of the webhooks\n")
    shown_books = counted(books)
    scenario = build_scenario(uuid4(), uuid4(), datetime.now(UTC))
    expected = {**scenario.expected, "sent": len(scenario.messages), "published": scenario.expected["applied"], "lost": 0}
    assert shown_books == expected
    of_webhooks, _, of_the_clock = of_webhooks.partition("\nThe books of the clock\n")
    shown_webhooks = counted(of_webhooks)
    webhooks = build_webhooks({uuid4(): kind.with_new_secret() for kind in (StandardWebhooks, Stripe, GitHub)}, datetime.now(UTC))
    answers = {"accepted" if status == 202 else f"refused {status}": count for status, count in webhooks.answers.items()}
    kinds = {"duplicate": Kind.REPEATED, "forged": Kind.FORGED, "outdated": Kind.OUTDATED}
    applied = dict.fromkeys(("applied", "delivered"), len(webhooks.keys))
    assert shown_webhooks == {
        "posted": len(webhooks.webhooks),
        **answers,
        **{name: webhooks.count(kind) for name, kind in kinds.items()},
        **applied,
        "lost": 0,
    }
    of_the_clock, _, of_the_told = of_the_clock.partition("\nThe books of who was told, and of what drifted\n")
    assert counted(of_the_told) == {
        **dict.fromkeys(("versions", "notified"), TOLD),
        **dict.fromkeys(("drifted", "healed"), len(EDITED)),
        "breaches": 3,
        "lost": 0,
    }
    slots = len(SCHEDULED) + 1
    assert counted(of_the_clock) == {"plans begun": len(PLANNED), "ticks": TICKS, "slots": slots, "twice": 0}


def counted(books: str) -> dict[str, int]:
    """The lines of books that must come out as they do."""
    lines = re.findall(r"^  ([a-z]+(?: [a-z0-9]+)?) +([\d,]+)  ✓", books, re.MULTILINE)
    return {name: int(found.replace(",", "")) for name, found in lines}


def settings() -> dict[str, str]:
    """Each variable with its default as the documents write it."""
    return {
        name.upper(): "required" if field.is_required() else "unset" if field.default is None else str(field.default)
        for name, field in Settings.model_fields.items()
    }


def test_the_readme_lists_every_variable_with_its_default() -> None:
    section = README.partition("\n## Configuration\n")[2].partition("\n## ")[0]
    assert {name: default.strip().strip("`") for name, default in TABLE_ROW.findall(section)} == settings()


def example_environment() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_example_environment_holds_every_variable_with_its_default_and_a_comment() -> None:
    written = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert list(example_environment()) == list(settings())
    for name, default in settings().items():
        comment = re.search(rf"^# (.+)\n{name}=", written, re.MULTILINE)
        assert comment, f"{name} has no comment"
        assert comment[1].endswith("Required." if default == "required" else f"Default: {default}."), name


def of_the_sdk() -> dict[str, str]:
    """What stands commented out in the example environment."""
    written = (ROOT / ".env.example").read_text(encoding="utf-8")
    return dict(re.findall(r"^# ([A-Z_]+)=(.*)$", written, re.MULTILINE))


def test_the_example_environment_holds_what_the_sdk_reads_and_its_values_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(of_the_sdk()) == [name.upper() for name in SdkSettings.model_fields]
    for name, value in of_the_sdk().items():
        monkeypatch.setenv(name, value)
    SdkSettings()


def test_the_readme_names_what_the_sdk_reads() -> None:
    section = README.partition("\n## Configuration\n")[2].partition("\n## ")[0].rpartition("|\n\n")[2]
    named = set(re.findall(r"`(OTEL_[A-Z_]+)`", section))
    twice = {name.replace("OTLP_", "OTLP_TRACES_") for name in named if name.startswith("OTEL_EXPORTER_OTLP_")}
    assert named | twice == {name.upper() for name in SdkSettings.model_fields}


def test_the_example_environment_is_taken_and_changes_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in example_environment().items():
        monkeypatch.setenv(name, value)
    taken = load_settings()
    for name, field in Settings.model_fields.items():
        if not field.is_required():
            assert getattr(taken, name) == field.default, name


def test_every_test_that_is_named_exists() -> None:
    named = [match for document in DOCUMENTS for match in TEST.findall(document.read_text(encoding="utf-8"))]
    assert len(named) >= 10
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in functions, f"{path}::{name}"


def test_the_map_shows_every_room_and_nothing_else() -> None:
    (tree,) = [body for body in blocks(README, "text") if body.startswith("service/")]
    names = [(line.startswith("  "), line.split()[0].rstrip("/")) for line in tree.splitlines()]
    assert {name for nested, name in names if not nested} == rooms(ROOT)
    assert {name for nested, name in names if nested} == rooms(ROOT / "service") | {"settings.py"}


def rooms(folder: Path) -> set[str]:
    """The folders in a folder but for what builds and tools leave behind."""
    left_behind = {"__pycache__", "build", "dist", "htmlcov"}
    found = {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    return {name for name in found - left_behind if not name.endswith(".egg-info")}


def test_the_layers_in_contributing_are_the_checked_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = [one["layers"] for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    assert f"`{' > '.join(layers)}`" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    taken = (ROOT / "docs" / "decisions" / "0005-dependencies.md").read_text(encoding="utf-8").partition("**Not taken.**")[0]
    names = [re.split(r"[\[<>=~ ]", entry)[0] for entry in project["project"]["dependencies"]]
    assert [name for name in names if name not in taken] == []


def test_the_channels_in_the_documents_are_the_declared_ones() -> None:
    text = (ROOT / "docs" / "architecture" / "messages.md").read_text(encoding="utf-8")
    for channel in CHANNELS:
        key = channel.routing_key.replace("{", "<").replace("}", ">")
        row = rf"\| `{channel.message_type}` \| `{channel.exchange.name}` \| `{re.escape(key)}` \|"
        assert re.search(row, text), channel.message_type
    names = {exchange.name for exchange in EXCHANGES}
    for channel in CHANNELS:
        names |= {queue.name for queue in channel.queue.queues} if channel.queue else set()
    names |= {name for name in vars(telemetry_names).values() if isinstance(name, str)}
    names |= {SOURCES, RECONCILERS, SCAN_PROVIDERS}
    for document in DOCUMENTS:
        for name in re.findall(r"\brollcall\.[a-z][a-z._-]*[a-z]", document.read_text(encoding="utf-8")):
            assert name in names or name.endswith(".json"), f"{shown(document)} names {name}"


@pytest.mark.parametrize("picture", blocks(README, "mermaid"))
def test_the_picture_is_a_flowchart_of_known_nodes(picture: str) -> None:
    first, *lines = [line.strip() for line in picture.splitlines() if line.strip()]
    assert first == "flowchart LR"
    labelled: set[str] = set()
    used: set[str] = set()
    for line in lines:
        ends = ARROW.split(line)
        assert len(ends) == 2, line
        for end in ends:
            node = NODE.fullmatch(end)
            assert node, end
            used.add(node[1])
            labelled |= {node[1]} if node[0] != node[1] else set()
    assert used == labelled, "a node without a label, or a misspelt one"


def test_the_readme_has_its_picture() -> None:
    assert len(blocks(README, "mermaid")) == 1


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / ".env.example"], ids=shown)
def test_no_document_holds_a_path_of_somebodys_machine(document: Path) -> None:
    assert not re.search(r"(?<![\w.])/(?:home|root|work|Users)/", document.read_text(encoding="utf-8"))
