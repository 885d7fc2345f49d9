"""The guard at the socket: whatever form an address takes, it is refused before anything is dialled."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.clients.guarded_transport import DestinationRefused, GuardedTransport, resolve
from service.clients.outward_http import OutwardHttp

HOME = (ip_network("127.0.0.0/8"),)

# Every way to write or to hide an address inside that a URL or a resolver can bring.
URL_FORMS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0X7F.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "0177.0x0.1",
    "127.0.0.1.",
    "127.000.000.001",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "0",
    "0.0.0.0",
    "0x0",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::0001]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[3fff::1]",
    "[5f00::1]",
    "[ff02::1]",
    "10.0.0.1",
    "0xa.1",
    "012.1",
    "167772161",
    "172.16.0.1",
    "192.168.0.1",
    "3232235521",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
]
RESOLVED = [["10.0.0.1"], ["169.254.169.254"], ["::1"], ["::ffff:10.0.0.1"], ["fe80::1%2"], ["64:ff9b::a00:1"], ["10.0.0.1", "::1"]]


class Listener:
    """A web server that counts who comes."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with listening() as found:
        yield found


@asynccontextmanager
async def listening(**options: Any) -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0, **options)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()


def answering(*addresses: Sequence[str]) -> Any:
    """A resolver that gives one answer after the other, and the last for ever."""
    left = list(addresses)

    async def resolver(host: str, port: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolver


async def call(url: str, *opened: Any, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=GuardedTransport(opened, **options), trust_env=False, timeout=5) as client:
        return await client.get(url)


@pytest.mark.parametrize("host", URL_FORMS)
async def test_no_form_of_an_address_inside_is_dialled(listener: Listener, host: str) -> None:
    with pytest.raises((DestinationRefused, httpx.ConnectError, httpx.InvalidURL)) as refused:
        await call(f"http://{host}:{listener.port}/")
    if isinstance(refused.value, httpx.ConnectError):
        # No resolver knows this spelling; what one would make of it is checked all the same.
        assert "cannot be resolved" in str(refused.value)
    assert listener.heads == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "017700000001", "127.1", "[::ffff:7f00:1]", "localhost"])
async def test_the_guard_sees_what_the_system_makes_of_a_form(listener: Listener, host: str) -> None:
    """Without it these would be dialled: they are, where the operator opens the network."""
    with pytest.raises(DestinationRefused, match="loopback"):
        await call(f"http://{host}:{listener.port}/")
    assert (await call(f"http://{host}:{listener.port}/", *HOME)).status_code == 200
    assert len(listener.heads) == 1


@pytest.mark.parametrize("addresses", RESOLVED, ids=str)
async def test_a_public_name_with_an_address_inside_is_refused(listener: Listener, addresses: list[str]) -> None:
    with pytest.raises(DestinationRefused) as refused:
        await call(f"http://members.example:{listener.port}/", resolver=answering(addresses))
    assert str(refused.value).startswith("members.example leads to an address that may not be called (")
    for address in addresses:
        assert address not in str(refused.value)


async def test_what_was_checked_is_what_is_dialled(listener: Listener) -> None:
    """A resolver that answers otherwise the second time is not asked a second time for one connection."""
    rebinding = answering(["127.0.0.1"], ["10.0.0.1"])
    async with httpx.AsyncClient(
        transport=GuardedTransport(HOME, resolver=rebinding), trust_env=False, headers={"connection": "keep-alive"}
    ) as client:
        url = f"http://members.example:{listener.port}/"
        assert (await client.get(url)).status_code == 200
        assert (await client.get(url)).status_code == 200
        assert f"host: members.example:{listener.port}".encode() in listener.heads[0].lower()
    with pytest.raises(DestinationRefused):
        await call(url, *HOME, resolver=answering(["10.0.0.1"]))
    assert len(listener.heads) == 2


async def test_each_new_connection_is_checked_anew(listener: Listener) -> None:
    rebinding = answering(["127.0.0.1"], ["10.0.0.1"])
    async with httpx.AsyncClient(
        transport=GuardedTransport(HOME, resolver=rebinding), trust_env=False, headers={"connection": "close"}
    ) as client:
        url = f"http://members.example:{listener.port}/"
        assert (await client.get(url)).status_code == 200
        with pytest.raises(DestinationRefused):
            await client.get(url)
    assert len(listener.heads) == 1


async def test_closed_addresses_of_a_name_are_passed_over_and_dead_ones_too(listener: Listener) -> None:
    # The second is of ours and nobody listens there.
    found = answering(["10.0.0.1", "127.0.0.77", "127.0.0.1"])
    assert (await call(f"http://members.example:{listener.port}/", *HOME, resolver=found)).status_code == 200


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70 + ".example", "a..b"])
async def test_a_name_without_an_address_is_a_failure_to_connect(host: str) -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        if host == "no-such-host.invalid":
            raise OSError("no such host")
        return await resolve(host, port)

    with pytest.raises((httpx.ConnectError, httpx.InvalidURL)):
        await call(f"http://{host}/", resolver=unknown)


async def test_a_resolver_that_does_not_answer_ends_in_time() -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with httpx.AsyncClient(transport=GuardedTransport(resolver=silent), trust_env=False, timeout=0.2) as client:
        with pytest.raises(httpx.ConnectTimeout):
            await client.get("http://members.example/")


async def test_a_proxy_of_the_environment_is_not_asked(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{listener.port}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{listener.port}")
    async with OutwardHttp("http://members.example/", resolver=answering(["10.0.0.1"])) as http:
        with pytest.raises(DestinationRefused):
            await http.get(httpx.URL("http://members.example/"))
    assert listener.heads == []


async def test_the_certificate_is_that_of_the_name_though_the_address_is_dialled(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=members.example", "-addext", "subjectAltName=DNS:members.example"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    made = await asyncio.to_thread(
        subprocess.run, [*command, *subject, "-keyout", key, "-out", certificate], capture_output=True, check=False
    )
    assert made.returncode == 0, made.stderr
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with listening(ssl=server) as listener:
        found = answering(["127.0.0.1"])
        answer = await call(f"https://members.example:{listener.port}/", *HOME, resolver=found, ssl_context=trusting)
        assert answer.status_code == 200
        with pytest.raises(httpx.ConnectError):
            await call(f"https://others.example:{listener.port}/", *HOME, resolver=found, ssl_context=trusting)
        with pytest.raises(httpx.ConnectError):
            await call(f"https://members.example:{listener.port}/", *HOME, resolver=found)
    assert len(listener.heads) == 1
