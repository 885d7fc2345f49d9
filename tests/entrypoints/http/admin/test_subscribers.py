"""Subscribers over the admin API: added only where nothing can be missed, changed, switched, and asked about."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args
from uuid import uuid4

import aio_pika
import httpx
import pytest

from contracts.channels import EVENTS, NOTIFICATIONS, membership_updated_routing_key
from service.actions.bind_notifications import Bound, bind_notifications
from service.domain.member import CompanyId
from service.domain.notifications.subscriber import CHANGED_FIELDS
from service.entrypoints.http.admin.subscriber_models import ChangedField
from service.store.secret_grants import grant_secret, revoke_secret
from tests.admin_rig import SIGNING_SECRET, Admin, Tenant, open_admin
from tests.service_rig import clean_broker

URL = "https://lists.example.com/rollcall"
OTHER_SECRET = "env:ROLLCALL_SECRET_OTHER"


async def add(admin: Admin, tenant: Tenant, **given: Any) -> httpx.Response:
    body = {"name": "lists", "url": URL, "secretReference": SIGNING_SECRET} | given
    return await admin.client.post("/api/subscribers", json=body, headers=tenant.headers())


async def granted(admin: Admin, *references: str) -> Tenant:
    tenant = await admin.tenant()
    async with admin.database.transaction() as tx:
        for reference in references or (SIGNING_SECRET,):
            await grant_secret(tx, tenant.company_id, reference)
    return tenant


async def post(admin: Admin, tenant: Tenant, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return await admin.client.post(path, json=body, headers=tenant.headers() | headers)


async def audit(admin: Admin, tenant: Tenant) -> list[tuple[str, Any, str]]:
    """The newest first."""
    answer = await admin.client.get("/api/audit", headers=tenant.headers())
    return [(one["action"], one["changes"], one["actor"]) for one in answer.json()["items"] if "key." not in one["action"]]


def where(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["where"] for error in answer.json()["errors"]]


def test_the_changed_fields_are_the_domain_s() -> None:
    assert set(get_args(ChangedField)) == CHANGED_FIELDS


async def test_one_is_added_shown_changed_and_removed_with_an_audit(admin: Admin) -> None:
    tenant = await granted(admin)
    wants = {"reasonCodes": ["ADMIN"], "newStates": ["expired", "removed"], "changedFields": ["state"]}

    added = await add(admin, tenant, wants=wants, inOrder=True)
    assert added.status_code == 201, added.text
    path = added.headers["location"]
    shown = await admin.client.get(path, headers=tenant.headers("read"))
    changed = await admin.client.patch(path, json={"name": "club", "wants": {}}, headers=tenant.headers())
    listed = await admin.client.get("/api/subscribers", headers=tenant.headers("read"))
    removed = await admin.client.delete(path, headers=tenant.headers())
    gone = await admin.client.get(path, headers=tenant.headers())

    body = added.json()
    assert shown.json() == body
    assert (body["name"], body["url"], body["inOrder"], body["state"]) == ("lists", URL, True, "active")
    assert (body["wants"], body["secretReferences"], body["undelivered"]) == (wants, [SIGNING_SECRET], 0)
    assert changed.json()["wants"] == {"reasonCodes": [], "newStates": [], "changedFields": []}
    assert [one["name"] for one in listed.json()["items"]] == ["club"]
    assert (removed.status_code, gone.status_code) == (204, 404)
    events = await audit(admin, tenant)
    assert [event[0] for event in events] == ["subscriber.removed", "subscriber.changed", "subscriber.registered"]
    assert all(actor.startswith("key:") for _, _, actor in events)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"url": "ftp://lists.example.com"}, "body.url"),
        ({"url": "https://user:hush@lists.example.com"}, "body.url"),
        ({"url": f"{URL}#part"}, "body.url"),
        ({"url": f"{URL}?…"}, "body.url"),
        ({"url": 7}, "body.url"),
        ({"name": " "}, "body.name"),
        ({"secretReference": "env:PATH"}, "body.secretReference"),
        ({"secretReference": OTHER_SECRET}, "body.secretReference"),
        ({"wants": {"reasonCodes": ["WHIM"]}}, "body.wants.reasonCodes.0"),
        ({"wants": {"newStates": ["gone"]}}, "body.wants.newStates.0"),
        ({"wants": {"changedFields": ["name", "shoes"]}}, "body.wants.changedFields.1"),
        ({"wants": {"everything": True}}, "body.wants.*"),
        ({"inOrder": "true"}, "body.inOrder"),
    ],
)
async def test_what_cannot_be_is_refused_with_where(admin: Admin, given: dict[str, Any], expected: str) -> None:
    tenant = await granted(admin)
    answer = await add(admin, tenant, **given)
    assert where(answer) == [expected]
    assert "hush" not in answer.text
    assert await admin.fetch("select 1 from subscribers") == []


async def test_two_of_one_name_cannot_be_and_after_a_removal_the_name_is_free(admin: Admin) -> None:
    tenant, other = await granted(admin), await granted(admin)
    first = await add(admin, tenant)
    assert (await add(admin, tenant)).status_code == 409
    assert (await add(admin, other)).status_code == 201
    second = await add(admin, tenant, name="second")
    renamed = await admin.client.patch(second.headers["location"], json={"name": "lists"}, headers=tenant.headers())
    await admin.client.delete(first.headers["location"], headers=tenant.headers())
    again = await add(admin, tenant)
    assert (renamed.status_code, again.status_code) == (409, 201)


async def test_the_operator_grants_as_it_adds_and_what_was_revoked_stays_so(admin: Admin) -> None:
    tenant = await admin.tenant()
    await admin.subscriber(tenant)
    assert (await add(admin, tenant, name="second")).status_code == 201
    async with admin.database.transaction() as tx:
        await revoke_secret(tx, tenant.company_id, SIGNING_SECRET)
    assert where(await add(admin, tenant, name="third")) == ["body.secretReference"]
    headers = {**admin.operator, "rollcall-company": str(tenant.company_id)}
    body = {"name": "fourth", "url": URL, "secretReference": SIGNING_SECRET}
    assert where(await admin.client.post("/api/subscribers", json=body, headers=headers)) == ["body.secretReference"]


async def test_what_may_open_an_address_is_not_shown_and_cannot_be_sent_back(admin: Admin) -> None:
    tenant = await granted(admin)
    added = await add(admin, tenant, url=f"{URL}?token=hush")
    path = added.headers["location"]
    told = [
        added.text,
        (await admin.client.get("/api/subscribers", headers=tenant.headers())).text,
        str(await audit(admin, tenant)),
    ]
    back = await admin.client.patch(path, json={"url": added.json()["url"]}, headers=tenant.headers())
    assert added.json()["url"] == f"{URL}?…"
    assert not [one for one in told if "hush" in one]
    assert (where(back), "without its query" in back.text) == (["body.url"], True)
    assert await admin.fetch("select 1 from subscribers where url like '%hush'") != []


async def test_a_secret_is_rotated_with_an_overlap_and_without(admin: Admin) -> None:
    tenant = await granted(admin, SIGNING_SECRET, OTHER_SECRET)
    path = (await add(admin, tenant)).headers["location"]

    overlapping = await post(admin, tenant, f"{path}/secret", {"secretReference": OTHER_SECRET})
    at_once = await post(admin, tenant, f"{path}/secret", {"secretReference": SIGNING_SECRET, "overlapMinutes": 0})
    refused = [
        where(await post(admin, tenant, f"{path}/secret", body))
        for body in (
            {"secretReference": "env:ROLLCALL_SECRET_OF_SOMEBODY"},
            {"secretReference": OTHER_SECRET, "overlapMinutes": 43_201},
            {"secretReference": OTHER_SECRET, "overlapMinutes": True},
        )
    ]

    assert set(overlapping.json()["secretReferences"]) == {SIGNING_SECRET, OTHER_SECRET}
    assert overlapping.json()["retiredReferences"] == [SIGNING_SECRET]
    assert (at_once.json()["secretReferences"], at_once.json()["retiredReferences"]) == ([SIGNING_SECRET], [])
    assert refused == [["body.secretReference"], ["body.overlapMinutes"], ["body.overlapMinutes"]]
    assert [event[0] for event in await audit(admin, tenant)][:2] == ["subscriber.secret_rotated"] * 2


async def test_it_is_paused_and_resumed_and_a_disabled_one_says_what_it_missed(admin: Admin) -> None:
    tenant = await granted(admin)
    path = (await add(admin, tenant)).headers["location"]

    paused = [await post(admin, tenant, f"{path}/pause") for _ in range(2)]
    resumed = await post(admin, tenant, f"{path}/resume")
    await admin.fetch("update subscribers set state = 'disabled', disabled_because = 'gone' returning 1")
    disabled = await admin.client.get(path, headers=tenant.headers())
    refused = await post(admin, tenant, f"{path}/pause")
    back = await post(admin, tenant, f"{path}/resume")

    assert [one.json()["state"] for one in paused] == ["paused"] * 2
    assert (resumed.json()["state"], resumed.json()["missedSince"]) == ("active", None)
    assert (disabled.json()["state"], disabled.json()["disabledBecause"]) == ("disabled", "gone")
    assert refused.status_code == 409
    assert (back.json()["state"], back.json()["missedSince"]) == ("active", resumed.json()["createdAt"])
    assert [event[0] for event in await audit(admin, tenant)][:3] == [
        "subscriber.resumed",
        "subscriber.resumed",
        "subscriber.paused",
    ]


async def test_a_test_is_a_delivery_about_nobody_that_can_be_followed(admin: Admin) -> None:
    tenant = await granted(admin)
    path = (await add(admin, tenant)).headers["location"]

    asked = await post(admin, tenant, f"{path}/test", **{"Idempotency-Key": "once"})
    again = await post(admin, tenant, f"{path}/test", **{"Idempotency-Key": "once"})
    shown = await admin.client.get(asked.headers["location"], headers=tenant.headers("read"))
    await post(admin, tenant, f"{path}/pause")
    paused = await post(admin, tenant, f"{path}/test")

    assert (asked.status_code, again.status_code, again.json()) == (202, 202, asked.json())
    assert (asked.json()["memberId"], asked.json()["version"], asked.json()["replayed"]) == (None, None, False)
    assert (shown.json()["state"], shown.json()["attempts"], shown.json()["attemptLog"]) == ("pending", 0, [])
    assert (paused.status_code, "paused" in paused.json()["detail"]) == (409, True)
    assert await admin.fetch("select count(*) from deliveries") == [(1,)]


_DELIVERIES = """
insert into deliveries (
    subscriber_id, member_id, version, in_order, state, due_at, attempts, attempts_of_round, last_status, last_error,
    correlation_id, finished_at
)
select $1, gen_random_uuid(), n, false, case n % 3 when 0 then 'pending' when 1 then 'delivered' else 'exhausted' end,
    case when n % 3 = 0 then now() end, 1, 1, 500, 'it answers 500', 'run', case when n % 3 <> 0 then now() end
