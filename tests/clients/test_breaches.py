"""The API of Have I Been Pwned over real HTTP: its answers piece by piece, its refusals, and nobody's data or key in an error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clients.breaches import _ObjectReader, breached_aliases, headers_of, known_breaches
from service.clients.directories.answers import translated
from service.clients.outward_http import OutwardHttp
from service.domain.errors import Park, RollcallError, SourceBroken, SourceRefused, SourceUnavailable
from tests.breach_rig import API_KEY, BreachApi, Refusal, breach, running_breach_api
from tests.directory_rig import LOOPBACK, QUICK

DOMAIN = "choir.example"


@pytest.fixture
def api() -> Iterator[BreachApi]:
    with running_breach_api() as served:
        served.domains[DOMAIN] = {"anna": ["Adobe"], "berta.b": ["Adobe", "Gawker", "Stratfor"]}
        served.breaches = [breach("Adobe", classes=["Email addresses", "Passwords"]), breach("Gawker")]
        yield served


@pytest.fixture
async def http(api: BreachApi) -> AsyncIterator[OutwardHttp]:
    async with OutwardHttp(api.url, headers_of(API_KEY), opened=LOOPBACK, limits=QUICK) as opened:
        yield opened


async def read(
    http: OutwardHttp, api: BreachApi, domain: str = DOMAIN, batch: int = 1000
) -> list[Sequence[tuple[str, Sequence[str]]]]:
    with translated():
        async with aclosing(breached_aliases(http, api.url, domain, batch)) as batches:
            return [some async for some in batches]


async def failure(http: OutwardHttp, api: BreachApi) -> RollcallError:
    with pytest.raises(RollcallError) as failed:
        await read(http, api)
    for secret in (API_KEY, "anna", "berta", "Adobe"):
        assert secret not in str(failed.value)
    return failed.value


async def test_a_domain_s_addresses_come_in_batches_and_every_request_says_who_asks(http: OutwardHttp, api: BreachApi) -> None:
    api.domains[DOMAIN] = {f"m{n}": ["Adobe"] for n in range(25_000)} | {'odd "one]}': ["Gawker"], "þóra": []}
    batches = await read(http, api)

    assert {len(some) for some in batches[:-1]} == {1000}
    entries = dict(entry for some in batches for entry in some)
    assert len(entries) == 25_002
    assert entries["m24999"] == ["Adobe"]
    assert entries['odd "one]}'] == ["Gawker"]
    assert entries["þóra"] == []
    ((path, headers),) = api.asked
    assert path == f"/api/v3/breacheddomain/{DOMAIN}"
    assert headers["hibp-api-key"] == API_KEY
    assert headers["user-agent"] == "rollcall"


async def test_a_domain_in_no_breach_has_no_addresses(http: OutwardHttp, api: BreachApi) -> None:
    api.domains["quiet.example"] = {}
    assert await read(http, api, "quiet.example") == []


async def test_breaches_are_known_by_name_with_what_was_lost(http: OutwardHttp, api: BreachApi) -> None:
    known = await known_breaches(http, api.url)
    assert set(known) == {"Adobe", "Gawker"}
    assert (known["Adobe"].happened_on, known["Adobe"].data_classes) == ("2013-10-04", ("Email addresses", "Passwords"))


async def test_a_short_wait_that_is_asked_for_is_waited_and_a_long_one_is_told(http: OutwardHttp, api: BreachApi) -> None:
    api.refusals[DOMAIN] = Refusal(429, times=1, retry_after="1")
    assert len((await read(http, api))[0]) == 2
    assert len(api.asked) == 2

    api.refusals[DOMAIN] = Refusal(429, retry_after="600")
    error = await failure(http, api)
    assert isinstance(error, SourceUnavailable)
    assert error.retry_after == timedelta(minutes=10)
    # Asked once, and not again before the time is over.
    assert len(api.asked) == 3


@pytest.mark.parametrize(("status", "says"), [(401, "does not accept the key"), (403, "not verified for the key")])
async def test_a_refusal_says_what_to_mend(http: OutwardHttp, api: BreachApi, status: int, says: str) -> None:
    api.refusals[DOMAIN] = Refusal(status)
    error = await failure(http, api)
    assert isinstance(error, SourceRefused)
    assert says in str(error)
    assert len(api.asked) == 1


async def test_servers_that_fail_are_asked_again_later(http: OutwardHttp, api: BreachApi) -> None:
    api.refusals[DOMAIN] = Refusal(503)
    assert isinstance(await failure(http, api), SourceUnavailable)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"<html>anna</html>",
        b'{"anna": "Adobe"}',
        b'{"anna": ["Adobe", 7]}',
        b'{"anna": {"Adobe": 1}}',
        b'{"anna": ["Adobe"]',
        b'{"anna": ["Adobe"],}',
        b'{"anna": ["Adobe"]} {}',
        b'{"anna": ["Adobe"] "berta": ["Adobe"]}',
        b'{"anna": ["Ado\xff"]}',
        b'{"anna": ' + b"[" * 100_000,
        b'{"anna": ["' + b"A" * 700_000,
    ],
)
async def test_an_answer_that_is_no_domain_search_or_breaks_off_is_none(http: OutwardHttp, api: BreachApi, body: bytes) -> None:
    api.refusals[DOMAIN] = Refusal(200, body=body)
    assert isinstance(await failure(http, api), SourceBroken)


async def test_what_is_no_list_of_breaches_is_none(http: OutwardHttp, api: BreachApi) -> None:
    api.breaches = [{"name": "Adobe"}]
    with pytest.raises(SourceBroken, match="no list of breaches"):
        await known_breaches(http, api.url)


def test_a_key_that_no_header_can_hold_is_refused_and_not_shown() -> None:
    with pytest.raises(SourceRefused) as failed:
        headers_of("one\ntwo")
    assert "one" not in str(failed.value).removeprefix("the key holds characters that no HTTP header can")


async def test_addresses_inside_are_not_called(api: BreachApi) -> None:
    async with OutwardHttp(api.url, headers_of(API_KEY), limits=QUICK) as guarded:
        with pytest.raises(Park, match="may not be called"):
            await read(guarded, api)
    assert api.asked == []


texts = st.text(max_size=8)


@given(st.dictionaries(texts, st.lists(texts, max_size=3), max_size=6), st.lists(st.integers(1, 30)), st.booleans())
def test_an_object_is_read_the_same_wherever_it_is_cut(value: dict[str, list[str]], cuts: list[int], ascii_only: bool) -> None:
    import json

    text = json.dumps(value, ensure_ascii=ascii_only, indent=1 if ascii_only else None)
    reader, found, at = _ObjectReader(), [], 0
    for cut in [*cuts, len(text)]:
        found += list(reader.feed(text[at : at + cut]))
        at += cut
    reader.close()
    assert dict(found) == value
