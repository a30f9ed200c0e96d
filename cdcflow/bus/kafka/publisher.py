"""Rows to messages in the topics of their tables, inside the open transaction of a session."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from confluent_kafka import KafkaException

from cdcflow.bus.formats import (
    MEETING,
    OP,
    POSITION,
    SCHEMA,
    TXID,
    Format,
    Header,
    Messages,
    PerStamp,
    Stamp,
    Stamps,
    Writer,
)
from cdcflow.bus.kafka.catalog import Catalog, remade
from cdcflow.bus.kafka.session import Session
from cdcflow.bus.kafka.statetopic import Record, StateTopic, home_key, numbered, table_key, topic_key, value_of
from cdcflow.bus.kafka.topics import Topic
from cdcflow.model import shape
from cdcflow.model.change import Rows
from cdcflow.model.copy import TableState
from cdcflow.model.frame import RowBatch
from cdcflow.model.route import Route
from cdcflow.model.shape import text
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# So much of a frame becomes messages at once, which are two or three times as large.
_PIECE_ROWS: Final = 4096
_PIECE_BYTES: Final = 4 * 1024 * 1024

# The op headers; a tombstone has its delete's.
_OPS: Final[dict[int, Header]] = {ord(op): (OP, op.encode()) for op in "cudrt"}

# Where the position is not known yet.
_NOWHERE: Final[Header] = (POSITION, b"")


@dataclass(slots=True)
class Lane:
    """How rows of one table in one shape are published.

    told: its shape was written, by this session, in a transaction that is committed or still open.
    """

    topic: str
    partitions: int
    fixed: int | None  # the partition of all rows, None where the key says it
    route: Route
    writer: Writer
    schema: Header
    told: bool = False


@dataclass(slots=True)
class _Turn:
    """The messages of one frame on their way, row by row."""

    lane: Lane
    messages: Messages
    stamps: Stamps
    partitions: list[int]
    rows: list[int] = field(default_factory=list)  # the row of each message
    at: int = 0


class Publisher:
    """Publishes through one session. One thread.

    `careful`: the delivery of every message is watched by itself, so that a refusal can be told with its table and key.
    `state`: where it is on record which topics were written to. A loader needs none, for `create` comes before it.
    """

    def __init__(self, session: Session, catalog: Catalog, made: Format, state: StateTopic | None = None) -> None:
        self._session, self._catalog, self._format, self._state = session, catalog, made, state
        self._lanes: dict[tuple[int, int, tuple[str, ...]], tuple[Route, Lane]] = {}
        self._spread: dict[str, tuple[str, int]] = {}  # by name, the topics that are or will be on record
        self._homes: dict[int, str] = {}  # by table, the id of the topic that is or will be on record
        self._kept: dict[str, Record] | None = None  # what was on record when it was read
        self._prefixes = PerStamp(_prefix)
        self.careful = False

    def lane(self, route: Route, names: tuple[str, ...] | None = None) -> Lane:
        """Return how rows of this route with these columns go. Registers schemas and looks at topics when new.

        Raises:
            SchemaStop: the registry refuses the schema.
            OperatorError: the topic is gone.
        """
        names = names if names is not None else tuple(column.name for column, _ in route.columns)
        key = (route.source.id, route.source.version, names)
        known = self._lanes.get(key)
        if known is not None and (known[0] is route or known[0] == route):
            return known[1]
        topic = self._catalog.topic_of(route)
        partitions = self._catalog.seen(topic).partitions
        writer = self._format.writer(topic, route, names)
        fixed = None
        if self._catalog.order == "transaction":
            fixed = 0
        elif self._catalog.order == "table":
            fixed = zlib.crc32(str(route.target).encode()) % partitions
        lane = Lane(topic, partitions, fixed, route, writer, (SCHEMA, writer.fingerprint.encode()))
        self._lanes[key] = (route, lane)
        return lane

    def route_of(self, topic: str) -> Route | None:
        """Return the route of the rows in a topic, None where it has none of ours, or several tables'."""
        found = [lane.route for _, lane in self._lanes.values() if lane.topic == topic]
        same = {route.target for route in found}
        return found[-1] if len(same) == 1 else None

    def forget(self) -> None:
        """The open transaction is void: shapes that were written in it were not."""
        self._lanes.clear()
        self._spread.clear()
        self._homes.clear()
        self._kept = None

    def rows(self, step: Rows, stamps: dict[int, Stamps]) -> None:
        """Publish a run of rows; within a topic, in the order of the source.

        Raises:
            RowRejected: a message is too large, or a value cannot be written.
            CdcflowError: as `errors.translate`.
        """
        lanes = {number: self.lane(frame.route, frame.names) for number, frame in step.frames.items()}
        for lane in lanes.values():
            self.tell(lane)
        if len({lane.topic for lane in lanes.values()}) == len(lanes):
            # No order is between topics: one frame behind the other does the same, and fewer messages exist at once.
            for number, frame in step.frames.items():
                self._pass(lanes[number], frame, stamps[number])
            return
        turns = {n: self._turn(lanes[n], frame, stamps[n]) for n, frame in step.frames.items()}
        starts = {n: memoryview(turn.messages.starts).cast("I").tolist() for n, turn in turns.items()}
        row = dict.fromkeys(turns, 0)
        for number in memoryview(step.order).cast("I"):
            row[number] += 1
            self._send(turns[number], starts[number][row[number]])

    def frame(self, frame: RowBatch, stamps: Stamps) -> None:
        """Publish one frame. Raises as `rows`."""
        lane = self.lane(frame.route, frame.names)
        self.tell(lane)
        self._pass(lane, frame, stamps)

    def _pass(self, lane: Lane, frame: RowBatch, stamps: Stamps) -> None:
        for piece, stamped in _pieces(frame, stamps):
            turn = self._turn(lane, piece, stamped)
            self._send(turn, len(turn.messages.keys))

    def truncate(self, route: Route, stamp: Stamp) -> None:
        """Tell every partition of the table's topic that the table was emptied."""
        lane = self.lane(route)
        self.tell(lane)
        if self._catalog.signals == "none":
            return
        key, value = lane.writer.truncate(stamp) if self._catalog.signals == "events" else (None, None)
        headers = [
            _OPS[ord("t")],
            (POSITION, f"{stamp.position}/0".encode()),
            (TXID, stamp.number.encode()),
            lane.schema,
        ]
        self._everywhere(lane, key, value, headers)

    def part(self, lane: Lane) -> None:
        """Keep what comes from overtaking what came, in whichever partitions: readers wait at a mark in each.

        The mark has no value, so that readers who do not know it take it for a tombstone.
        """
        if lane.partitions > 1 and self._catalog.order != "transaction" and self._catalog.signals != "none":
            self._everywhere(lane, None, None, [])

    def _everywhere(self, lane: Lane, key: bytes | None, value: bytes | None, headers: list[Header]) -> None:
        meeting = uuid4().hex
        if key is None and self._catalog.is_compacted(lane.topic):
            # Such a topic takes no message without a key, and keeps one of each: no two of these may have the same, or
            # who reads one in a partition would wait for what is gone from another.
            key = text({MEETING: meeting}).encode()
        headers = [*headers, (MEETING, f"{meeting}/{lane.partitions}".encode())]
        # Two of these, of two tables in one topic, have to stand in the same order in each partition, or readers would
        # wait for one another for ever. They do where the first is written before the second is sent.
        with self._catalog.alone:
            for partition in range(lane.partitions):
                self._session.send(lane.topic, value, key, partition, headers)
            self._session.flush()

    def tell(self, lane: Lane) -> None:
        """Write the lane's shape, once, before the first row of it."""
        if lane.told:
            return
        self._settle(lane)
        table = lane.writer.shape
        key = f"{table.name}#{lane.writer.fingerprint}"
        self._session.send(self._catalog.shapes, text(shape.to_json(table)).encode(), key.encode(), 0)
        lane.told = True

    def is_elsewhere(self, lane: Lane) -> bool:
        """Whether the table's events are on record in another topic of the same name, and so in none any more."""
        self._kept = None  # others of this pipeline may have written since
        return self._is_elsewhere(lane)

    def _is_elsewhere(self, lane: Lane) -> bool:
        home = self._recorded(home_key(lane.route.source.id))
        if home is None or home["topic"] != lane.topic:
            return False
        now = self._catalog.seen(lane.topic).id
        return "" not in (home["id"], now) and home["id"] != now

    def void(self, lane: Lane) -> None:
        """Note that what was published of the table is void, and where it is at home now. A truncate follows."""
        self._kept = None
        topic = self._catalog.seen(lane.topic)
        self._settle_in(lane, topic)
        self._warn_of_others(lane.route.source.id, topic)

    def _warn_of_others(self, table_id: int, topic: Topic) -> None:
        """Say which other tables were in the topic that had the name before: they have to be published again, too."""
        assert self._state is not None
        records = self._state.read()
        left = [
            ".".join(records[table_key(number)]["source"])
            for (number,), home in numbered(records, "home")
            if number != table_id
            and home["topic"] == topic.name
            and home["id"] not in ("", topic.id)
            and records.get(table_key(number), {}).get("state") not in (None, TableState.PENDING.value)
        ]
        if left:
            do = "; ".join(f"cdcflow resync {table}" for table in left)
            log.error("tables lack what the topic held that was deleted", topic=topic.name, tables=len(left), do=do)

    def _settle(self, lane: Lane) -> None:
        """Mind that the topic may be another one, or have more partitions than when it was last written to.

        Raises:
            OperatorError: it is another one, and lacks what was written of the table before.
        """
        topic = self._catalog.seen(lane.topic)
        if self._state is None or (
            self._spread.get(lane.topic) == (topic.id, topic.partitions)
            and self._homes.get(lane.route.source.id) == topic.id
        ):
            return
        if self._homes.get(lane.route.source.id, topic.id) != topic.id:
            self._kept = None  # it was told elsewhere that the table is in another one from now on
        if self._is_elsewhere(lane):
            raise remade(lane.topic, self._catalog.at, str(lane.route.source.name))
        self._settle_in(lane, topic)

    def _settle_in(self, lane: Lane, topic: Topic) -> None:
        assert self._state is not None
        kept = self._recorded(topic_key(topic.name)) or {"partitions": 0}
        same = "" in (kept.get("id", ""), topic.id) or kept["id"] == topic.id
        now = {"partitions": topic.partitions, "id": topic.id}
        if self._spread.get(topic.name) != (topic.id, topic.partitions) and kept != now:
            self._session.send(self._state.name, value_of(now), topic_key(topic.name).encode(), 0)
            if same and 0 < kept["partitions"] < topic.partitions:
                counts = {"now": topic.partitions, "before": kept["partitions"]}
                log.info("a topic has more partitions, used from here on", topic=topic.name, **counts)
                self.part(lane)
        self._spread[topic.name] = (topic.id, topic.partitions)
        table, home = lane.route.source.id, {"topic": topic.name, "id": topic.id}
        if self._homes.get(table) != topic.id and self._recorded(home_key(table)) != home:
            self._session.send(self._state.name, value_of(home), home_key(table).encode(), 0)
        self._homes[table] = topic.id

    def _recorded(self, key: str) -> Record | None:
        """Return what is on record of topics and homes."""
        if self._kept is None:
            assert self._state is not None
            kinds = (topic_key(""), "home/")
            self._kept = {key: record for key, record in self._state.read().items() if key.startswith(kinds)}
        return self._kept.get(key)

    def _turn(self, lane: Lane, frame: RowBatch, stamps: Stamps) -> _Turn:
        messages = lane.writer.write(frame, stamps)
        count = len(messages.keys)
        if lane.fixed is not None:
            partitions = [lane.fixed] * count
        elif lane.partitions == 1:
            partitions = [0] * count
        else:
            modulus = lane.partitions
            partitions = [each % modulus for each in memoryview(messages.hashes).cast("I")]
        return _Turn(lane, messages, stamps, partitions, _rows_of(messages, len(frame)))

    def _send(self, turn: _Turn, upto: int) -> None:
        """Produce the turn's messages up to that one."""
        lane, messages, stamps = turn.lane, turn.messages, turn.stamps
        topic, schema = lane.topic, lane.schema
        keys, values, ops, partitions, rows = messages.keys, messages.values, messages.ops, turn.partitions, turn.rows
        extras = messages.extras
        of_row = memoryview(stamps.of_row).cast("I")
        order = memoryview(stamps.order).cast("I")
        prefixes = self._prefixes.of(stamps.stamps)
        produce: Callable[..., None] = self._session.producer.produce
        # By position, for names cost: topic, value, key, partition, callback, its alias, timestamp, headers.
        watched = self._session.watched if self.careful else None
        last, of_op, prefix = -1, -1, b""
        headers: list[Header] = []
        for at in range(turn.at, upto):
            row, op = rows[at], ops[at]
            if of_row[row] != last or op != of_op:
                last, of_op = of_row[row], op
                prefix, txid = prefixes[last]
                # One list for a run of rows: `produce` copies it, and only the row's number is another.
                headers = [_OPS[op], _NOWHERE, txid, schema]
            if prefix:
                headers[1] = (POSITION, b"%b%d" % (prefix, order[row]))
            whole = headers + extras[at] if extras and at in extras else headers
            while True:
                try:
                    produce(topic, values[at], keys[at], partitions[at], watched, None, 0, whole)
                    break
                except BufferError:
                    self._session.stand_aside()
                except KafkaException as error:
                    raise self._catalog.rejected(self._session.unsent(error, topic), lane.route, keys[at]) from None
        turn.at = upto


