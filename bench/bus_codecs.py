"""How many rows a second each format and envelope of the bus writes and reads, on one core, without a broker.

    python -m bench.bus_codecs [rows]

Seconds are those of the processor. The rows are those of the drain table (`bench.workload`): ten columns, some 230
bytes.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

from cdcflow.bus.config import Encoding
from cdcflow.bus.formats import Stamp, Stamps
from cdcflow.bus.formats.opening import open_format
from cdcflow.bus.registry import Definition, Kind, Registered
from cdcflow.model.frame import RowBatch, image
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName

_NUMERIC = NativeType("numeric(12,2)", oid=1700, modifier=(12 << 16 | 2) + 4)
_TEXT = NativeType("text", oid=25)
COLUMNS = (
    Column("id", NativeType("bigint", oid=20), Logical.INT8, nullable=False),
    Column("quantity", NativeType("integer", oid=23), Logical.INT4, nullable=False),
    Column("name", _TEXT, Logical.TEXT, nullable=False),
    Column("price", _NUMERIC, Logical.DECIMAL, nullable=False),
    Column("currency", NativeType("character(3)", oid=1042, modifier=7), Logical.TEXT, nullable=False),
    Column("note", _TEXT, Logical.TEXT),
    Column("tags", NativeType("text[]", oid=1009, element=_TEXT), Logical.ARRAY, nullable=False),
    Column("detail", NativeType("jsonb", oid=3802), Logical.JSON, nullable=False),
    Column("created_at", NativeType("timestamp with time zone", oid=1184), Logical.TIMESTAMPTZ, nullable=False),
    Column("updated_at", NativeType("timestamp without time zone", oid=1114), Logical.TIMESTAMP, nullable=False),
)
TABLE = Table(TableName("public", "drain"), 16400, COLUMNS, key=("id",), primary_key=("id",))
NAMES = TABLE.column_names
ROUTE = Route(TABLE, TABLE.name, tuple((column, column.name) for column in COLUMNS), ("id",))
FRAME_ROWS = 10_000


def frame(rows: int) -> RowBatch:
    """Return so many inserts of the drain table."""
    images = [
        image(
            [
                b"%d" % n,
                b"%d" % (n % 1000),
                b"product %d" % n,
                b"%d.%02d" % (n % 100000 // 100, n % 100),
                b"EUR",
                None if n % 5 == 0 else b"note of 0123456789abcdef0123456789abcdef",
                b'{red,"tag %d","x,y"}' % (n % 7),
                b'{"sku": %d, "size": %d, "label": "item %d"}' % (n, n % 10, n % 1000),
                b"2024-01-%02d %02d:%02d:%02d+00" % (n % 28 + 1, n % 24, n % 60, n % 60),
                b"2024-01-%02d %02d:%02d:%02d" % (n % 28 + 1, n % 24, n % 60, n % 60),
            ]
        )
        for n in range(1, rows + 1)
    ]
    sizes = array("i", map(len, images)).tobytes()
    return RowBatch(ROUTE, NAMES, b"I" * rows, b"".join(images), sizes, b"", bytes(4 * rows))


def stamped(rows: int) -> Stamps:
    """Return stamps of transactions of a thousand rows each."""
    of_row = array("I", (row // 1000 for row in range(rows))).tobytes()
    order = array("I", (row % 1000 + 1 for row in range(rows))).tobytes()
    stamps = [Stamp(f"0/{n:X}", str(n), 1_700_000_000_000_000 + n) for n in range(rows // 1000 + 1)]
    return Stamps(of_row, order, order, stamps)


class MemoryRegistry:
    """What the formats ask of a schema registry, without one."""

    def __init__(self) -> None:
        self.schemas: list[Definition] = []

    def subject(self, topic: str, part: str, record: str) -> str:
        """Return a subject's name."""
        return f"{topic}-{part}"

    def register(self, subject: str, kind: Kind, text: str) -> Registered:
        """Keep a schema."""
        self.schemas.append(Definition(kind, text))
        return Registered(len(self.schemas), subject)

    def once(self, key: object, ask: Callable[[], Any]) -> Any:
        """Ask."""
        return ask()

    def latest(self, subject: str) -> None:
        """There is none before the first."""

    def definition(self, number: int) -> Definition:
        """Return a schema that was kept."""
        return self.schemas[number - 1]


def encodings() -> list[tuple[str, Encoding]]:
    """Return what is measured, by name."""
    return [
        ("json debezium", Encoding()),
        ("json debezium schemas", Encoding(schemas=True)),
        ("json flat", Encoding(envelope="flat")),
        ("json cloudevents structured", Encoding(envelope="cloudevents")),
        ("json cloudevents binary", Encoding(envelope="cloudevents", mode="binary")),
        ("avro debezium", Encoding(format="avro")),
        ("avro debezium, decimal type", Encoding(format="avro", decimals="number")),
        ("avro flat", Encoding(format="avro", envelope="flat")),
        ("protobuf debezium", Encoding(format="protobuf")),
        ("protobuf flat", Encoding(format="protobuf", envelope="flat")),
    ]


def main(rows: int) -> None:
    """Print a line for each format and envelope."""
    batch, stamps = frame(FRAME_ROWS), stamped(FRAME_ROWS)
    for name, encoding in encodings():
        found = open_format(encoding, "bench", registry=MemoryRegistry())
        writer = found.writer("shop.public.drain", ROUTE, NAMES)
        messages = writer.write(batch, stamps)
        begun, done = time.process_time(), 0
        while done < rows:
            messages = writer.write(batch, stamps)
            done += FRAME_ROWS
        wrote = done / (time.process_time() - begun)
        size = sum(len(value or b"") for value in messages.values) // len(messages.values)
        reader = found.reader(writer.shape, None)
        headers = [{key: value for key, value in messages.extras.get(n, ()) if key[:3] == "ce_"} for n in range(done)]
        begun, done = time.process_time(), 0
        while done < rows:
            for key, value, extra in zip(messages.keys, messages.values, headers, strict=False):
                reader.read(key, value, extra)
            done += FRAME_ROWS
        read = done / (time.process_time() - begun)
        print(f"{name:<30} {wrote:>10,.0f} rows/s written  {read:>10,.0f} rows/s read  {size:>6} bytes a message")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500_000)
