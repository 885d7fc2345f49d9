"""A consumer of Rollcall's events, whole: `RABBITMQ_URL=... python docs/consumer.py`.

Every event is delivered at least once and in order per member; the version makes "at least once" into "once". An effect that
fails ends this program, and the unacknowledged message comes back when it runs again.
"""

import asyncio
import json
import logging
import os

import aio_pika


async def main() -> None:
    """Print what becomes of the members, each version once."""
    async with await aio_pika.connect_robust(os.environ["RABBITMQ_URL"]) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        events = await channel.declare_exchange("rollcall.events", "topic", durable=True)
        # A queue of your own keeps what comes while you are away; give it a dead-letter exchange before you rely on it.
        queue = await channel.declare_queue("my-system.members", durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(events, "membership.updated.#")
        # Keep the greatest version of each member in your database, written in the transaction of the effect itself.
        seen: dict[str, int] = {}
        async with queue.iterator() as messages:
            async for message in messages:
                event = json.loads(message.body)
                if event["version"] > seen.get(event["memberId"], 0):
                    logging.info("%(externalId)s is %(newState)s (version %(version)d)", event)  # your effect
                    seen[event["memberId"]] = event["version"]
                await message.ack()


logging.basicConfig(level=logging.INFO, format="%(message)s")
asyncio.run(main())
