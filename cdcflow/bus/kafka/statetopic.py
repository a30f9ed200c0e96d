"""The compacted topic in which a publisher keeps its state: one partition, a JSON record for each key.

Keys: `lease`, `source`, `position`; `loader/<number>`; `table/<id>`, `wish/<id>`; `chunk/<id>/<number>`;
`shape/<id>/<version>`; `topic/<name>`, the partitions that it had when it was last written to, and the id of the topic;
`home/<id>`, the topic that holds a table's events, by name and id: what a table had in one of the same name that was
deleted is not in the one that is there. Everything but wishes is written in transactions, by producers that a new lease
shuts out.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from cdcflow.bus.kafka.errors import UNKNOWN_TOPIC, translate
from cdcflow.bus.kafka.topics import Topics
from cdcflow.bus.kafka.waiting import Admin, Noted
from cdcflow.errors import DecodeError, TargetUnavailable
from cdcflow.model import shape
from cdcflow.model.copy import Chunk, DoneChunk, TableRecord, TableState
from cdcflow.model.schema import TableName

LEASE: Final = "lease"
SOURCE: Final = "source"
POSITION: Final = "position"

# The log is compacted in whole segments behind the newest, so small ones keep it short: it is read at every start.
SETTINGS: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.2",
    "max.message.bytes": str(16 * 1024 * 1024),
}
MESSAGE_BYTES: Final = 64 * 1024 * 1024

_READ_SECONDS: Final = 30.0

Record = dict[str, Any]


def topic_of(pipeline: str) -> str:
    """Return the name of a pipeline's state topic."""
    return f"{pipeline}.state"


def table_key(table_id: int) -> str:
    return f"table/{table_id}"


def wish_key(table_id: int) -> str:
    return f"wish/{table_id}"


def chunk_key(table_id: int, number: int) -> str:
    return f"chunk/{table_id}/{number}"


def shape_key(table_id: int, version: int) -> str:
    return f"shape/{table_id}/{version}"


def topic_key(topic: str) -> str:
    return f"topic/{topic}"


def home_key(table_id: int) -> str:
    return f"home/{table_id}"


def loader_key(number: int) -> str:
    return f"loader/{number}"


def value_of(record: Record) -> bytes:
    """Return a record as it is in the topic."""
    return shape.text(record).encode()


