"""What somebody may decide about a job: what they could have asked for."""

from __future__ import annotations

import httpx
import pytest

from service.actions.enqueue_job import Enqueued, enqueue_job
from service.actions.reconcile_drift import DRIFT_FULL, DRIFT_SAMPLED
from service.actions.request_notifications import NOTIFICATION_REPLAY
from service.actions.request_sync import CONNECTION_REMOVAL, DIRECTORY_SYNC
from service.actions.scan_company import SCAN
from service.domain.jobs import JobId
from service.wiring.job_kinds import job_kinds
from tests.admin_rig import Admin, Tenant

# As the routes that start them demand it.
SCOPES = {
    DIRECTORY_SYNC: "sync",
    SCAN: "sync",
    DRIFT_SAMPLED: "sync",
    DRIFT_FULL: "sync",
    CONNECTION_REMOVAL: "admin",
    NOTIFICATION_REPLAY: "admin",
}
OTHER = {"sync": "admin", "admin": "sync"}


async def enqueued(admin: Admin, tenant: Tenant, kind: str, state: str = "queued") -> JobId:
    async with admin.database.transaction() as tx:
        asked = await enqueue_job(tx, kind=kind, company_id=tenant.company_id, subject_id=tenant.company_id, requested_by="tests")
    assert isinstance(asked, Enqueued)
    if state != "queued":
        sql = "update jobs set state = $2, result = '{}', resend_at = null, finished_at = clock_timestamp() where id = $1"
        await admin.fetch(sql, asked.job_id, state)
    return asked.job_id


async def decide(admin: Admin, tenant: Tenant, job: JobId, verb: str, scope: str) -> httpx.Response:
    return await admin.client.post(f"/sync/jobs/{job}/{verb}", headers=tenant.headers(scope))


async def state(admin: Admin, job: JobId) -> str:
    ((found,),) = await admin.fetch("select state from jobs where id = $1", job)
    return str(found)


@pytest.mark.parametrize(("verb", "status"), [("approve", 202), ("reject", 200)])
@pytest.mark.parametrize(("kind", "scope"), SCOPES.items())
async def test_a_quarantined_job_is_decided_by_who_could_have_asked_for_it(
    admin: Admin, kind: str, scope: str, verb: str, status: int
) -> None:
    tenant = await admin.tenant()
    job = await enqueued(admin, tenant, kind, "quarantined")

    for lacking in (OTHER[scope], "read"):
        answer = await decide(admin, tenant, job, verb, lacking)
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert await state(admin, job) == "quarantined"
    assert (await decide(admin, tenant, job, verb, OTHER[scope])).json()["detail"] == f"the key lacks the scope `{scope}`"
    assert (await decide(admin, tenant, job, verb, scope)).status_code == status


@pytest.mark.parametrize(("kind", "scope"), SCOPES.items())
async def test_a_job_is_cancelled_by_who_could_have_asked_for_it(admin: Admin, kind: str, scope: str) -> None:
    tenant = await admin.tenant()
    job = await enqueued(admin, tenant, kind)

    for lacking in (OTHER[scope], "read"):
        assert (await decide(admin, tenant, job, "cancel", lacking)).status_code == 403
        assert await state(admin, job) == "queued"
    assert (await decide(admin, tenant, job, "cancel", scope)).json()["state"] == "cancelled"


async def test_what_nobody_can_ask_for_is_the_administrators(admin: Admin) -> None:
    tenant = await admin.tenant()
    for kind in job_kinds(admin.settings, admin.database).keys() - SCOPES.keys():
        job = await enqueued(admin, tenant, kind)
        assert (await decide(admin, tenant, job, "cancel", "sync")).status_code == 403
        assert (await decide(admin, tenant, job, "cancel", "admin")).status_code == 200


async def test_a_job_of_another_company_is_not_there_whatever_the_scope(admin: Admin) -> None:
    ours, theirs = await admin.tenant(), await admin.tenant()
    job = await enqueued(admin, theirs, CONNECTION_REMOVAL, "quarantined")
    for verb in ("approve", "reject", "cancel"):
        for scope in ("sync", "admin", "all"):
            assert (await decide(admin, ours, job, verb, scope)).status_code == 404


async def test_an_answer_that_is_kept_is_not_shown_to_who_lacks_the_scope(admin: Admin) -> None:
    tenant = await admin.tenant()
    job = await enqueued(admin, tenant, CONNECTION_REMOVAL, "quarantined")
    path = f"/sync/jobs/{job}/reject"
    done = await admin.client.post(path, headers={**tenant.headers("admin"), "idempotency-key": "once"})
    again = await admin.client.post(path, headers={**tenant.headers("admin"), "idempotency-key": "once"})
    other = await admin.client.post(path, headers={**tenant.headers("sync"), "idempotency-key": "once"})

    assert (done.status_code, again.headers["idempotency-replayed"], other.status_code) == (200, "true", 403)
