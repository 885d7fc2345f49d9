"""Directories as a company administers them: added, tested, changed, taken out of use."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.domain.jobs import JobState
from service.domain.member import ConnectionId
from service.store.schedules import find_schedule, offer_schedule
from service.store.secret_grants import grant_secret, revoke_secret
from service.store.webhooks import find_webhook, insert_webhook
from tests.admin_rig import SECRET, Admin, Tenant
from tests.directory_rig import Upstream

DJANGO = {"name": "register", "kind": "django", "settings": {"baseUrl": "https://members.example.com"}}


async def add(admin: Admin, tenant: Tenant, **given: Any) -> httpx.Response:
    return await admin.client.post("/api/directory", json={**DJANGO, **given}, headers=tenant.headers())


async def live(admin: Admin) -> set[str]:
    rows = await admin.fetch("select external_id from members where upstream_state <> 'removed' and external_id is not null")
    return {key for (key,) in rows}


def where(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["where"] for error in answer.json()["errors"]]


async def test_a_directory_is_added_shown_listed_and_changed(admin: Admin) -> None:
    tenant = await admin.tenant()
    added = await add(
        admin,
        tenant,
        removalLimits={"most": 10, "mostPercent": 2.5, "few": 0},
        versions="sequence",
        fields=["name", "email"],
        settings={
            **DJANGO["settings"],
            "mapping": {"externalId": "id", "version": "v", "member": {"name": "n", "email": "e", "phone": "p"}},
        },
    )
    path = added.headers["location"]
    patched = await admin.client.patch(path, json={"name": "club"}, headers=tenant.headers())
    listed = await admin.client.get("/api/directory", headers=tenant.headers())

    assert added.status_code == 201, added.text
    assert (added.json()["versions"], added.json()["fields"], added.json()["status"]) == ("sequence", ["email", "name"], "active")
    assert patched.json() == {**added.json(), "name": "club"}
    assert listed.json() == {"items": [patched.json()], "nextCursor": None}
    assert (await admin.client.get(path, headers=tenant.headers("read"))).json() == patched.json()
    events = (await admin.client.get("/api/audit", headers=tenant.headers())).json()["items"]
    assert [event["action"] for event in events[:3]] == ["directory.changed", "directory.changed", "directory.registered"]
    assert events[0]["changes"] == {"name": {"before": "register", "after": "club"}}
    assert events[0]["actor"].startswith("key:")


async def test_two_of_one_name_cannot_be(admin: Admin) -> None:
    tenant, other = await admin.tenant(), await admin.tenant()
    assert (await add(admin, tenant)).status_code == 201
    assert (await add(admin, tenant)).status_code == 409
    assert (await add(admin, other)).status_code == 201


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kind": "scim"}, "body.kind"),
        ({"kind": "stream"}, "body.kind"),
        ({"settings": {}}, "body.settings"),
        ({"settings": {"baseUrl": "https://user:secret@members.example.com"}}, "body.settings"),
        ({"settings": {"baseUrl": "file:///etc/passwd"}}, "body.settings"),
        ({"settings": {"baseUrl": "https://members.example.com", "mapping": []}}, "body.settings"),
        ({"kind": "csv", "settings": {"location": "file:members.csv"}}, "body.settings"),
        ({"versions": "sequence"}, "body.settings"),
        ({"fields": ["email"]}, "body.fields"),
        ({"fields": ["hold"]}, "body.fields.0"),
        ({"secretReference": "env:PATH"}, "body.secretReference"),
        ({"secretReference": "env:DJANGO_API_KEY"}, "body.secretReference"),
        ({"secretReference": "file:/etc/passwd"}, "body.secretReference"),
        ({"secretReference": "env:ROLLCALL_SECRET_OF_SOMEBODY"}, "body.secretReference"),
        ({"removalLimits": {"mostPercent": 101}}, "body.removalLimits.mostPercent"),
        ({"removalLimits": {"most": True}}, "body.removalLimits.most"),
    ],
)
async def test_what_cannot_be_asked_is_refused(admin: Admin, given: dict[str, Any], expected: str) -> None:
    tenant = await admin.tenant()
    answer = await add(admin, tenant, **given)

    assert where(answer) == [expected]
    assert "secret@" not in answer.text
    assert await admin.fetch("select 1 from connections") == []


async def test_a_secret_is_what_the_operator_granted(admin: Admin) -> None:
    tenant = await admin.tenant()
    assert where(await add(admin, tenant, secretReference=SECRET)) == ["body.secretReference"]
    async with admin.database.transaction() as tx:
        await grant_secret(tx, tenant.company_id, SECRET)
    granted = await add(admin, tenant, secretReference=SECRET)
    async with admin.database.transaction() as tx:
        assert await revoke_secret(tx, tenant.company_id, SECRET)
    revoked = await add(admin, tenant, name="another", secretReference=SECRET)
    by_operator = await admin.client.post(
        "/api/directory", json={**DJANGO, "name": "third", "secretReference": SECRET}, headers=admin.operator
    )

    assert granted.status_code == 201
    assert where(revoked) == where(by_operator) == ["body.secretReference"]


async def test_local_files_are_the_operator_s(admin: Admin) -> None:
    tenant = await admin.tenant()
    local = {"name": "file", "kind": "csv", "settings": {"location": "file:members.csv"}}
    made = await admin.client.post("/api/directory", json=local, headers=admin.operator)
    path = f"/api/directory/{made.json()['id']}"
    remote = await add(admin, tenant, kind="csv", settings={"location": "https://members.example.com/m.csv?token=abc"})

    moved = await admin.client.patch(
        remote.headers["location"], json={"settings": {"location": "file:members.csv"}}, headers=tenant.headers()
    )

    assert made.status_code == 201
    assert (await admin.client.get(path, headers=tenant.headers())).json()["settings"]["location"] == "file:members.csv"
    assert where(moved) == ["body.settings"]
    # What stands behind the question mark may open it.
    assert remote.json()["settings"]["location"] == "https://members.example.com/m.csv?…"
    assert "token=abc" not in (await admin.client.get("/api/audit", headers=tenant.headers())).text


async def test_what_opens_an_address_is_neither_shown_nor_lost(admin: Admin) -> None:
    tenant = await admin.tenant()
    settings = {"baseUrl": "https://members.example.com", "path": "/members/?token=abc"}
    made = await add(admin, tenant, settings=settings)
    path, shown = made.headers["location"], made.json()["settings"]
    returned = await admin.client.patch(path, json={"settings": shown}, headers=tenant.headers())
    ((kept,),) = await admin.fetch("select directory ->> 'path' from connections")

    assert "abc" not in made.text
    assert shown["path"] == "/members/?…"
    assert where(returned) == ["body.settings"]
    assert kept == "/members/?token=abc"


async def test_the_operator_s_own_key_goes_nowhere_else(admin: Admin) -> None:
    tenant = await admin.tenant()
    async with admin.database.transaction() as tx:
        await grant_secret(tx, tenant.company_id, "env:DJANGO_API_KEY")
    (row,) = await admin.fetch(
        "insert into connections (company_id, name, kind, version_kind, mapped_fields, directory, secret_reference) "
        "values ($1, 'default', 'django', 'none', '{name}', $2, 'env:DJANGO_API_KEY') returning id",
        tenant.company_id,
        {"baseUrl": "https://members.example.com"},
    )
    path = f"/api/directory/{row['id']}"
    moved = await admin.client.patch(path, json={"settings": {"baseUrl": "https://evil.example.com"}}, headers=tenant.headers())
    paged = await admin.client.patch(
        path, json={"settings": {"baseUrl": "https://members.example.com", "pageSize": 100}}, headers=tenant.headers()
    )

    assert where(moved) == ["body.settings"]
    assert paged.status_code == 200


async def test_what_the_operator_set_does_not_keep_its_company_from_changing_the_rest(admin: Admin) -> None:
    tenant = await admin.tenant()
    headers = {**admin.operator, "rollcall-company": str(tenant.company_id)}
    local = {"name": "file", "kind": "csv", "settings": {"location": "file:members.csv"}}
    made = await admin.client.post("/api/directory", json=local, headers=headers)
    renamed = await admin.client.patch(made.headers["location"], json={"name": "club"}, headers=tenant.headers())
    assert renamed.json()["name"] == "club"


async def test_an_address_of_an_inner_network_is_never_dialled(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(3)
    tenant = await admin.tenant()
    for address in ("http://10.0.0.1", "http://169.254.169.254", "http://[::ffff:10.0.0.1]"):
        made = await add(admin, tenant, name=address, settings={"baseUrl": address})
        tested = await admin.client.post(f"{made.headers['location']}/test", headers=tenant.headers())
        assert tested.status_code == 200
        assert (tested.json()["works"], tested.json()["reachable"]) == (False, False), tested.text


async def test_a_directory_is_tested_previewed_and_released(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(4)
    upstream.change(update={2: {"name": " "}})
    upstream.dress({4: {"kennitala": "4"}})
    tenant = await admin.tenant()
    made = await admin.directory(tenant, upstream.url)
    path = f"/api/directory/{made['id']}"
    await admin.fetch("update connections set status = 'blocked' returning id")

    tested = (await admin.client.post(f"{path}/test", headers=tenant.headers())).json()
    again = (await admin.client.post(f"{path}/test", headers=tenant.headers())).json()
    preview = (await admin.client.post(f"{path}/preview", headers=tenant.headers())).json()

    assert (tested["works"], tested["reachable"], tested["authorised"], tested["shape"]) == (True, True, True, True)
    assert (tested["count"], tested["onFirstPage"], tested["fitOnFirstPage"]) == (4, 4, 2)
    assert (tested["released"], again["released"]) == (True, False)
    assert (await admin.client.get(path, headers=tenant.headers())).json()["status"] == "active"
    assert [item["action"] for item in preview["items"]] == ["upsert", None, "upsert", None]
    assert preview["items"][0]["member"]["name"]
    assert preview["items"][1]["unfit"].startswith("member.name") or "name" in preview["items"][1]["unfit"]
    assert "national id" in preview["items"][3]["unfit"]
    assert await live(admin) == set()


async def test_a_test_that_is_sent_again_asks_nobody_and_releases_nothing(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(3)
    tenant = await admin.tenant()
    path = f"/api/directory/{(await admin.directory(tenant, upstream.url))['id']}"
    once = {**tenant.headers(), "idempotency-key": "once"}
    await admin.fetch("update connections set status = 'blocked' returning id")

    first = await admin.client.post(f"{path}/test", headers=once)
    # Blocked anew since: what the first request has done is not done a second time.
    await admin.fetch("update connections set status = 'blocked' returning id")
    asked = upstream.requests
    again = await admin.client.post(f"{path}/test", headers=once)
    elsewhere = await admin.client.post(f"{path}/preview", headers=once)

    assert (first.status_code, first.json()["released"]) == (200, True)
    assert (again.status_code, again.headers["idempotency-replayed"], again.content) == (200, "true", first.content)
    assert upstream.requests == asked
    assert (await admin.client.get(path, headers=tenant.headers())).json()["status"] == "blocked"
    assert where(elsewhere) == ["header.Idempotency-Key"]
    events = (await admin.client.get("/api/audit", headers=tenant.headers())).json()["items"]
    assert [event["action"] for event in events].count("directory.released") == 1


async def test_of_many_tests_at_once_under_one_key_one_releases(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(3)
    tenant = await admin.tenant()
    path = f"/api/directory/{(await admin.directory(tenant, upstream.url))['id']}"
    once = {**tenant.headers(), "idempotency-key": "once"}
    await admin.fetch("update connections set status = 'blocked' returning id")

    answers = await asyncio.gather(*(admin.client.post(f"{path}/test", headers=once) for _ in range(10)))

    # 503: more of them at once than may ask a directory.
    assert {answer.status_code for answer in answers} <= {200, 409, 503}
    bodies = {answer.content for answer in answers if answer.status_code == 200}
    assert len(bodies) == 1
    assert b'"released":true' in next(iter(bodies))


async def test_what_a_test_has_found_wrong_is_an_answer_that_is_kept_too(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(3)
    upstream.fault("html")
    tenant = await admin.tenant()
    path = f"/api/directory/{(await admin.directory(tenant, upstream.url))['id']}"
    once = {**tenant.headers(), "idempotency-key": "once"}

    first = await admin.client.post(f"{path}/test", headers=once)
    upstream.heal()
    again = await admin.client.post(f"{path}/test", headers=once)
    anew = await admin.client.post(f"{path}/test", headers={**once, "idempotency-key": "another"})

    assert (first.json()["works"], again.content) == (False, first.content)
    assert anew.json()["works"] is True


async def test_a_preview_that_is_sent_again_shows_no_people_a_second_time(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(3)
    tenant = await admin.tenant()
    path = f"/api/directory/{(await admin.directory(tenant, upstream.url))['id']}/preview"
    once = {**tenant.headers(), "idempotency-key": "once"}

    first = await admin.client.post(path, headers=once)
    again = await admin.client.post(path, headers=once)

    shown = first.json()
    assert shown["items"][0]["member"]["name"] == "Member 1"
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == {**shown, "items": [{**item, "externalId": None, "member": None} for item in shown["items"]]}
    assert await admin.fetch("select 1 from idempotency_keys where body like '%Member 1%'") == []


async def test_a_key_that_is_not_accepted_does_not_release(
    admin: Admin, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.reset(3)
    tenant = await admin.tenant()
    made = await admin.directory(tenant, upstream.url)
    await admin.fetch("update connections set status = 'blocked' returning id")
    monkeypatch.setenv("ROLLCALL_SECRET_DIRECTORY", "wrong")

    tested = (await admin.client.post(f"/api/directory/{made['id']}/test", headers=tenant.headers())).json()
    monkeypatch.delenv("ROLLCALL_SECRET_DIRECTORY")
    missing = (await admin.client.post(f"/api/directory/{made['id']}/test", headers=tenant.headers())).json()

    assert (tested["works"], tested["authorised"], tested["released"]) == (False, False, False)
    assert (missing["works"], missing["released"]) == (False, False)
    assert "ROLLCALL_SECRET_DIRECTORY" in missing["problem"]
    patched = await admin.client.patch(f"/api/directory/{made['id']}", json={}, headers=tenant.headers())
    assert patched.json()["status"] == "active"


async def test_after_a_change_of_meaning_every_member_is_compared_anew(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(20)
    tenant = await admin.tenant()
    made = await admin.directory(tenant, upstream.url, fields=["name", "nationalId"])
    path = f"/api/directory/{made['id']}"
    first = await admin.sync(tenant)
    second = await admin.sync(tenant)
    without = await admin.fetch("select count(*) from members where email is not null")

    patched = await admin.client.patch(path, json={"fields": None}, headers=tenant.headers())
    third = await admin.sync(tenant, mode="incremental")
    fourth = await admin.sync(tenant)

    assert first.result is not None
    assert second.result is not None
    assert third.result is not None
    assert fourth.result is not None
    assert (first.result["added"], second.result["verified"]) == (20, 20)
    assert without == [(0,)]
    assert "email" in patched.json()["fields"]
    assert patched.json()["lastFullSyncAt"] is None
    # The records are as they were: only what is made of them has changed.
    assert third.result["updated"] == 20
    assert await admin.fetch("select count(*) from members where email is not null and version = 2") == [(20,)]
    assert (fourth.result["verified"], fourth.result["updated"]) == (20, 0)


async def test_what_records_mean_is_not_changed_under_a_sync(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(3)
    tenant = await admin.tenant()
    made = await admin.directory(tenant, upstream.url)
    job = (await admin.client.post("/sync", headers=tenant.headers())).json()["jobId"]

    meaning = await admin.client.patch(f"/api/directory/{made['id']}", json={"fields": ["name"]}, headers=tenant.headers())
    name = await admin.client.patch(f"/api/directory/{made['id']}", json={"name": "other"}, headers=tenant.headers())

    assert (meaning.status_code, meaning.json()["jobId"]) == (409, job)
    assert name.status_code == 200


async def test_a_directory_that_owns_members_is_not_deleted_without_a_word(admin: Admin, upstream: Upstream) -> None:
    upstream.reset(4)
    tenant = await admin.tenant()
    path = f"/api/directory/{(await admin.directory(tenant, upstream.url))['id']}"
    await admin.sync(tenant)
    queued = (await admin.client.post("/sync", headers=tenant.headers())).json()["jobId"]

    unsaid = await admin.client.delete(path, headers=tenant.headers())
    kept = await admin.client.delete(f"{path}?members=keep", headers=tenant.headers())

    assert unsaid.status_code == 409
    assert kept.status_code == 204
    assert len(await live(admin)) == 4
    assert (await admin.client.get(path, headers=tenant.headers())).json()["status"] == "archived"
    assert (await admin.client.get(f"/sync/jobs/{queued}", headers=tenant.headers())).json()["state"] == JobState.CANCELLED
    assert (await admin.client.get("/api/directory", headers=tenant.headers())).json()["items"] == []
    assert len((await admin.client.get("/api/directory?archived=true", headers=tenant.headers())).json()["items"]) == 1
    assert (await admin.client.post("/sync", headers=tenant.headers())).status_code == 409
    # It is out of use already, and its members stay as they were left.
    assert (await admin.client.delete(path, headers=tenant.headers())).status_code == 204
    assert (await admin.client.delete(f"{path}?members=keep", headers=tenant.headers())).status_code == 204
    assert len(await live(admin)) == 4
    assert where(await admin.client.patch(path, json={"name": "x"}, headers=tenant.headers())) == ["body.status"]
    assert where(await admin.client.post(f"{path}/test", headers=tenant.headers())) == ["path.directory_id"]


async def test_an_unused_directory_goes_at_once(admin: Admin) -> None:
    tenant = await admin.tenant()
    made = await add(admin, tenant)
    assert (await admin.client.delete(made.headers["location"], headers=tenant.headers())).status_code == 204


async def test_out_of_use_it_takes_no_webhooks_and_its_schedule_stops(admin: Admin) -> None:
    tenant = await admin.tenant()
    made = await add(admin, tenant)
    connection = ConnectionId(UUID(made.json()["id"]))
    async with admin.database.transaction() as tx:
        await insert_webhook(tx, connection, tenant.company_id, scheme="github", settings={}, mapping=None, rate_per_second=5)
        assert await offer_schedule(tx, "directory_sync", timedelta(hours=1), tenant.company_id, connection)

    assert (await admin.client.delete(made.headers["location"], headers=tenant.headers())).status_code == 204

    async with admin.database.transaction() as tx:
        schedule = await find_schedule(tx, "directory_sync", connection)
        assert schedule is not None
        assert not schedule.enabled
        assert await find_webhook(tx, connection) is None
