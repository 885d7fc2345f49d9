"""The documented reconciler, installed as a wheel and run by the real kinds of jobs, against a door system that answers HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from service.actions.running_job import RunningJob
from service.domain.jobs import JobResult, JobState
from service.settings import Settings
from service.wiring.job_kinds import job_kinds
from tests.clock_rig import ago
from tests.drift_rig import Drift, open_drift
from tests.extension_rig import build_wheel, install_module, install_wheel

SECRET = "the-door-systems-key"


@dataclass
class Doors:
    """The door system: whose badges open, and what it answers."""

    url: str = ""
    open: set[str] = field(default_factory=set)
    status: int = 200
    asked: int = 0


@pytest.fixture
def doors() -> Iterator[Doors]:
    state = Doors()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            known = self.headers["authorization"] == f"Bearer {SECRET}"
            members = parse_qs(urlsplit(self.path).query)["member"]
            body = orjson.dumps({"open": [one for one in members if one in state.open]})
            self.send_response(state.status if known else 401)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield state
        server.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel("badges", tmp_path_factory.mktemp("badges"))


@pytest.fixture
async def drift(
    module_database_url: str, wheel: Path, doors: Doors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Drift]:
    monkeypatch.setenv("BADGES_URL", doors.url)
    monkeypatch.setenv("ROLLCALL_SECRET_BADGES", SECRET)
    install_wheel(wheel, tmp_path / "site", monkeypatch)
    async with open_drift(module_database_url) as drift:
        yield drift


async def compare(drift: Drift, read_model: str | None = "badges", *, full: bool = True, **given: object) -> JobState:
    settings = Settings.model_validate(
        {"database_url": "postgresql://db/x", "rabbitmq_url": "amqp://mq/", "allow_networks": "127.0.0.0/8", **given}
    )
    kinds = job_kinds(settings, drift.database)

    async def run(job: RunningJob) -> JobResult:
        return await kinds[job.kind].run(job)

    parameters = {} if read_model is None else {"readModel": read_model}
    return (await drift.run(await drift.enqueue(full=full, **parameters), run)).state


async def issue_badges(drift: Drift, doors: Doors) -> None:
    """One for everybody there is."""
    doors.open = {str(row["id"]) for row in await drift.fetch("select id from members")}


async def test_badges_that_open_for_who_has_access_are_in_step(drift: Drift, doors: Doors) -> None:
    await drift.add_members(250, None)
    await issue_badges(drift, doors)

    assert await compare(drift) is JobState.SUCCEEDED

    (run,) = await drift.runs()
    assert (run.read_model, run.verdict, run.compared, doors.asked) == ("badges", "clean", 250, 3)


async def test_what_differs_is_found_with_its_reason(drift: Drift, doors: Doors) -> None:
    await drift.add_members(25, None)
    # Its end has passed, and no reconciliation has noticed yet: what counts is what holds now.
    await drift.add_members(1, ago(3))
    await issue_badges(drift, doors)
    missing = str(await drift.member_id("m-3"))
    doors.open.remove(missing)

    await compare(drift)

    assert {one.key: one.reason for one in await drift.findings()} == {
        missing: "the member has access, and the badge does not open",
        str(await drift.member_id("m-25")): "the badge opens, and the member has no access",
    }


async def test_a_second_breach_is_told_as_of_any_read_model(drift: Drift, doors: Doors) -> None:
    await drift.add_members(30, None)
    for _ in range(2):
        await compare(drift, full=False)
    runs = await drift.runs()
    assert [(run.mode, run.compared, run.verdict, run.promoted) for run in runs] == [
        ("sampled", 20, "breach", False),
        ("sampled", 20, "breach", True),
    ]
    assert len(await drift.told()) == 1


async def test_a_door_system_that_is_away_is_no_drift_and_is_not_asked_for_each_member(drift: Drift, doors: Doors) -> None:
    await drift.add_members(300, None)
    doors.status = 503

    async with asyncio.timeout(60):
        await compare(drift)

    (run,) = await drift.runs()
    assert (run.verdict, run.compared) == ("inconclusive", 0)
    assert "the door system: " in (run.error or "")
    # The way's own attempts for one question, not as many for each member.
    assert doors.asked < 10


async def test_a_key_that_does_not_fit_and_a_closed_network_are_told_without_it(
    drift: Drift, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drift.add_members(3, None)
    await compare(drift, allow_networks=None)
    assert doors.asked == 0
    monkeypatch.setenv("ROLLCALL_SECRET_BADGES", "wrong")
    await compare(drift)
    runs = await drift.runs()
    reasons = [one.reason for one in await drift.findings()]
    assert [(run.verdict, run.compared) for run in runs] == [("inconclusive", 0)] * 2
    assert "401: it does not accept the key" in reasons[0]
    assert "wrong" not in f"{reasons} {[run.error for run in runs]}"


async def test_one_that_cannot_be_used_is_inconclusive_and_stops_no_other(
    drift: Drift, doors: Doors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drift.add_members(3, None)
    await issue_badges(drift, doors)
    broken = {"rollcall.reconcilers": {"lost": "of_nothing:Lost"}}
    install_module(tmp_path / "x", monkeypatch, distribution="broken", module="of_nothing", text="import ldap3\n", points=broken)

    assert await compare(drift, None) is JobState.PARTIAL

    runs = {run.read_model: run for run in await drift.runs()}
    assert {name: run.verdict for name, run in runs.items()} == {"audit": "clean", "badges": "clean", "lost": "inconclusive"}
    assert "No module named 'ldap3'" in (runs["lost"].error or "")
