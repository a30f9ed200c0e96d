"""Rows to the messages of one exchange: a writer for each table and shape, and whose transaction each row is of."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Any

from cdcflow.bus.formats import MEETING, SCHEMA, Format, Stamp, Stamps, Writer
from cdcflow.bus.rabbitmq.doubts import MARKED, OF_NO_TRANSACTION, TRUNCATION
from cdcflow.bus.rabbitmq.layout import Layout, routing_key
from cdcflow.bus.rabbitmq.marks import Emptied, OpenMark
from cdcflow.bus.rabbitmq.publisher import Publisher
from cdcflow.codecs.amqpframes_cy import entry
from cdcflow.codecs.amqpframes_cy import short as short_string
from cdcflow.codecs.busorder_cy import Passed, spread
from cdcflow.model import shape
from cdcflow.model.change import ChangeBatch, Rows
from cdcflow.model.frame import RowBatch
from cdcflow.model.route import Route
from cdcflow.ops.faults import moment

Part = tuple[Any, ...]
# (position, transaction, microseconds since 1970), as `codecs.amqppack_cy.pack` has them.
Wired = tuple[bytes, bytes, int]

_MARK = 4
_NO_ROW = bytes(4)


class Lane:
    """How rows of one table in one shape are published."""

    def __init__(self, route: Route, writer: Writer, keys: list[str], content_type: bytes) -> None:
        self.route, self.writer = route, writer
        self.keys = keys
        self.fingerprint = writer.fingerprint.encode()
        self.content_type = content_type.decode()
        self.fixed = (short_string(content_type), entry(SCHEMA, self.fingerprint))

    def part(self, frame: RowBatch, stamps: Stamps) -> Part:
        """Return the frame's messages as `Publisher.publish` takes them."""
        made = self.writer.write(frame, stamps)
        columns = (stamps.of_row, stamps.order, stamps.table_order)
        return (
            made.starts,
            made.keys,
            made.values,
            made.hashes,
            made.ops,
            made.extras,
            *columns,
            self.keys,
            self.fixed,
        )


def topic_of(layout: Layout, route: Route) -> str:
    """Return what stands for a topic where a table's schemas are named."""
    return f"{layout.exchange}.{route.target}"


