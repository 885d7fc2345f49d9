"""The worker under FastStream's own command."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
import yaml

from service.clients.inbound import InboundPublisher
from tests.service_rig import Upstream, books, clean_broker, publish

FASTSTREAM = str(Path(sys.executable).with_name("faststream"))
APP = "service.wiring:worker_app"


async def _faststream(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        FASTSTREAM,
        *arguments,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_faststream_docs_describes_the_consumer_without_an_environment(tmp_path: Path) -> None:
    target = tmp_path / "worker.yaml"
    process = await _faststream("docs", "gen", "--factory", APP, "--yaml", "--out", str(target), DATABASE_URL="", RABBITMQ_URL="")
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    described = yaml.safe_load(target.read_text())
    assert described["channels"]["MEMBER_CHANGED"]["address"] == "rollcall.member-changes"
    payload = described["components"]["schemas"]["MEMBER_CHANGED:Message:Payload"]
    assert {"companyId", "connectionId", "externalId", "action", "version", "updatedAt", "member"} <= set(payload["properties"])


async def test_faststream_run_applies_changes_and_ends_with_0_on_sigterm(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    async with clean_broker(rabbitmq_url), InboundPublisher.connected(rabbitmq_url) as publisher:
        await publish(publisher, [upstream.upsert(str(number), 1) for number in range(20)])
        process = await _faststream("run", "--factory", APP, DATABASE_URL=database_url, RABBITMQ_URL=rabbitmq_url)
        try:
            async with asyncio.timeout(40):
                while (await books(database_url)).taken_in < 20:
                    assert process.returncode is None
                    await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            output, _ = await asyncio.wait_for(process.communicate(), 30)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, output.decode()


@pytest.mark.parametrize("missing", ["DATABASE_URL", "RABBITMQ_URL"])
async def test_faststream_run_without_an_environment_says_what_is_missing(missing: str) -> None:
    given = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "RABBITMQ_URL": "amqp://127.0.0.1:1/", missing: ""}
    process = await _faststream("run", "--factory", APP, **given)
    output, _ = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode != 0
    assert missing in output.decode()
