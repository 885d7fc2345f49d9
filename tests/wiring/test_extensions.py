"""Extensions are found by their entry points; what is wrong with one is said, and stops no other."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.actions.read_models.reconciler import ReadModelReconciler
from service.actions.scan_providers.provider import ScanProvider
from service.clients.directories.added import SourceExtension
from service.domain.drift import ReconciliationMode
from service.domain.errors import Park
from service.settings import Settings
from service.store.database import Database
from service.wiring.extensions import (
    RECONCILER_PARTS,
    RECONCILERS,
    SCAN_PROVIDER_PARTS,
    SCAN_PROVIDERS,
    SOURCE_PARTS,
    SOURCES,
    Extensions,
    load_extensions,
    made_reconcilers,
)
from tests.extension_rig import install_module

SOURCE = """
class Source:
    operators_alone, default_mapping = False, {}
    def place(self, settings): return "there"
    def open(self, settings, key, outside): raise NotImplementedError
"""
PROVIDER = """
class Provider:
    name = "mine"
    def check(self, settings): pass
    def find(self, scan): raise NotImplementedError
"""
RECONCILER = """
class Reconciler:
    read_model_name = "mine"
    def __init__(self, access): pass
    def list_sample_keys(self, mode, budget): raise NotImplementedError
    async def reconcile(self, key): return None
"""


class Site:
    """A folder of the path, into which distributions are put."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch, self._number = folder, monkeypatch, 0

    def add(self, text: str, points: dict[str, dict[str, str]], distribution: str | None = None) -> None:
        self._number += 1
        module = f"extension_{self._number}"
        named = {group: {name: value.format(module=module) for name, value in names.items()} for group, names in points.items()}
        install_module(
            self._folder / module,
            self._monkeypatch,
            distribution=distribution or f"dist-{self._number}",
            module=module,
            text=text,
            points=named,
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def reasons(extensions: Extensions) -> dict[tuple[str, str], str]:
    return {(one.group, one.name): one.reason for one in extensions.unusable}


def settings(**given: object) -> Settings:
    return Settings.model_validate({"database_url": "postgresql://db/x", "rabbitmq_url": "amqp://mq/", **given})


@pytest.fixture
async def db(module_database_url: str) -> AsyncIterator[Database]:
    db = await Database.connect(module_database_url, name="tests", size=1)
    yield db
    await db.close()


def test_nothing_is_installed_beside_rollcall_itself() -> None:
    found = load_extensions()
    assert (dict(found.sources), dict(found.reconcilers), dict(found.scan_providers), list(found.unusable)) == ({}, {}, {}, [])


def test_what_is_looked_for_is_what_the_protocols_have() -> None:
    def parts(*protocols: type) -> set[str]:
        return {name for protocol in protocols for name in vars(protocol) if not name.startswith("_")}

    assert set(SOURCE_PARTS) == parts(*(base for base in SourceExtension.__mro__ if base.__module__.startswith("service.")))
    assert set(RECONCILER_PARTS) == parts(ReadModelReconciler)
    assert set(SCAN_PROVIDER_PARTS) == parts(ScanProvider)


def test_an_extension_is_found_with_where_it_comes_from(site: Site) -> None:
    site.add(SOURCE, {SOURCES: {"ldap": "{module}:Source"}}, "our-directory")
    site.add(RECONCILER, {RECONCILERS: {"mine": "{module}:Reconciler"}})

    found = load_extensions()

    assert found.sources["ldap"].place({}) == "there"
    assert set(found.reconcilers) == {"mine"}
    assert found.origins == {(SOURCES, "ldap"): "our-directory 1.0", (RECONCILERS, "mine"): "dist-2 1.0"}


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ("import no_such_library", "{module}:Source", "does not load: ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise SystemExit(3)", "{module}:Source", "does not load: SystemExit: 3"),
        ("x = 1", "{module}:Source", "does not load: AttributeError"),
        ("Source = 7", "{module}:Source", "it must name a class or function, not a int"),
        (
            "class Source:\n  def __init__(self): raise OSError('no\\n route')",
            "{module}:Source",
            "it cannot be made: OSError: no route",
        ),
        ("class Source:\n  def place(self, _): ...", "{module}:Source", "it lacks operators_alone, default_mapping, open"),
    ],
)
def test_what_is_wrong_with_a_source_is_said_and_others_are_used(site: Site, text: str, value: str, reason: str) -> None:
    site.add(text, {SOURCES: {"broken": value}}, "broken-one")
    site.add(SOURCE, {SOURCES: {"ldap": "{module}:Source"}})

    found = load_extensions()

    assert set(found.sources) == {"ldap"}
    (one,) = found.unusable
    assert (one.group, one.name, one.origin) == (SOURCES, "broken", "broken-one 1.0")
    assert reason in one.reason
    assert "\n" not in str(one)


