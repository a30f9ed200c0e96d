"""Messages that could not be read, put aside in a topic of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import NewTopic

from cdcflow.bus.kafka.errors import error_of, translate
from cdcflow.bus.kafka.partitions import TIMEOUT_SECONDS, Cluster
from cdcflow.bus.kafka.statetopic import MESSAGE_BYTES
from cdcflow.bus.reading import Letter
from cdcflow.errors import SourceUnavailable
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

_FLUSH_SECONDS: Final = 30.0

# Whatever a topic took, this one takes with what is said of it besides.
_SETTINGS: Final = {"enable.idempotence": True, "linger.ms": 5, "message.max.bytes": MESSAGE_BYTES}

# Headers that say where the message stood and why it is here.
REASON, TOPIC, SHARE, OFFSET = "cdcflow.reason", "cdcflow.topic", "cdcflow.share", "cdcflow.offset"


class DeadLetters:
    """Writes to the topic of dead letters. One thread; connects when there is a first letter."""

    def __init__(self, client: dict[str, Any], cluster: Cluster, topic: str, at: str) -> None:
        self._client, self._cluster, self._topic, self._at = client, cluster, topic, at
        self._producer: Producer | None = None

    def deliver(self, letters: Sequence[Letter]) -> None:
        """Return when every letter is on the disks of the brokers. One that came before may come again after a crash.

        Raises:
            SourceUnavailable: the brokers do not take them now.
        """
        if not letters:
            return
        producer = self._producer or self._begin()
        refused: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                refused.append(error)

        try:
            for letter in letters:
                log.warning("a message cannot be read and is put aside", topic=self._topic, **letter.reason.fields())
                headers: list[tuple[str, bytes | str | None]] = [
                    *letter.headers,
                    (REASON, letter.reason.what.encode()),
                    (TOPIC, letter.topic.encode()),
                    (SHARE, letter.share.encode()),
                    (OFFSET, str(letter.place).encode()),
                ]
                producer.produce(
                    self._topic, key=letter.key, value=letter.value, headers=headers, on_delivery=delivered
                )
            left = producer.flush(_FLUSH_SECONDS)
        except (KafkaException, BufferError) as error:
            if isinstance(error, KafkaException):
                raise translate(error, at=self._at, topic=self._topic, reading=True) from None
            raise SourceUnavailable("the dead letters cannot be written now", at=self._at, why=str(error)) from None
        if refused:
            raise translate(refused[0], at=self._at, topic=self._topic, reading=True)
        if left:
            raise SourceUnavailable("the dead letters cannot be written now", at=self._at)

    def _begin(self) -> Producer:
        if self._topic not in self._cluster.partitions():
            self._create()
        try:
            self._producer = Producer({**self._client, **_SETTINGS})
        except KafkaException as error:
            raise translate(error, at=self._at, reading=True) from None
        return self._producer

    def _create(self) -> None:
        # Large enough for whatever a topic may hold; brokers with a policy for that take it with what they permit.
        for config in ({"max.message.bytes": str(MESSAGE_BYTES)}, {}):
            new = NewTopic(self._topic, num_partitions=1, config=config)
            try:
                self._cluster.admin.create_topics([new], request_timeout=TIMEOUT_SECONDS)[self._topic].result()
            except KafkaException as error:
                code = error_of(error).code()
                if code == KafkaError.TOPIC_ALREADY_EXISTS:
                    return
                if config and code in (KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG):
                    continue
                raise translate(error, at=self._at, topic=self._topic, reading=True) from None
            return
