import json
import re
import shutil
from dataclasses import replace

import pytest
import yaml

from contracts.channels import CHANNELS, MEMBER_CHANGED, SCHEDULE_TICK
from contracts.generate import CONTRACTS, asyncapi, generated_files, main, stale_files, write_files


@pytest.fixture
def fresh(tmp_path):
    write_files(tmp_path)
    return tmp_path


def test_the_committed_files_are_up_to_date():
    assert stale_files(CONTRACTS) == []
    assert main(["--check"]) == 0


def test_the_same_contracts_give_the_same_files():
    assert generated_files() == generated_files()


def test_a_first_run_writes_everything_and_the_check_passes(tmp_path, capsys):
    assert main([], root=tmp_path) == 0
    assert "contracts/asyncapi.yaml" in capsys.readouterr().out
    assert main(["--check"], root=tmp_path) == 0


def test_a_second_run_changes_nothing(fresh, capsys):
    before = {path: path.stat().st_mtime_ns for path in fresh.rglob("*.*")}

    assert main([], root=fresh) == 0

    assert {path: path.stat().st_mtime_ns for path in fresh.rglob("*.*")} == before
    assert capsys.readouterr().out == ""


def test_the_check_names_what_is_stale_and_changes_nothing(fresh, capsys):
    changed, missing, stray = (
        fresh / "asyncapi.yaml",
        fresh / "schemas" / "schedule_tick.v1.json",
        fresh / "schemas" / "forgotten.v1.json",
    )
    changed.write_text("asyncapi: 2.6.0\n")
    missing.unlink()
    stray.write_text("{}")

    assert main(["--check"], root=fresh) == 1

    named = re.findall(r"contracts/(\S+) is not up to date", capsys.readouterr().err)
    assert named == ["asyncapi.yaml", "schemas/forgotten.v1.json", "schemas/schedule_tick.v1.json"]
    assert (changed.read_text(), missing.exists(), stray.exists()) == ("asyncapi: 2.6.0\n", False, True)

    assert main([], root=fresh) == 0
    assert stale_files(fresh) == []
    assert not stray.exists()


def test_a_copy_of_the_committed_files_is_what_a_run_writes(fresh, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(CONTRACTS / "schemas", copy / "schemas")
    shutil.copy(CONTRACTS / "asyncapi.yaml", copy)

    assert {path.relative_to(copy): path.read_text() for path in copy.rglob("*.*")} == {
        path.relative_to(fresh): path.read_text() for path in fresh.rglob("*.*")
    }


def test_asyncapi_describes_every_message_with_its_examples():
    document = yaml.safe_load(generated_files()[next(path for path in generated_files() if path.suffix == ".yaml")])

    assert document == json.loads(json.dumps(asyncapi()))
    for channel in CHANNELS:
        message = document["components"]["messages"][channel.model.__name__]
        assert [example["name"] for example in message["examples"]] == list(channel.examples)


def test_a_queue_without_a_consumer_is_not_announced(monkeypatch):
    monkeypatch.setattr("contracts.generate.CHANNELS", (MEMBER_CHANGED, replace(SCHEDULE_TICK, consumed=False)))
    channels = asyncapi()["channels"]

    assert [queue["name"] for queue in channels["memberChanged"]["x-queues"]] == [
        "rollcall.member-changes",
        "rollcall.member-changes.retry",
        "rollcall.member-changes.parked",
    ]
    assert "x-queues" not in channels["scheduleTick"]


def test_generated_schemas_promise_no_default_where_absent_and_null_differ():
    assert '"default"' not in "".join(generated_files().values())
