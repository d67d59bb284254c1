"""Prints call events from NATS JetStream: nats_calls.py [nats://127.0.0.1:4222] [how many]     (pip install nats-py)"""
import asyncio
import json
import sys

import nats


async def main(url="nats://127.0.0.1:4222", count="0"):
    connection = await nats.connect(url)
    # An ordered consumer leaves nothing on the server. To go on after a restart, keep the number of the last message
    # (message.metadata.sequence.stream) with what you made of it, and begin behind it.
    messages = await connection.jetstream().subscribe("signalbox.v1.call.>", ordered_consumer=True)
    seen = set()
    async for message in messages.messages:
        event = json.loads(message.data)
        identity = (event["source"], event["sequence"])
        if identity in seen:  # every bus may deliver an event twice
            continue
        seen.add(identity)
        print(event["id"], event["type"], event["tenantid"], event["subject"], flush=True)
        if len(seen) == int(count):
            break
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
