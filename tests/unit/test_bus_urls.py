"""What may stand in the URLs of brokers, and what of it is never shown."""

from __future__ import annotations

import pytest

from cdcflow.bus.kafka.connection import client
from cdcflow.bus.rabbitmq.address import parse
from cdcflow.errors import ConfigError


def test_the_query_of_a_kafka_url_has_properties_of_the_client() -> None:
    made = client("kafka://u:p@b1,b2:9093?linger.ms=20&sasl.password=a+b%26c%3D", None, None, {"client.id": "shop"})
    assert made["bootstrap.servers"] == "b1:9092,b2:9093"
    assert (made["linger.ms"], made["client.id"], made["sasl.password"]) == ("20", "shop", "a+b&c=")


@pytest.mark.parametrize(
    ("query", "properties", "said", "do"),
    [
        ("acks=hunter", {}, "the property acks cannot be set", "remove it from the URL"),
        ("", {"acks": "hunter"}, "the property acks cannot be set", "remove it from `properties:`"),
        ("a=hunter", {"a": "b"}, "the property a is in the URL and under `properties:`", "keep it in one of them"),
        ("a=hunter&a=b", {}, "the property a is twice in the URL", "keep one of them"),
        ("hunter", {}, "the URL's query is not of the form name=value", ""),
    ],
)
def test_a_query_that_cannot_be_taken_is_refused_without_a_value(
    query: str, properties: dict[str, str | bool | int | float], said: str, do: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        client(f"kafka://u:secret@broker?{query}", None, None, properties)
    assert raised.value.what == said
    assert raised.value.do.startswith(do)
    assert "hunter" not in raised.value.report()
    assert "secret" not in raised.value.report()


def test_the_query_of_an_amqp_url_names_certificates_as_other_clients_do() -> None:
    found = parse("amqps://u:p@mq/v?cacertfile=/a%20b.pem&certfile=c.pem&keyfile=k.pem")
    assert (found.ca, found.certificate, found.private_key) == ("/a b.pem", "c.pem", "k.pem")
    assert found.text == "amqps://mq:5671/v"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("heartbeat=hunter", "the URL of a RabbitMQ broker has no parameter heartbeat"),
        ("#hunter", "the URL of a RabbitMQ broker has no part behind a `#`"),
        ("cacertfile=hunter", "the parameter cacertfile of the URL is there twice"),
    ],
)
def test_a_query_that_a_broker_of_rabbitmq_does_not_have_is_refused(query: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(f"amqp://u:secret@mq/?{query}", ca="given")
    assert raised.value.what == said
    assert "hunter" not in raised.value.report()
