"""The files for ticks from outside: complete, fit for what reads them, and what they call answers."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from configparser import ConfigParser
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cronsim import CronSim
from pydantic import SecretStr

from service.actions.run_due_schedules import Begun
from service.entrypoints.http.cron import cron_routes
from service.entrypoints.http.server import HttpServer

TICKS = Path(__file__).resolve().parents[2] / "deploy" / "ticks"
CURL = (TICKS / "tick.curl.example").read_text(encoding="utf-8")
PAGE = (TICKS.parents[1] / "docs" / "ticks.md").read_text(encoding="utf-8")
SECRET = "a-secret-of-ticks"
SETTINGS = re.compile(r'^([a-z-]+)(?: = "?([^"\n]*)"?)?$', re.MULTILINE)


class Edge:
    """Counts the ticks that it takes."""

    def __init__(self) -> None:
        self.ticks = 0

    async def run_due(self) -> list[Begun]:
        self.ticks += 1
        return []

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        server = HttpServer(cron_routes(SecretStr(SECRET), self.run_due), "127.0.0.1", 0)
        serving = asyncio.create_task(server.run())
        try:
            yield f"http://127.0.0.1:{server.port}"
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def run(*command: str | Path, **environment: str) -> tuple[int, str]:
    """A program's exit status and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **environment} if environment else None,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def filled(config: str, edge: str, secret: str = SECRET) -> str:
    """A config of curl as somebody would fill it in."""
    filled, addresses = re.subn(r'url = "http[^"]*/api/cron"', f'url = "{edge}/api/cron"', config)
    assert addresses == 1
    assert filled.count("put-the-secret-here") == 1
    return filled.replace("put-the-secret-here", secret)


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((TICKS / name).read_text(encoding="utf-8")))


def cron_job() -> tuple[dict[str, Any], dict[str, Any]]:
    secret, job = documents("kubernetes.yaml")
    return secret, job


def test_every_file_is_in_the_page() -> None:
    linked = set(re.findall(r"\(\.\./deploy/ticks/([\w.-]+)\)", PAGE))
    assert linked == {path.name for path in TICKS.iterdir()}


@pytest.mark.parametrize("source", ["cron", "kubernetes"])
async def test_the_config_of_curl_ticks_and_tells_when_it_cannot(source: str, tmp_path: Path) -> None:
    config = CURL if source == "cron" else cron_job()[0]["stringData"]["tick.curl"]
    path, edge = tmp_path / "tick.curl", Edge()
    async with edge.served() as address:
        path.write_text(filled(config, address), encoding="utf-8")
        status, output = await run("curl", "--config", path)
        assert (status, '"enqueued":[]' in output) == (0, True), output
        path.write_text(filled(config, address, "another"), encoding="utf-8")
        status, output = await run("curl", "--config", path)
        assert (status, '"status":401' in output) == (22, True), output
    status, _ = await run("curl", "--config", path)
    # Nobody listens there any more.
    assert status == 7
    assert edge.ticks == 1


def test_both_configs_of_curl_are_one() -> None:
    in_kubernetes = dict(SETTINGS.findall(cron_job()[0]["stringData"]["tick.curl"]))
    assert {**in_kubernetes, "url": ""} == {**dict(SETTINGS.findall(CURL)), "url": ""}


