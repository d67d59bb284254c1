"""Follows every stream from its beginning with nats-py, through the server's deaths: nats_all.py URL
One subject of one stream only: nats_all.py URL STREAM SUBJECT"""
import asyncio
import sys

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError

import events

STREAMS = ["SIGNALBOX_CALL", "SIGNALBOX_REGISTRATION", "SIGNALBOX_SECURITY", "SIGNALBOX_OPERATIONS"]


async def follow(jetstream, stream, places, subject):
    """Reads on behind the last message seen of a stream."""
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=places[stream] + 1)
    messages = await jetstream.subscribe(subject, stream=stream, ordered_consumer=True, config=config)
    async for message in messages.messages:
        place = message.metadata.sequence.stream
        if place > places[stream]:
            events.structured(dict(message.headers or {}), message.data, f"{stream} {place}")
            places[stream] = place


async def main(url, stream=None, subject="signalbox.v1.>"):
    places = dict.fromkeys([stream] if stream else STREAMS, 0)
    while True:
        broken = asyncio.Event()

        async def over():
            broken.set()

        connection = None
        try:
            connection = await nats.connect(url, allow_reconnect=False, disconnected_cb=over, connect_timeout=1)
            jetstream = connection.jetstream()
            tasks = [asyncio.create_task(follow(jetstream, name, places, subject)) for name in places]
            tasks.append(asyncio.create_task(broken.wait()))
            done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            for task in done:
                task.result()
        except (OSError, nats.errors.Error, JetStreamError) as error:
            print(f"{error!r}", file=sys.stderr, flush=True)
        if connection is not None:
            try:
                await connection.close()
            except (OSError, nats.errors.Error) as error:
                print(f"{error!r}", file=sys.stderr, flush=True)
        await asyncio.sleep(0.1)


asyncio.run(main(*sys.argv[1:]))