class Lanes:
    """The lanes of one thread."""

    def __init__(self, publisher: Publisher, made: Format, content_type: bytes) -> None:
        self._publisher, self._format, self._content_type = publisher, made, content_type
        self._lanes: dict[tuple[int, tuple[str, ...]], Lane] = {}

    def lane(self, route: Route, names: tuple[str, ...] | None = None) -> Lane:
        """Return how rows of this route with these columns go; a shape that is new is written down first.

        Raises:
            SchemaStop: the registry refuses the schema.
            ConfigError: the table's name is too long for a routing key.
            TargetUnavailable: broker or registry are away.
        """
        names = names if names is not None else tuple(column.name for column, _ in route.columns)
        known = self._lanes.get((route.source.id, names))
        if known is not None and (known.route is route or known.route == route):
            return known
        layout = self._publisher.layout
        keys = [routing_key(route.target, number) for number in range(layout.partitions)]
        writer = self._format.writer(topic_of(layout, route), route, names)
        lane = Lane(route, writer, keys, self._content_type)
        table = lane.writer.shape
        self._publisher.note(f"{table.name}#{lane.writer.fingerprint}", shape.text(shape.to_json(table)).encode())
        self._lanes[route.source.id, names] = lane
        return lane

    def forget(self, table_id: int) -> None:
        """The table has another shape from here on."""
        self._lanes = {key: lane for key, lane in self._lanes.items() if key[0] != table_id}

    def rows(self, step: Rows, stamps: dict[int, Stamps], wired: list[Wired], generation: int | None = None) -> None:
        """Publish a run of rows in the order of the source. Raises as `lane` and `Publisher.publish`."""
        parts: dict[int, Part] = {}
        prints: dict[int, bytes] = {}
        for number, frame in step.frames.items():
            lane = self.lane(frame.route, frame.names)
            parts[number] = lane.part(frame, stamps[number])
            prints[number] = lane.fingerprint
            self._publisher.note_large(str(lane.route.target), parts[number][1], parts[number][2])
        repeated = self._publisher.repeated
        skip = None
        if generation is None and any(repeated):

            def skip(partition: int, number: int, stamp: int, row: int, _op: int, message: int) -> bool:
                position = wired[stamp][0]
                run = (position, prints[number]) if position else None
                return repeated[partition].is_one(run, (row, message))

        self._publisher.publish(step.order, parts, wired, skip, generation)

    def truncate(self, route: Route, stamp: Stamp, ordinal: int) -> None:
        """Tell every partition that the table was emptied; whoever reads them meets there.

        ordinal: of the truncation of this table within its transaction, from 1; any other number, never the same again,
            where the transaction is not known.
        """
        self._truncate(route, stamp, ordinal, ordinal & 0xFFFFFFFF)

    def clear(self, route: Route, ordinal: int) -> None:
        """As `truncate`, before the table is copied again: it is no part of what is repeated after a crash.

        ordinal: never the same again.
        """
        self._truncate(route, Stamp(), ordinal, OF_NO_TRANSACTION)

    def _truncate(self, route: Route, stamp: Stamp, ordinal: int, row: int) -> None:
        lane = self.lane(route)
        key, value = lane.writer.truncate(stamp)
        self._everywhere(lane, b"t", key, value, stamp, ordinal, row)

    def part(self, route: Route, stamp: Stamp, ordinal: int) -> None:
        """Keep what comes from overtaking what came, in whichever partitions: readers wait at a mark in each.

        The mark has no value. Readers that do not know it see a message without a body. ordinal: as in `truncate`, and
        counted with its truncations.
        """
        if self._publisher.layout.partitions > 1:
            self._everywhere(self.lane(route), MARKED, None, None, stamp, ordinal, ordinal & 0xFFFFFFFF)

    def _everywhere(
        self, lane: Lane, op: bytes, key: bytes | None, value: bytes | None, stamp: Stamp, ordinal: int, row: int
    ) -> None:
        partitions = self._publisher.layout.partitions
        repeated = self._publisher.repeated
        wired = wire_stamp(stamp)
        # The same name when it is published again: one partition may have it already, and another not.
        name = f"{stamp.position or self._publisher.generation}/{ordinal}/{lane.route.target}"
        then = None
        if stamp.position and op == b"t":
            then = Emptied(key, value, tuple(lane.keys), lane.content_type, lane.writer.fingerprint)
        mark = OpenMark(name, str(lane.route.target), bool(stamp.position), then)
        extras = {0: [(MEETING, mark.header(partitions))]} if partitions > 1 else {}
        run = (wired[0], lane.fingerprint + TRUNCATION) if wired[0] else None
        one = row.to_bytes(4, sys.byteorder)
        # Alone, or those of two tables could stand in another order in each partition.
        with self._publisher.marking(mark) if partitions > 1 else self._publisher.alone():
            for number in range(partitions):
                if row != OF_NO_TRANSACTION and repeated[number].is_one(run, (ordinal, 0)):
                    continue
                columns = (_NO_ROW, _NO_ROW, one)
                starts, hashes = array("I", (0, 1)).tobytes(), number.to_bytes(4, sys.byteorder)
                part = (starts, [key], [value], hashes, op, extras, *columns, lane.keys, lane.fixed)
                self._publisher.publish(_NO_ROW, {0: part}, [wired])
                moment("mark sent")


class Numbering:
    """Numbers the rows of a stream within their transactions, over batches and pieces. One thread."""

    def __init__(self) -> None:
        self._passed = Passed()
        self._marks = b""
        self.stamps: list[Stamp] = []
        self.wired: list[Wired] = []

    def batch(self, batch: ChangeBatch) -> None:
        """A batch begins. Its last stamp is that of a transaction whose end is not known yet."""
        self._passed.batch()
        self._marks = batch.marks if batch.complete else b""
        marks = memoryview(self._marks).cast("q").tolist()
        self.stamps = [
            Stamp(str(batch.end.at(marks[at + 1])), str(marks[at + 3]) if marks[at + 3] else "", marks[at + 2])
            for at in range(0, len(marks), _MARK)
        ]
        self.stamps.append(Stamp(commit_us=int(batch.commit_time * 1_000_000)))
        self.wired = [wire_stamp(stamp) for stamp in self.stamps]

    def spread(self, rows: Rows) -> dict[int, Stamps]:
        """Return the stamps of each frame of a step, by its number."""
        found = spread(rows.order, self._marks, self._passed)
        return {number: Stamps(at[0], at[1], at[2], self.stamps) for number, at in found.items()}

    def here(self) -> Stamp:
        """Return the transaction that the next row belongs to."""
        return self.stamps[min(self._passed.transaction, len(self.stamps) - 1)]

    def reset(self) -> None:
        """Nothing is open: the stream begins anew."""
        self._passed.reset()


def wire_stamp(stamp: Stamp) -> Wired:
    """Return a stamp as messages carry it."""
    return ("" if stamp.snapshot else stamp.position).encode(), stamp.number.encode(), stamp.commit_us


def copied(rows: int) -> Stamps:
    """Return the stamps of copied rows."""
    numbers = array("I", range(1, rows + 1)).tobytes()
    return Stamps(bytes(4 * rows), numbers, numbers, _COPIED)


_COPIED: Sequence[Stamp] = (Stamp(snapshot=True),)
COPIED_WIRED: list[Wired] = [wire_stamp(_COPIED[0])]
