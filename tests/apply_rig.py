"""What the tests of applying stand on: a company with two connections in a real database, and a look into its books."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from service.actions.apply_changes import apply_changes
from service.domain.change import SOURCE_FIELDS, Change, UpstreamChange, UpstreamRemoval, UpstreamUpsert, VersionKind
from service.domain.member import CompanyId, ConnectionId, MemberId
from service.domain.outcome import Result
from service.store.companies import insert_company
from service.store.connections import insert_connection
from service.store.database import Database, Tx
from tests.domain import samples


class CountingDatabase(Database):
    """Counts transactions, so that a test can tell whether one was run again."""

    transactions = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        self.transactions += 1
        async with super().transaction() as tx:
            yield tx


class Books:
    """One company's members, audit, inbox and outbox, and changes for them."""

    def __init__(self, database: CountingDatabase, company: CompanyId, connection: ConnectionId, other: ConnectionId) -> None:
        self.database, self.company, self.connection, self.other = database, company, connection, other

    def upsert(self, version: int = 1, fields: dict[str, Any] | None = None, /, **given: Any) -> UpstreamUpsert:
        return samples.upsert(version, fields, **{"company_id": self.company, "connection_id": self.connection, **given})

    def removal(self, version: int = 1, /, **given: Any) -> UpstreamRemoval:
        return samples.removal(version, **{"company_id": self.company, "connection_id": self.connection, **given})

    def own(self, change: UpstreamChange) -> UpstreamChange:
        """The same change of a member of this company's first connection."""
        key = change.inbox_key and replace(change.inbox_key, connection_id=self.connection)
        return replace(change, company_id=self.company, connection_id=self.connection, inbox_key=key)

    async def apply(self, *changes: Change, grace_days: int = 0) -> list[Result]:
        return await apply_changes(self.database, changes, default_grace_days=grace_days)

    async def outcomes(self, *changes: Change) -> list[str]:
        return [result.outcome.value for result in await self.apply(*changes)]

    async def connect(self, kind: VersionKind, mapped: Sequence[str] = tuple(SOURCE_FIELDS)) -> ConnectionId:
        async with self.database.transaction() as tx:
            return (await insert_connection(tx, self.company, kind.value, "stream", kind, mapped)).id

    async def fetch(self, sql: str, *given: Any) -> list[Any]:
        async with self.database.transaction() as tx:
            return list(await tx.fetch(sql, *given))

    async def members(self) -> list[Any]:
        return await self.fetch("select * from members order by connection_id, external_id")

    async def member_id(self, external_id: str = "ext-1") -> MemberId:
        ((found,),) = await self.fetch("select id from members where external_id = $1", external_id)
        return MemberId(found)

    async def events(self) -> list[Any]:
        return await self.fetch("select * from member_events order by id")

    async def outbox(self) -> list[Any]:
        return await self.fetch("select * from outbox order by id")

    async def inbox(self) -> list[str]:
        return [message for (message,) in await self.fetch("select message_id from inbox order by message_id")]

    async def counts(self) -> tuple[int, int, int, int]:
        """Rows of members, audit, outbox and inbox."""
        tables = ("members", "member_events", "outbox", "inbox")
        sql = "select " + ", ".join(f"(select count(*) from {table})" for table in tables)
        ((members, events, outbox, inbox),) = await self.fetch(sql)
        return members, events, outbox, inbox

    async def check(self) -> None:
        """What holds at all times: versions 1..n, one audit row and one message each, in the order of their ids."""
        latest = {row["id"]: row["version"] for row in await self.members()}
        events = await self.events()
        messages = [(row["order_key"], json.loads(row["body"]), row["message_id"]) for row in await self.outbox()]
        for identity, version in latest.items():
            assert [row["version"] for row in events if row["member_id"] == identity] == list(range(1, version + 1))
            assert [body["version"] for key, body, _ in messages if key == identity] == list(range(1, version + 1))
        assert len(events) == len(messages) == sum(latest.values())
        told = {message_id: body for _, body, message_id in messages}
        states: dict[Any, str] = {}
        for row in events:
            body = told[f"{row['member_id']}:{row['version']}"]
            assert (body["newState"], body["previousState"]) == (row["new_state"], row["previous_state"])
            assert row["previous_state"] == states.get(row["member_id"])
            assert body["changedFields"] == row["changed_fields"]
            assert row["before"].keys() == row["after"].keys() == set(row["changed_fields"])
            states[row["member_id"]] = row["new_state"]
        assert all(row["state"] == states.get(row["id"], "removed") for row in await self.members())


@asynccontextmanager
async def open_books(url: str, *, size: int = 8) -> AsyncIterator[Books]:
    """An emptied database with a company, a connection of sequences and another one; `size` transactions at a time."""
    database = await CountingDatabase.connect(url, name="tests", size=size)
    try:
        async with database.transaction() as tx:
            await tx.execute("truncate companies, inbox, outbox restart identity cascade")
            company = (await insert_company(tx, "Company", "UTC", None)).id
            first = (await insert_connection(tx, company, "first", "stream", VersionKind.SEQUENCE, sorted(SOURCE_FIELDS))).id
            other = (await insert_connection(tx, company, "other", "stream", VersionKind.SEQUENCE, sorted(SOURCE_FIELDS))).id
        yield Books(database, company, first, other)
    finally:
        await database.close()
