"""Members as CSV: whole, harmless, and without holding anything while somebody reads slowly."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from service.entrypoints.http.admin.member_csv import csv_header, csv_rows
from tests.admin_rig import Admin, Tenant, open_admin

MANY = """
insert into members (id, company_id, name, email, upstream_state, state, version)
select gen_random_uuid(), $1, 'Person ' || n, n || '@example.org', 'active', 'active', 1 from generate_series(1, $2::integer) n
"""


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


async def add(admin: Admin, tenant: Tenant, **body: Any) -> str:
    answer = await admin.client.post("/api/members", json=body, headers=tenant.headers())
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_what_a_spreadsheet_would_run_is_text_and_everything_can_be_read_back(admin: Admin) -> None:
    tenant = await admin.tenant()
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "＝1", "  =1", "\t=1\nnext", 'Anna "the, voice"', "Čeněk", "a=1"]  # noqa: RUF001  # meant
    ids = [await add(admin, tenant, name=name, phone="+354 555", metadata={"b": 1, "a": "=2"}) for name in names]

    answer = await admin.client.get("/api/members/export", headers=tenant.headers("read"))
    rows = {row["id"]: row for row in parsed(answer.text)}

    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"] == 'attachment; filename="members.csv"'
    assert answer.text.split("\r\n")[0].startswith("id,connectionId,externalId,nationalId,name,")
    harmless = [name if name in ('Anna "the, voice"', "Čeněk", "a=1") else f"'{name}" for name in names]
    assert [rows[one]["name"] for one in ids] == harmless
    assert {row["phone"] for row in rows.values()} == {"'+354 555"}
    assert {row["metadata"] for row in rows.values()} == {'{"a":"=2","b":1}'}
    assert {row["state"] for row in rows.values()} == {"active"}


async def test_nobody_is_one_line(admin: Admin) -> None:
    answer = await admin.client.get("/api/members/export", headers=(await admin.tenant()).headers())
    assert answer.content == csv_header()
    assert csv_rows([]) == b""


@pytest.mark.parametrize("filter_", [{}, {"q": "person"}, {"state": "active"}])
async def test_thousands_come_once_each_in_order(admin: Admin, filter_: dict[str, str]) -> None:
    tenant, other = await admin.tenant(), await admin.tenant()
    await admin.fetch(MANY, tenant.company_id, 3210)
    await admin.fetch(MANY, other.company_id, 10)

    rows = parsed((await admin.client.get("/api/members/export", params=filter_, headers=tenant.headers())).text)

    assert len({row["email"] for row in rows}) == len(rows) == 3210
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)


async def test_slow_readers_hold_no_connection_of_the_pool(database_url: str) -> None:
    async with open_admin(database_url) as admin:
        tenant = await admin.tenant()
        await admin.fetch(MANY, tenant.company_id, 30_000)
        # More of them than the pool has connections, and none reads on.
        readers = [admin.client.stream("GET", "/api/members/export", headers=tenant.headers()) for _ in range(12)]
        answers = [await reader.__aenter__() for reader in readers]
        try:
            assert {answer.status_code for answer in answers} == {200}
            listed = await admin.client.get("/api/members", params={"limit": 1}, headers=tenant.headers())
            assert listed.status_code == 200
            # One that is read to its end is whole all the same.
            lines = [line async for line in answers[0].aiter_lines()]
            assert len(lines) == 30_001
        finally:
            for reader in readers:
                await reader.__aexit__(None, None, None)


async def test_a_database_that_is_away_is_told_by_the_status(database_url: str) -> None:
    async with open_admin(database_url) as admin:
        tenant = await admin.tenant()
        await admin.fetch("alter table members rename to mislaid")
        answer = await admin.client.get("/api/members/export", headers=tenant.headers())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
