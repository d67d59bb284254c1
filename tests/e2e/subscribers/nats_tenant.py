"""What a tenant's login can read on NATS: its own events by the one consumer that it may have, and nothing else.
nats_tenant.py URL OWN OTHER: users are called as their tenants, with passwords pw-<tenant>.

Prints one JSON object a line: {"tried": …, "events": [tenants], "refused": …}."""
import asyncio
import json
import sys

import nats

STREAM = "SIGNALBOX_CALL"


async def main(url, own, other):
    violations = []

    async def told(error):
        violations.append(str(error))

    inbox = f"_INBOX_{own}"
    connection = await nats.connect(url, user=own, password=f"pw-{own}", inbox_prefix=inbox.encode(),
                                    error_cb=told, allow_reconnect=False)

    def say(tried, came, refused):
        print(json.dumps({"tried": tried, "events": came, "refused": refused}), flush=True)

    async def ask(subject, body):
        """The answer, or what the server complained about; one of them always comes."""
        before = len(violations)
        request = asyncio.create_task(connection.request(subject, json.dumps(body).encode(), timeout=30))
        while not request.done() and len(violations) == before:
            await asyncio.wait([request], timeout=0.05)
        if request.done():
            answer = json.loads(request.result().data or b"{}")
            return answer, str(answer["error"]["description"]) if "error" in answer else None
        request.cancel()
        return None, violations[-1]

    def consumer(name, tenant):
        filtered = f"signalbox.v1.*.*.{tenant}.*"
        config = {"name": name, "filter_subject": filtered, "ack_policy": "none", "deliver_policy": "all",
                  "inactive_threshold": 30_000_000_000}
        return {"stream_name": STREAM, "config": config}, filtered

    async def create(name, named, filtered):
        """Asks for a consumer that is named and filtered by the subject in one way, and by the body in another."""
        body, _ = consumer(name, filtered)
        subject = f"$JS.API.CONSUMER.CREATE.{STREAM}.{name}.{consumer(name, named)[1]}"
        return (await ask(subject, body))[1]

    # Its own events, by pulls into its own inbox.
    refused = await create(own, own, own)
    came = []
    if refused is None:
        pulled = await connection.subscribe(f"{inbox}.pulled")
        batch = json.dumps({"batch": 1000, "no_wait": True}).encode()
        await connection.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{own}", batch, reply=f"{inbox}.pulled")
        async for message in pulled.messages:
            if message.headers and "Status" in message.headers:
                break
            came.append(json.loads(message.data)["tenantid"])
    say("own events", sorted(set(came)), refused)

    # The other's: by a filter in the body, by a consumer of its name, by one that is there, by the stream, by listening.
    say("another's filter in the body", [], await create(own, own, other))
    say("another's filter", [], await create(own, other, other))
    say("another's name", [], await create(other, other, other))
    for what, subject, body in [
        ("another's consumer", f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{other}", {"batch": 1, "no_wait": True}),
        ("a message by subject", f"$JS.API.STREAM.MSG.GET.{STREAM}", {"last_by_subj": f"signalbox.v1.*.*.{other}.*"}),
        ("a message by number", f"$JS.API.STREAM.MSG.GET.{STREAM}", {"seq": 1}),
        ("a message directly", f"$JS.API.DIRECT.GET.{STREAM}", {"last_by_subj": f"signalbox.v1.*.*.{other}.*"}),
        ("the stream's subjects", f"$JS.API.STREAM.INFO.{STREAM}", {"subjects_filter": ">"}),
        ("a purge", f"$JS.API.STREAM.PURGE.{STREAM}", {}),
    ]:
        say(what, [], (await ask(subject, body))[1])
    for subject in ["signalbox.v1.>", f"signalbox.v1.*.*.{other}.*", ">", "_INBOX.>"]:
        before = len(violations)
        await connection.subscribe(subject)
        for _ in range(600):
            if len(violations) > before:
                break
            await asyncio.sleep(0.05)
        say(f"listening to {subject}", [], violations[-1] if len(violations) > before else None)
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