class StateTopic:
    """The newest record of each key, as far as transactions are committed. Any thread."""

    def __init__(self, client: Mapping[str, Any], admin: Admin, at: str, pipeline: str) -> None:
        self.name = topic_of(pipeline)
        self._client, self._at = dict(client), at
        self._topics = Topics(admin, at)
        self._noted = Noted()
        self._consumer: Consumer | None = None
        self._records: dict[str, Record] = {}
        self._next: int | None = None
        self._lock = threading.Lock()

    def read(self, past: int = -1) -> dict[str, Record]:
        """Read what is new, to the end of now, and return all records; {} where there is no such topic.

        With `past`, to behind that offset: a transaction that was committed is seen a moment later.

        Raises:
            TargetUnavailable: the brokers do not answer.
            AccessDenied: we may not read it.
            DecodeError: a record is not ours.
        """
        with self._lock:
            if self._next is None and not self._topics.find([self.name]):
                return {}
            self._to_the_end(past)
            return dict(self._records)

    def forget(self) -> None:
        """Read from the beginning the next time: the topic is gone, or may be another."""
        with self._lock:
            self._records, self._next = {}, None

    def close(self) -> None:
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None
            self._records, self._next = {}, None

    def _to_the_end(self, past: int) -> None:
        consumer = self._opened()
        until = time.monotonic() + _READ_SECONDS
        try:
            while True:
                # Assigned anew each time: the end is told once for each assignment, and nothing is fetched in between.
                start = OFFSET_BEGINNING if self._next is None else self._next
                consumer.assign([TopicPartition(self.name, 0, start)])
                self._to_an_end(consumer, until)
                self._noted.forget()  # a broker let us in
                if self._next is None or self._next > past:
                    return
                if time.monotonic() > until:
                    self._give_up()
        except KafkaException as error:
            raise translate(error, at=self._at, topic=self.name) from None
        finally:
            consumer.unassign()

    def _to_an_end(self, consumer: Consumer, until: float) -> None:
        while True:
            seen = consumer.poll(0.2)
            for message in [seen, *consumer.consume(1000, 0)] if seen is not None else []:
                if self._take(message):
                    return
            if time.monotonic() > until:
                self._give_up()

    def _opened(self) -> Consumer:
        if self._consumer is None:
            settings = {
                "fetch.wait.max.ms": 10,
                "fetch.error.backoff.ms": 50,
                "queued.max.messages.kbytes": 4096,
                **self._client,
                # Asked for by librdkafka; nothing is committed to it and nobody joins it.
                "group.id": f"cdcflow.{self.name}",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "error_cb": self._noted,
            }
            try:
                self._consumer = Consumer(settings)
            except KafkaException as error:
                raise translate(error, at=self._at) from None
        return self._consumer

    def _take(self, message: Message) -> bool:
        """Take one message or event; return whether it is the end."""
        error = message.error()
        if error is None:
            key = (message.key() or b"").decode()
            value = message.value()
            if value is None:
                self._records.pop(key, None)
            else:
                self._records[key] = self._decoded(value, message)
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            self._next = message.offset()
            return True
        if error.code() in UNKNOWN_TOPIC:
            self._records, self._next = {}, None
            return True
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # it was made anew, and is shorter
            self._records, self._next = {}, None
            self._opened().assign([TopicPartition(self.name, 0, OFFSET_BEGINNING)])
            return False
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise translate(error, at=self._at, topic=self.name)
        return False  # of the group, which we do not need, or temporary

    def _decoded(self, value: bytes, message: Message) -> Record:
        try:
            found = json.loads(value)
            if isinstance(found, dict):
                return found
        except ValueError:
            pass
        raise DecodeError(
            "the pipeline's state cannot be read",
            at=f"{self._at}, topic {self.name}, offset {message.offset()}",
            why="the record is not one of ours",
            do=f"keep other programs from writing to {self.name}",
        )

    def _give_up(self) -> None:
        told = self._noted.told(at=self._at)
        if told is not None:
            raise told
        raise TargetUnavailable("the pipeline's state cannot be read now", at=self._at, why=self._noted.words())


# -- records


def position_record(position: str, epoch: int) -> Record:
    """Return the record of how far the published messages go."""
    return {"position": position, "epoch": epoch, "at": datetime.now(UTC).isoformat()}


def table_record(record: TableRecord) -> Record:
    """Return what is kept of a table."""
    return {
        "source": [record.source.schema, record.source.table],
        "target": [record.target.schema, record.target.table],
        "state": record.state.value,
        "copied_from": record.copied_from,
        "copied_upto": record.copied_upto,
        "stamp": record.stamp,
        "shape": record.shape,
        "rows": record.rows,
        "reason": record.reason,
        "hint": record.hint,
    }


def table_of(table_id: int, kept: Record) -> TableRecord:
    """Return the table that `table_record` was given."""
    names = ("copied_from", "copied_upto", "stamp", "shape", "rows", "reason", "hint")
    source, target = TableName(*kept["source"]), TableName(*kept["target"])
    return TableRecord(table_id, source, target, TableState(kept["state"]), **{name: kept[name] for name in names})


def chunk_record(done: DoneChunk) -> Record:
    """Return what is kept of a finished chunk."""
    chunk = done.chunk
    return {
        "low": chunk.low,
        "high": chunk.high,
        "changed_since": chunk.changed_since,
        "position": done.position,
        "token": done.token,
        "rows": done.rows,
        "bytes": done.bytes,
    }


def chunk_of(table_id: int, number: int, kept: Record) -> DoneChunk:
    """Return the chunk that `chunk_record` was given."""
    chunk = Chunk(table_id, number, kept["low"], kept["high"], kept["changed_since"])
    return DoneChunk(chunk, kept["position"], kept["token"], kept["rows"], kept["bytes"])


def numbered(records: Mapping[str, Record], kind: str) -> list[tuple[tuple[int, ...], Record]]:
    """Return the records of a kind (`table`, `chunk`, ...) with the numbers in their keys, in order of these."""
    found = []
    for key, record in records.items():
        first, *rest = key.split("/")
        if first == kind:
            found.append((tuple(int(number) for number in rest), record))
    return sorted(found, key=lambda each: each[0])
