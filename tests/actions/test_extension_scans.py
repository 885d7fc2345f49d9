"""The documented scan provider, installed as a wheel, configured as a company does and run by the real kinds of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from service.actions.audit_change import Author
from service.actions.configure_scans import ScansRefused, configure_scans
from service.actions.run_job import claim_job, run_job
from service.domain.scans import InvalidProviderSettings
from service.settings import Settings
from service.store.companies import CompanyRow
from service.store.jobs import find_job
from service.wiring.extensions import load_extensions
from service.wiring.job_kinds import job_kinds
from service.wiring.scans import scan_providers
from tests.extension_rig import build_wheel, install_module, install_wheel
from tests.scan_rig import Scans, open_scans

SETTINGS = Settings.model_validate({"database_url": "postgresql://db/x", "rabbitmq_url": "amqp://mq/"})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel("reserved_addresses", tmp_path_factory.mktemp("reserved_addresses"))


@pytest.fixture
async def scans(database_url: str, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scans]:
    install_wheel(wheel, tmp_path / "site", monkeypatch)
    async with open_scans(database_url) as scans:
        yield scans


async def configure(scans: Scans, settings: Mapping[str, Any]) -> CompanyRow | ScansRefused | None:
    installed = scan_providers(SETTINGS, load_extensions())
    async with scans.database.transaction() as tx:
        given = {"scan_providers": {"reserved_addresses": settings}}
        return await configure_scans(tx, Author(scans.company, "tests"), given, installed, by_operator=False)


async def scan(scans: Scans) -> str:
    job_id = await scans.enqueue()
    claimed = await claim_job(scans.database, job_id, uuid4(), scans.options.lease)
    assert claimed is not None
    await run_job(scans.database, claimed, job_kinds(SETTINGS, scans.database)[claimed.kind], options=scans.options)
    async with scans.database.transaction() as tx:
        row = await find_job(tx, job_id)
    assert row is not None
    return row.state.value


async def test_what_it_finds_is_kept_until_it_is_so_no_more(scans: Scans) -> None:
    assert isinstance(await configure(scans, {"alsoDomains": ["old.choir.is"]}), CompanyRow)
    reserved = [await scans.member(one) for one in ("a@example.com", "b@x.TEST", "c@old.choir.is")]
    for well in ("d@notexample.com", "e@choir.is", None):
        await scans.member(well)

    assert await scan(scans) == "succeeded"
    found = await scans.findings(provider="reserved_addresses", kind="address_is_reserved", severity="medium")
    assert {row["member_id"] for row in found} == set(reserved)

    await scans.fetch("update members set email = 'a@choir.is' where id = $1 returning id", reserved[0])
    assert await scan(scans) == "succeeded"
    assert {row["member_id"] for row in await scans.findings()} == set(reserved[1:])
    assert [row["member_id"] for row in await scans.findings("resolved")] == [reserved[0]]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"domains": []}, "unknown: domains; there is alsoDomains"), ({"alsoDomains": "x"}, "alsoDomains must be a list of domains")],
)
async def test_its_settings_are_checked(scans: Scans, settings: dict[str, Any], reason: str) -> None:
    refused = await configure(scans, settings)
    assert isinstance(refused, ScansRefused)
    assert refused.where == "scanProviders.reserved_addresses"
    assert reason in refused.reason


async def test_one_that_is_gone_fails_its_part_and_keeps_what_it_found(scans: Scans, monkeypatch: pytest.MonkeyPatch) -> None:
    await configure(scans, {})
    member = await scans.member("a@example.com")
    await scan(scans)
    # Uninstalled.
    monkeypatch.undo()

    await scan(scans)

    part = (await scans.parts())["reserved_addresses"]
    assert part["state"] == "failed"
    assert [row["member_id"] for row in await scans.findings()] == [member]


async def test_one_that_does_not_load_leaves_the_others(scans: Scans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"rollcall.scan_providers": {"lost": "of_nothing:Lost"}}
    install_module(tmp_path / "x", monkeypatch, distribution="broken", module="of_nothing", text="import ldap3\n", points=broken)
    await configure(scans, {})
    await scans.member("a@example.com")
    assert await scan(scans) == "succeeded"
    assert len(await scans.findings()) == 1
    assert "lost" not in scan_providers(SETTINGS, load_extensions())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("a secret setting"), "the provider fails on these settings (KeyError)"),
        (InvalidProviderSettings(), "the provider refuses these settings, and does not say why"),
    ],
)
async def test_a_check_that_fails_refuses_the_settings_whatever_it_raises(scans: Scans, error: Exception, reason: str) -> None:
    provider = scans.scripted("odd")

    def check(_: Mapping[str, Any]) -> None:
        raise error

    provider.check = check  # type: ignore[method-assign]  # of this one alone
    async with scans.database.transaction() as tx:
        answer = await configure_scans(
            tx, Author(scans.company, "tests"), {"scan_providers": {"odd": {}}}, {"odd": provider}, by_operator=False
        )
    assert answer == ScansRefused("scanProviders.odd", reason)
