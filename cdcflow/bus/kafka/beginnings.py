"""What partitions begin with: whether who has made a topic anew says that what readers have of its tables is void."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from cdcflow.bus.formats import OP
from cdcflow.bus.kafka.errors import passes, translate
from cdcflow.bus.kafka.waiting import Noted
from cdcflow.errors import SourceUnavailable

_LIMIT_SECONDS: Final = 20.0
_TRUNCATE: Final = b"t"


def emptied(
    client: dict[str, Any], at: str, partitions: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], bool | None]:
    """Return of each partition whether the first message that it still has is a truncate; None where it has none.

    Raises:
        SourceUnavailable: the brokers do not answer.
        AccessDenied: we may not read.
    """
    found: dict[tuple[str, int], bool | None] = {}
    noted = Noted()
    consumer = Consumer(
        {
            "fetch.wait.max.ms": 10,
            "fetch.message.max.bytes": 1 << 16,
            **client,
            "group.id": "cdcflow.beginnings",  # asked for by the client; nothing is committed, and nobody joins
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "error_cb": noted,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in partitions])
        until = time.monotonic() + _LIMIT_SECONDS
        while len(found) < len(partitions):
            if time.monotonic() > until:
                told = noted.told(at=at, reading=True)
                raise told or SourceUnavailable(
                    "topics that were made anew cannot be read now", at=at, why=noted.words()
                )
            for message in consumer.consume(500, timeout=0.1):
                _take(message, found, at)
    except KafkaException as error:
        raise translate(error, at=at, reading=True) from None
    finally:
        consumer.close()
    return found


def _take(message: Message, found: dict[tuple[str, int], bool | None], at: str) -> None:
    topic, number = message.topic(), message.partition()
    if topic is None or number is None or (topic, number) in found:
        return
    error = message.error()
    if error is None:
        headers: Any = message.headers() or []
        found[topic, number] = dict(headers).get(OP) == _TRUNCATE
    elif error.code() == KafkaError._PARTITION_EOF:
        found[topic, number] = None
    elif not passes(error):
        raise translate(error, at=at, topic=topic, reading=True)
