"""Below what no sync can get: a COPY and set-based SQL, with nothing that could say no. Without books, and with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg

from tests.benchmarks.sync_people import STEPS, paged, population

__all__ = ["bare", "with_books"]

_COLUMNS: Final = ("external_id", "national_id", "name", "email")
_STAGING: Final = "create unlogged table bare_staging (external_id text, national_id text, name text, email text)"
# What Rollcall plans such statements with, so that no plan decides who is faster.
_SETTINGS: Final = "set enable_nestloop = off; set work_mem = '64MB'; set jit = off"

_BARE_TABLE: Final = """
create table bare (
    external_id text primary key, national_id text unique, name text, email text, gone boolean default false
)
"""
_BARE: Final = (
    """
    update bare b set national_id = s.national_id, name = s.name, email = s.email, gone = false
    from bare_staging s
    where s.external_id = b.external_id
        and (b.national_id, b.name, b.email, b.gone) is distinct from (s.national_id, s.name, s.email, false)
    """,
    "update bare b set gone = true where not gone and not exists (select from bare_staging s where s.external_id = b.external_id)",
    "insert into bare select s.* from bare_staging s where not exists (select from bare b where b.external_id = s.external_id)",
)

_CONNECTION: Final = """
with company as (insert into companies (name) values ('Company') returning id)
insert into connections (company_id, name, kind, version_kind, mapped_fields)
select id, 'd', 'stream', 'none', '{email,name,national_id}' from company
"""
# The audit row and the event of each new version, as Rollcall writes them but for `before`, the actor and the trace.
_BOOKS: Final = """
, audited as (
    insert into member_events (
        member_id, version, company_id, connection_id, external_id, occurred_at, reason_code, new_state, changed_fields,
        before, after, actor, correlation_id
    )
    select id, version, company_id, connection_id, external_id, now(), 'DIRECTORY_SYNC', state, '{fields}', '{{}}',
        jsonb_build_object(
            'connectionId', connection_id, 'externalId', external_id, 'nationalId', national_id, 'name', name, 'email', email,
            'upstreamState', upstream_state, 'state', state
        ),
        'connection:' || connection_id, 'run'
    from changed
)
insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at)
select id, 'rollcall.events', 'membership.updated.' || company_id, 'MEMBERSHIP_UPDATED', id || ':' || version, 'run',
    jsonb_build_object(
        'ce-specversion', '1.0', 'ce-id', id || ':' || version, 'ce-source', 'rollcall', 'ce-type', 'MEMBERSHIP_UPDATED',
        'ce-time', now(), 'ce-subject', id
    ),
    json_build_object(
        'memberId', id, 'companyId', company_id, 'connectionId', connection_id, 'externalId', external_id, 'newState', state,
        'reasonCode', 'DIRECTORY_SYNC', 'changedFields', '{fields}'::text[], 'version', version, 'occurredAt', now()
    )::text,
    now()
from changed
"""
_ALL: Final = "{connectionId,externalId,nationalId,name,email,upstreamState,state}"
_WITH_BOOKS: Final = (
    """
    with changed as (
        update members m
        set national_id = s.national_id, name = s.name, email = s.email, version = m.version + 1, upstream_applied_at = now(),
            source_hash = sha256(s.name::bytea)
        from bare_staging s
        where s.external_id = m.external_id
            and (m.national_id, m.name, m.email, m.upstream_state) is distinct from (s.national_id, s.name, s.email, 'active')
        returning m.*
    )
    """
    + _BOOKS.format(fields="{name}"),
    """
    with changed as (
        update members m
        set upstream_state = 'removed', state = 'removed', removed_at = now(), version = m.version + 1, upstream_applied_at = now()
        where upstream_state <> 'removed' and not exists (select from bare_staging s where s.external_id = m.external_id)
        returning m.*
    )
    """
    + _BOOKS.format(fields="{upstreamState,state}"),
    """
    with changed as (
        insert into members (
            id, company_id, connection_id, external_id, national_id, name, email, upstream_state, state, source_hash,
            upstream_applied_at, version
        )
        select gen_random_uuid(), c.company_id, c.id, s.external_id, s.national_id, s.name, s.email, 'active', 'active',
            sha256(s.name::bytea), now(), 1
        from bare_staging s
        cross join connections c
        where not exists (select from members m where m.external_id = s.external_id)
        returning *
    )
    """
    + _BOOKS.format(fields=_ALL),
)


async def bare(url: str, size: int) -> AsyncIterator[None]:
    """A table of its own with two indexes: no audit, no events, no guard, nothing for a record that does not fit."""
    async for _ in _steps(url, size, f"{_BARE_TABLE}; {_STAGING}", _BARE, "bare"):
        yield


async def with_books(url: str, size: int) -> AsyncIterator[None]:
    """Rollcall's own tables, with the audit row and the event of each change, all of a step in one transaction."""
    async for _ in _steps(url, size, f"{_CONNECTION}; {_STAGING}", _WITH_BOOKS, "members"):
        yield


async def _steps(url: str, size: int, before: str, statements: tuple[str, ...], table: str) -> AsyncIterator[None]:
    connection: Any = await asyncpg.connect(url)
    await connection.execute(f"{_SETTINGS}; {before}")
    for step in STEPS:
        for page in paged(population(size, step)):
            rows = [(str(record["id"]), record["kennitala"], record["name"], record["email"]) for record in page]
            await connection.copy_records_to_table("bare_staging", records=rows, columns=_COLUMNS)
        await connection.execute(f"analyze bare_staging; analyze {table}")
        async with connection.transaction():
            for statement in statements:
                await connection.execute(statement)
        await connection.execute("truncate bare_staging")
        yield
    await connection.close()
