"""Relays that fail at a point of the tests' choosing: the production relay, with the fault around one of its steps.

`python -m tests.chaos.faulty_relay die KILLS SEED` keeps two relays running, each of which is killed for good between the broker's
confirm of a window and the deletion of its rows, until KILLS of them have died.
`python -m tests.chaos.faulty_relay stop` is one relay that, after each SIGUSR1, stops itself with a window in hand: claimed, its
lease checked, and not yet written to the broker.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from random import Random

from service.actions.relay_outbox import Settlement
from service.clients.amqp_frames import Publishable
from service.clients.broker import Publisher
from service.clients.confirm_channel import Outcome
from service.entrypoints.loops.relay import Relay, RelayOptions
from service.settings import Settings, load_settings
from service.store.database import Database

WINDOW, LANES = 32, 2
# What a relay that is killed may have sent without deleting it.
IN_FLIGHT = WINDOW * LANES
KILLED, STARTED, STOPPED = "killed between confirm and delete", "started", "stopped with a window in hand"
_AT_ONCE = 2


def _say(event: str, **said: float) -> None:
    # One write, so that what several processes say stays in whole lines.
    os.write(1, json.dumps({"event": event, "at": time.monotonic(), **said}).encode() + b"\n")


class DyingRelay(Relay):
    """Is killed when so many of its windows have been settled and one more is confirmed."""

    windows_left: int

    def _note(self, settlement: Settlement) -> None:
        super()._note(settlement)
        if settlement.confirmed:
            if self.windows_left == 0:
                _say(KILLED, confirmed=len(settlement.confirmed))
                os.kill(os.getpid(), signal.SIGKILL)
            self.windows_left -= 1


class StoppingPublisher(Publisher):
    """Stops the whole process before it writes its next window, once each time it was told to."""

    is_told = False

    def tell(self) -> None:
        self.is_told = True

    async def publish_window(self, messages: Sequence[Publishable]) -> list[Outcome]:
        if messages and self.is_told:
            self.is_told = False
            _say(STOPPED, messages=len(messages))
            os.kill(os.getpid(), signal.SIGSTOP)
        return await super().publish_window(messages)


async def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(0.2)
    os._exit(1)


async def _die(settings: Settings, rng: Random, parent: int) -> None:
    # A test that gave up kills the parent only.
    ending = asyncio.create_task(_end_with(parent))
    database = await Database.connect(settings.database_url.get_secret_value(), name="dying relay")
    # Short leases: the takeover after the real ones is another scenario.
    options = RelayOptions(window=WINDOW, lanes=LANES, lease=timedelta(seconds=0.6))
    broker, listen = settings.rabbitmq_url.get_secret_value(), settings.listen_url.get_secret_value()
    relay = DyingRelay(database, broker_url=broker, listen_url=listen, options=options)
    relay.windows_left = rng.randrange(3)
    await relay.run()
    ending.cancel()


async def _stop(settings: Settings) -> None:
    database = await Database.connect(settings.database_url.get_secret_value(), name="stopping relay")
    broker, listen = settings.rabbitmq_url.get_secret_value(), settings.listen_url.get_secret_value()
    relay = Relay(database, broker_url=broker, listen_url=listen)
    relay._publisher = publisher = StoppingPublisher(broker, name="stopping relay")
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, publisher.tell)
    _say(STARTED)
    await relay.run()
    await database.close()


def _keep_dying(settings: Settings, kills: int, seed: str) -> None:
    """Fork: a relay that starts from nothing needs a second of a slow core, of which these need none."""
    alive: set[int] = set()
    started, parent = 0, os.getpid()
    while started < kills or alive:
        while started < kills and len(alive) < _AT_ONCE:
            started += 1
            if (child := os.fork()) == 0:
                asyncio.run(_die(settings, Random(f"{seed}/{started}"), parent))
                os._exit(1)
            alive.add(child)
        child, status = os.wait()
        alive.discard(child)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            sys.exit(f"a relay ended with status {status} by itself")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["die", kills, seed]:
            _keep_dying(load_settings(), int(kills), seed)
        case _:
            asyncio.run(_stop(load_settings()))
