"""The admin API of the real processes: a company, a key, a directory and a sync, from the command line to the event."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from tests.admin_rig import OPERATOR_KEY, SECRET
from tests.directory_rig import KEY, Upstream
from tests.service_rig import clean_broker, running_service


async def test_from_nothing_to_synced_members_over_http_alone(
    database_url: str, rabbitmq_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.reset(25)
    environment = {
        "ADMIN_API_KEY": OPERATOR_KEY,
        "ALLOW_NETWORKS": "127.0.0.0/8",
        "ROLLCALL_SECRET_DIRECTORY": KEY,
        "SECRETS_DIR": str(tmp_path),
    }
    operator = {"authorization": f"Bearer {OPERATOR_KEY}"}
    async with clean_broker(rabbitmq_url), running_service(database_url, rabbitmq_url, **environment) as service:
        await service.says("edge takes webhooks", within=90)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await service.port()}", timeout=30) as client:
            company = await client.post("/api/companies", json={"name": "Choir"}, headers=operator)
            directory = {
                "name": "register",
                "kind": "django",
                "settings": {"baseUrl": f"{upstream.url}/page-number", "path": "/api/members/"},
                "secretReference": SECRET,
            }
            made = await client.post("/api/directory", json=directory, headers=operator)
            issued = await client.post("/api/keys", json={"name": "k", "scopes": ["read", "sync"]}, headers=operator)
            own = {"authorization": f"Bearer {issued.json()['key']}"}
            started = await client.post("/sync", headers=own)
            async with asyncio.timeout(60):
                while (job := (await client.get(started.headers["location"], headers=own)).json())["state"] in (
                    "queued",
                    "running",
                ):
                    await asyncio.sleep(0.05)
            scraped = (await client.get("/metrics")).text
            ready = await client.get("/ready")

        assert [answer.status_code for answer in (company, made, issued, started, ready)] == [201, 201, 201, 202, 200]
        assert (job["state"], job["result"]["added"]) == ("succeeded", 25)
        assert 'rollcall_admin_request_duration_seconds_count{route="POST /sync",status="202"} 1.0' in scraped
        assert await service.terminate() == 0
        for secret in (OPERATOR_KEY, KEY, issued.json()["key"].rpartition("_")[2]):
            assert secret not in service.output
