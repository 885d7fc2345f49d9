"""The demo's third chapter: books that show what a sync got wrong, and a directory that is left out where it is not there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from contracts.membership_updated import MembershipUpdatedV1
from deploy.demo import directory_server
from deploy.demo.directory_server import DirectoryFailed, can_run, running_directory
from deploy.demo.evidence import MemberRow, Stored
from deploy.demo.subscriber import Subscriber
from deploy.demo.sync_books import SyncBooks, sync_entries
from deploy.demo.sync_scenario import CHANGED, EDITED, JOINED, LEFT, LOST, MEMBERS, RESIGNED, must_be
from service.store.sync_log import SyncLogRow

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
TOLD = MEMBERS + CHANGED + len(RESIGNED)


def run(status: str = "success", **fields: Any) -> SyncLogRow:
    counts = dict.fromkeys(("added", "updated", "reactivated", "removed", "verified", "left_alone", "error_count"), 0)
    known: dict[str, Any] = {
        "id": uuid4(),
        "job_id": uuid4(),
        "company_id": uuid4(),
        "connection_id": uuid4(),
        "type": "manual",
        "mode": "full",
        "dry_run": False,
        "baseline": False,
        "status": status,
        "started_at": NOW,
        "finished_at": NOW + timedelta(seconds=1),
        "fetched": MEMBERS,
        "error": None,
        "details": {},
        "approves": None,
        "review": None,
        "reviewed_at": None,
        "reviewed_by": None,
        "correlation_id": "c",
    }
    return SyncLogRow(**{**counts, **known, **fields})


def event(key: str, state: str) -> MembershipUpdatedV1:
    return MembershipUpdatedV1(
        member_id=uuid4(),
        company_id=uuid4(),
        connection_id=uuid4(),
        external_id=key,
        previous_state=None,
        new_state=state,
        reason_code="DIRECTORY_SYNC",
        changed_fields=("state",),
        plan=None,
        starts_at=None,
        expires_at=None,
        version=1,
        occurred_at=NOW,
    )


def books() -> SyncBooks:
    subscriber = Subscriber()
    members = []
    for key, must in must_be().items():
        state = "removed" if must.email is None else "active"
        subscriber.latest[key] = event(key, state)
        members.append(MemberRow(key, "Member", must.email, state, None, None, 1))
    subscriber.delivered = TOLD
    return SyncBooks(
        dry_run=run(dry_run=True, added=len(JOINED), updated=len(EDITED), removed=len(LEFT)),
        meddled=0,
        runs=[
            run(added=MEMBERS),
            run(added=len(JOINED), updated=len(EDITED), removed=len(LEFT)),
            run("quarantined", review="rejected", details={"removals": len(LOST)}),
            run("quarantined", review="approved", details={"removals": len(RESIGNED)}),
            run(removed=len(RESIGNED)),
        ],
        stored=Stored(inbox=0, audited=TOLD, outbox=0),
        members=members,
        subscriber=subscriber,
    )


def wrong(found: SyncBooks) -> dict[str, int]:
    return {entry.name: entry.found for entry in sync_entries(found) if not entry.balances}


class TestBooks:
    def test_balance_when_all_is_as_it_must_be(self) -> None:
        assert wrong(books()) == {}

    def test_do_not_balance_when_the_guard_lets_half_of_them_go(self) -> None:
        good = books()
        let_go = [row for row in good.runs if row.details.get("removals") != len(LOST)] + [run(removed=len(LOST))]
        assert wrong(replace(good, runs=let_go)) == {"removed": 3112, "held back": 600, "rejected": 0}

    def test_do_not_balance_when_a_dry_run_changes_somebody(self) -> None:
        assert wrong(replace(books(), meddled=1)) == {"meddled": 1}

    def test_call_a_version_without_its_event_lost(self) -> None:
        good = books()
        good.subscriber.delivered -= 1
        assert wrong(good) == {"delivered": TOLD - 1, "lost": 1}

    def test_call_a_member_that_is_not_what_the_directory_says_astray(self) -> None:
        good = books()
        edited = next(number for number, member in enumerate(good.members) if member.external_id == "1")
        members = list(good.members)
        members[edited] = replace(members[edited], email="member1@example.com")
        assert wrong(replace(good, members=members)) == {"astray": 1}

    def test_call_one_that_a_subscriber_takes_for_live_astray(self) -> None:
        good = books()
        gone = str(LEFT[0])
        good.subscriber.latest[gone] = event(gone, "active")
        assert wrong(good) == {"astray": 1}


async def test_a_directory_that_ends_is_said_with_what_shows_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert can_run()
    monkeypatch.setattr(directory_server, "_ROOT", tmp_path)
    assert not can_run()
    monkeypatch.setattr("sys.executable", "/bin/false")
    with running_directory() as server, pytest.raises(DirectoryFailed, match=r"tests\.upstream\.server"):
        await server.begin(1, "key")


def programmed(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """In place of the directory's program."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))


def test_a_directory_that_is_silent_is_given_up_and_keeps_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programmed(monkeypatch, tmp_path, "exec sleep 600")
    monkeypatch.setattr(directory_server, "_SECONDS", 0.1)
    with running_directory() as server:

        async def begin() -> None:
            with pytest.raises(DirectoryFailed, match="does not answer"):
                await server.begin(1, "key")

        # Waits for its threads: of one that reads for as long as the program lives it would wait for ten minutes.
        asyncio.run(begin())


async def test_a_directory_that_ends_between_two_orders_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programmed(monkeypatch, tmp_path, "echo 1; read line; echo 2")
    with running_directory() as server:
        await server.begin(1, "key")
        server._process.wait()
        with pytest.raises(DirectoryFailed, match="ended"):
            await server.change(leave=[1])