from generate_series(1, 7) n
returning id
"""
_ATTEMPT = """
insert into delivery_attempts (delivery_id, number, started_at, duration, outcome, status, error_class, error, response)
values ($1, 1, now(), interval '1.5 seconds', 'failed', 500, 'status', 'it answers 500', 'Sorry') returning 1
"""


async def test_deliveries_are_paged_filtered_and_shown_with_their_attempts(admin: Admin) -> None:
    tenant = await granted(admin)
    added = await add(admin, tenant)
    path = added.headers["location"]
    ids = [row["id"] for row in await admin.fetch(_DELIVERIES, added.json()["id"])]
    await admin.fetch(_ATTEMPT, ids[0])
    headers = tenant.headers("read")

    found: list[int] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = (await admin.client.get(f"{path}/deliveries", params=query, headers=headers)).json()
        found += [one["id"] for one in page["items"]]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
    exhausted = await admin.client.get(f"{path}/deliveries", params={"state": "exhausted"}, headers=headers)
    shown = (await admin.client.get(f"{path}/deliveries/{ids[0]}", headers=headers)).json()
    wrong = await admin.client.get(f"{path}/deliveries", params={"state": "lost"}, headers=headers)

    assert found == sorted(ids, reverse=True)
    assert {one["state"] for one in exhausted.json()["items"]} == {"exhausted"}
    assert len(exhausted.json()["items"]) == 2
    (attempt,) = shown["attemptLog"]
    assert (shown["lastStatus"], shown["lastError"], shown["inFlight"]) == (500, "it answers 500", False)
    assert (attempt["seconds"], attempt["outcome"], attempt["errorClass"], attempt["response"]) == (
        1.5,
        "failed",
        "status",
        "Sorry",
    )
    assert where(wrong) == ["query.state"]
    for nothing in (f"{ids[-1] + 1}", "0", "x", f"{2**63}"):
        assert (await admin.client.get(f"{path}/deliveries/{nothing}", headers=headers)).status_code == 404


async def test_what_has_ended_is_sent_once_more_and_what_has_not_is_not(admin: Admin) -> None:
    tenant = await granted(admin)
    added = await add(admin, tenant)
    path = added.headers["location"]
    ids = [row["id"] for row in await admin.fetch(_DELIVERIES, added.json()["id"])]

    resent = await post(admin, tenant, f"{path}/deliveries/{ids[0]}/resend")
    pending = await post(admin, tenant, f"{path}/deliveries/{ids[0]}/resend")
    unknown = await post(admin, tenant, f"{path}/deliveries/{ids[-1] + 1}/resend")
    await admin.fetch("update subscribers set state = 'disabled', disabled_because = 'failing' returning 1")
    disabled = await post(admin, tenant, f"{path}/deliveries/{ids[1]}/resend")

    assert (resent.status_code, resent.json()["state"], resent.headers["location"]) == (
        202,
        "pending",
        f"{path}/deliveries/{ids[0]}",
    )
    assert (pending.status_code, unknown.status_code, disabled.status_code) == (409, 404, 409)
    assert (await audit(admin, tenant))[0][:2] == ("delivery.resent", {"delivery": {"before": None, "after": ids[0]}})


async def test_a_replay_is_a_job_one_at_a_time(admin: Admin) -> None:
    tenant = await granted(admin)
    path = (await add(admin, tenant)).headers["location"]

    asked = await post(admin, tenant, f"{path}/replay", {"since": "2026-01-01T00:00:00Z"})
    second = await post(admin, tenant, f"{path}/replay", {"since": "2026-01-01T00:00:00Z"})
    future = await post(admin, tenant, f"{path}/replay", {"since": "2999-01-01T00:00:00Z"})
    naive = await post(admin, tenant, f"{path}/replay", {"since": "2026-01-01T00:00:00"})

    assert (asked.status_code, asked.headers["location"]) == (202, f"/sync/jobs/{asked.json()['jobId']}")
    assert (second.status_code, second.json()["jobId"]) == (409, asked.json()["jobId"])
    assert where(future) == where(naive) == ["body.since"]


@pytest.mark.parametrize("scope", ["read", "sync"])
async def test_who_may_only_look_changes_nothing(admin: Admin, scope: str) -> None:
    tenant = await granted(admin)
    path = (await add(admin, tenant)).headers["location"]
    for what in ("pause", "resume", "test", "replay", "secret", "deliveries/1/resend"):
        answer = await admin.client.post(f"{path}/{what}", headers=tenant.headers(scope))
        assert answer.status_code == 403, what


async def test_its_company_s_events_reach_the_notifier_before_it_is_there(database_url: str, rabbitmq_url: str) -> None:
    async with (
        clean_broker(rabbitmq_url) as channel,
        open_admin(database_url, bind=partial(bind_notifications, rabbitmq_url)) as admin,
    ):
        tenant = await granted(admin)
        assert (await add(admin, tenant)).status_code == 201
        exchange = await channel.get_exchange(EVENTS.name)
        key = membership_updated_routing_key(tenant.company_id)
        await exchange.publish(aio_pika.Message(b"{}"), key, mandatory=True)
        queue = await channel.get_queue(NOTIFICATIONS.main.name)
        message = await queue.get(timeout=10)
        assert message is not None
        assert message.routing_key == key
        await message.ack()


async def test_what_is_refused_leads_no_events_to_the_notifier(database_url: str) -> None:
    bound: list[CompanyId] = []

    async def bind(company_id: CompanyId) -> Bound:
        bound.append(company_id)
        return Bound(company_id)

    async with open_admin(database_url, bind=bind) as admin:
        tenant = await granted(admin)
        for given in ({"url": "ftp://x"}, {"secretReference": OTHER_SECRET}, {"wants": {"newStates": ["gone"]}}):
            assert (await add(admin, tenant, **given)).status_code == 422
        assert bound == []
        assert (await add(admin, tenant)).status_code == 201
        assert (await add(admin, tenant)).status_code == 409
        assert bound == [tenant.company_id]


async def test_without_the_broker_none_is_added(database_url: str) -> None:
    async with open_admin(database_url, bind=partial(bind_notifications, "amqp://127.0.0.1:1/")) as admin:
        tenant = await granted(admin)
        answer = await add(admin, tenant)
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert answer.headers["content-type"] == "application/problem+json"
        assert await admin.fetch("select 1 from subscribers") == []


async def test_one_that_is_not_there_is_404_everywhere(admin: Admin) -> None:
    tenant = await granted(admin)
    path = f"/api/subscribers/{uuid4()}"
    bodies: dict[str, Any] = {"secret": {"secretReference": SIGNING_SECRET}, "replay": {"since": "2026-01-01T00:00:00Z"}}
    for what in ("pause", "resume", "test", "replay", "secret", "deliveries/1/resend"):
        assert (await post(admin, tenant, f"{path}/{what}", bodies.get(what))).status_code == 404, what
    for what in ("", "/deliveries", "/deliveries/1"):
        assert (await admin.client.get(f"{path}{what}", headers=tenant.headers())).status_code == 404, what
