"""The handler that Rollcall's worker is measured against: FastStream with one transaction per message.

It does the same work with the same rules (the contract, `decide`, the rows of audit and event), row by row and with plain SQL, as
somebody would write it who knows both libraries: nothing validated twice, no logger, statements prepared, connections open.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import asyncpg
import orjson
from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue
from uuid_utils.compat import uuid7

from contracts.channels import MEMBER_CHANGED, MEMBER_CHANGES
from contracts.envelope import Envelope
from contracts.member_changed import MemberChangedV1
from service import translation
from service.domain.change import Rules, UpstreamChange, UpstreamUpsert, VersionKind
from service.domain.decide import decide
from service.domain.decision import Conflict, Refused, Stale
from service.domain.fold import Version
from service.domain.member import CompanyId, Member, MemberId, Standing, UpstreamState
from service.domain.transition import Transition, Unchanged
from service.store.member_events import MemberEventRow
from service.store.members import MEMBER_COLUMNS
from service.store.outbox import OutboxRow
from service.store.rows import column_names

__all__ = ["run"]

# A connection for each message in flight: nobody waits for one, and so nobody is overtaken by many.
PREFETCH = CONNECTIONS = 10

_EVENT_COLUMNS = column_names(MemberEventRow)
_OUTBOX_COLUMNS = column_names(OutboxRow)


def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"insert into {table} ({', '.join(columns)}) values ({', '.join(f'${n}' for n in range(1, len(columns) + 1))})"


TAKE_IN = "insert into inbox (connection_id, source, message_id) values ($1, $2, $3) on conflict do nothing returning true"
RULES = """
select c.company_id, make_interval(days => coalesce(k.grace_days, 0)) as grace, c.version_kind, c.mapped_fields, c.status
from connections c join companies k on k.id = c.company_id where c.id = $1"""
LOCK = f"""
select {", ".join(MEMBER_COLUMNS)} from members
where (connection_id, external_id) = ($1, $2) or (company_id, national_id) = ($3, $4) order by id for update"""
INSERT_MEMBER = _insert("members", MEMBER_COLUMNS)
UPDATE_MEMBER = f"""
update members set {", ".join(f"{column} = ${n}" for n, column in enumerate(MEMBER_COLUMNS, 1) if column != "id")}
where id = $1 and version = ${len(MEMBER_COLUMNS) + 1}"""
INSERT_EVENT = _insert("member_events", _EVENT_COLUMNS)
INSERT_OUTBOX = f"with inserted as ({_insert('outbox', _OUTBOX_COLUMNS)}) select pg_notify('rollcall_outbox', '')"


async def run(database_url: str, rabbitmq_url: str) -> None:
    """Consume until SIGTERM."""
    pool: Any = await asyncpg.create_pool(database_url, min_size=CONNECTIONS, max_size=CONNECTIONS, init=_init)
    broker = RabbitBroker(rabbitmq_url, logger=None, apply_types=False, graceful_timeout=25)

    @broker.subscriber(
        RabbitQueue(MEMBER_CHANGES.main.name, declare=False, durable=True),
        channel=Channel(prefetch_count=PREFETCH),
        decoder=_decode,
    )
    async def on_member_changed(change: Any) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await _apply(connection, change)

    await FastStream(broker, logger=None).run()
    await pool.close()


async def _init(connection: Any) -> None:
    dumps = partial(orjson.dumps, default=str)
    await connection.set_type_codec("jsonb", encoder=lambda value: dumps(value).decode(), decoder=orjson.loads, schema="pg_catalog")


async def _decode(message: RabbitMessage) -> UpstreamChange:
    raw = message.raw_message
    envelope = Envelope.parse(raw.headers, raw, MEMBER_CHANGED.message_type)
    return translation.to_change(MemberChangedV1.from_json(message.body), envelope)


async def _apply(connection: Any, change: UpstreamChange) -> None:
    key = change.inbox_key
    assert key is not None
    if not await connection.fetchval(TAKE_IN, key.connection_id, key.source, key.message_id):
        return
    rules = _rules(await connection.fetchrow(RULES, change.connection_id))
    national_id = change.fields.get("national_id") if isinstance(change, UpstreamUpsert) else None
    found = await connection.fetch(LOCK, change.connection_id, change.external_id, change.company_id, national_id)
    members = [_member(record) for record in found]
    by_key = next((one for one in members if (one.connection_id, one.external_id) == (key.connection_id, change.external_id)), None)
    namesake = next((one for one in members if national_id is not None and one.national_id == national_id), None)
    now = datetime.now(UTC)
    match decide(by_key, change, now, rules, MemberId(uuid7()), namesake=namesake):
        case Transition() as transition:
            version = Version(transition, change)
            await _write(connection, transition.after, transition.after.version - 1)
            await connection.execute(INSERT_EVENT, *_values(translation.to_member_event(version, now), _EVENT_COLUMNS))
            await connection.execute(INSERT_OUTBOX, *_values(translation.to_membership_updated(version, now), _OUTBOX_COLUMNS))
        case Unchanged(after=after):
            await _write(connection, after, after.version)
        case Stale():
            # Handlers side by side overtake each other: this version leaves neither audit nor event.
            return
        case Conflict(reason) | Refused(reason):
            raise RuntimeError(reason)  # the workload has none


async def _write(connection: Any, member: Member, read_version: int) -> None:
    if read_version == 0:
        await connection.execute(INSERT_MEMBER, *_values(member, MEMBER_COLUMNS))
    else:
        await connection.execute(UPDATE_MEMBER, *_values(member, MEMBER_COLUMNS), read_version)


def _values(row: object, columns: tuple[str, ...]) -> list[Any]:
    return [getattr(row, column) for column in columns]


def _member(record: Any) -> Member:
    states = {"state": Standing(record["state"]), "upstream_state": UpstreamState(record["upstream_state"])}
    return Member(**{**record, **states})


def _rules(record: Any) -> Rules:
    return Rules(
        company_id=CompanyId(record["company_id"]),
        grace=record["grace"],
        version_kind=VersionKind(record["version_kind"]),
        mapped_fields=frozenset(record["mapped_fields"]),
        archived=record["status"] == "archived",
    )
