"""How the statements of one transaction are planned that read whole tables through, or that the server would plan wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["SLOW_SECONDS", "plan_as_it_is", "plan_by_keys", "plan_for_bulk", "plan_once", "sample_little", "write_for_now"]

# A million rows take seconds on a calm machine.
SLOW_SECONDS: Final = 900.0
_SETTINGS: Final = {
    # Off for everybody else (PREFER_INDEXES), who looks rows up by their keys.
    "enable_seqscan": "on",
    "enable_bitmapscan": "on",
    "enable_hashjoin": "on",
    "enable_mergejoin": "on",
    # Never worth it here, and minutes where the planner takes a filled table for an empty one.
    "enable_nestloop": "off",
    "work_mem": "'64MB'",
    # To compile a statement takes longer than what it saves.
    "jit": "off",
    # A plan of another connection's members fits nobody.
    "plan_cache_mode": "force_custom_plan",
}
# A kept plan may have been made under other settings.
_OWN_PLAN: Final = "set local jit = off; set local plan_cache_mode = force_custom_plan"
_SET: Final = "; ".join(f"set local {name} = {value}" for name, value in _SETTINGS.items())


async def plan_for_bulk(tx: Tx) -> None:
    """Until the transaction ends, plan for statements that read everything."""
    await tx.execute(_SET)


async def plan_as_it_is(tx: Tx) -> None:
    """For a statement that reads a table without an index: that is forbidden, and makes its plan look dear."""
    await tx.execute(_OWN_PLAN)


async def plan_by_keys(tx: Tx) -> None:
    """Until the transaction ends, look each row up by its key, whatever the server thinks how many there are."""
    await tx.execute(f"{_OWN_PLAN}; set local enable_hashjoin = off; set local enable_mergejoin = off")


async def plan_once(tx: Tx) -> None:
    """Until the transaction ends, use the plan that fits any arguments from the first call on, instead of five others before it."""
    await tx.execute("set local plan_cache_mode = force_generic_plan")


async def write_for_now(tx: Tx) -> None:
    """Let the commit not wait for the disk: for what a crash takes with it anyway."""
    await tx.execute("set local synchronous_commit = off")


async def sample_little(tx: Tx) -> None:
    """Let `analyze` look at a tenth of what it usually does: it tells how much is there, and a small sync is not mostly that."""
    await tx.execute("set local default_statistics_target = 10")
