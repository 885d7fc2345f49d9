"""Scans of a real database: what is found, found again and found no more, and that whoever fails spoils nothing of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import pytest

from service.actions.cancel_job import cancel_job
from service.actions.request_scan import NoProviders, request_scan
from service.domain.errors import SourceBroken, SourceRefused, SourceUnavailable, Unavailable
from service.domain.jobs import MOST_ATTEMPTS
from service.domain.member import MemberId
from service.domain.scans import InvalidProviderSettings, Severity
from service.store.companies import insert_company
from service.store.findings import erase_findings
from service.store.scan_parts import list_parts
from service.store.scans import list_scans
from service.telemetry import metric_names
from tests.scan_rig import JOBS, Scans, found, open_scans


@pytest.fixture
async def scans(database_url: str) -> AsyncIterator[Scans]:
    async with open_scans(database_url) as opened:
        yield opened


async def test_a_finding_is_new_once_seen_again_and_resolved_when_it_is_found_no_more(scans: Scans) -> None:
    anna, berta = await scans.member(), await scans.member()
    provider = scans.scripted()
    await scans.configure(scripted={})

    provider.finds = [[found(anna, n=1)], [found(berta)]]
    first = await scans.scan()
    assert (first.state, first.result["providers"]["scripted"]) == (
        "succeeded",
        {"state": "succeeded", "found": 2, "opened": 2, "resolved": 0},
    )
    before = {row["member_id"]: row for row in await scans.findings()}

    provider.finds = [[found(anna, n=2, severity=Severity.HIGH)]]
    second = await scans.scan()
    assert second.result["providers"]["scripted"] == {"state": "succeeded", "found": 1, "opened": 0, "resolved": 1}
    (still,) = await scans.findings()
    assert (still["id"], still["first_seen_at"]) == (before[anna]["id"], before[anna]["first_seen_at"])
    assert still["last_seen_at"] > before[anna]["last_seen_at"]
    assert (still["detail"], still["severity"]) == ({"n": 2}, "high")
    (gone,) = await scans.findings("resolved")
    assert (gone["member_id"], gone["resolution"], gone["last_seen_at"]) == (berta, "not_found", before[berta]["last_seen_at"])
    assert scans.metrics.counted(metric_names.SCAN_FINDINGS) == {("scripted", "opened"): 2, ("scripted", "resolved"): 1}

    # Once resolved it stays so: what is found again is another.
    provider.finds = [[found(anna), found(berta)]]
    await scans.scan()
    assert {row["member_id"] for row in await scans.findings()} == {anna, berta}
    (again,) = await scans.findings(member_id=berta)
    assert again["id"] != gone["id"]
    assert again["first_seen_at"] > gone["resolved_at"]
    assert [row["id"] for row in await scans.findings("resolved")] == [gone["id"]]


async def test_a_finding_is_told_apart_by_kind_and_key_and_counted_once_however_often_it_is_found(scans: Scans) -> None:
    anna = await scans.member()
    provider = scans.scripted()
    await scans.configure(scripted={})
    provider.finds = [[found(anna), found(anna), found(anna, key="k"), found(anna, kind="other")], [found(anna)]]

    row = await scans.scan()

    assert row.result["providers"]["scripted"] == {"state": "succeeded", "found": 3, "opened": 3, "resolved": 0}
    assert {(one["kind"], one["key"]) for one in await scans.findings()} == {("odd", ""), ("odd", "k"), ("other", "")}


async def test_whoever_is_no_live_member_of_the_company_has_no_findings(scans: Scans) -> None:
    gone = await scans.member()
    await scans.leaves(gone)
    async with scans.database.transaction() as tx:
        other = await insert_company(tx, "other", "UTC", None)
    foreign = await scans.member(company=other.id)
    scans.scripted().finds = [[found(gone), found(foreign), found(MemberId(uuid4()))]]
    await scans.configure(scripted={})

    assert (await scans.scan()).state == "succeeded"
    assert await scans.fetch("select from findings") == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SourceRefused("it does not accept the key"), "it does not accept the key"),
        (SourceBroken("it answers no JSON"), "it answers no JSON"),
        # Neither has a place in the table as it is.
        (SourceBroken(" "), "SourceBroken"),
        (SourceBroken("it answers \0\ud800"), "it answers ?"),
        (InvalidProviderSettings(), "InvalidProviderSettings"),
        # Taken for the end, it would resolve what is still so.
        (None, "it answers what is no batch of findings"),
        (ValueError("anna@choir.example is odd"), "it failed in a way that has no rule (ValueError)"),
    ],
)
async def test_a_provider_that_fails_keeps_what_it_had_found_and_takes_nothing_from_the_others(
    scans: Scans, error: Exception | None, told: str
) -> None:
    anna, berta, carl = [await scans.member() for _ in range(3)]
    bad, good = scans.scripted("bad"), scans.scripted("good")
    await scans.configure(bad={}, good={})
    bad.finds, good.finds = [[found(anna), found(berta)]], [[found(anna)]]
    await scans.scan()

    bad.finds, good.finds = [[found(carl)], error], [[found(carl)]]
    row = await scans.scan()

    assert row.state == "partial"
    assert row.result["providers"]["bad"] == {"state": "failed", "found": 1, "opened": 1, "resolved": 0, "error": told}
    assert {one["member_id"] for one in await scans.findings(provider="bad")} == {anna, berta, carl}
    assert {one["member_id"] for one in await scans.findings(provider="good")} == {carl}
    parts = await scans.parts()
    assert (parts["bad"]["error"], parts["good"]["error"]) == (told, None)
    ((status,),) = await scans.fetch("select status from scans order by number desc limit 1")
    assert status == "partial"
    # Whose data it is about stands nowhere.
    assert "anna@choir" not in str(await scans.fetch("select t::text from jobs t"))


async def test_where_all_fail_the_scan_has_failed_and_says_why(scans: Scans) -> None:
    scans.scripted().finds = [SourceRefused("it does not accept the key")]
    await scans.configure(scripted={}, nobody={})

    row = await scans.scan()

    assert row.state == "failed"
    assert row.error == ("nobody: no provider of this name is installed where the scan runs; scripted: it does not accept the key")
    assert scans.metrics.counted(metric_names.SCAN_PARTS) == {("scripted", "failed"): 1, ("unknown", "failed"): 1}


async def test_what_may_go_well_later_is_asked_again_alone_when_it_said_so(scans: Scans) -> None:
    anna = await scans.member()
    late, good = scans.scripted("late"), scans.scripted("good")
    await scans.configure(late={}, good={})
    good.finds = [[found(anna)]]
    late.finds = [SourceUnavailable("it answers 429", timedelta(seconds=600))]
    job_id = await scans.enqueue()

    waiting = await scans.attempt(job_id)
    assert waiting.state == "queued"
    assert waiting.error == "late: it answers 429"
    ((wait,),) = await scans.fetch("select next_attempt_at - clock_timestamp() from jobs where id = $1", job_id)
    assert timedelta(seconds=500) < wait <= timedelta(seconds=600)
    parts = await scans.parts()
    assert (parts["late"]["state"], parts["good"]["state"]) == ("waiting", "succeeded")
    # What the others found is there already.
    assert len(await scans.findings()) == 1

    late.finds = [[found(anna)]]
    done = await scans.attempt(job_id)
    assert done.state == "succeeded"
    assert (late.asked, good.asked) == (2, 1)
    assert len(await scans.findings()) == 2
    assert await scans.fetch("select count(*) from scans") == [(1,)]


async def test_the_last_attempt_gives_up_and_the_scan_is_partial(scans: Scans) -> None:
    anna = await scans.member()
    late, good = scans.scripted("late"), scans.scripted("good")
    await scans.configure(late={}, good={})
    late.finds, good.finds = [[found(anna)]], [[found(anna)]]
    await scans.scan()
    late.finds = [SourceUnavailable("it answers 503")]
    job_id = await scans.enqueue()

    states = [(await scans.attempt(job_id)).state for _ in range(MOST_ATTEMPTS)]

    assert states == ["queued"] * (MOST_ATTEMPTS - 1) + ["partial"]
    assert (late.asked, good.asked) == (1 + MOST_ATTEMPTS, 2)
    assert len(await scans.findings(provider="late")) == 1
    assert (await scans.parts())["late"]["error"] == "it answers 503"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError(), "it ran into a time limit of its own (TimeoutError)"),
        (SourceUnavailable(""), "SourceUnavailable"),
        (SourceUnavailable("it answers 429", cast("Any", 600)), "it answers 429"),
    ],
)
async def test_whatever_it_says_with_that_it_is_asked_again(scans: Scans, error: Exception, told: str) -> None:
    scans.scripted().finds = [error]
    await scans.configure(scripted={})
    row = await scans.scan()
    assert (row.state, row.error) == ("queued", f"scripted: {told}")


async def test_a_database_that_is_away_is_no_provider_s_fault(scans: Scans) -> None:
    scans.scripted().finds = [Unavailable("the database does not answer")]
    await scans.configure(scripted={})
    row = await scans.scan()
    assert (row.state, row.attempts) == ("queued", 0)


async def test_a_provider_without_an_end_is_not_waited_for(scans: Scans) -> None:
    scans.scripted().before = asyncio.Event().wait
    scans.patience = timedelta(seconds=0.2)
    await scans.configure(scripted={})
    row = await scans.scan()
    assert row.state == "queued"
    assert "did not end" in str(row.error)


async def test_members_who_left_have_no_open_findings_whoever_fails(scans: Scans) -> None:
    anna, berta, carl = [await scans.member() for _ in range(3)]
    bad, good = scans.scripted("bad"), scans.scripted("good")
    await scans.configure(bad={}, good={})
    bad.finds = good.finds = [[found(anna), found(berta), found(carl)]]
    await scans.scan()

    await scans.leaves(anna)
    bad.finds, good.finds = [SourceBroken("it is broken")], [[found(anna), found(berta)]]
    assert (await scans.scan()).state == "partial"

    resolved = {(row["provider"], row["member_id"], row["resolution"]) for row in await scans.findings("resolved")}
    assert resolved == {("bad", anna, "member_left"), ("good", anna, "member_left"), ("good", carl, "not_found")}


async def test_findings_of_a_provider_that_nobody_asks_any_more_are_resolved(scans: Scans) -> None:
    anna = await scans.member()
    old, new = scans.scripted("old"), scans.scripted("new")
    old.finds = new.finds = [[found(anna)]]
    await scans.configure(old={}, new={})
    await scans.scan()

    await scans.configure(new={})
    await scans.scan()

    assert [(row["provider"], row["resolution"]) for row in await scans.findings("resolved")] == [("old", "provider_removed")]
    assert [row["provider"] for row in await scans.findings()] == ["new"]


async def test_a_company_without_providers_is_not_scanned(scans: Scans) -> None:
    async with scans.database.transaction() as tx:
        assert await request_scan(tx, scans.company, requested_by="tests") == NoProviders()
    scans.scripted()
    await scans.configure(scripted={})
    job_id = await scans.enqueue()
    await scans.configure()
    row = await scans.attempt(job_id)
    assert row.state == "failed"
    assert "scanProviders" in str(row.error)


async def test_settings_that_fit_no_more_are_said(scans: Scans) -> None:
    scans.scripted()
    await scans.configure(scripted={"old": True})
    row = await scans.scan()
    assert (row.state, row.error) == ("failed", "scripted: there is nothing to set")


async def test_a_cancelled_scan_stops_and_says_so(scans: Scans) -> None:
    anna = await scans.member()
    provider = scans.scripted()
    await scans.configure(scripted={})
    provider.finds = [[found(anna)]]
    job_id = await scans.enqueue()

    async def cancel_and_hang() -> None:
        async with scans.database.transaction() as tx:
            await cancel_job(tx, job_id, None, "tests")
        await asyncio.Event().wait()

    provider.before = cancel_and_hang
    scans.options = replace(JOBS, beat=timedelta(seconds=0.05), stop_within=timedelta(seconds=0.05))
    row = await scans.attempt(job_id)

    assert row.state == "cancelled"
    async with scans.database.transaction() as tx:
        (shown,) = await list_scans(tx, scans.company)
        (part,) = await list_parts(tx, [shown.id])
    assert (shown.status, shown.finished_at) == ("cancelled", row.finished_at)
    assert (part.state, part.error) == ("failed", "cancelled")
    # What it has found stays found.
    assert len(await scans.findings()) == 1


async def test_an_erasure_that_meets_a_scan_leaves_nothing_of_it(scans: Scans) -> None:
    """The member is read before the erasure, and written after it has begun."""
    anna = await scans.member()
    provider = scans.scripted()
    await scans.configure(scripted={})
    provider.finds = [[found(anna, secret="of hers")]]
    job_id = await scans.enqueue()
    erasing, written = asyncio.Event(), asyncio.Event()

    async def erase() -> None:
        async with scans.database.transaction() as tx:
            await tx.execute(
                "update members set upstream_state = 'removed', state = 'removed', removed_at = now(), name = null where id = $1",
                anna,
            )
            await erase_findings(tx, anna)
            erasing.set()
            await written.wait()

    erasure = asyncio.create_task(erase())
    await erasing.wait()
    attempt: asyncio.Task[Any] = asyncio.create_task(scans.attempt(job_id))
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%insert into findings%'"
    async with asyncio.timeout(30):
        while await scans.fetch(waiting) != [(1,)]:
            await asyncio.sleep(0.02)
    written.set()
    await erasure
    assert (await attempt).state == "succeeded"
    assert await scans.fetch("select from findings") == []


async def test_more_findings_than_a_batch_are_kept_and_resolved(scans: Scans) -> None:
    await scans.fetch(
        "insert into members (id, company_id, name, upstream_state, state, version) "
        "select gen_random_uuid(), $1, 'Anna', 'active', 'active', 1 from generate_series(1, 6001) returning 1",
        scans.company,
    )
    members = [MemberId(identity) for (identity,) in await scans.fetch("select id from members order by id")]
    provider = scans.scripted()
    await scans.configure(scripted={})
    provider.finds = [[found(one) for one in members]]
    assert (await scans.scan()).result["providers"]["scripted"]["opened"] == 6001
    provider.finds = [[found(one) for one in members[::2]]]
    assert (await scans.scan()).result["providers"]["scripted"]["resolved"] == 3000
    assert {row["member_id"] for row in await scans.findings()} == set(members[::2])
