"""Requests made up from the description, right and wrong ones, sent to the served API: no answer is a failure or undescribed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from service.entrypoints.http.admin.app import described_api
from tests.admin_rig import OPERATOR_KEY, Admin, open_admin
from tests.directory_rig import KEY, Upstream

DESCRIBED = described_api().openapi()
ROUTES = [(method.upper(), path) for path, methods in DESCRIBED["paths"].items() for method in methods]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@dataclass(frozen=True)
class Served:
    url: str
    company: str
    # By the parameter that names them: what is there to be found.
    ids: dict[str, list[str]]


@contextmanager
def served(database_url: str, upstream: Upstream) -> Iterator[Served]:
    """The API in a thread of its own, with one company that has something of everything."""
    ready: dict[str, Any] = {}
    begun = threading.Event()

    async def populate(admin: Admin) -> Served:
        tenant = await admin.tenant()
        directory = await admin.directory(tenant, upstream.url)
        job = await admin.sync(tenant)
        dry = await admin.sync(tenant, "/sync/dry-run")
        subscriber = await admin.subscriber(tenant)
        delivery = await admin.delivery(tenant, subscriber["id"])
        keys = await admin.fetch("select id::text from api_keys")
        logs = await admin.fetch("select id::text from sync_log")
        members = await admin.fetch("select id::text from members")
        read_model = f"directory:{directory['id']}"
        compared = await admin.client.post(f"/api/drift/{read_model}/run", headers=tenant.headers())
        await admin.run(compared.json()["jobId"])
        runs = await admin.fetch("select id::text from drift_runs")
        await admin.client.patch("/api/company", json={"scanProviders": {"duplicates": {}}}, headers=tenant.headers())
        await admin.scan(tenant)
        scans = await admin.fetch("select id::text from scans")
        ids = {
            "directory_id": [directory["id"]],
            "job_id": [str(job.id), str(dry.id)],
            "log_id": [identity for (identity,) in logs],
            "subscriber_id": [subscriber["id"]],
            "delivery_id": [str(delivery["id"])],
            "key_id": [identity for (identity,) in keys],
            "member_id": [identity for (identity,) in members],
            "read_model": [read_model, "audit"],
            "run_id": [identity for (identity,) in runs],
            "scan_id": [identity for (identity,) in scans],
        }
        return Served(str(admin.client.base_url).rstrip("/"), str(tenant.company_id), ids)

    async def serve() -> None:
        async with open_admin(database_url) as admin:
            ready["served"] = await populate(admin)
            ready["loop"], ready["stop"] = asyncio.get_running_loop(), asyncio.Event()
            begun.set()
            await ready["stop"].wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            ready["error"] = error
            begun.set()
            raise

    thread = threading.Thread(target=run, name="admin API")
    thread.start()
    try:
        assert begun.wait(60)
        assert "error" not in ready, ready
        yield ready["served"]
    finally:
        if "stop" in ready:
            ready["loop"].call_soon_threadsafe(ready["stop"].set)
        thread.join(30)


@pytest.fixture(scope="module")
def api(module_database_url: str, _upstream: Upstream) -> Iterator[Served]:
    patched = pytest.MonkeyPatch()
    patched.setenv("ROLLCALL_SECRET_DIRECTORY", KEY)
    _upstream.reset(5)
    with patched.context(), served(module_database_url, _upstream) as found:
        yield found
    patched.undo()


def check(api: Served, method: str, path: str, examples: int) -> None:
    schema = schemathesis.openapi.from_dict(DESCRIBED)
    operation = schema[path][method]
    headers = {"Authorization": f"Bearer {OPERATOR_KEY}", "Rollcall-Company": api.company}

    def send(mode: GenerationMode) -> None:
        sent = 0

        @settings(
            max_examples=examples,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            nonlocal sent
            sent += 1
            # Of every other request the ids are those of what is there.
            for name in case.path_parameters if sent % 2 else ():
                found = api.ids[name]
                case.path_parameters[name] = found[sent % len(found)]
            answer = case.call(base_url=api.url, headers=headers, timeout=20)
            case.validate_response(answer, checks=CHECKS, headers=headers)

        one()
        assert sent

    send(GenerationMode.POSITIVE)
    if operation.body or operation.query:
        # Not whether they are refused: what is wrong may be the key that is sent all the same, or a parameter that nobody reads.
        send(GenerationMode.NEGATIVE)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nothing_that_can_be_sent_fails(api: Served, method: str, path: str) -> None:
    check(api, method, path, examples=6)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nothing_that_can_be_sent_fails_however_long_one_tries(api: Served, method: str, path: str) -> None:
    check(api, method, path, examples=300)


def test_a_method_that_a_path_does_not_know_is_405(api: Served) -> None:
    schema = schemathesis.openapi.from_dict(DESCRIBED)
    for method, path in ROUTES:
        case = schema[path][method].Case(path_parameters={name: found[0] for name, found in api.ids.items() if name in path})
        case.method = "TRACE"
        answer = case.call(base_url=api.url)
        assert answer.status_code == 405
        case.validate_response(answer, checks=[unsupported_method])


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path in ROUTES if "requestBody" in DESCRIBED["paths"][path][method.lower()]]
)
def test_the_example_of_a_body_fits(api: Served, method: str, path: str) -> None:
    schema = schemathesis.openapi.from_dict(DESCRIBED)
    headers = {"Authorization": f"Bearer {OPERATOR_KEY}", "Rollcall-Company": api.company}
    body = DESCRIBED["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]["schema"]
    (name,) = [one["$ref"].rpartition("/")[2] for one in body.get("anyOf", [body]) if "$ref" in one]
    ids = {name: found[0] for name, found in api.ids.items() if f"{{{name}}}" in path}
    for example in DESCRIBED["components"]["schemas"][name]["examples"]:
        case = schema[path][method].Case(path_parameters=ids, body=example, media_type="application/json")
        answer = case.call(base_url=api.url, headers=headers, timeout=20)
        case.validate_response(answer, checks=CHECKS, headers=headers)
        # What it names may be missing, or its source's.
        assert answer.status_code in {200, 201, 202, 404, 409}, answer.text
