"""Follows every topic of events from its beginning with confluent-kafka, through the broker's deaths:
kafka_all.py SERVERS [USER PASSWORD CA_FILE]
One topic only: kafka_all.py SERVERS TOPIC"""
import re
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

import events

# Topics of latest state and of heartbeats have names of other shapes, or hold no events.
OF_EVENTS = re.compile(r"signalbox\.(tenant\.[^.]+\.)?(?!heartbeat|location)[a-z]+\.v1")

if len(sys.argv) == 3:
    OF_EVENTS = re.compile(re.escape(sys.argv.pop()))


def settings(servers, user=None, password=None, ca=None):
    all_of_them = {"bootstrap.servers": servers, "group.id": f"{user}-all", "enable.auto.commit": False,
                   "auto.offset.reset": "earliest", "reconnect.backoff.max.ms": 500}
    if user:
        all_of_them |= {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "ssl.ca.location": ca,
                        "sasl.username": user, "sasl.password": password}
    return all_of_them


def partitions(consumer):
    """Every partition of every topic of events that can be seen."""
    topics = consumer.list_topics(timeout=2).topics
    return {(name, number) for name, topic in topics.items() if OF_EVENTS.fullmatch(name) for number in topic.partitions}


consumer = Consumer(settings(*sys.argv[1:]))
places = {}
looked = 0.0
while True:
    if time.monotonic() - looked > 1:
        try:
            there = partitions(consumer)
            if there - places.keys():
                places |= dict.fromkeys(there - places.keys(), OFFSET_BEGINNING)
                consumer.assign([TopicPartition(topic, number, place) for (topic, number), place in places.items()])
        except KafkaException as error:
            print(f"{error!r}", file=sys.stderr, flush=True)
        looked = time.monotonic()
    message = consumer.poll(0.2) if places else time.sleep(0.1)
    if message is None:
        continue
    if message.error():
        print(f"{message.error()!r}", file=sys.stderr, flush=True)
        continue
    topic, number, offset = message.topic(), message.partition(), message.offset()
    events.binary(dict(message.headers()), message.key(), message.value(), f"{topic}/{number} {offset}")
    places[topic, number] = offset + 1
