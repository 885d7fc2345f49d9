"""A process whose parts fail: it ends and says why, and an orchestrator starts it anew."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from service.actions.group_commit import GroupCommit
from service.entrypoints.loops.relay import Relay
from service.settings import SettingsError, load_settings
from service.wiring.consumption import Consumption
from service.wiring.process import Process, Role
from tests.service_rig import clean_broker


def process(database_url: str, rabbitmq_url: str, *roles: Role) -> Process:
    return Process(load_settings(database_url=database_url, rabbitmq_url=rabbitmq_url, host="127.0.0.1", port=0), roles)


@pytest.mark.parametrize(
    ("part", "method"), [(GroupCommit, "run"), (Consumption, "watch"), (Relay, "_listen")], ids=["group commit", "watch", "relay"]
)
async def test_a_background_task_that_fails_ends_the_process(
    part: type, method: str, database_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        await asyncio.sleep(0.5)
        raise ZeroDivisionError

    monkeypatch.setattr(part, method, fail)
    async with clean_broker(rabbitmq_url), asyncio.timeout(60):
        with pytest.raises(BaseExceptionGroup) as raised:
            await process(database_url, rabbitmq_url, Role.WORKER, Role.RELAY).run(asyncio.Event())
    assert raised.group_contains(ZeroDivisionError)


async def test_a_port_that_is_taken_is_a_problem_of_the_settings(database_url: str, rabbitmq_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = load_settings(database_url=database_url, rabbitmq_url=rabbitmq_url, host="127.0.0.1", port=port)
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}"):
            Process(settings, [Role.RELAY])


def test_a_blank_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DATABASE_URL": "postgresql://db/x", "RABBITMQ_URL": "amqp://mq/x", "PORT": "", "GRACE_DAYS": ""}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.port, settings.grace_days) == (8080, 0)
