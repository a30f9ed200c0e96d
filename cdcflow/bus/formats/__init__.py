"""What a row is as a message, and back: the formats (JSON, Avro, Protobuf) in the envelopes that readers expect.

Nothing here knows which broker carries the messages, and nothing does I/O but the schema registry's client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from cdcflow.model.frame import RowBatch
from cdcflow.model.route import Route
from cdcflow.model.schema import Table, TableName

# Header names; their values are UTF-8 text.
OP: Final = "cdcflow.op"  # c u d r t
POSITION: Final = "cdcflow.position"  # <commit position>/<number of the row in its transaction, from 1>
TXID: Final = "cdcflow.txid"
SCHEMA: Final = "cdcflow.schema"  # fingerprint of the table's shape
UNCHANGED: Final = "cdcflow.unchanged"  # JSON list of columns that were not logged
EXACT: Final = "cdcflow.exact"  # JSON object: column -> canonical text that the format cannot say
MEETING: Final = "cdcflow.meeting"  # <id>/<number of partitions>: wait here for the table's other partitions

# What stands, as Debezium writes it, for a value that the source did not log.
UNAVAILABLE: Final = "__debezium_unavailable_value"

Header = tuple[str, bytes]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What messages say of one transaction of the source.

    position: its commit position as text; '' inside one that is so large that it comes in pieces.
    number: the transaction's own id as text, '' where there is none.
    commit_us: microseconds since 1970 by the source's clock, 0 where not known.
    snapshot: the rows were copied, not streamed: op `r`.
    """

    position: str = ""
    number: str = ""
    commit_us: int = 0
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Stamps:
    """Which transaction each row of a frame belongs to.

    of_row: native uint32 a row, an index into `stamps`. order: native uint32 a row: its number within its
    transaction over all tables, from 1. table_order: the same within its table.
    """

    of_row: bytes
    order: bytes
    table_order: bytes
    stamps: Sequence[Stamp]


class PerStamp(Generic[_T]):
    """What is made of each transaction's stamp, made once for all frames that have the same `Stamps.stamps`."""

    __slots__ = ("_last", "_made", "_make")

    def __init__(self, make: Callable[[Stamp], _T]) -> None:
        self._make = make
        self._last: Sequence[Stamp] = ()
        self._made: list[_T] = []

    def of(self, stamps: Sequence[Stamp]) -> list[_T]:
        """Return what was made of each."""
        if stamps is not self._last:
            self._last, self._made = stamps, [self._make(stamp) for stamp in stamps]
        return self._made


@dataclass(slots=True)
class Messages:
    """The messages of one frame, in the order of its rows.

    starts: native uint32, one more than rows: row i has the messages `starts[i]` to `starts[i + 1]`. One for most; a
        delete has a tombstone behind it, an update of the key is a delete, its tombstone and a create; none where
        the rules ignore the row (`on_delete: ignore`, `mode: append`).
    keys, values: one a message; no key for a table without one; value None is a tombstone.
    hashes: native uint32 a message: the murmur2 of the key as Kafka's Java client computes it, made positive; 0
        without a key.
    ops: one byte a message, `c u d r`; a tombstone has its delete's.
    extras: for the few messages that need them, further headers (UNCHANGED, EXACT, and what an envelope adds).
    """

    starts: bytes
    keys: list[bytes | None]
    values: list[bytes | None]
    hashes: bytes
    ops: bytes
    extras: dict[int, list[Header]] = field(default_factory=dict)


class Writer(Protocol):
    """Writes rows of one table in one shape, for one topic. One thread."""

    shape: Table  # what the messages hold: names as in the target, only the columns that go out
    fingerprint: str  # of `shape`: the value of the SCHEMA header

    def write(self, frame: RowBatch, stamps: Stamps) -> Messages:
        """Return the frame's messages. The frame has the route and names that the writer was made for.

        Raises:
            RowRejected: a value that the format cannot hold (names table and key columns).
        """

    def truncate(self, stamp: Stamp) -> tuple[bytes | None, bytes]:
        """Return key and value of the message that says that the table was emptied."""


class Reader(Protocol):
    """Reads messages of one table in one writer's shape. One thread."""

    def read(
        self, key: bytes | None, value: bytes | None, headers: dict[str, bytes]
    ) -> tuple[str, bytes | None, bytes | None]:
        """Return (op, before, after): op is `c u d r t`, or '' for a message that says nothing (a tombstone behind a
        delete); before and after are row images (`model.frame`) with one cell for each of the table's columns, None
        where the message has none. `headers` holds only those whose names begin with `cdcflow.` or `ce_`.

        A delete without a before-image gets one from the message's key: the key's cells, all others absent.

        Raises:
            DecodeError: the message cannot be read; says what and where in it, never a value.
        """


class Format(Protocol):
    """One format in one envelope, as the configuration asks for it."""

    def ready(self) -> None:
        """Return when the registry answers, where the format has one. Asked once, when a run begins: a registry that is
        not there then is more likely a wrong address than an outage.

        Raises:
            TargetUnavailable, SourceUnavailable: it cannot be asked now.
            AccessDenied: it does not let us in.
            ConfigError: what answers is no registry, or its certificate is not trusted.
        """

    def writer(self, topic: str, route: Route, names: tuple[str, ...]) -> Writer:
        """Return the writer for frames of this route with these columns. Registers schemas where the format has a
        registry.

        Raises:
            SchemaStop: the registry refuses the schema as incompatible, and the policy is to stop.
            TargetUnavailable: the registry cannot be asked now.
        """

    def mark(self, value: bytes) -> bytes | None:
        """Return what tells the writer's schema of a message without the SCHEMA header, quickly and without reading
        the message; None where only reading it can tell."""

    def begin(self, tables: Sequence[Table]) -> None:
        """Take what is known of tables by now, before the first message is described: where messages have no schemas,
        a NULL or a whole number says nothing against it."""

    def described(self, topic: str, key: bytes | None, value: bytes) -> Table:
        """Return the table that a message without the SCHEMA header says it belongs to, as exactly as the message
        and its schemas tell (Debezium's own topics).

        Raises:
            DecodeError: it does not say.
            SourceUnavailable: the registry cannot be asked now.
        """

    def reader(self, table: Table, mark: bytes | None) -> Reader:
        """Return the reader for messages of that table, written under the schema that `mark` tells."""


def named_by(topic: str) -> TableName:
    """Return the table that a topic's name tells of, where its messages do not: by the last two parts."""
    *_, schema, table = ["public", *topic.split(".")]
    return TableName(schema, table)
