"""The bus's binary formats as functions under test; `python -m tests.fuzz.bus_records` writes their corpus."""

from __future__ import annotations

from array import array
from pathlib import Path

from cdcflow.bus.config import Encoding
from cdcflow.bus.formats import avro_writing, proto_writing
from cdcflow.bus.formats.avro import AvroFormat
from cdcflow.bus.formats.protobuf import ProtobufFormat
from cdcflow.bus.formats.wire import wire_plan
from cdcflow.codecs.busrecords_cy import CHANGE, KeyAbsent, KeyUnsayable, Layout, Records
from cdcflow.model.frame import UNCHANGED
from tests.fuzz.packed import Input, pack
from tests.unit.bus_rows import POSTGRES, MemoryRegistry, frame_of, route_of, stamps_of, table_of

TABLE = table_of({"id": "int8"} | {kind: kind for kind in POSTGRES}, ["id"], not_null=["text", "texts"])
ROUTE = route_of(TABLE)
_CELLS = {
    "id": b"1",
    "bool": b"t",
    "int2": b"-5",
    "int4": b"7",
    "int8": b"-9223372036854775808",
    "uint8": b"18446744073709551615",
    "numeric": b"1.50",
    "numeric12_2": b"-123.45",
    "float4": b"0.1",
    "float8": b"1e+20",
    "text": b"h\xc3\xa4l",
    "bytea": b"\\xdeadbeef",
    "date": b"2024-02-29",
    "time": b"12:34:56.7",
    "timetz": b"04:05:06.5+02",
    "timestamp": b"1960-03-15 01:02:03.000001",
    "timestamptz": b"2024-01-02 03:04:05.678+00",
    "interval": b"1 year 2 mons 3 days 04:05:06.7",
    "uuid": b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "jsonb": b'{"a": 1}',
    "mood": b"ok",
    "bit1": b"1",
    "bit10": b"1010101010",
    "varbit": b"101",
    "texts": b'{a,"b c",NULL,"x\\"y"}',
    "ints": b"{1,2,NULL}",
    "moments": b'{"2024-01-02 03:04:05.678+00"}',
    "geometry": b"0101000020E6100000000000000000F03F0000000000000040",
    "inet": b"10.0.0.1",
}
_ROW = [_CELLS[column] for column in TABLE.column_names]
_NULLS = [b"2" if cell is _CELLS["id"] else None for cell in _ROW]
_ABSENT = [b"1" if number == 0 else UNCHANGED for number in range(len(_ROW))]
_CHANGES = [("I", None, _ROW), ("U", _ROW, _ABSENT), ("U", None, _NULLS), ("D", _ROW, None), ("U", _ROW, _NULLS)]
_FORMATS = [
    AvroFormat(Encoding(format="avro", decimals="number"), MemoryRegistry()),
    ProtobufFormat(Encoding(format="protobuf"), MemoryRegistry()),
]
_WRITERS = [each.writer("shop.orders", ROUTE, TABLE.column_names) for each in _FORMATS]
_READERS = [each.reader(TABLE, None) for each in _FORMATS]
_HEADS = [5, 6]


def messages(found: Input) -> object:
    """Numbers: the format, whether they have our header. Parts: bodies of values, behind the schema's number."""
    form = found.numbers[0]
    head = _written(form)[0][: _HEADS[form]]
    headers = {"cdcflow.op": b"u"} if found.numbers[1] else {}
    return [_READERS[form].read(None, head + part, headers) for part in found.parts]


def rows(found: Input) -> object:
    """Numbers: the format. Parts: the arrays of a frame, then those of its stamps."""
    plan = wire_plan(ROUTE, TABLE.column_names)
    tagged = found.numbers[0] == 1
    if tagged:
        cells = [proto_writing.cell(kind, number) for number, kind in enumerate(plan.kinds, 1)]
    else:
        cells = [avro_writing.cell(kind, "number", nullable=True) for kind in plan.kinds]
    layout = Layout(CHANGE, tagged, b"h", b"k", b"\2", b"\2", b"\0", b"t", b"o", b"p", b"\2")
    records = Records(cells, cells[:1], plan.places, (0,), plan.width, layout)
    stamps = [(b"s", b"n", True, False, None), (b"s", b"", False, True, (b"l", b"id/", b"r"))]
    try:
        return records.write(found.parts[:5], found.parts[5:], stamps, b"tail"), records.problems()
    except (KeyAbsent, KeyUnsayable) as refused:
        return str(refused)


def _written(form: int) -> list[bytes]:
    made = _WRITERS[form].write(frame_of(ROUTE, _CHANGES), stamps_of(len(_CHANGES)))
    return [value for value in made.values if value is not None]


def record(corpus: Path) -> None:
    """Write the corpus."""
    frame = frame_of(ROUTE, _CHANGES)
    arrays = (frame.ops, frame.after, frame.after_sizes, frame.before, frame.before_sizes)
    numbers = array("I", range(1, len(_CHANGES) + 1)).tobytes()
    of_row = array("I", [0, 0, 0, 1, 1]).tobytes()
    for form, name in enumerate(("avro", "protobuf")):
        for ours in (0, 1):
            for number, value in enumerate(_written(form)):
                path = corpus / "busmessages" / f"real-{name}-{ours}-{number}.bin"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pack(Input(bytes([form, ours]), (value[_HEADS[form] :],))))
        path = corpus / "busrecords" / f"real-{name}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(Input(bytes([form]), (*arrays, of_row, numbers, numbers))))


if __name__ == "__main__":
    record(Path(__file__).with_name("corpus"))
