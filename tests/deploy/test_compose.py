"""The compose file and the image: fit, as strict as they say, and of one mind with the settings and the files beside them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.channels import EVENTS
from service.settings import Settings, load_settings
from service.wiring.process import Role

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = {name: service for name, service in SERVICES.items() if service["image"] == "rollcall:local"}
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
BIN = Path(sys.executable).parent


def example() -> dict[str, str]:
    lines = (DEPLOY / "compose.env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def environment(service: str) -> dict[str, str]:
    """What the service gets where nobody sets anything."""
    given = SERVICES[service].get("environment", {})
    return {name: VARIABLE.sub(lambda variable: variable[2], str(value)) for name, value in given.items()}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)


def test_the_file_fits_the_compose_specification() -> None:
    done = run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_passes_its_linter() -> None:
    done = run(BIN / "hadolint", DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.docker
def test_docker_compose_takes_the_file() -> None:
    assert shutil.which("docker") is not None
    done = run("docker", "compose", "-f", DEPLOY / "compose.yaml", "config", "--quiet")
    assert done.returncode == 0, done.stderr


def test_every_role_and_the_migrations_run_in_services_of_their_own() -> None:
    assert {name: service["command"] for name, service in OWN.items()} == {
        "migrate": ["migrate"],
        **{role.value: ["run", role.value] for role in Role},
    }


def test_every_variable_has_a_default_and_stands_in_the_example_with_it() -> None:
    asked = dict(VARIABLE.findall(TEXT))
    assert re.findall(r"\$(?!\{)\w+", TEXT) == []
    assert asked == example()
    assert all(VARIABLE.fullmatch(found)[2] is not None for found in re.findall(r"\$\{[^}]*\}", TEXT))  # type: ignore[index]


@pytest.mark.parametrize("service", OWN)
def test_rollcalls_environment_is_taken_by_its_settings(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = environment(service)
    assert {name.lower() for name in given} <= Settings.model_fields.keys()
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.database_url.get_secret_value() == "postgresql://rollcall:rollcall@postgres:5432/rollcall"
    assert settings.rabbitmq_url.get_secret_value() == "amqp://rollcall:rollcall@rabbitmq:5672/rollcall"
    assert settings.traces_endpoint == (None if service == "migrate" else "http://jaeger:4317")


def test_a_default_that_rollcall_has_too_is_the_same() -> None:
    for name, value in environment("edge").items():
        field = Settings.model_fields[name.lower()]
        if name in example() and not field.is_required():
            # Blank counts as unset.
            assert value == ("" if field.default is None else str(field.default)), name


def test_the_addresses_lead_to_services() -> None:
    named = set(re.findall(r"(?:@|http://)([a-z]+):\d+", TEXT)) - {"localhost"}
    assert named <= SERVICES.keys()
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    found = {name for job in scraped for source in job.get("dns_sd_configs", []) for name in source["names"]}
    assert found == {role.value for role in Role}
    targets = {target for job in scraped for source in job.get("static_configs", []) for target in source["targets"]}
    assert {target.partition(":")[0] for target in targets} - {"127.0.0.1"} <= SERVICES.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_checked_bound_to_this_machine_and_mounts_what_there_is(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":v?\d|:local$", service["image"]), "an image without a version"
    assert service["image"].count("/") <= 1, "names a registry's host"
    assert "test" in service["healthcheck"] or name == "migrate"
    assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], mount
    for needed, how in service.get("depends_on", {}).items():
        assert how["condition"] == ("service_completed_successfully" if needed == "migrate" else "service_healthy")
        assert "test" in SERVICES[needed]["healthcheck"] or needed == "migrate"


@pytest.mark.parametrize("name", OWN)
def test_rollcall_runs_without_rights_that_it_does_not_need(name: str) -> None:
    service = OWN[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^USER \d+:\d+$", dockerfile, re.MULTILINE)
    (mount,) = service["volumes"]
    assert f"SECRETS_DIR={mount.partition(':')[2]}\n" in dockerfile


def test_docker_waits_longer_than_rollcall_drains() -> None:
    for name, service in OWN.items():
        assert float(environment(name)["SHUTDOWN_GRACE_SECONDS"]) + 5 <= float(service["stop_grace_period"].removesuffix("s"))


def test_everything_in_the_image_is_pinned_by_its_hash_and_from_the_files_that_are_copied() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    commands = re.sub(r"\\\n", " ", dockerfile)
    for install in re.findall(r"(?:pip install|uv build) [^&\n]*", commands):
        assert "--require-hashes" in install or "--no-deps /dist/" in install, install
    root = DEPLOY.parent
    copied = [source for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE) for source in line.split()]
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed
    assert all((root / source).exists() for source in copied)


def test_no_file_of_the_deployment_names_a_registry_or_a_machine() -> None:
    files = [
        path for path in DEPLOY.rglob("*") if path.suffix in {".yaml", ".json", ".example"} or path.name.startswith("Dockerfile")
    ]
    assert len(files) >= 8
    for path in files:
        text = path.read_text(encoding="utf-8")
        # An example's address, a Service of the cluster, and what Kubernetes calls its own labels.
        for known in ("https://rollcall.example.com", "http://rollcall-edge", "app.kubernetes.io/"):
            text = text.replace(known, "")
        hosts = set(re.findall(r"https?://([\w.-]+)", text)) - SERVICES.keys() - {"127.0.0.1"}
        assert not hosts, path
        assert not re.search(r"\b[\w-]+\.(io|com|org|net|dev)/", text), path


def test_the_exchange_that_alerts_tell_people_to_bind_to_is_the_one_of_events() -> None:
    assert f"bind a queue to {EVENTS.name}" in (DEPLOY / "prometheus" / "alerts.yaml").read_text(encoding="utf-8")
