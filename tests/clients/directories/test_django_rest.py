"""A genuine Django REST framework directory with something wrong: the right error, a clear text, and nobody's data in it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from service.clients.directories.opening import Outside, open_source
from service.clients.directories.source import Page
from service.clients.outward_http import OutwardLimits
from service.domain.directories.configuration import directory
from service.domain.directories.mapping import MappedRecord, directory_mapping, mapped_record
from service.domain.errors import RollcallError, SourceBroken, SourceRefused, SourceUnavailable
from tests.directory_rig import KEY, LOOPBACK, NESTED, PAGINGS, QUICK, Upstream, django_source, read_all, records

IMPATIENT = replace(QUICK, whole=timedelta(seconds=1.5))
SECRETS = (KEY, "Member 1", "member1@example.com", "0201800001", "Anna Secret", "?page", "cursor=")


async def failure(upstream: Upstream, paging: str = "page-number", **settings: Any) -> RollcallError:
    """What reading it raises; no text of it tells of the key, of a member or of a query."""
    async with django_source(upstream, paging, **{"pageSize": 10, **settings}) as source:
        with pytest.raises((SourceUnavailable, SourceRefused, SourceBroken)) as failed:
            await read_all(source)
        health = await source.health()
    for text in (str(failed.value), repr(failed.value), repr(failed.value.__cause__), repr(health)):
        assert not any(secret in text for secret in SECRETS), text
    assert failed.value.__suppress_context__ or failed.value.__context__ is None
    return failed.value


async def read(upstream: Upstream, paging: str = "page-number", **settings: Any) -> list[Page]:
    async with django_source(upstream, paging, **{"pageSize": 10, **settings}) as source:
        return await read_all(source)


def ids(pages: list[Page]) -> list[Any]:
    return [record["id"] for record in records(pages)]


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("code", [429, 500, 502, 503])
async def test_what_passes_is_tried_again_and_read_whole(upstream: Upstream, paging: str, code: int) -> None:
    upstream.reset(25)
    upstream.fault("status", page=2, times=2, code=code)
    assert ids(await read(upstream, paging)) == list(range(1, 26))
    # Three pages, and two more attempts at the second.
    assert len(upstream.requests()) == 5


async def test_a_short_wait_that_is_asked_for_is_waited(upstream: Upstream) -> None:
    upstream.reset(25)
    upstream.fault("status", page=2, times=1, code=429, retry_after="1")
    assert ids(await read(upstream)) == list(range(1, 26))
    _, refused, again, *_ = upstream.requests()
    assert again["at"] - refused["at"] >= 1


@pytest.mark.parametrize("page", [1, 2])
async def test_a_long_wait_is_told_and_not_cut_short(upstream: Upstream, page: int) -> None:
    upstream.reset(25)
    upstream.fault("status", page=page, code=429, retry_after="600")
    error = await failure(upstream)
    assert isinstance(error, SourceUnavailable)
    assert error.retry_after == timedelta(minutes=10)
    assert str(error) == f"page {page}: 127.0.0.1 answers 429 and asks for 600 s"
    # Asked once, and not again before the time is over; the look at its health comes on top.
    assert len(upstream.requests()) == page + 1


async def test_a_wait_until_a_date_is_understood(upstream: Upstream) -> None:
    upstream.reset(25)
    upstream.fault("status", code=503, retry_after="Sun, 06 Nov 2090 08:49:37 GMT")
    error = await failure(upstream)
    assert isinstance(error, SourceUnavailable)
    assert error.retry_after == timedelta(days=1)


@pytest.mark.parametrize("junk", ["soon", "-1", "Sun, 06 Nov 99999 08:49:37 GMT", "9" * 500, "١٢"])
async def test_a_wait_that_cannot_be_read_is_none(upstream: Upstream, junk: str) -> None:
    upstream.reset(5)
    upstream.fault("status", times=4, code=503, retry_after=junk.encode("utf-8").decode("latin-1") if not junk.isascii() else junk)
    error = await failure(upstream)
    assert isinstance(error, SourceUnavailable)
    assert error.retry_after in (None, timedelta(days=1), timedelta())


async def test_what_does_not_pass_is_unavailable_after_four_attempts(upstream: Upstream) -> None:
    upstream.reset(100)
    upstream.fault("status", page=7, code=500)
    error = await failure(upstream)
    assert isinstance(error, SourceUnavailable)
    assert (str(error), error.retry_after) == ("page 7: 127.0.0.1 answers 500", None)
    assert len(upstream.requests()) == 6 + 4 + 1


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("page", [1, 3])
async def test_a_refused_key_is_refused_at_once_also_in_the_middle(upstream: Upstream, code: int, page: int) -> None:
    upstream.reset(50)
    upstream.fault("status", page=page, code=code)
    error = await failure(upstream)
    assert isinstance(error, SourceRefused)
    assert str(error) == f"page {page}: 127.0.0.1 answers {code}: it does not accept the key"
    assert len(upstream.requests()) == page + 1


async def test_a_key_that_is_taken_back_in_the_middle_is_refused(upstream: Upstream) -> None:
    upstream.reset(50)
    async with django_source(upstream, pageSize=10) as source:
        pages = source.pages()
        await anext(pages)
        upstream.key("another")
        with pytest.raises(SourceRefused):
            async for _ in pages:
                pass


async def test_a_missing_key_is_said_to_be_missing(upstream: Upstream) -> None:
    upstream.reset(5)
    error = await failure(upstream, key=None)
    assert str(error) == "page 1: 127.0.0.1 answers 401: it needs a key, and the connection has none"


async def test_both_schemes_of_authentication(upstream: Upstream) -> None:
    upstream.reset(5, auth="Token")
    assert len(ids(await read(upstream, auth="Token"))) == 5
    assert isinstance(await failure(upstream), SourceRefused)


async def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(upstream: Upstream) -> None:
    for key in ("s3cret\nkey", "s3cret\x00", "lykill-þ"):
        with pytest.raises(SourceRefused, match="the key holds characters") as refused:
            async with django_source(upstream, key=key):
                pass
        assert key not in str(refused.value)


BROKEN = [
    ("truncated", {}, "not valid JSON at line 1, column"),
    ("html", {}, "the answer is HTML, not JSON"),
    ("empty", {}, "the answer is empty"),
    ("body", {"body": {"detail": "Member 1"}}, "the JSON has no list `results`"),
    ("body", {"body": "Member 1"}, "the JSON is no list and no object with `results`"),
    ("body", {"body": {"results": [{"id": 1}, "Member 1"]}}, "record 2 is no object"),
    ("body", {"body": {"results": [], "count": "many"}}, "`count` is no number of members"),
    ("body", {"body": {"results": [], "count": -1}}, "`count` is no number of members"),
    ("body", {"body": {"results": [], "next": "http://[::1"}}, "`next` is no link with a query"),
    ("body", {"body": {"results": [], "next": 7}}, "`next` is no link with a query"),
    ("status", {"code": 400}, "answers 400, which is no list of members"),
    ("status", {"code": 204}, "answers 204, which is no list of members"),
    ("status", {"code": 501}, "answers 501, which is no list of members"),
]


@pytest.mark.parametrize(("kind", "options", "text"), BROKEN, ids=[f"{kind} {text[-20:]}" for kind, _, text in BROKEN])
@pytest.mark.parametrize("page", [1, 3])
async def test_an_answer_that_is_no_directory_is_broken_and_not_tried_again(
    upstream: Upstream, kind: str, options: dict[str, Any], text: str, page: int
) -> None:
    upstream.reset(50)
    upstream.fault(kind, page=page, **options)
    error = await failure(upstream)
    assert isinstance(error, SourceBroken)
    assert str(error).startswith(f"page {page}: ")
    assert text in str(error)
    assert len(upstream.requests()) == page + 1


async def test_nothing_at_the_path(upstream: Upstream) -> None:
    error = await failure(upstream, path="/api/people-of-another-time/")
    assert isinstance(error, SourceBroken)
    assert str(error) == "page 1: 127.0.0.1 has nothing at this path (404)"


@pytest.mark.parametrize("times", [2, 1_000_000])
async def test_an_answer_that_breaks_off_is_tried_again_and_then_unavailable(upstream: Upstream, times: int) -> None:
    upstream.reset(25)
    upstream.fault("broken-off", page=2, times=times)
    if times == 2:
        assert ids(await read(upstream)) == list(range(1, 26))
    else:
        error = await failure(upstream)
        assert isinstance(error, SourceUnavailable)
        assert "broke off its answer" in str(error)


@pytest.mark.parametrize("fault", [("drip", {"every": 0.05}), ("hang", {"seconds": 4})])
async def test_a_slow_drip_and_silence_end_in_time(upstream: Upstream, fault: tuple[str, dict[str, Any]]) -> None:
    upstream.reset(25)
    upstream.fault(fault[0], page=2, times=1, **fault[1])
    error = await failure(upstream, limits=IMPATIENT)
    assert isinstance(error, SourceUnavailable)
    assert str(error) == "page 2: 127.0.0.1 did not finish its answer in time"


async def test_who_does_not_listen_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        described = directory("django", {"baseUrl": f"http://127.0.0.1:{unused.getsockname()[1]}"})
        async with open_source(described, SecretStr(KEY), Outside(LOOPBACK, limits=QUICK)) as source:
            with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1 cannot be reached"):
                await read_all(source)
            health = await source.health()
    assert (health.reachable, health.authorised, health.shape) == (False, None, None)


async def test_an_address_inside_is_not_called(upstream: Upstream) -> None:
    described = directory("django", {"baseUrl": upstream.url})
    async with open_source(described, SecretStr(KEY), Outside()) as source:
        with pytest.raises(SourceBroken, match=r"may not be called \(loopback\); the operator's ALLOW_NETWORKS"):
            await read_all(source)
        assert (await source.health()).reachable is False
    assert upstream.requests() == []


async def test_a_redirect_elsewhere_is_refused_and_takes_no_key_along(upstream: Upstream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        port = elsewhere.getsockname()[1]
        for to in (f"http://127.0.0.1:{port}/", f"//127.0.0.1:{port}/x", f"https://127.0.0.1:{upstream.port}/"):
            upstream.reset(25)
            upstream.fault("redirect", page=2, to=to)
            error = await failure(upstream)
            assert isinstance(error, SourceBroken)
            assert "page 2: 127.0.0.1 redirects, and that leads to" in str(error)
            assert "not the configured" in str(error)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


async def test_a_redirect_on_the_same_origin_is_followed_once(upstream: Upstream) -> None:
    upstream.reset(25)
    # Django's own: it appends the slash.
    assert ids(await read(upstream, path="/api/members")) == list(range(1, 26))
    assert len(upstream.requests()) == 3
    upstream.reset(25)
    upstream.fault("redirect", to="/page-number/api/members/")
    assert "redirects in a circle" in str(await failure(upstream))


async def test_links_are_followed_on_the_configured_address_only(upstream: Upstream) -> None:
    """As behind a proxy, which the API does not know of."""
    upstream.reset(15)
    upstream.fault("next", page=1, next="http://inner:8000/api/members/?page=2&page_size=10")
    assert ids(await read(upstream)) == list(range(1, 16))


async def test_a_link_that_leads_in_a_circle_and_pages_that_repeat_are_noticed(upstream: Upstream) -> None:
    upstream.reset(35)
    upstream.fault("next", page=3, next=f"{upstream.url}/page-number/api/members/?page=2&page_size=10")
    assert "page 3: its link to the next page leads back to one that was read" in str(await failure(upstream))
    upstream.reset(35)
    upstream.fault("next", page=2, next=f"{upstream.url}/page-number/api/members/?page_size=10&page=2&again=1")
    assert "page 3: 127.0.0.1 answers the page before once more" in str(await failure(upstream))


async def test_a_list_that_grows_shorter_under_the_reader_is_unavailable_not_complete(upstream: Upstream) -> None:
    upstream.reset(30)
    upstream.change_after_page(2, delete=range(11, 31))
    error = await failure(upstream)
    assert isinstance(error, SourceUnavailable)
    assert str(error) == "page 3: the page is gone; the list grew shorter while it was read"


async def test_counts_tell_of_those_who_leave_between_pages(upstream: Upstream) -> None:
    for paging in ("page-number", "limit-offset"):
        upstream.reset(30)
        upstream.change_after_page(1, delete=[5])
        pages = await read(upstream, paging)
        # Number 11 moved to the page that was read before.
        assert 11 not in ids(pages)
        assert [page.count for page in pages] == [30, 29, 29]


@pytest.mark.parametrize("paging", PAGINGS)
async def test_a_departure_and_an_arrival_hide_a_member_from_pages_that_shift_and_from_no_others(
    upstream: Upstream, paging: str
) -> None:
    upstream.reset(30)
    upstream.change_after_page(1, delete=[5], insert=[31])
    async with django_source(upstream, paging, pageSize=10) as source:
        pages = await read_all(source)
        assert (11 not in ids(pages)) == source.pages_shift
        assert len(set(ids(pages))) == 30 + (not source.pages_shift)
        # The next reading has them, so who is missing from both is gone.
        assert 11 in ids(await read_all(source))


async def test_a_count_that_disagrees_is_passed_on_as_it_is(upstream: Upstream) -> None:
    upstream.reset(25)
    upstream.fault("count", page=2, count=9000)
    assert [page.count for page in await read(upstream)] == [25, 9000, 25]


async def test_duplicate_keys_come_through_for_the_comparison_to_find(upstream: Upstream) -> None:
    upstream.reset(25)
    upstream.fault("repeat", page=2, records=3)
    assert sorted(ids(await read(upstream))) == sorted([*range(1, 26), 11, 12, 13])


async def test_a_record_of_ten_megabytes_comes_through_and_is_no_member_of_ours_to_keep(upstream: Upstream) -> None:
    upstream.reset(25)
    upstream.dress({3: {"bio": "x" * 10_000_000}})
    pages = await read(upstream)
    assert ids(pages) == list(range(1, 26))
    mapping = directory_mapping({"externalId": "id", "member": {"name": "name"}})
    assert isinstance(mapped_record(mapping, records(pages)[2]), MappedRecord)


async def test_an_answer_beyond_the_limit_is_broken_and_not_read_further(upstream: Upstream) -> None:
    upstream.reset(25)
    upstream.dress({3: {"bio": "x" * 2_000_000}})
    error = await failure(upstream, limits=replace(QUICK, most_bytes=1024**2))
    assert isinstance(error, SourceBroken)
    assert str(error) == "page 1: 127.0.0.1 answers more than 1 MiB"


async def test_nested_records_with_hyphens_and_unknown_fields_map(upstream: Upstream) -> None:
    upstream.reset(3)
    upstream.change(update={2: {"is_active": False}, 3: {"email": " "}})
    pages = await read(upstream, path="/api/people/", mapping=NESTED)
    first, second, third = (mapped_record(directory_mapping(NESTED), record) for record in records(pages))
    assert isinstance(first, MappedRecord)
    assert first.external_id == "p-1"
    assert first.member == {
        "nationalId": "0201800001",
        "name": "Member 1",
        "email": "member1@example.com",
        "phone": "+354 0000001",
        "state": "active",
    }
    assert first.version == 1793491201_000000
    assert isinstance(second, MappedRecord)
    assert second.left
    assert isinstance(third, MappedRecord)
    assert third.member is not None
    assert third.member["email"] is None


async def test_only_what_changed_since_is_asked_for_on_every_page(upstream: Upstream) -> None:
    upstream.reset(40)
    for paging in PAGINGS:
        async with django_source(upstream, paging, pageSize=10, modifiedSince="updated_since") as source:
            assert source.supports_since
            changed = await read_all(source, datetime(2026, 11, 1, 0, 0, 16, tzinfo=UTC))
        assert ids(changed) == list(range(16, 41))


async def test_sources_do_not_wait_for_each_other(upstream: Upstream) -> None:
    """One that hangs is one that hangs."""
    upstream.reset(25)
    upstream.fault("hang", times=1, seconds=3)
    async with django_source(upstream, pageSize=10) as slow, django_source(upstream, pageSize=10) as quick:
        waiting = asyncio.create_task(read_all(slow))
        while not upstream.requests():
            await asyncio.sleep(0.02)
        assert len(records(await read_all(quick))) == 25
        assert not waiting.done()
        with pytest.raises(SourceBroken):
            await waiting


def test_the_limits_of_one_attempt_fit_into_those_of_a_job() -> None:
    limits = OutwardLimits()
    assert limits.connect < limits.read < limits.whole
    assert limits.longest_wait < limits.whole
