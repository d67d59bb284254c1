"""What both subscribers print: events as the official CloudEvents SDK reads them, one JSON object a line."""
import json
from datetime import timezone

from cloudevents.core.bindings import http, kafka


def attribute(value):
    """Text as it stands in the contract: SDKs turn times into objects."""
    if hasattr(value, "astimezone"):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value


def line(event, place):
    """The event, and where it lay; the SDK has refused what is no CloudEvent."""
    told = {name: attribute(value) for name, value in event.get_attributes().items()}
    # In binary mode every attribute travels as text.
    if "severitynumber" in told:
        told["severitynumber"] = int(told["severitynumber"])
    data = event.get_data()
    told["data"] = json.loads(data) if isinstance(data, (bytes, str)) else data
    print(json.dumps({"place": place, "event": told}), flush=True)


def structured(headers, body, place):
    """An event as NATS carries it."""
    line(http.from_structured_event(http.HTTPMessage(headers=headers, body=body)), place)


def binary(headers, key, value, place):
    """An event as Kafka carries it."""
    line(kafka.from_kafka_event(kafka.KafkaMessage(headers=headers, key=key, value=value)), place)
