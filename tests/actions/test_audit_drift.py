"""Members against their audit: what is found, that nobody is left out, and how it is repaired."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import pytest

from service.actions.read_models.audit import AuditReconciler
from service.domain.drift import ReconciliationMode, SampleResult
from service.store.database import Database
from tests.clock_rig import ago
from tests.domain.samples import hold
from tests.drift_rig import Drift, open_drift


@pytest.fixture
async def drift(module_database_url: str) -> AsyncIterator[Drift]:
    async with open_drift(module_database_url) as drift:
        yield drift


async def edit(drift: Drift, key: str, sql: str) -> UUID:
    """Past the apply path."""
    await drift.fetch(f"update members set {sql} where external_id = $1", key)
    return await drift.member_id(key)


async def test_members_that_agree_are_clean_tombstones_among_them(drift: Drift) -> None:
    await drift.apply(drift.upsert(1), drift.upsert(2, {"name": "Anna", "plan": "gold"}), drift.removal(external_id="gone"))
    await drift.apply(drift.upsert(1, external_id="ext-2"), drift.removal(2, external_id="ext-2"))

    await drift.compare()

    (run,) = await drift.runs()
    assert (run.verdict, run.compared, run.out_of_sync, run.truncated) == ("clean", 3, 0, False)


@pytest.mark.parametrize(
    ("sql", "fields"),
    [
        ("plan = 'gold'", "plan"),
        ("plan = null", "plan"),
        ("state = 'suspended'", "state"),
        ("starts_at = now()", "startsAt"),
        ("expires_at = null", "expiresAt"),
        ("version = 9", "version"),
        ("plan = 'gold', version = 9, state = 'expired'", "version, state, plan"),
    ],
)
async def test_a_row_that_somebody_edited_is_found_with_the_fields_and_no_values(drift: Drift, sql: str, fields: str) -> None:
    await drift.add_members(25, ago(-1))
    member = await edit(drift, "m-3", sql)

    await drift.compare()

    assert [(one.key, one.reason) for one in await drift.findings()] == [
        (str(member), f"the row differs from its audit in {fields}")
    ]


async def test_a_member_without_an_audit_is_found(drift: Drift) -> None:
    await drift.add_members(3, None)
    await drift.fetch("delete from member_events where member_id = (select id from members where external_id = 'm-1')")
    await drift.heal()

    await drift.compare()

    assert [one.reason for one in await drift.findings()] == ["there is no audit of the member"]
    assert (await drift.runs())[-1].healed == 0


async def test_a_sample_lies_over_all_members(drift: Drift) -> None:
    await drift.add_members(2500, None)
    ids = [str(found) for (found,) in await drift.fetch("select id from members order by id")]
    keys = [key async for batch in drift.audit().list_sample_keys(ReconciliationMode.SAMPLED, 10) for key in batch]

    assert keys == ids[50::100]


class Watched(AuditReconciler):
    """Something happens between two batches."""

    def __init__(self, db: Database, drift: Drift) -> None:
        super().__init__(db)
        self.drift, self.seen = drift, Counter[str]()

    async def reconcile_many(self, keys: Sequence[str]) -> Sequence[SampleResult]:
        self.seen.update(keys)
        await self.drift.add_members(5, None)
        # Before, at and behind where the run is.
        await self.drift.fetch("delete from member_events where member_id in (select id from members where external_id = 'spare')")
        await self.drift.fetch(
            "delete from members where id in (select id from members where version = 0 order by random() limit 3)"
        )
        return await super().reconcile_many(keys)


async def test_a_full_run_sees_each_key_that_stays_once_while_others_come_and_go(drift: Drift) -> None:
    await drift.add_members(300, None)
    stay = {str(found) for (found,) in await drift.fetch("select id from members")}
    await drift.apply(*(drift.removal(external_id=f"gone-{number}") for number in range(60)))
    watched = Watched(drift.database, drift)

    await drift.compare(watched, budget=20)

    assert stay <= watched.seen.keys()
    assert set(watched.seen.values()) == {1}
    (run,) = await drift.runs()
    assert (run.verdict, run.errors) == ("clean", 0)


async def test_what_is_out_of_sync_is_left_alone_unless_healing_is_switched_on(drift: Drift) -> None:
    await drift.apply(drift.upsert(1, {"name": "Anna", "plan": "basic"}))
    await edit(drift, "ext-1", "plan = 'gold'")
    before = await drift.counts()

    await drift.compare()

    after = await drift.counts()
    # The job's own message is not the members'.
    assert (after[:2], after[2] - 1) == (before[:2], before[2])
    assert (await drift.runs())[0].healed == 0


@pytest.mark.parametrize(
    ("sql", "fields"),
    [
        ("plan = 'gold', starts_at = now()", ["plan", "startsAt"]),
        ("state = 'expired'", ["state"]),
        ("state = 'expired', expires_at = now() - interval '1 day'", ["expiresAt", "state"]),
        ("version = 1", []),
        ("version = 9, plan = null", ["plan"]),
        ("upstream_state = 'suspended', state = 'suspended'", ["upstreamState", "state"]),
        ("upstream_state = 'removed', state = 'removed', removed_at = now()", ["upstreamState", "state"]),
    ],
)
async def test_healing_restores_what_is_audited_as_the_next_version(drift: Drift, sql: str, fields: list[str]) -> None:
    facts = {"name": "Anna", "plan": "basic"}
    await drift.apply(drift.upsert(1, {"name": "Anna"}), drift.upsert(2, facts))
    member = await edit(drift, "ext-1", sql)
    await drift.heal()

    await drift.compare()

    (run,) = await drift.runs()
    assert (run.out_of_sync, run.healed) == (1, 1)
    (row,) = await drift.members()
    assert (row["id"], row["version"], row["state"], row["plan"], row["removed_at"]) == (member, 3, "active", "basic", None)
    assert (row["starts_at"], row["expires_at"], row["source_version"]) == (None, None, 2)
    (event,) = (one for one in await drift.events() if one["version"] == 3)
    assert (event["reason_code"], event["changed_fields"], event["previous_state"]) == ("DRIFT_REPAIR", fields, "active")
    assert (event["actor"], event["new_state"]) == (f"job:{run.job_id}", "active")

    await drift.compare()
    assert [one.verdict for one in await drift.runs()] == ["breach", "clean"]
    # What the source says next is taken as ever.
    assert await drift.outcomes(drift.upsert(3, facts | {"plan": "gold"})) == ["applied"]


class Overtaken(AuditReconciler):
    """Somebody changes the member by the apply path after it was compared."""

    def __init__(self, db: Database, drift: Drift) -> None:
        super().__init__(db)
        self.drift = drift

    async def repairs(self, keys: Sequence[str], cause):  # type: ignore[no-untyped-def]
        changes = await super().repairs(keys, cause)
        ((version,),) = await self.drift.fetch("select version from members")
        await self.drift.apply(hold(changes[0].member_id, version))
        return changes


async def test_a_change_that_comes_between_wins_over_a_repair(drift: Drift) -> None:
    await drift.apply(drift.upsert(1, {"name": "Anna", "plan": "basic"}))
    await edit(drift, "ext-1", "plan = 'gold'")
    await drift.heal()

    await drift.compare(Overtaken(drift.database, drift))

    (run,) = await drift.runs()
    assert (run.out_of_sync, run.healed) == (1, 0)
    (row,) = await drift.members()
    assert (row["version"], row["state"], row["plan"]) == (2, "suspended", "gold")
    assert len(await drift.events()) == 2


async def test_a_repair_of_many_is_counted_whole(drift: Drift) -> None:
    await drift.add_members(450, None)
    await drift.fetch("update members set plan = 'gold'")
    await drift.heal()

    row = await drift.compare()

    assert row.result is not None
    assert row.result["readModels"]["audit"]["healed"] == (await drift.runs())[0].healed == 450
    assert await drift.fetch("select from members where plan <> 'basic' or version <> 2") == []


async def test_an_id_that_is_nobodys_is_not_compared(drift: Drift) -> None:
    assert await drift.audit().reconcile(str(uuid4())) is None
