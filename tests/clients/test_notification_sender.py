"""One attempt: what comes of each kind of answer, of none, and of addresses that nobody may call."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from service.clients.notification_sender import NotificationSender, SendLimits
from service.domain.notifications.delivery import Delivered, ErrorClass, Failed, Gone, Outcome
from service.domain.notifications.subscriber import SubscriberId
from tests.clients.test_guarded_transport import RESOLVED, URL_FORMS, answering
from tests.receiver import Answer, Receiver, receiving

HOME = (ip_network("127.0.0.0/8"),)
SOMEBODY = SubscriberId(uuid4())
# Short where a test waits for it, and long enough for a loaded machine where it does not.
HASTY = SendLimits(connect=timedelta(seconds=0.5), whole=timedelta(seconds=0.5), body=timedelta(seconds=0.2))


@asynccontextmanager
async def sender(**given: Any) -> AsyncIterator[NotificationSender]:
    sender = NotificationSender(**{"opened": HOME, **given})
    try:
        yield sender
    finally:
        await sender.close()


async def send(url: str, **given: Any) -> Outcome:
    async with sender(**given) as one:
        return await one.send(SOMEBODY, url, {"webhook-id": "1"}, b"{}")


async def outcome_of(answer: Answer, **given: Any) -> Outcome:
    async with receiving(lambda _: answer) as receiver:
        return await send(receiver.url, **given)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(status: int) -> None:
    body = b"" if status == 204 else b"thanks"

    assert await outcome_of(Answer(status, body=body)) == Delivered(status, body.decode() or None)


@pytest.mark.parametrize("status", [400, 401, 404, 405, 429, 500, 501, 503, 599])
async def test_any_other_status_is_a_failure_that_says_it(status: int) -> None:
    outcome = await outcome_of(Answer(status, body=b"no"))

    assert outcome == Failed(ErrorClass.STATUS, f"127.0.0.1 answers {status}", status, None, "no")


async def test_410_is_a_farewell() -> None:
    assert await outcome_of(Answer(410, body=b"bye")) == Gone("bye")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_nobody_goes_there(status: int) -> None:
    async with receiving() as inside:
        outcome = await outcome_of(Answer(status, {"location": inside.url}))

    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.status) == (ErrorClass.REDIRECT, status)
    assert inside.sent == []


@pytest.mark.parametrize(
    ("header", "wait"),
    [("120", timedelta(minutes=2)), ("soon", None), ("-5", None), ("99999999999", timedelta(hours=24)), ("", None)],
)
async def test_a_wait_that_is_asked_for_is_told_within_a_bound(header: str, wait: timedelta | None) -> None:
    outcome = await outcome_of(Answer(503, {"retry-after": header}))

    assert isinstance(outcome, Failed)
    assert outcome.retry_after == wait


async def test_the_beginning_of_an_answer_is_kept_whatever_bytes_it_is_made_of() -> None:
    outcome = await outcome_of(Answer(500, body=b"\x00\xff<b>\x1b[31mred\n" + b"x" * 100_000))

    assert isinstance(outcome, Failed)
    assert outcome.response is not None
    assert outcome.response.startswith("��<b>�[31mred\n")
    assert len(outcome.response) <= SendLimits().most_bytes


async def test_a_body_that_never_ends_takes_nothing_from_its_status() -> None:
    assert await outcome_of(Answer(200, body=b"so far", hang=True), limits=HASTY) == Delivered(200, "so far")


async def test_who_does_not_answer_in_time_has_failed() -> None:
    outcome = await outcome_of(Answer(after=60), limits=HASTY)

    assert isinstance(outcome, Failed)
    assert outcome.error_class is ErrorClass.TIMEOUT


@pytest.mark.parametrize(
    "raw", [b"", b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", b"HTTP/1.1 9", b"\x16\x03\x01"]
)
async def test_what_is_no_http_is_broken(raw: bytes) -> None:
    outcome = await outcome_of(Answer(raw=raw))

    assert isinstance(outcome, Failed)
    assert (outcome.error_class, outcome.status) == (ErrorClass.BROKEN, None)


async def test_where_nobody_listens_nobody_is_reached() -> None:
    async with receiving() as receiver:
        url = receiver.url
    outcome = await send(url)

    assert isinstance(outcome, Failed)
    assert outcome.error_class is ErrorClass.UNREACHABLE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(
        [*command, "-keyout", key, "-out", cert, "-subj", "/CN=lists.example", "-addext", "subjectAltName=DNS:lists.example"],
        check=True,
        capture_output=True,
    )
    return key, cert


async def test_a_certificate_is_checked_by_the_name_that_was_asked_for(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    server, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=str(cert))
    server.load_cert_chain(cert, key)
    async with receiving(ssl=server) as receiver:
        home = answering(["127.0.0.1"])
        url = f"https://lists.example:{receiver.port}/"
        assert await send(url, resolver=home, ssl_context=trusting) == Delivered(204)
        for wrong, context in ((url.replace("lists", "others"), trusting), (url, None)):
            outcome = await send(wrong, resolver=home, ssl_context=context)
            assert isinstance(outcome, Failed)
            assert (outcome.error_class, "its certificate is not accepted" in outcome.why) == (ErrorClass.UNREACHABLE, True)


async def test_who_wants_a_certificate_of_ours_breaks_off_after_the_handshake(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    server, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=str(cert))
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    server.load_cert_chain(cert, key)
    server.load_verify_locations(cert)
    server.verify_mode = ssl.CERT_REQUIRED

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """By hand, since a connection that is closed with something unread is reset, and the alert is lost with it."""
        came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = server.wrap_bio(came, goes, server_side=True)
        while data := await reader.read(65536):
            came.write(data)
            with suppress(ssl.SSLError):
                tls.do_handshake()
            writer.write(goes.read())
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()
    listening = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with listening:
        url = f"https://lists.example:{listening.sockets[0].getsockname()[1]}/"
        outcome = await send(url, resolver=answering(["127.0.0.1"]), ssl_context=trusting)
        # The test's own loop may end right after it, and must leave no connection behind.
        async with asyncio.timeout(30):
            await ended.wait()

    assert outcome == Failed(ErrorClass.BROKEN, "lists.example broke off, or does not speak HTTP (ReadError)")


@pytest.mark.parametrize("host", URL_FORMS)
async def test_no_form_of_an_address_inside_is_called(host: str) -> None:
    async with receiving() as receiver:
        outcome = await send(f"http://{host}:{receiver.port}/hooks", opened=())

    assert isinstance(outcome, Failed)
    # Refused by the guard, or no name that anybody knows.
    assert outcome.error_class in (ErrorClass.REFUSED, ErrorClass.UNREACHABLE, ErrorClass.BROKEN)
    assert receiver.connections == 0


@pytest.mark.parametrize("addresses", RESOLVED, ids=str)
async def test_a_name_that_leads_inside_is_not_called(addresses: list[str]) -> None:
    async with receiving() as receiver:
        outcome = await send(f"http://lists.example:{receiver.port}/", opened=(), resolver=answering(addresses))

    assert isinstance(outcome, Failed)
    assert (outcome.error_class, receiver.connections) == (ErrorClass.REFUSED, 0)


async def test_a_name_that_leads_elsewhere_the_second_time_is_not_called_there() -> None:
    async with (
        receiving(lambda _: Answer(500, {"connection": "close"})) as receiver,
        sender(opened=(ip_network("127.0.0.1/32"),), resolver=answering(["127.0.0.1"], ["127.0.0.2"])) as one,
    ):
        url = f"http://lists.example:{receiver.port}/"
        first, second = [await one.send(SOMEBODY, url, {"webhook-id": "1"}, b"{}") for _ in range(2)]

    assert isinstance(first, Failed)
    assert isinstance(second, Failed)
    assert (first.error_class, second.error_class, receiver.connections) == (ErrorClass.STATUS, ErrorClass.REFUSED, 1)


async def test_connections_are_kept_and_shared_with_no_other_subscriber() -> None:
    async with receiving() as receiver, sender() as one:
        for subscriber in (SOMEBODY, SOMEBODY, SubscriberId(uuid4())):
            assert await one.send(subscriber, receiver.url, {"webhook-id": "1"}, b"{}") == Delivered(204)

    assert receiver.connections == 2


async def test_those_that_send_together_after_a_quiet_time_do_not_stumble_over_what_is_closed() -> None:
    subscribers = [SubscriberId(uuid4()) for _ in range(4)]
    async with receiving() as receiver, sender() as one:
        for _ in range(2):
            sending = [one.send(subscriber, receiver.url, {"webhook-id": "1"}, b"{}") for subscriber in subscribers]
            assert await asyncio.gather(*sending) == [Delivered(204)] * len(subscribers)
            for way in one._ways.values():
                way.used_at -= 3600

    assert receiver.connections == 2 * len(subscribers)


async def test_what_is_sent_is_what_was_given() -> None:
    async with receiving() as receiver, sender() as one:
        await one.send(SOMEBODY, receiver.url + "?key=1", {"webhook-id": "1", "content-type": "a/b"}, b'{"a":1}')

    (sent,) = receiver.sent
    assert (sent.path, sent.body, sent.headers["content-type"]) == ("/hooks?key=1", b'{"a":1}', "a/b")
    assert sent.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "authorization" not in sent.headers


async def test_one_that_is_cancelled_leaves_nothing_behind() -> None:
    async with receiving(lambda _: Answer(after=60)) as receiver, sender() as one:
        task = asyncio.create_task(one.send(SOMEBODY, receiver.url, {"webhook-id": "1"}, b"{}"))
        await until_sent(receiver)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until_sent(receiver: Receiver) -> None:
    async with asyncio.timeout(30):
        while not receiver.sent:
            await asyncio.sleep(0.01)
