"""The servers of the message buses do what the tests count on."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pika
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError

from tests.servers.kafka_server import Kafka
from tests.servers.rabbitmq_server import RabbitMq
from tests.servers.registry_server import SchemaRegistry
from tests.servers.waiting import until


def named(what: str) -> str:
    return f"{what}.{uuid.uuid4().hex[:12]}"


@contextmanager
def channel_of(rabbitmq: RabbitMq) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url()))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def publish(rabbitmq: RabbitMq, queue: str, kind: str, body: bytes) -> None:
    with channel_of(rabbitmq) as channel:
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": kind})
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def first_of_stream(rabbitmq: RabbitMq, stream: str) -> bytes:
    with channel_of(rabbitmq) as channel:
        channel.basic_qos(prefetch_count=10)
        for method, _, body in channel.consume(stream, arguments={"x-stream-offset": "first"}, inactivity_timeout=30):
            assert method is not None, "nothing came"
            channel.basic_ack(method.delivery_tag)
            return body
    raise AssertionError("the stream ended")


def test_a_reader_of_committed_messages_sees_those_of_committed_transactions_only(kafka: Kafka) -> None:
    topic = kafka.create_topic(named("shop.orders"), partitions=2)
    producer = Producer({**kafka.client(), "transactional.id": named("t")})
    producer.init_transactions(30)
    for value, end in ((b"kept", producer.commit_transaction), (b"dropped", producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(topic, key=b"k", value=value, headers=[("h", b"1")], partition=1)
        producer.flush(30)
        end(30)
    committed = kafka.read(topic)
    assert [(m.key, m.value, m.header("h"), m.partition) for m in committed] == [(b"k", b"kept", b"1", 1)]
    assert [m.value for m in kafka.read(topic, isolation="read_uncommitted")] == [b"kept", b"dropped"]


def test_a_topic_is_there_until_it_is_deleted_and_none_is_made_by_a_producer(kafka: Kafka) -> None:
    topic = kafka.create_topic(named("shop.short"), cleanup_policy="compact")
    assert topic in kafka.topics()
    kafka.delete_topic(topic)
    assert topic not in kafka.topics()
    with pytest.raises(KafkaException):
        kafka.produce(topic, "k", "v")
    assert topic not in kafka.topics()


@pytest.mark.parametrize("end", [Kafka.kill, Kafka.stop], ids=["killed", "stopped"])
def test_acknowledged_messages_are_there_when_the_broker_is_back(kafka: Kafka, end: Callable[[Kafka], None]) -> None:
    topic = kafka.create_topic(named("shop.kept"))
    for number in range(3):
        kafka.produce(topic, "k", str(number))
    end(kafka)
    assert not kafka.running
    kafka.start()
    kafka.produce(topic, "k", None)
    assert [m.value for m in kafka.read(topic)] == [b"0", b"1", b"2", None]


def test_another_broker_leads_when_the_leader_was_killed(kafka_cluster: Kafka) -> None:
    topic = kafka_cluster.create_topic(named("shop.led"))
    kafka_cluster.produce(topic, "k", "before")
    killed = kafka_cluster.leader(topic, 0)
    killed.kill()
    kafka_cluster.produce(topic, "k", "after")
    until(lambda: kafka_cluster.leader(topic, 0) is not killed, limit=60, what="all say who leads")
    assert [m.value for m in kafka_cluster.read(topic)] == [b"before", b"after"]
    killed.start()
    assert kafka_cluster.running


def test_a_wrong_password_and_a_foreign_topic_are_refused(new_kafka: Callable[..., Kafka]) -> None:
    guarded = new_kafka(security="sasl_ssl", settings={"allow.everyone.if.no.acl.found": "false"})
    topic = guarded.create_topic("shop.guarded")
    guarded.allow("writer", "WRITE", "shop.", prefix=True)
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        assert outcome(guarded, topic, "writer", None, mechanism) is None
        assert outcome(guarded, topic, "writer", "wrong", mechanism) == KafkaError._AUTHENTICATION
    assert outcome(guarded, topic, "reader", None, "PLAIN") == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert len(guarded.read(topic)) == 3


def test_a_certificate_is_a_user_where_there_is_tls_alone(new_kafka: Callable[..., Kafka]) -> None:
    guarded = new_kafka(security="ssl")
    topic = guarded.create_topic("shop.guarded")
    guarded.allow("writer", "WRITE", topic)
    assert outcome(guarded, topic, "writer", None, "") is None
    assert outcome(guarded, topic, "", None, "") == KafkaError.TOPIC_AUTHORIZATION_FAILED


def outcome(kafka: Kafka, topic: str, user: str, password: str | None, mechanism: str) -> int | None:
    """Send one message as a user; return the code of what refused it."""
    seen: list[int | None] = []
    told: list[int] = []
    settings = {
        **kafka.client(user, password, mechanism=mechanism),
        "error_cb": lambda error: told.append(error.code()),
    }
    producer = Producer(settings)
    producer.produce(topic, b"v", on_delivery=lambda error, _: seen.append(error.code() if error else None))

    def settled() -> bool:
        producer.poll(0.05)
        return bool(seen) or KafkaError._AUTHENTICATION in told

    until(settled, limit=60)
    producer.purge()
    return seen[0] if seen else KafkaError._AUTHENTICATION


def test_a_group_goes_on_from_what_it_has_committed(kafka: Kafka) -> None:
    topic = kafka.create_topic(named("shop.group"))
    group = named("g")
    for value in ("1", "2"):
        kafka.produce(topic, None, value)
        consumer = Consumer({**kafka.client(), "group.id": group, "auto.offset.reset": "earliest"})
        consumer.subscribe([topic])
        message = until(lambda consumer=consumer: consumer.poll(0.1), limit=60)
        assert message.value() == value.encode()
        consumer.commit(message, asynchronous=False)
        consumer.close()


def test_a_schema_is_read_back_by_its_number(schema_registry: SchemaRegistry) -> None:
    client = SchemaRegistryClient({"url": schema_registry.url})
    subject = named("shop.orders-value")
    number = client.register_schema(subject, Schema('{"type": "record", "name": "O", "fields": []}', "AVRO"))
    assert '"name":"O"' in client.get_schema(number).schema_str.replace(" ", "")
    assert subject in client.get_subjects()


def test_confirmed_messages_are_there_when_the_broker_was_killed(rabbitmq: RabbitMq) -> None:
    queue, stream = named("shop.queue"), named("shop.stream")
    for name, kind in ((queue, "quorum"), (stream, "stream")):
        publish(rabbitmq, name, kind, b"kept")
    assert {queue, stream} <= set(rabbitmq.queues())
    # A quorum queue that is killed within a moment of its making comes back empty: what it is called on disk is
    # written behind. An orderly stop makes it a queue of long standing.
    rabbitmq.restart()
    for name, kind in ((queue, "quorum"), (stream, "stream")):
        publish(rabbitmq, name, kind, b"kept, too")
    rabbitmq.kill()
    rabbitmq.start()
    # A queue is there before its leader is.
    assert until(lambda: first_of(rabbitmq, queue), limit=60) == b"kept"
    assert until(lambda: first_of(rabbitmq, queue), limit=60) == b"kept, too"
    assert until(lambda: first_of_stream(rabbitmq, stream), limit=60) == b"kept"
    for name in (queue, stream):
        rabbitmq.delete_queue(name)
        assert name not in rabbitmq.queues()


def first_of(rabbitmq: RabbitMq, queue: str) -> bytes | None:
    with channel_of(rabbitmq) as channel:
        body: bytes | None = channel.basic_get(queue, auto_ack=True)[2]
        return body


def test_a_memory_alarm_blocks_publishers_until_it_is_over(rabbitmq: RabbitMq) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url()))
    blocked: list[bool] = []
    connection.add_on_connection_blocked_callback(lambda *_: blocked.append(True))
    connection.add_on_connection_unblocked_callback(lambda *_: blocked.append(False))
    channel = connection.channel()
    try:
        for on in (True, False):
            rabbitmq.memory_alarm(on)
            channel.basic_publish("", named("nowhere"), b"x")

            def told(on: bool = on) -> bool:
                connection.process_data_events(0.05)
                return on in blocked

            until(told, limit=60)
    finally:
        rabbitmq.memory_alarm(False)  # the broker is the other tests' too
    connection.close()


def test_a_wrong_password_is_refused_by_rabbitmq(rabbitmq: RabbitMq) -> None:
    with pytest.raises(AMQPConnectionError):
        pika.BlockingConnection(pika.URLParameters(rabbitmq.url(user="guest", password="wrong")))


def test_the_servers_listen_on_loopback_only(kafka: Kafka, rabbitmq: RabbitMq) -> None:
    assert kafka.bootstrap.startswith("127.0.0.1:")
    listed = AdminClient(kafka.client()).list_topics(timeout=30).brokers
    assert {broker.host for broker in listed.values()} == {"127.0.0.1"}
    listeners = rabbitmq.api("GET", "overview")["listeners"]
    assert {one["ip_address"] for one in listeners if one["protocol"] != "clustering"} == {"127.0.0.1"}
