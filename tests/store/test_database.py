from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from service.domain.errors import Contention, RollcallError, Unavailable, UnfitData, Unforeseen
from service.store.database import Database, translated
from tests.fault_proxy import FaultProxy

SECRET = "0101012345"
TABLE = """
create table things (id text primary key, payload jsonb, number smallint, short varchar(3), body text check (body <> 'no'))
"""
# A member of a company that does not exist.
ORPHAN = """
insert into members (id, company_id, upstream_state, state, version)
select gen_random_uuid(), gen_random_uuid(), 'removed', 'removed', length($1)
"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url, name="tests", size=2)
    async with database.transaction() as tx:
        await tx.execute(TABLE)
    yield database
    await database.close()


async def run(database: Database, *statements: str, pause: float = 0) -> None:
    """Several statements in one transaction, with a pause after each, in seconds."""
    async with database.transaction() as tx:
        for statement in statements:
            await tx.execute(statement)
            await asyncio.sleep(pause)


async def raised_by(database: Database, sql: str, *given: object) -> RollcallError:
    with pytest.raises(RollcallError) as caught:
        async with database.transaction() as tx:
            await tx.execute(sql, *given)
    error = caught.value
    assert SECRET not in str(error)
    # Whoever prints the traceback must not print the driver's text either.
    assert error.__cause__ is None
    assert error.__suppress_context__
    return error


@pytest.mark.parametrize(
    ("sql", "given"),
    [
        ("insert into things (id) values ($1)", (f"{SECRET}\x00",)),
        ("insert into things (id, payload) values ('a', $1)", ({"name": f"{SECRET}\x00"},)),
        ("insert into things (id, payload) select 'a', unnest($1::jsonb[])", ([{"name": f"{SECRET}\x00"}],)),
        ("insert into things (id, payload) values ('a', $1)", ({"name": f"{SECRET}\ud800"},)),
        ("insert into things (id, payload) values ('a', $1)", ({"number": 2**70},)),
        ("insert into things (id, payload) select 'a', unnest($1::jsonb[])", ([{SECRET: object()}],)),
        ("insert into things (id) values ($1)", (f"{SECRET}\ud800",)),
        ("insert into things (id) values ($1)", (101012345,)),
        ("insert into things (id) select unnest($1::text[])", ([SECRET, 1],)),
        ("insert into things (id, number) values ('a', $1)", (101012345,)),
        ("insert into things (id, number) values ('a', $1::text::smallint)", (SECRET,)),
        ("insert into things (id, short) values ('a', $1)", (SECRET,)),
        ("insert into things (id) values ($1)", (None,)),
        ("insert into things (id, body) values ($1, 'no')", (SECRET,)),
        # More than a page of an index holds.
        ("insert into things (id) select string_agg(md5($1 || i), '') from generate_series(1, 1000) i", (SECRET,)),
        (ORPHAN, (SECRET,)),
    ],
)
async def test_data_that_the_database_or_the_driver_refuses_is_unfit(database: Database, sql: str, given: tuple[object]) -> None:
    assert isinstance(await raised_by(database, sql, *given), UnfitData)


async def test_unfit_data_names_the_rule(database: Database) -> None:
    assert "things_body_check" in str(await raised_by(database, "insert into things (id, body) values ($1, 'no')", SECRET))


async def test_a_key_that_somebody_else_stored_is_contention(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("insert into things (id) values ($1)", SECRET)

    error = await raised_by(database, "insert into things (id) values ($1)", SECRET)

    assert isinstance(error, Contention)
    assert "things_pkey" in str(error)


async def test_a_deadlock_is_contention(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("insert into things (id) values ('a'), ('b')")

    async def lock(*keys: str) -> None:
        async with database.transaction() as tx:
            await tx.execute("set local deadlock_timeout = '50ms'")
            for key in keys:
                await tx.execute("select from things where id = $1 for update", key)
                await asyncio.sleep(0.1)

    results = await asyncio.gather(lock("a", "b"), lock("b", "a"), return_exceptions=True)

    assert sorted(type(result).__name__ for result in results) == ["Contention", "NoneType"]


async def test_a_serialisation_failure_is_contention(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("insert into things (id) values ('a')")

    begin = ("set transaction isolation level repeatable read", "select from things")
    results = await asyncio.gather(
        run(database, *begin, "update things set number = 1", pause=0.1),
        run(database, *begin, "update things set number = 2", pause=0.1),
        return_exceptions=True,
    )

    assert sorted(type(result).__name__ for result in results) == ["Contention", "NoneType"]


async def test_a_connection_that_the_server_ends_is_unavailable_and_the_pool_recovers(database: Database) -> None:
    with pytest.raises(Unavailable):
        async with database.transaction() as tx:
            await tx.execute("select pg_terminate_backend(pg_backend_pid())")

    async with database.transaction() as tx:
        assert await tx.fetchval("select 1") == 1


async def test_sessions_that_are_ended_in_the_middle_of_anything_are_an_outage_and_nothing_else(database_url: str) -> None:
    database = await Database.connect(database_url, name="tests", size=4)
    server = await asyncpg.connect(database_url)
    errors: Counter[type[Exception]] = Counter()
    ending = True

    async def ask() -> None:
        while ending:
            try:
                async with database.transaction() as tx:
                    for _ in range(5):
                        await tx.fetch("select generate_series(1, 50)")
            except RollcallError as error:
                errors[type(error)] += 1

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    for _ in range(100):
        await server.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        )
        await asyncio.sleep(0.01)
    ending = False
    await asyncio.gather(*asking)
    await server.close()
    await database.close()
    assert errors.keys() == {Unavailable}


async def test_a_statement_without_end_is_unavailable(database_url: str) -> None:
    database = await Database.connect(database_url, name="tests", slowest=timedelta(seconds=0.2))
    with pytest.raises(Unavailable):
        async with database.transaction() as tx:
            await tx.execute("select pg_sleep(30)")
    await database.close()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await Database.connect("postgresql://nobody@127.0.0.1:1/nothing", name="tests")


async def test_who_is_cancelled_is_cancelled_even_where_the_rollback_fails(database_url: str) -> None:
    async with FaultProxy.before(database_url) as proxy:
        database = await Database.connect(proxy.url, name="tests")
        asked = asyncio.Event()

        async def ask() -> None:
            async with database.transaction() as tx:
                proxy.stall()
                asked.set()
                await tx.execute("select")

        asking = asyncio.create_task(ask())
        await asked.wait()
        asking.cancel()
        # The rollback waits for a server that does not answer, until its connection is cut.
        assert not (await asyncio.wait({asking}, timeout=0.2))[0]
        database.terminate()
        await asyncio.wait({asking}, timeout=10)
        assert asking.cancelled()
        await database.close()


async def test_a_closed_pool_is_unavailable(database_url: str) -> None:
    database = await Database.connect(database_url, name="tests")
    await database.close()

    with pytest.raises(Unavailable):
        async with database.transaction():
            pass


async def test_a_read_only_server_is_unavailable(database: Database) -> None:
    with pytest.raises(Unavailable):
        await run(database, "set transaction read only", "insert into things (id) values ('a')")


async def test_a_transaction_ended_for_being_idle_is_unavailable(database: Database) -> None:
    with pytest.raises(Unavailable):
        await run(database, "set local idle_in_transaction_session_timeout = '50ms'", "select 1", pause=0.3)


async def test_what_has_no_rule_is_unforeseen_and_tells_no_values(database: Database) -> None:
    error = await raised_by(database, f"select {SECRET}x from from things")

    assert isinstance(error, Unforeseen)
    assert "42601" in str(error)


async def test_a_url_that_the_driver_cannot_read_is_not_blamed_on_data() -> None:
    with pytest.raises(Unforeseen):
        await Database.connect(f"postgresql://nobody@127.0.0.1:1/nothing?sslmode={SECRET}", name="tests")


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(UnfitData):
        await run(database, "insert into things (id) values ('a')", "insert into things (id) values (null)")

    async with database.transaction() as tx:
        assert await tx.fetchval("select count(*) from things") == 0


async def test_errors_with_a_rule_pass_as_they_are() -> None:
    mine = UnfitData("mine")
    with pytest.raises(UnfitData) as caught:
        async with translated():
            raise mine

    assert caught.value is mine


async def test_json_keeps_its_types(database: Database) -> None:
    document = {"text": "Čeněk", "yes": True, "one": 1, "half": 0.5, "none": None, "list": [1, {"a": []}]}
    async with database.transaction() as tx:
        assert await tx.fetchval("select $1::jsonb", document) == document


async def test_a_database_that_does_not_exist_yet_is_unavailable(database_url: str) -> None:
    with pytest.raises(Unavailable):
        await Database.connect(database_url.rsplit("/", 1)[0] + "/no_such_database", name="tests")
