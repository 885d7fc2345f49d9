"""`rollcall drift`: whether what is derived still agrees with what it is derived from."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final
from uuid import UUID

import typer

from service.actions.enqueue_job import AlreadyRunning, enqueue_job
from service.actions.read_models.audit import AUDIT
from service.actions.reconcile_drift import DRIFT_FULL, DRIFT_SAMPLED
from service.cli.directory import in_transaction
from service.cli.drift_output import print_findings, print_runs
from service.cli.job_following import follow_job
from service.domain.drift import Verdict
from service.domain.errors import RollcallError
from service.domain.jobs import JobState
from service.settings import Settings, load_settings
from service.store.database import Database, Tx
from service.store.drift_findings import DriftFinding, list_drift_findings
from service.store.drift_runs import DriftRunRow, find_drift_run, list_drift_runs
from service.store.drift_streaks import set_healing
from service.telemetry.logs import configure_logs

__all__ = ["add_to"]

drift = typer.Typer(no_args_is_help=True, help="Whether what is derived still agrees with what it is derived from.")

# As diff says it.
_DIFFERS: Final = 2
# So many end in the table of a run.
_SHOWN: Final = 100

ReadModel = Annotated[str, typer.Argument(metavar="READ_MODEL", help="Its name, as `rollcall drift list` shows it.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(drift, name="drift")


@drift.command("list")
def show_runs(
    read_model: Annotated[str | None, typer.Option(help="Only those of this read model.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
) -> None:
    """List what the last runs have found, the newest first."""
    print_runs(in_transaction(lambda tx: list_drift_runs(tx, read_model=read_model, limit=limit)))


@drift.command("show")
def show_run(run_id: Annotated[UUID, typer.Argument(metavar="ID", help="The run's id.")]) -> None:
    """Show one run, and which keys were out of sync or could not be compared, and why."""

    async def read(tx: Tx) -> tuple[DriftRunRow | None, list[DriftFinding]]:
        return await find_drift_run(tx, run_id), await list_drift_findings(tx, run_id)

    run, findings = in_transaction(read)
    if run is None:
        message = f"there is no drift run {run_id}; `rollcall drift list` shows them"
        raise RollcallError(message)
    print_runs([run])
    if findings:
        print_findings(findings[:_SHOWN])
    if (hidden := run.out_of_sync + run.errors - min(len(findings), _SHOWN)) > 0:
        typer.echo(f"and {hidden:,} more")


@drift.command()
def run(
    read_model: Annotated[str | None, typer.Argument(metavar="READ_MODEL", help="Only this one; otherwise all.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Compare every key, not a sample.")] = False,
    most: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many keys; the run then says that it is truncated.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds after which a run that no worker takes is done right here.")] = 3,
) -> None:
    """Compare read models with what they are derived from, and follow that to its end.

    Exit status 0: they agree; 1: it failed or too little could be compared; 2: more than one key in a thousand is out of sync.
    """
    parameters = {name: value for name, value in (("readModel", read_model), ("most", most)) if value is not None}
    raise typer.Exit(asyncio.run(_run(load_settings(), DRIFT_FULL if full else DRIFT_SAMPLED, parameters, wait)))


@drift.command()
def heal(
    read_model: ReadModel,
    off: Annotated[bool, typer.Option("--off", help="Leave it as it is found.")] = False,
) -> None:
    """Let runs repair what they find out of sync, by the one apply path; it is off unless switched on."""
    if read_model != AUDIT:
        message = f"only {AUDIT} can be healed: what a directory says is brought by a sync, and others are mended elsewhere"
        raise RollcallError(message)
    in_transaction(lambda tx: set_healing(tx, read_model, heals=not off))
    typer.echo(f"what drifts in {read_model} is {'left as it is' if off else 'repaired from now on'}")


async def _run(settings: Settings, kind: str, parameters: dict[str, str | int], wait: float) -> int:
    # What is run here tells of its problems in its outcome.
    configure_logs("console", "critical")
    url = settings.database_url.get_secret_value()
    db = await Database.connect(url, name="rollcall cli", size=4, behind_pooler=settings.behind_pooler)
    try:
        async with db.transaction() as tx:
            asked = await enqueue_job(tx, kind=kind, company_id=None, subject_id=None, requested_by="cli", parameters=parameters)
        if isinstance(asked, AlreadyRunning):
            message = f"a run of this kind is going on already, as job {asked.job_id}"
            raise RollcallError(message)
        job = await follow_job(settings, db, asked.job_id, wait)
        async with db.transaction() as tx:
            runs = await list_drift_runs(tx, job_id=job.id, limit=1000)
    finally:
        await db.close()
    print_runs(runs)
    if job.state is JobState.QUEUED:
        message = f"not done yet: {job.error}; a worker tries again (job {job.id})"
        raise RollcallError(message)
    if job.state not in (JobState.SUCCEEDED, JobState.PARTIAL):
        message = f"{job.state.value}: {job.error or 'cancelled'}"
        raise RollcallError(message)
    verdicts = {one.verdict for one in runs}
    # Skipped ones have no run: another instance compares them.
    if Verdict.BREACH in verdicts:
        return _DIFFERS
    return 1 if Verdict.INCONCLUSIVE in verdicts else 0
