"""Directories of a kind that the installation has added, from their description to members."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.domain.jobs import JobState
from service.wiring.extensions import load_extensions
from tests.admin_rig import SECRET, Admin, open_admin
from tests.directory_rig import KEY, Upstream
from tests.extension_rig import build_wheel, install_module, install_wheel

# Whose directories may lie on this host.
INNER = """
class Inner:
    operators_alone = True
    default_mapping = {"externalId": "id", "member": {"name": "name"}}
    def place(self, settings): return "here"
    def open(self, settings, key, outside): raise NotImplementedError
"""


MINE = """
from service.domain.drift import SampleResult
class Mine:
    read_model_name = "mine"
    def __init__(self, access): pass
    async def list_sample_keys(self, mode, budget): yield ["k"]
    async def reconcile(self, key): return SampleResult(key, True)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel("json_lines", tmp_path_factory.mktemp("json_lines"))


@pytest.fixture
async def admin(
    database_url: str, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> AsyncIterator[Admin]:
    monkeypatch.setenv("ROLLCALL_SECRET_DIRECTORY", KEY)
    install_wheel(wheel, tmp_path / "site", monkeypatch)
    inner = {"rollcall.sources": {"inner": "inner_directory:Inner"}}
    install_module(tmp_path / "inner", monkeypatch, distribution="inner", module="inner_directory", text=INNER, points=inner)
    upstream.reset(12)
    async with open_admin(database_url, added=load_extensions().sources) as served:
        yield served


def lines(upstream: Upstream, **given: Any) -> dict[str, Any]:
    return {"name": "register", "kind": "json-lines", "settings": {"url": f"{upstream.url}/files/members.jsonl"}, **given}


async def test_it_is_described_tested_and_synced_like_any_other(admin: Admin, upstream: Upstream) -> None:
    tenant = await admin.tenant()
    headers = {**admin.operator, "rollcall-company": str(tenant.company_id)}
    made = await admin.client.post("/api/directory", json=lines(upstream, secretReference=SECRET), headers=headers)
    assert made.status_code == 201, made.text
    assert (made.json()["kind"], made.json()["fields"]) == ("json-lines", ["email", "name", "nationalId"])

    tested = await admin.client.post(f"{made.headers['location']}/test", headers=tenant.headers())
    job = await admin.sync(tenant)
    members = await admin.client.get("/api/members", headers=tenant.headers())

    assert (tested.json()["works"], tested.json()["onFirstPage"], tested.json()["fitOnFirstPage"]) == (True, 12, 12)
    assert job.state is JobState.SUCCEEDED
    assert {one["name"] for one in members.json()["items"]} == {f"Member {number}" for number in range(1, 13)}


@pytest.mark.parametrize(
    ("given", "where", "reason"),
    [
        ({"settings": {}}, "body.settings", "url is an address"),
        ({"settings": {"url": "https://x.example/m", "page": 1}}, "body.settings", "unknown: page"),
        ({"kind": "ldap"}, "body.kind", "there are csv, django, inner, json-lines"),
        ({"kind": "No Kind"}, "body.kind", "a form that is not allowed"),
        ({"kind": "inner", "settings": {}}, "body.kind", "the operator's alone"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    admin: Admin, upstream: Upstream, given: dict[str, Any], where: str, reason: str
) -> None:
    tenant = await admin.tenant()
    answer = await admin.client.post("/api/directory", json=lines(upstream) | given, headers=tenant.headers())
    assert answer.status_code == 422
    (problem,) = answer.json()["errors"]
    assert problem["where"] == where
    assert reason in problem["what"]


async def test_what_is_the_operator_s_alone_is_changed_by_nobody_else(admin: Admin) -> None:
    tenant = await admin.tenant()
    headers = {**admin.operator, "rollcall-company": str(tenant.company_id)}
    made = await admin.client.post("/api/directory", json={"name": "here", "kind": "inner", "settings": {}}, headers=headers)
    path = made.headers["location"]
    renamed = await admin.client.patch(path, json={"name": "there"}, headers=tenant.headers())
    moved = await admin.client.patch(path, json={"settings": {"x": 1}}, headers=tenant.headers())
    assert (made.status_code, renamed.status_code, moved.status_code) == (201, 200, 422)


async def test_a_change_of_its_settings_compares_all_members_anew_and_a_query_is_not_shown(admin: Admin) -> None:
    headers = admin.operator
    await admin.tenant()
    made = await admin.client.post("/api/directory", json={"name": "here", "kind": "inner", "settings": {"at": 1}}, headers=headers)
    path = made.headers["location"]
    changed_at = "select meaning_changed_at from connections"
    await admin.client.patch(path, json={"settings": {"at": 1}}, headers=headers)
    ((unchanged,),) = await admin.fetch(changed_at)
    shown = await admin.client.patch(path, json={"settings": {"at": "https://x.example/?key=hush"}}, headers=headers)
    ((changed,),) = await admin.fetch(changed_at)
    back = await admin.client.patch(path, json={"settings": shown.json()["settings"]}, headers=headers)

    assert (unchanged, changed is not None) == (None, True)
    assert shown.json()["settings"] == {"at": "https://x.example/?…"}
    assert (back.status_code, "without its query" in back.text) == (422, True)


async def test_a_read_model_of_ones_own_is_compared_when_the_operator_asks(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {"rollcall.reconcilers": {"mine": "my_read_model:Mine"}}
    install_module(tmp_path / "mine", monkeypatch, distribution="mine", module="my_read_model", text=MINE, points=points)
    async with open_admin(database_url) as admin:
        tenant = await admin.tenant()
        asked = await admin.client.post("/api/drift/mine/run", headers=admin.operator)
        job = await admin.run(asked.json()["jobId"])
        runs = (await admin.client.get("/api/drift", headers=admin.operator)).json()["items"]
        theirs = await admin.client.post("/api/drift/mine/run", headers=tenant.headers())
        unknown = await admin.client.post("/api/drift/yours/run", headers=admin.operator)
    assert (asked.status_code, job.state) == (202, JobState.SUCCEEDED)
    assert [(one["readModel"], one["verdict"], one["compared"]) for one in runs] == [("mine", "clean", 1)]
    assert (theirs.status_code, unknown.status_code) == (404, 404)


async def test_a_directory_whose_extension_is_gone_says_so(admin: Admin, upstream: Upstream, database_url: str) -> None:
    tenant = await admin.tenant()
    headers = {**admin.operator, "rollcall-company": str(tenant.company_id)}
    made = await admin.client.post("/api/directory", json=lines(upstream), headers=headers)
    path = made.headers["location"]
    async with open_admin(database_url) as without:
        tested = await without.client.post(f"{path}/test", headers=tenant.headers())
        shown = await without.client.get(path, headers=tenant.headers())
    assert (tested.status_code, tested.json()["works"]) == (200, False)
    assert "no kind of directory that is called json-lines" in tested.json()["problem"]
    assert shown.json()["kind"] == "json-lines"
