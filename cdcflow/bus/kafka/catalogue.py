"""The topics of shapes, read to their end: what the tables on the brokers look like."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from cdcflow.bus.kafka.errors import passes, translate
from cdcflow.bus.kafka.partitions import Cluster
from cdcflow.bus.shapes import Shapes
from cdcflow.errors import SourceUnavailable
from cdcflow.model.schema import Table

# How long a topic of shapes may take to be read: it is compacted, and holds a record a shape.
_LIMIT_SECONDS: Final = 60.0
# A shape that was looked for in vain is not looked for again before this time is over.
_VAIN_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.02
# So long a decided transaction may take to become visible; longer, and the group would miss us. It is tried again then.
_OPEN_SECONDS: Final = 5.0


class TopicsOfShapes:
    """A `bus.shapes.Catalogue` over topics. Any thread.

    `topics()` names them; it is asked again with each reading, as a publisher may begin later. Shapes are in the order
    of their offsets within a topic, and of their timestamps over several.
    """

    def __init__(self, client: dict[str, Any], cluster: Cluster, topics: Callable[[], Sequence[str]], at: str) -> None:
        self._client, self._cluster, self._topics, self._at = client, cluster, topics, at
        self._shapes = Shapes()
        self._next: dict[tuple[str, int], int] = {}
        self._ids: dict[str, str] = {}  # of the topics, which tell one that was made anew
        self._versions: dict[tuple[str, int], int] = {}  # the last of each partition
        self._lock = threading.Lock()
        self._vain: dict[str, float] = {}

    def find(self, fingerprint: str) -> Table | None:
        """As `Catalogue.find`."""
        found = self._shapes.find(fingerprint)
        if found is None and time.monotonic() - self._vain.get(fingerprint, -_VAIN_SECONDS) >= _VAIN_SECONDS:
            found = self._awaited(fingerprint)
            if found is None:
                self._vain[fingerprint] = time.monotonic()
        return found

    def _awaited(self, fingerprint: str) -> Table | None:
        """Find a shape that may have been written in the same transaction as the rows that name it.

        A transaction becomes visible in one partition after the other, so the rows may be there before the shape is:
        then the transaction is still open in the topic of shapes, and soon is not.

        Raises:
            SourceUnavailable: it stays open.
        """
        until = time.monotonic() + _OPEN_SECONDS
        while True:
            ends = self._refreshed()
            found = self._shapes.find(fingerprint)
            if found is not None or self._cluster.ends(ends, committed=False) == ends:
                return found
            if time.monotonic() > until:
                raise SourceUnavailable(
                    "a transaction in the topic of shapes does not end",
                    at=self._at,
                    why=f"the shape {fingerprint} may be in it",
                )
            time.sleep(_PAUSE_SECONDS)

    def newest(self) -> list[Table]:
        """As `Catalogue.newest`; reads the topics to their end."""
        self.refresh()
        return self._shapes.newest()

    def between(self, old: Table, new: Table) -> list[Table]:
        """As `Catalogue.between`."""
        return self._shapes.between(old, new)

    def placed(self, table: Table) -> Table:
        """As `Catalogue.placed`."""
        return self._shapes.placed(table)

    def refresh(self) -> None:
        """As `Catalogue.refresh`.

        Raises:
            SourceUnavailable: the brokers are away.
            DecodeError: a record is none of ours.
        """
        self._refreshed()

    def _refreshed(self) -> dict[tuple[str, int], int]:
        """Read the topics to their end, before open transactions; return where that is."""
        with self._lock:
            counts = self._cluster.partitions()
            wanted = [(topic, number) for topic in self._topics() for number in range(counts.get(topic, 0))]
            ends = self._cluster.ends(wanted)
            ids = self._cluster.ids(sorted({topic for topic, _ in wanted}))
            anew = {topic for topic, number in ids.items() if self._ids.get(topic, number) != number}
            self._next = {one: offset for one, offset in self._next.items() if one[0] not in anew}
            self._ids |= ids
            left = {one: end for one, end in ends.items() if end > self._next.get(one, 0)}
            if left:
                self._read(left)
            return ends

    def _read(self, ends: dict[tuple[str, int], int]) -> None:
        consumer = Consumer(
            {
                **self._client,
                "group.id": "cdcflow.shapes",  # asked for by the client; nothing is committed, and nobody joins
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,
            }
        )
        try:
            consumer.assign(
                [TopicPartition(topic, number, self._next.get((topic, number), 0)) for topic, number in ends]
            )
            until = time.monotonic() + _LIMIT_SECONDS
            while ends:
                if time.monotonic() > until:
                    raise SourceUnavailable("the topics of shapes could not be read to their end", at=self._at)
                for message in consumer.consume(500, timeout=0.05):
                    self._take(message, ends)
        except KafkaException as error:
            raise translate(error, at=self._at, reading=True) from None
        finally:
            consumer.close()

    def _take(self, message: Any, ends: dict[tuple[str, int], int]) -> None:
        one = (message.topic(), message.partition())
        error = message.error()
        offset = message.offset()
        if error is None:
            version = self._versions[one] = max(self._versions.get(one, 0) + 1, message.timestamp()[1])
            self._shapes.put(message.key(), message.value(), version, at=f"topic {one[0]}, offset {offset}")
            self._next[one] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            self._next[one] = max(self._next.get(one, 0), offset)
        elif not passes(error):
            raise translate(error, at=self._at, topic=one[0] or "", reading=True)
        if one in ends and self._next.get(one, 0) >= ends[one]:
            del ends[one]