def _prefix(stamp: Stamp) -> tuple[bytes, Header]:
    """Return what the positions of a transaction's rows begin with, b'' where unknown, and its number's header."""
    return stamp.position.encode() + b"/" if stamp.position else b"", (TXID, stamp.number.encode())


def _pieces(frame: RowBatch, stamps: Stamps) -> Iterator[tuple[RowBatch, Stamps]]:
    """Cut a frame, so that few of its messages exist at once."""
    count = len(frame)
    rows = max(1, min(_PIECE_ROWS, count * _PIECE_BYTES // max(1, frame.nbytes)))
    if count <= rows:
        yield frame, stamps
        return
    after_sizes, before_sizes = memoryview(frame.after_sizes).cast("i"), memoryview(frame.before_sizes).cast("i")
    after_at = before_at = 0
    for first in range(0, count, rows):
        last = min(count, first + rows)
        cut = slice(4 * first, 4 * last)
        after_end = after_at + sum(after_sizes[first:last])
        before_end = before_at + sum(before_sizes[first:last])
        piece = RowBatch(
            frame.route,
            frame.names,
            frame.ops[first:last],
            frame.after[after_at:after_end],
            frame.after_sizes[cut],
            frame.before[before_at:before_end],
            frame.before_sizes[cut],
            frame.idempotent,
        )
        yield piece, Stamps(stamps.of_row[cut], stamps.order[cut], stamps.table_order[cut], stamps.stamps)
        after_at, before_at = after_end, before_end


def _rows_of(messages: Messages, rows: int) -> list[int]:
    """Return the row of each message."""
    if messages.starts == array("I", range(rows + 1)).tobytes():
        return list(range(rows))
    starts = memoryview(messages.starts).cast("I")
    found: list[int] = []
    for row in range(rows):
        found.extend([row] * (starts[row + 1] - starts[row]))
    return found
