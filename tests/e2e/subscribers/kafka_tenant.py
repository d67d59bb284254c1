"""What a tenant's login can see and read on Kafka: kafka_tenant.py SERVERS USER PASSWORD CA_FILE TOPIC…

Prints one JSON object a line: {"topics": […]}, then for each TOPIC {"tried": …, "refused": error or null}."""
import json
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

servers, user, password, ca, *tried = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": servers, "group.id": user, "enable.auto.commit": False,
                     "enable.partition.eof": True, "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512",
                     "ssl.ca.location": ca, "sasl.username": user, "sasl.password": password})
print(json.dumps({"topics": sorted(consumer.list_topics(timeout=30).topics)}), flush=True)
for topic in tried:
    # What the broker says of the topic, and then what comes for who reads it all the same: an error or nothing.
    error = consumer.list_topics(topic, timeout=30).topics[topic].error
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    message = consumer.poll(2)
    got = message is not None and message.error() is None
    print(json.dumps({"tried": topic, "refused": error.name() if error and not got else None}), flush=True)
consumer.close()