@pytest.mark.parametrize(
    ("group", "name"),
    [
        *((SOURCES, name) for name in ("django", "csv", "stream", "scim")),
        *((RECONCILERS, name) for name in ("audit", "directory")),
        *((SCAN_PROVIDERS, name) for name in ("duplicates", "email_domain", "breach")),
    ],
)
def test_nobody_takes_a_name_of_rollcalls_own(site: Site, group: str, name: str) -> None:
    site.add(SOURCE, {group: {name: "{module}:Source"}})
    assert "Rollcall's own" in reasons(load_extensions())[group, name]


@pytest.mark.parametrize("name", ["Ldap", "directory:mine", "1st", "l" * 51, "l.d"])
def test_a_name_that_could_not_be_stored_is_refused(site: Site, name: str) -> None:
    site.add(SOURCE, {SOURCES: {name: "{module}:Source"}})
    ((_, reason),) = reasons(load_extensions()).items()
    assert "small letters" in reason


def test_of_two_with_one_name_none_is_used(site: Site) -> None:
    site.add(SOURCE, {SOURCES: {"ldap": "{module}:Source"}}, "first")
    site.add(SOURCE, {SOURCES: {"ldap": "{module}:Source"}}, "second")

    found = load_extensions()

    assert not found.sources
    (one,) = found.unusable
    assert (one.origin, one.reason) == ("first 1.0 and second 1.0", "several have that name; uninstall all but one")
    assert "extension_1" not in sys.modules


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROVIDER, None),
        (PROVIDER.replace("mine", "theirs"), "its name is not the name of its entry point"),
        (PROVIDER.replace("find", "look"), "is no ScanProvider: it lacks find"),
        ("from service.domain import scan", "does not load: ImportError"),
    ],
)
def test_a_scan_provider_is_found_or_said_to_be_unfit(site: Site, text: str, reason: str | None) -> None:
    site.add(text, {SCAN_PROVIDERS: {"mine": "{module}:Provider"}})

    found = load_extensions()

    assert set(found.scan_providers) == ({"mine"} if reason is None else set())
    assert [reason in one for one in reasons(found).values() if reason is not None] == ([True] if reason else [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def Reconciler(access): return access.secret('env:ROLLCALL_SECRET_NOT_SET')", "ROLLCALL_SECRET_NOT_SET is not set"),
        (RECONCILER.replace('"mine"', '"theirs"'), "its read_model_name is not the name of its entry point"),
        (RECONCILER.replace("async def reconcile", "async def compare"), "it lacks reconcile"),
    ],
)
async def test_a_reconciler_that_cannot_be_used_stands_in_its_place_and_says_why(
    site: Site, db: Database, text: str, reason: str
) -> None:
    site.add(text, {RECONCILERS: {"mine": "{module}:Reconciler"}}, "broken-one")
    site.add("import no_such_library", {RECONCILERS: {"lost": "{module}:Reconciler", "audit": "{module}:Reconciler"}})
    site.add(RECONCILER.replace('"mine"', '"good"'), {RECONCILERS: {"good": "{module}:Reconciler"}})

    made, unusable = made_reconcilers(load_extensions(), settings(), db)

    by_name = {one.read_model_name: one for one in made}
    assert set(by_name) == {"good", "lost", "mine"}
    (one,) = unusable
    assert (one.name, one.origin) == ("mine", "broken-one 1.0")
    assert reason in one.reason
    for name, said in (("mine", reason), ("lost", "No module named 'no_such_library'")):
        with pytest.raises(Park, match="cannot be used") as refused:
            await anext(by_name[name].list_sample_keys(ReconciliationMode.FULL, 10))
        assert said in str(refused.value)
        with pytest.raises(Park):
            await by_name[name].reconcile("k")
