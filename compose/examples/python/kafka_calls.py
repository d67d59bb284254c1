"""Prints call events from Kafka: kafka_calls.py [127.0.0.1:9092] [how many]     (pip install confluent-kafka)"""
import json
import sys

from confluent_kafka import Consumer, KafkaException

servers, count = (sys.argv[1:] + ["127.0.0.1:9092", "0"][len(sys.argv) - 1:])[:2]
consumer = Consumer({"bootstrap.servers": servers, "group.id": "call-printer-python",
                     "auto.offset.reset": "earliest", "enable.auto.commit": False})
consumer.subscribe(["signalbox.call.v1"])
seen = set()
while not seen or len(seen) != int(count):
    message = consumer.poll(1.0)
    if message is None:
        continue
    if message.error():
        raise KafkaException(message.error())
    event = {name[3:]: value.decode() for name, value in message.headers() if name.startswith("ce_")}
    data = json.loads(message.value())  # what happened; the headers say to whom, when and in which order
    identity = (event["source"], event["sequence"])
    if identity not in seen:  # every bus may deliver an event twice
        seen.add(identity)
        print(event["id"], event["type"], event["tenantid"], event["subject"], data["edge"], flush=True)
    consumer.commit(message, asynchronous=False)  # only once it is done with
consumer.close()