async def test_the_crontab_runs_each_minute_what_ticks(tmp_path: Path) -> None:
    lines = [line for line in (TICKS / "rollcall-tick.cron").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    (line,) = (line for line in lines if not re.match(r"\w+=", line))
    *when, user, command = line.split(maxsplit=6)
    assert len(CronSim(" ".join(when), datetime(2026, 1, 1, tzinfo=UTC)).minutes) == 60
    assert user == "rollcall"
    # A percent sign would end the command.
    assert "%" not in command
    edge = Edge()
    async with edge.served() as address:
        path = tmp_path / "tick.curl"
        path.write_text(filled(CURL, address), encoding="utf-8")
        words = [str(path) if word == "/etc/rollcall/tick.curl" else word for word in shlex.split(command)]
        assert str(path) in words
        assert await run(*words) == (0, "")
    assert edge.ticks == 1


def test_the_units_of_systemd_name_each_other_and_fit() -> None:
    service, timer = ConfigParser(interpolation=None), ConfigParser(interpolation=None)
    service.read(TICKS / "rollcall-tick.service")
    timer.read(TICKS / "rollcall-tick.timer")
    name, path = service["Service"]["LoadCredential"].split(":")
    assert service["Service"]["ExecStart"].split()[1:] == ["--config", f"%d/{name}"]
    assert path == "/etc/rollcall/tick.curl"
    assert timer["Timer"]["OnCalendar"] == "*:0/1"
    if (analyze := shutil.which("systemd-analyze")) is not None:
        checked = subprocess.run(
            [analyze, "verify", "--man=no", TICKS / "rollcall-tick.service", TICKS / "rollcall-tick.timer"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "rollcall-tick" not in checked.stderr, checked.stderr


@pytest.mark.parametrize("document", documents("kubernetes.yaml"), ids=lambda document: document["kind"])
def test_kubernetes_takes_them(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.30", strict=True)


def test_the_cron_job_of_kubernetes_reads_its_secret_and_may_nothing_else() -> None:
    secret, job = cron_job()
    template = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,), (volume,) = template["containers"], template["volumes"]
    (mount,) = container["volumeMounts"]
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    assert mount["name"] == volume["name"]
    (key,) = secret["stringData"]
    assert container["args"] == ["--config", f"{mount['mountPath']}/{key}"]
    # What Kubernetes calls the restricted profile.
    assert template["securityContext"]["runAsNonRoot"] is True
    assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert template["automountServiceAccountToken"] is False
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert ":latest" not in container["image"]


async def test_the_workflow_of_github_fits_and_its_step_ticks() -> None:
    path = TICKS / "github-actions.yaml"
    check = Path(sys.executable).parent / "check-jsonschema"
    status, output = await run(check, "--builtin-schema", "vendor.github-workflows", path)
    assert status == 0, output
    (workflow,) = documents(path.name)
    (step,) = workflow["jobs"]["tick"]["steps"]
    assert step["env"] == {"EDGE": "${{ vars.EDGE }}", "CRON_SECRET": "${{ secrets.CRON_SECRET }}"}
    edge = Edge()
    async with edge.served() as address:
        status, output = await run("bash", "-e", "-c", step["run"], EDGE=address, CRON_SECRET=SECRET)
        assert status == 0, output
        status, _ = await run("bash", "-e", "-c", step["run"], EDGE=address, CRON_SECRET="another")
        assert status == 22
    assert edge.ticks == 1


@pytest.mark.parametrize(("known", "verb"), [(False, "create"), (True, "update")])
async def test_the_script_of_google_makes_the_job_or_changes_it(known: bool, verb: str, tmp_path: Path) -> None:
    """With a `gcloud` that writes down what it is asked: the real one is in no registry of the build machines."""
    asked = tmp_path / "asked"
    stand_in = tmp_path / "gcloud"
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {asked}\ncase "$*" in *describe*) exit {0 if known else 1};; esac\n')
    stand_in.chmod(0o700)
    given = {"EDGE": "https://edge.example.com/", "CRON_SECRET": SECRET, "LOCATION": "europe-west1"}
    script = TICKS / "google-cloud-scheduler.sh"
    path = f"{tmp_path}:/usr/bin:/bin"
    assert await run(script, PATH=path, **given) == (0, "")
    _, command = asked.read_text().splitlines()
    assert command.startswith(f"scheduler jobs {verb} http rollcall-tick ")
    assert "--uri=https://edge.example.com/api/cron --http-method=POST" in command
    assert f"headers=Authorization=Bearer {SECRET}" in command
    for missing in given:
        status, output = await run(script, PATH=path, **{name: value for name, value in given.items() if name != missing})
        assert status != 0
        assert missing in output


class _CloudFormation(yaml.SafeLoader):
    """With its short forms as what they are short for."""


def _short(loader: yaml.SafeLoader, suffix: str, node: yaml.ScalarNode) -> dict[str, Any]:
    return {suffix: loader.construct_scalar(node)}


_CloudFormation.add_multi_constructor("!", _short)


def test_the_template_of_amazon_refers_to_what_it_has_and_posts_with_the_secret() -> None:
    template = yaml.load((TICKS / "aws-eventbridge.yaml").read_text(encoding="utf-8"), _CloudFormation)  # a SafeLoader
    resources, parameters = template["Resources"], template["Parameters"]
    text = str(resources)
    attributes = re.findall(r"'GetAtt': '(\w+)\.Arn'", text)
    substituted = set(re.findall(r"\$\{(\w+)\}", text))
    assert attributes
    assert set(attributes) <= resources.keys()
    assert substituted == parameters.keys() == {"Edge", "CronSecret"}
    assert parameters["CronSecret"]["NoEcho"] is True
    destination = resources["Destination"]["Properties"]
    assert (destination["HttpMethod"], destination["InvocationEndpoint"]) == ("POST", {"Sub": "${Edge}/api/cron"})
    key = resources["Connection"]["Properties"]["AuthParameters"]["ApiKeyAuthParameters"]
    assert key == {"ApiKeyName": "Authorization", "ApiKeyValue": {"Sub": "Bearer ${CronSecret}"}}
    assert resources["Tick"]["Properties"]["ScheduleExpression"] == "rate(1 minute)"
