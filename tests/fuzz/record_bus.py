"""Make the corpus of the bus's JSON codecs: `python -m tests.fuzz.record_bus`.

Frames with a value of every kind, what the codecs write for them, and the forms that Debezium documents.
"""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Iterator
from dataclasses import replace

from cdcflow.bus.config import Encoding
from cdcflow.bus.formats.opening import open_format
from cdcflow.model.frame import UNCHANGED, Cell
from tests.fuzz.exercise import CORPUS
from tests.fuzz.packed import Input, pack
from tests.unit.bus_columns import COLUMNS, Change, frame_of, keyed, route_of, stamps_of
from tests.unit.test_bus_debezium import FORMS

# One row of ordinary values, and one of those that JSON cannot say or that need care.
PLAIN = {
    "bool": b"t", "int2": b"-7", "int4": b"70000", "int8": b"-9223372036854775808", "uint8": b"18446744073709551615",
    "numeric": b"1.10", "price": b"-12.34", "float4": b"1e-07", "float8": b"1e+20", "text": 'a"\\ä😀\n\x01'.encode(),
    "bytes": b"\\x00ff10", "date": b"2024-02-29", "time": b"24:00:00", "timetz": b"04:05:06.5+02",
    "timestamp": b"2024-01-02 03:04:05.678", "timestamptz": b"2024-01-02 03:04:05.678+00",
    "interval": b"-1 years -2 mons +3 days -04:05:06.7", "uuid": b"8bab1170-37c8-11e9-9ab7-0242ac110002",
    "json": b'{"a": [1, null]}', "enum": b"b c", "set": b"a,b", "bit1": b"1", "bits": b"10000000101", "varbit": b"0011",
    "geometry": b"0101000020E6100000" + b"0" * 32, "range": b"[1,2)", "texts": b'{red,"a b",NULL,"x\\"y"}',
    "ints": b"{1,NULL,-3}", "moments": b'{"2024-01-02 03:04:05+00"}', "numerics": b"{1.10,NaN}",
    "blobs": b'{"\\\\x00ff"}', "boxes": b"{(1,1),(0,0);(2,2),(1,1)}", "vector": b"{0.5,-1e+10}",
    "duration": b"-838:59:59",
}  # fmt: skip
CARE = PLAIN | {
    "numeric": b"NaN", "float8": b"-Infinity", "text": b"__debezium_unavailable_value", "date": b"infinity",
    "timestamp": b"294276-12-31 23:59:59.999999", "timestamptz": b"0044-03-15 12:00:00+00 BC", "interval": b"infinity",
    "texts": b"[0:1]={a,b}", "ints": b"{{1},{2}}", "geometry": b"00", "time": b"00:00:00.000001",
}  # fmt: skip


# Which column of the corpus has the form that Debezium gives a type.
NAMED = {
    "Decimal": "scaled", "VariableScaleDecimal": "variable", "Date": "date", "IsoDate": "date", "MicroTime": "time",
    "IsoTime": "time", "NanoTime": "nanos", "Timestamp": "millis", "MicroTimestamp": "timestamp", "Uuid": "uuid",
    "IsoTimestamp": "timestamp", "ZonedTimestamp": "timestamptz", "ZonedTime": "timetz", "MicroDuration": "interval",
    "Interval": "interval", "Bits": "bits", "Geometry": "geometry", "Json": "json",
}  # fmt: skip
BY_TYPE = {"boolean": "bool", "int16": "int2", "int32": "int4", "int64": "int8", "double": "float8", "float": "float4",
           "bytes": "bytes", "array": "texts", "map": "json"}  # fmt: skip


def row(number: int, values: dict[str, bytes]) -> list[Cell]:
    """Return a row of `COLUMNS`."""
    return [b"%d" % number, *(values[column.name] for column in COLUMNS[1:])]


def changes() -> list[Change]:
    """Return one change of each kind."""
    plain, care = row(1, PLAIN), row(2, CARE)
    absent: list[Cell] = [b"1", *[UNCHANGED] * (len(COLUMNS) - 1)]
    nothing: list[Cell] = [b"3", *[None] * (len(COLUMNS) - 1)]
    return [
        ("I", None, plain),
        ("U", plain, row(1, CARE)),
        ("U", keyed(plain), care),
        ("U", None, absent),
        ("D", care, None),
        ("I", None, nothing),
    ]


def inputs() -> Iterator[tuple[str, str, Input]]:
    """Yield target, name and input of each file."""
    route, found = route_of(COLUMNS), changes()
    names = tuple(column.name for column in COLUMNS)
    for options in (0, 3):
        frame, stamps = frame_of(route, found), stamps_of(len(found))
        of_row = array("I", [number % 3 for number in range(len(found))]).tobytes()
        arrays = (frame.ops, frame.after, frame.after_sizes, frame.before, frame.before_sizes)
        yield (
            "jsonrows",
            f"real-{options}",
            Input(bytes([options]), (*arrays, of_row, stamps.order, stamps.table_order)),
        )
    for name, encoding in (
        ("debezium", Encoding()),
        ("schemas", Encoding(schemas=True)),
        ("iso", Encoding(temporals="iso", decimals="number")),
        ("event", Encoding(envelope="cloudevents")),
        ("flat", Encoding(envelope="flat")),
    ):
        same = replace(route, columns=tuple((each, each.name) for each in COLUMNS))
        messages = (
            open_format(encoding, "fuzz")
            .writer("fuzz.shop.goods", same, names)
            .write(frame_of(same, found), stamps_of(len(found)))
        )
        values = [value for value in messages.values if value is not None]
        for number, value in enumerate(values[: 1 if name == "schemas" else None]):
            yield "json", f"real-{name}-{number}", Input(bytes([name == "flat"]), (value,))
    for number, (form, value, _, _) in enumerate(FORMS):
        name = NAMED.get(form.get("name", "").rpartition(".")[2]) or BY_TYPE.get(form["type"], "text")
        message = {"before": None, "after": {"id": 1, name: value}, "op": "c"}
        yield "json", f"debezium-{number}", Input(b"\0", (json.dumps(message).encode(),))
    chance = random.Random(7)
    marks = array("q", [number for rows in (3, 0, 5, 1) for number in (rows, 1, 2, 3)]).tobytes()
    orders = [array("I", [chance.randrange(3) for _ in range(rows)]).tobytes() for rows in (4, 7)]
    yield "busorder", "real-0", Input(b"\0", (marks, *orders))


if __name__ == "__main__":
    for target, name, made in inputs():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.bin").write_bytes(pack(made))
