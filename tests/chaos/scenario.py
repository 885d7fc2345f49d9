"""What every scenario gets: its share of the seed, its load, and the proof that its books balance."""

from __future__ import annotations

import os
import platform
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import aio_pika
import asyncpg

from tests.chaos.figures import Figures
from tests.chaos.ledger import Findings
from tests.chaos.load import Load
from tests.service_rig import empty

SEED = "ROLLCALL_CHAOS_SEED"
FIGURES = "ROLLCALL_CHAOS_FIGURES"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario of a run: `name` with its parameters, `title` as people read it."""

    name: str
    title: str
    seed: int

    @property
    def rng(self) -> Random:
        """The same for a seed and a scenario, whatever else is run."""
        return Random(f"{self.seed}/{self.name}")

    @asynccontextmanager
    async def load(self, database_url: str, broker_url: str, *, members: int = 200, rate: float = 60) -> AsyncIterator[Load]:
        """A steady load on a broker whose queues were empty; 60 changes a second leave two cores room for the faults."""
        await empty(broker_url)
        async with Load.on(database_url, broker_url, self.rng, members=members, rate=rate) as load:
            yield load

    async def prove(
        self,
        findings: Findings,
        load: Load,
        *,
        faults: int,
        may_overtake: bool = False,
        recoveries: Sequence[float] | None = None,
        **notes: str,
    ) -> None:
        """Assert what must hold everywhere, and put the figures down.

        Only where a broker handed out anew what it had in hand may a change or an event be overtaken by a later one of its member.
        """
        required = {
            "lost": findings.lost,
            "ghosts": findings.ghosts,
            "twice": findings.twice,
            "inverted": findings.inverted,
            "overtaken": [] if may_overtake else findings.overtaken,
        }
        wrong = {kind: found for kind, found in required.items() if found}
        told = "; ".join(f"{kind}: {len(found)}, such as {found[:5]}" for kind, found in wrong.items())
        assert not wrong, f"seed {self.seed}: {told}"
        if (file := os.environ.get(FIGURES)) is None:
            return
        figures = Figures(
            scenario=self.name,
            title=self.title,
            faults=faults,
            accepted=findings.accepted,
            delivered=findings.delivered,
            lost=len(findings.lost),
            ghosts=len(findings.ghosts),
            inverted=len(findings.inverted),
            twice=len(findings.twice),
            repeated=findings.repeated,
            overtaken=len(findings.overtaken),
            recoveries=[round(seconds, 2) for seconds in (load.recoveries if recoveries is None else recoveries)],
            notes={name.replace("_", " "): value for name, value in notes.items()},
            setting=await _setting(load.database_url, load.broker_url, self.seed),
        )
        figures.add_to(Path(file))


async def _setting(database_url: str, broker_url: str, seed: int) -> dict[str, str]:
    database = await asyncpg.connect(database_url)
    postgres = (await database.fetchval("show server_version")).split()[0]
    await database.close()
    async with await aio_pika.connect(broker_url) as connection:
        properties = connection.transport.connection.server_properties  # type: ignore[union-attr]
        rabbitmq = properties["version"]
    return {
        "cores": str(os.cpu_count()),
        "machine": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "PostgreSQL": postgres,
        "RabbitMQ": str(rabbitmq),
        "seed": str(seed),
    }
