import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import aio_pika
import pytest

from deploy.local_stack import private_rabbitmq
from service.clients.broker import Publisher
from service.clients.confirm_channel import CONFIRMED, NACKED, UNKNOWN, Refused, Returned
from service.domain.errors import Unavailable
from tests.relay_rig import eventually, message, open_sink


@asynccontextmanager
async def open_publisher(url: str, *, within: float = 5) -> AsyncIterator[Publisher]:
    publisher = Publisher(url, name="test", within=timedelta(seconds=within))
    await publisher.connect()
    try:
        yield publisher
    finally:
        await publisher.close()


class Proxy:
    """A TCP proxy that can stop passing on what it reads."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.passing = asyncio.Event()
        self.passing.set()
        self._writers: list[asyncio.StreamWriter] = []

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self.passing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        out_reader, out_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers += [writer, out_writer]
        await asyncio.gather(self._pump(reader, out_writer), self._pump(out_reader, writer))

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        login = self._target.netloc.rpartition("@")[0]
        try:
            yield urlunsplit(self._target._replace(netloc=f"{login}@127.0.0.1:{port}"))
        finally:
            self.passing.set()
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.sleep(0)


async def test_a_window_is_confirmed_and_arrives_in_its_order(rabbitmq_url: str) -> None:
    async with open_sink(rabbitmq_url) as sink, open_publisher(rabbitmq_url) as publisher:
        window = [message(sink.exchange.name, body=f'{{"key": "k", "version": {n}}}') for n in range(500)]

        outcomes = await publisher.publish_window(window)

        assert outcomes == [CONFIRMED] * 500
        assert await sink.receive(500) == [("k", n) for n in range(500)]
        got = sink.messages[0]
        assert (got.message_id, got.correlation_id, got.type) == (window[0].message_id, "correlation", "TEST")
        assert (got.content_type, got.delivery_mode, got.headers) == ("application/json", 2, {"ce-type": "TEST"})


async def test_windows_may_overlap(rabbitmq_url: str) -> None:
    async with open_sink(rabbitmq_url) as sink, open_publisher(rabbitmq_url) as publisher:
        windows = [[message(sink.exchange.name, body='{"key": "k", "version": 1}') for _ in range(100)] for _ in range(5)]

        outcomes = await asyncio.gather(*(publisher.publish_window(window) for window in windows))

        assert outcomes == [[CONFIRMED] * 100] * 5
        await sink.receive(500)


async def test_only_the_unroutable_message_is_returned(rabbitmq_url: str) -> None:
    async with open_sink(rabbitmq_url, bind=False) as sink, open_publisher(rabbitmq_url) as publisher:
        await sink.queue.bind(sink.exchange, "known")
        keys = ["known", "unknown", "known"]

        outcomes = await publisher.publish_window(
            [message(sink.exchange.name, routing_key=key, body='{"key": "k", "version": 1}') for key in keys]
        )

        assert outcomes == [CONFIRMED, Returned("unroutable: NO_ROUTE"), CONFIRMED]


async def test_a_message_that_a_full_queue_rejects_is_nacked(rabbitmq_url: str) -> None:
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    async with (
        open_sink(rabbitmq_url, consume=False, arguments=full) as sink,
        open_publisher(rabbitmq_url) as publisher,
    ):

        async def is_full() -> bool:
            return (await publisher.publish_window([message(sink.exchange.name)])) == [NACKED]

        # A quorum queue notices that it is full a few messages late.
        await eventually(is_full)


async def test_two_messages_of_one_name_are_both_returned_rather_than_one_lost(rabbitmq_url: str) -> None:
    async with open_sink(rabbitmq_url, bind=False) as sink, open_publisher(rabbitmq_url) as publisher:
        twins = [message(sink.exchange.name, message_id="twin"), message(sink.exchange.name, message_id="twin")]

        assert await publisher.publish_window(twins) == [Returned("unroutable: NO_ROUTE")] * 2


async def test_a_missing_exchange_refuses_its_own_messages_and_no_others(rabbitmq_url: str) -> None:
    async with open_sink(rabbitmq_url) as sink, open_publisher(rabbitmq_url) as publisher:
        missing = f"missing-{uuid4()}"
        window = [message(sink.exchange.name, body='{"key": "k", "version": 1}') for _ in range(20)]
        window[5:5] = [message(missing) for _ in range(5)]

        for _ in range(3):
            outcomes = await publisher.publish_window(window)

            assert outcomes[:5] + outcomes[10:] == [CONFIRMED] * 20
            assert all(isinstance(outcome, Refused) and missing in outcome.error for outcome in outcomes[5:10])
        assert publisher.is_open
        await sink.receive(60)
        assert len(sink.messages) == 60, "nothing was published twice"


async def test_an_exchange_that_is_made_later_is_found(rabbitmq_url: str) -> None:
    async with open_publisher(rabbitmq_url) as publisher:
        name = f"late-{uuid4()}"
        assert isinstance((await publisher.publish_window([message(name)]))[0], Refused)
        async with open_sink(rabbitmq_url, name):
            assert await publisher.publish_window([message(name)]) == [CONFIRMED]


async def test_the_one_message_that_closes_the_channel_is_found_among_many(rabbitmq_url: str) -> None:
    async with open_sink(rabbitmq_url) as sink, open_publisher(rabbitmq_url) as publisher:
        window = [message(sink.exchange.name, body='{"key": "k", "version": 1}') for _ in range(20)]
        # RabbitMQ reads CC as a list of routing keys and closes the channel over anything else.
        window[7] = message(sink.exchange.name, headers={"CC": "no list"})

        outcomes = await asyncio.gather(publisher.publish_window(window), publisher.publish_window(window[8:]))

        assert isinstance(outcomes[0][7], Refused)
        assert outcomes[0][:7] + outcomes[0][8:] == [CONFIRMED] * 19
        assert outcomes[1] == [CONFIRMED] * 12
        assert publisher.is_open


async def test_a_message_that_amqp_cannot_carry_is_refused_alone(rabbitmq_url: str) -> None:
    async with open_sink(rabbitmq_url) as sink, open_publisher(rabbitmq_url) as publisher:
        window = [message(sink.exchange.name, routing_key=key, body='{"key": "k", "version": 1}') for key in ("a", "b" * 256)]

        assert await publisher.publish_window(window) == [
            CONFIRMED,
            Refused("unfit: routing_key is longer than 255 bytes"),
        ]


async def test_without_a_connection_every_outcome_is_unknown(rabbitmq_url: str) -> None:
    publisher = Publisher(rabbitmq_url, name="test")

    assert not publisher.is_open
    assert await publisher.publish_window([message("any")]) == [UNKNOWN]


async def test_a_broker_that_is_not_there_is_unavailable() -> None:
    publisher = Publisher("amqp://guest:guest@127.0.0.1:1/", name="test", within=timedelta(seconds=2))

    with pytest.raises(Unavailable, match="does not answer") as caught:
        await publisher.connect()

    assert "guest" not in str(caught.value)


async def test_a_stalled_connection_is_given_up_in_time(rabbitmq_url: str) -> None:
    proxy = Proxy(rabbitmq_url)
    async with open_sink(rabbitmq_url) as sink, proxy.serve() as url, open_publisher(url, within=0.5) as publisher:
        assert await publisher.publish_window([message(sink.exchange.name)]) == [CONFIRMED]
        proxy.passing.clear()

        async with asyncio.timeout(3):
            assert await publisher.publish_window([message(sink.exchange.name)]) == [UNKNOWN]
            await publisher.lost()

        proxy.passing.set()
        await publisher.connect()
        assert await publisher.publish_window([message(sink.exchange.name)]) == [CONFIRMED]


async def test_a_connection_that_breaks_in_mid_window_leaves_the_outcome_unknown(rabbitmq_url: str) -> None:
    proxy = Proxy(rabbitmq_url)
    async with open_sink(rabbitmq_url) as sink, proxy.serve() as url, open_publisher(url) as publisher:
        await publisher.publish_window([message(sink.exchange.name)])
        proxy.passing.clear()
        window = asyncio.create_task(publisher.publish_window([message(sink.exchange.name)] * 3))
        await asyncio.sleep(0.1)
        for writer in proxy._writers:
            writer.transport.abort()

        async with asyncio.timeout(3):
            assert await window == [UNKNOWN] * 3
            await publisher.lost()


@contextmanager
def _memory_alarm(node: Any) -> Iterator[None]:
    node.ctl("set_vm_memory_high_watermark", "0.0001")
    try:
        yield
    finally:
        node.ctl("set_vm_memory_high_watermark", "0.6")


@pytest.mark.slow
async def test_a_blocked_connection_is_kept_and_used_again_when_the_alarm_ends() -> None:
    with private_rabbitmq() as node:
        async with open_sink(node.url) as sink, open_publisher(node.url, within=1) as publisher:
            assert await publisher.publish_window([message(sink.exchange.name)]) == [CONFIRMED]
            with _memory_alarm(node):
                assert await publisher.publish_window([message(sink.exchange.name)]) == [UNKNOWN]
                assert publisher.blocked
                assert await publisher.publish_window([message(sink.exchange.name)]) == [UNKNOWN]
                assert publisher.is_open

            async def works() -> bool:
                return await publisher.publish_window([message(sink.exchange.name)]) == [CONFIRMED]

            await eventually(works, within=20)
            assert not publisher.blocked


async def test_the_connection_bears_its_name(rabbitmq_url: str) -> None:
    async with open_publisher(rabbitmq_url) as publisher:
        assert publisher.is_open
    assert not publisher.is_open
    # A closed one is opened again by the same object.
    await publisher.connect()
    assert publisher.is_open
    await publisher.close()
    connection = await aio_pika.connect(rabbitmq_url)
    await connection.close()
