"""Tables, rows and a registry in memory, for the tests of the bus's binary formats."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cdcflow.bus.formats import Messages, Reader, Stamp, Stamps
from cdcflow.bus.registry import Definition, Registered
from cdcflow.errors import DecodeError
from cdcflow.model import frame as frames
from cdcflow.model.frame import Cell, RowBatch
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName

POSTGRES: dict[str, tuple[Logical, NativeType]] = {
    "bool": (Logical.BOOL, NativeType("boolean", 16)),
    "int2": (Logical.INT2, NativeType("smallint", 21)),
    "int4": (Logical.INT4, NativeType("integer", 23)),
    "int8": (Logical.INT8, NativeType("bigint", 20)),
    "uint8": (Logical.UINT8, NativeType("xid8", 5069)),
    "numeric": (Logical.DECIMAL, NativeType("numeric", 1700)),
    "numeric12_2": (Logical.DECIMAL, NativeType("numeric(12,2)", 1700, (12 << 16 | 2) + 4)),
    "float4": (Logical.FLOAT4, NativeType("real", 700)),
    "float8": (Logical.FLOAT8, NativeType("double precision", 701)),
    "text": (Logical.TEXT, NativeType("text", 25)),
    "bytea": (Logical.BYTES, NativeType("bytea", 17)),
    "date": (Logical.DATE, NativeType("date", 1082)),
    "time": (Logical.TIME, NativeType("time without time zone", 1083)),
    "timetz": (Logical.TIMETZ, NativeType("time with time zone", 1266)),
    "timestamp": (Logical.TIMESTAMP, NativeType("timestamp without time zone", 1114)),
    "timestamptz": (Logical.TIMESTAMPTZ, NativeType("timestamp with time zone", 1184)),
    "interval": (Logical.INTERVAL, NativeType("interval", 1186)),
    "uuid": (Logical.UUID, NativeType("uuid", 2950)),
    "jsonb": (Logical.JSON, NativeType("jsonb", 3802)),
    "mood": (Logical.ENUM, NativeType("mood", 20000, labels=("sad", "ok", "happy"))),
    "bit1": (Logical.BIT, NativeType("bit(1)", 1560, 1)),
    "bit10": (Logical.BIT, NativeType("bit(10)", 1560, 10)),
    "varbit": (Logical.BIT, NativeType("bit varying", 1562)),
    "texts": (Logical.ARRAY, NativeType("text[]", 1009, element=NativeType("text", 25))),
    "ints": (Logical.ARRAY, NativeType("integer[]", 1007, element=NativeType("integer", 23))),
    "moments": (
        Logical.ARRAY,
        NativeType("timestamp with time zone[]", 1185, element=NativeType("timestamp with time zone", 1184)),
    ),
    "geometry": (Logical.GEOMETRY, NativeType("geometry", 30000)),
    "inet": (Logical.OTHER, NativeType("inet", 869)),
}


@dataclass(slots=True)
class MemoryRegistry:
    """What the formats ask of a registry, in memory."""

    schemas: list[Definition] = field(default_factory=list)
    subjects: dict[str, list[int]] = field(default_factory=dict)

    def subject(self, topic: str, part: str, record: str) -> str:
        return f"{topic}-{part}"

    def register(self, subject: str, kind: Any, text: str) -> Registered:
        found = Definition(kind, text)
        if found not in self.schemas:
            self.schemas.append(found)
        number = self.schemas.index(found) + 1
        if number not in self.subjects.setdefault(subject, []):
            self.subjects[subject].append(number)
        return Registered(number, subject)

    def once(self, key: object, ask: Callable[[], Any]) -> Any:
        return ask()

    def latest(self, subject: str) -> Definition | None:
        numbers = self.subjects.get(subject)
        return self.schemas[numbers[-1] - 1] if numbers else None

    def definition(self, number: int) -> Definition:
        if not 1 <= number <= len(self.schemas):
            raise DecodeError("no such schema")
        return self.schemas[number - 1]


def table_of(
    columns: dict[str, str], key: Sequence[str] = (), *, not_null: Sequence[str] = (), engine: str = "postgresql"
) -> Table:
    """Return a table: column names and types' names in `POSTGRES`."""
    made = tuple(
        Column(name, POSTGRES[kind][1], POSTGRES[kind][0], nullable=name not in key and name not in not_null)
        for name, kind in columns.items()
    )
    return Table(TableName("shop", "orders"), 1, made, key=tuple(key), primary_key=tuple(key), engine=engine)


def route_of(table: Table, **rules: Any) -> Route:
    """Return the route of a table that goes out as it is."""
    return Route(table, table.name, tuple((column, column.name) for column in table.columns), table.key, **rules)


def frame_of(route: Route, rows: Sequence[tuple[str, list[Cell] | None, list[Cell] | None]]) -> RowBatch:
    """Return a frame of rows: operation, old cells, new cells."""
    before = [frames.image(old) if old is not None else b"" for _, old, _ in rows]
    after = [frames.image(new) if new is not None else b"" for _, _, new in rows]
    return RowBatch(
        route,
        route.source.column_names,
        "".join(op for op, _, _ in rows).encode(),
        b"".join(after),
        array("i", [len(image) for image in after]).tobytes(),
        b"".join(before),
        array("i", [len(image) for image in before]).tobytes(),
    )


def stamps_of(rows: int, stamp: Stamp | None = None) -> Stamps:
    """Return stamps that say that all rows are of one transaction."""
    numbers = array("I", range(1, rows + 1)).tobytes()
    return Stamps(
        array("I", [0] * rows).tobytes(), numbers, numbers, [stamp or Stamp("0/16B3748", "742", 1_700_000_000_123_456)]
    )


def read_back(
    messages: Messages, reader: Reader, *, width: int
) -> list[tuple[str, list[Cell] | None, list[Cell] | None]]:
    """Return (op, old cells, new cells) of each message that says something, headers and all."""
    found = []
    for number, (key, value) in enumerate(zip(messages.keys, messages.values, strict=True)):
        headers = {"cdcflow.op": chr(messages.ops[number]).encode()}
        headers |= dict(messages.extras.get(number, []))
        op, before, after = reader.read(key, value, headers)
        if op:
            cells = [None if image is None else frames.cells(image, 0, width) for image in (before, after)]
            found.append((op, cells[0], cells[1]))
    return found
