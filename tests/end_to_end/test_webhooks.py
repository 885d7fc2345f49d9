"""Webhooks from the request to the member, through what goes wrong behind the edge for long."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from contracts.channels import MEMBER_CHANGES, WEBHOOKS
from service.clients.inbound import InboundPublisher
from tests.fault_proxy import FaultProxy
from tests.relay_rig import eventually
from tests.service_rig import Upstream, books, clean_broker, depth, publish, running_module, running_service
from tests.webhook_rig import Sender, open_door, payload, write_secrets

OUTAGE_SECONDS = 60


async def post(client: httpx.AsyncClient, sender: Sender, body: dict[str, Any]) -> int:
    content = json.dumps(body).encode()
    return (await client.post(sender.path, content=content, headers=sender.headers(content))).status_code


@pytest.mark.slow
async def test_a_database_that_is_away_for_a_minute_costs_neither_a_webhook_nor_a_change_nor_an_attempt(
    database_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    upstream, sender = await Upstream.register(database_url), await Sender.register(database_url)
    async with (
        FaultProxy.before(database_url) as database,
        clean_broker(rabbitmq_url) as channel,
        running_service(database.url, rabbitmq_url, "worker", "edge", SECRETS_DIR=str(write_secrets(tmp_path))) as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{await service.port()}", timeout=10) as client,
        InboundPublisher.connected(rabbitmq_url) as publisher,
    ):
        await service.says("worker takes messages")
        await service.says("edge takes webhooks")
        assert await post(client, sender, payload("before")) == 202

        async def taken_in(count: int) -> bool:
            return (await books(database_url)).taken_in == count

        await eventually(lambda: taken_in(1), within=20)
        database.refusing = True
        database.cut()
        for second in range(OUTAGE_SECONDS):
            # The edge knows its source, and needs the broker alone.
            assert await post(client, sender, payload(f"during-{second}")) == 202
            await publish(publisher, [upstream.upsert(f"during-{second}", 1)])
            await asyncio.sleep(1)
        assert (await client.get("/ready")).status_code == 503
        assert (await books(database_url)).taken_in == 1
        database.refusing = False
        await eventually(lambda: taken_in(1 + 2 * OUTAGE_SECONDS), within=40)
        for family in (MEMBER_CHANGES, WEBHOOKS):
            assert [await depth(channel, queue.name) for queue in (family.retry, family.parked)] == [0, 0]
        assert not [line for line in service.logs if line["event"] in ("message parked", "message failed, waits for its retry")]
    held = await books(database_url)
    assert (held.members, held.audited) == (1 + 2 * OUTAGE_SECONDS, 1 + 2 * OUTAGE_SECONDS)


@pytest.mark.slow
async def test_of_thirty_webhooks_only_the_one_that_kills_the_process_is_parked(
    database_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    sender = await Sender.register(database_url)
    async with clean_broker(rabbitmq_url) as channel, open_door(database_url, rabbitmq_url, tmp_path) as door:
        answers = await asyncio.gather(*(door.post(sender, payload(f"m{number}")) for number in range(30)))
        assert {answer.status_code for answer in answers} == {202}
        deaths = 0

        async def settled() -> bool:
            return (await books(database_url)).taken_in == 29 and await depth(channel, WEBHOOKS.parked.name) == 1

        async with asyncio.timeout(120):
            while not await settled():
                async with running_module(database_url, rabbitmq_url, "tests.fatal_worker", "m7") as worker:
                    while worker.process.returncode is None and not await settled():
                        with suppress(TimeoutError):
                            await asyncio.wait_for(worker.process.wait(), 0.1)
                    deaths += worker.process.returncode is not None
        parked = await (await channel.get_queue(WEBHOOKS.parked.name)).get()
        assert parked.headers["x-rollcall-reason"] == "ended the process each of the 3 times it was handled alone"
        await parked.ack()
        assert 3 <= deaths <= 5
    connection = await asyncpg.connect(database_url)
    try:
        members = {row["external_id"] for row in await connection.fetch("select external_id from members")}
        assert members == {f"m{number}" for number in range(30)} - {"m7"}
        assert await connection.fetchval("select count(*) from lone_attempts") == 0
    finally:
        await connection.close()
