"""The demo's fourth chapter: books that show what time got wrong, and a second instance that says what became of it."""

from __future__ import annotations

import asyncio
import io
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from contracts.membership_updated import MembershipUpdatedV1
from deploy.demo.clock_books import ClockBooks, clock_entries
from deploy.demo.clock_desk import ClockMember, Job
from deploy.demo.clock_scenario import ENDING, IN_DIRECTORY, PLANNED, RENEWED, TICKS, VERSIONS, MustBe, must_be
from deploy.demo.evidence import Stored
from deploy.demo.second_instance import InstanceFailed, SecondInstance, running_instance
from deploy.demo.subscriber import Subscriber
from service.settings import Settings, load_settings

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
COMPANY = uuid4()
ENDED = len(ENDING) - len(RENEWED)


def event(member: ClockMember, must: MustBe) -> MembershipUpdatedV1:
    return MembershipUpdatedV1(
        member_id=member.id,
        company_id=COMPANY,
        connection_id=None,
        external_id=None,
        previous_state=None if must.version == 1 else "active",
        new_state=must.state,
        reason_code=must.reason,
        changed_fields=("state",),
        plan=must.plan,
        starts_at=None,
        expires_at=None,
        version=must.version,
        occurred_at=NOW,
    )


def job(kind: str, *, by_tick: bool = True, state: str = "succeeded", **result: int) -> Job:
    return Job(kind, state, uuid4() if by_tick else None, result)


def books(in_directory: int = IN_DIRECTORY) -> ClockBooks:
    subscriber, members = Subscriber(), []
    for number, (name, must) in enumerate(must_be(in_directory).items(), 1):
        member = ClockMember(UUID(int=number), None, name, must.state, must.plan, must.version)
        members.append(member)
        subscriber.latest[str(member.id)] = event(member, must)
    subscriber.delivered = VERSIONS + in_directory
    half = len(PLANNED) // 2
    return ClockBooks(
        ticks=TICKS,
        jobs=[
            job("plan_changes", by_tick=False, total_found=len(PLANNED), applied=half),
            job("plan_changes", by_tick=False, total_found=half, applied=half),
            job("plan_changes", total_found=0, applied=0),
            job("expiry", total_found=ENDED, applied=ENDED),
            job("retention", inbox=0),
            *([job("directory_sync", added=in_directory)] if in_directory else []),
        ],
        elsewhere=1,
        twice=0,
        in_directory=in_directory,
        members=members,
        stored=Stored(inbox=0, audited=VERSIONS + in_directory, outbox=0),
        subscriber=subscriber,
        status=0,
    )


def wrong(found: ClockBooks) -> dict[str, int]:
    return {entry.name: entry.found for entry in clock_entries(found) if not entry.balances}


class TestBooks:
    @pytest.mark.parametrize("in_directory", [IN_DIRECTORY, 0])
    def test_balance_when_all_is_as_it_must_be(self, in_directory: int) -> None:
        assert wrong(books(in_directory)) == {}

    def test_do_not_balance_when_a_slot_began_two_jobs(self) -> None:
        good = books()
        assert wrong(replace(good, jobs=[*good.jobs, job("retention")], twice=1)) == {"slots": 5, "twice": 1}

    def test_do_not_balance_when_a_plan_began_in_both_passes(self) -> None:
        good = books()
        again = job("plan_changes", by_tick=False, total_found=1, applied=1)
        assert wrong(replace(good, jobs=[*good.jobs, again])) == {"plans begun": len(PLANNED) + 1}

    def test_do_not_balance_when_one_instance_did_both_passes(self) -> None:
        assert wrong(replace(books(), elsewhere=0)) == {"elsewhere": 0}

    def test_do_not_balance_when_a_tick_was_not_taken_or_a_job_failed(self) -> None:
        good = books()
        jobs = [replace(one, state="failed") if one.kind == "retention" else one for one in good.jobs]
        assert wrong(replace(good, ticks=TICKS - 1, jobs=jobs)) == {"ticks": TICKS - 1, "unwell": 1}

    def test_do_not_balance_when_somebody_who_renewed_is_expired(self) -> None:
        good = books()
        lost = good.members[0]
        good.subscriber.latest[str(lost.id)] = event(lost, MustBe("expired", "basic", 2, "EXPIRY_RECONCILIATION"))
        members = [replace(lost, state="expired"), *good.members[1:]]
        assert wrong(replace(good, members=members)) == {"renewed": len(RENEWED) - 1, "astray": 1}

    def test_call_a_version_without_its_event_lost(self) -> None:
        good = books()
        good.subscriber.delivered -= 1
        assert wrong(good) == {"delivered": VERSIONS + IN_DIRECTORY - 1, "lost": 1}

    def test_call_somebody_whom_nobody_expected_astray(self) -> None:
        good = books()
        stranger = ClockMember(uuid4(), None, "Stranger", "active", None, 1)
        assert wrong(replace(good, members=[*good.members, stranger])) == {"astray": 1}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        database_url="postgresql://nobody@127.0.0.1:1/none", rabbitmq_url="amqp://127.0.0.1:1/", secrets_dir=tmp_path
    )


async def test_an_instance_that_ends_is_said_with_its_status(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    async with running_instance(settings, io.StringIO()) as other:
        with pytest.raises(InstanceFailed, match="status 1"):
            await other.ready()


async def test_what_an_instance_did_is_read_from_its_log_which_ends_up_in_the_demo_s(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "instance"
    script.write_text(
        "#!/bin/sh\n"
        """echo '{"event": "worker takes messages"}'\n"""
        """echo '{"event": "plan changes done", "job": "a"}'\n"""
        "echo no json\n"
        "exec sleep 60\n"
    )
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    log = io.StringIO()
    async with running_instance(settings, log) as other:
        await other.ready()
        assert await seen(other) == 1
        assert other.did("plan changes done", ["b"]) == other.did("expiry done", ["a"]) == 0
    assert "no json" in log.getvalue()


async def seen(other: SecondInstance) -> int:
    """What it did, as soon as it is in the log: the line that says that it is ready comes before."""
    while not (found := other.did("plan changes done", ["a", "b"])):
        await asyncio.sleep(0.01)
    return found
