"""Topics and messages of a Kafka as tests see them: made, written, read to their end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.servers.waiting import until

LIMIT_SECONDS = 60
# A broker that was restarted is found again at once; what librdkafka writes to standard error is left out.
QUICK: dict[str, Any] = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "log_level": 0}
Headers = Sequence[tuple[str, "bytes | str | None"]]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a topic; `timestamp` in milliseconds since 1970."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    partition: int
    offset: int
    timestamp: int

    def header(self, name: str) -> bytes | None:
        """Return the last header of this name; None where there is none."""
        return dict(self.headers).get(name)


class Topics:
    """What a superuser of a Kafka may do; `connection` is what librdkafka needs to reach it."""

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._connection = dict(connection)
        self._admin: AdminClient | None = None
        self._producer: Producer | None = None

    @property
    def admin(self) -> AdminClient:
        """A client that asks the cluster itself."""
        if self._admin is None:
            self._admin = AdminClient(self._connection)
        return self._admin

    def close(self) -> None:
        """Let the clients go, with their threads."""
        self._admin = self._producer = None

    def names(self) -> list[str]:
        """Return the names of the topics in order, without Kafka's own."""
        found = self.admin.list_topics(timeout=LIMIT_SECONDS).topics
        return sorted(name for name in found if not name.startswith("__"))

    def leader(self, topic: str, partition: int) -> int | None:
        """Return the node that leads a partition; None while there is none."""
        seen = self.admin.list_topics(topic, timeout=5).topics[topic].partitions[partition]
        return seen.leader if seen.leader >= 0 else None

    def create(self, name: str, partitions: int, replicas: int, config: Mapping[str, str]) -> str:
        """Create a topic and wait until each partition has a leader; return its name."""
        dotted = {key.replace("_", "."): value for key, value in config.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=dotted)
        self.admin.create_topics([new], request_timeout=LIMIT_SECONDS)[name].result(LIMIT_SECONDS)
        everyone = range(partitions)
        until(
            lambda: all(self.leader(name, one) is not None for one in everyone),
            limit=LIMIT_SECONDS,
            what=f"each partition of {name} has a leader",
        )
        return name

    def delete(self, name: str) -> None:
        """Delete a topic and wait until it is gone."""
        self.admin.delete_topics([name], request_timeout=LIMIT_SECONDS)[name].result(LIMIT_SECONDS)
        until(lambda: name not in self.names(), limit=LIMIT_SECONDS, what=f"{name} is gone")

    def produce(
        self,
        topic: str,
        key: bytes | str | None,
        value: bytes | str | None,
        headers: Headers | None,
        partition: int | None,
    ) -> None:
        """Send one message and wait until it is acknowledged by all replicas in sync.

        Raises:
            KafkaException: it was refused.
        """
        if self._producer is None:
            # A topic that is not there is told after three seconds, not thirty.
            quick = {"topic.metadata.propagation.max.ms": 3000, "message.max.bytes": 16 << 20}
            self._producer = Producer({**self._connection, **quick, "acks": "all", "enable.idempotence": True})
        refused: list[KafkaError] = []
        acknowledged: list[object] = []

        def delivered(error: KafkaError | None, message: object) -> None:
            if error is None:
                acknowledged.append(message)
            else:
                refused.append(error)

        where: dict[str, Any] = {} if partition is None else {"partition": partition}
        self._producer.produce(topic, key=key, value=value, headers=list(headers or []), on_delivery=delivered, **where)
        self._producer.flush(LIMIT_SECONDS)
        if refused:
            raise KafkaException(refused[0])
        assert acknowledged, f"no acknowledgement within {LIMIT_SECONDS} s"

    def read(self, topic: str, isolation: str) -> list[Message]:
        """Return every message of a topic until the end of now, in order of partition and offset."""
        consumer = Consumer(
            {
                **self._connection,
                "group.id": "tests-read",  # librdkafka asks for one; nothing is ever committed to it
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
                "fetch.wait.max.ms": 10,
            }
        )
        try:
            partitions = set(consumer.list_topics(topic, timeout=LIMIT_SECONDS).topics[topic].partitions)
            consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
            return sorted(_to_the_end(consumer, partitions), key=lambda message: (message.partition, message.offset))
        finally:
            consumer.close()


def _to_the_end(consumer: Consumer, partitions: set[int]) -> list[Message]:
    found: list[Message] = []
    left = set(partitions)
    end = time.monotonic() + LIMIT_SECONDS
    while left:
        assert time.monotonic() < end, f"no end of partitions {sorted(left)} within {LIMIT_SECONDS} s"
        for seen in consumer.consume(1000, timeout=0.2):
            error = seen.error()
            if error is None:
                found.append(_message(seen))
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard(seen.partition() or 0)
            elif not error.retriable() and error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED,):
                raise KafkaException(error)
    return found


def _message(seen: Any) -> Message:
    headers = tuple((name, value) for name, value in seen.headers() or [])
    return Message(seen.key(), seen.value(), headers, seen.partition(), seen.offset(), seen.timestamp()[1])
