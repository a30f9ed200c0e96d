"""A table with a column of every kind, and values of each as servers print them: for the formats of the bus."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from hypothesis import strategies as st

from cdcflow.bus.formats import Stamp, Stamps
from cdcflow.codecs import buscells, bustimetext_cy
from cdcflow.codecs.floattext_cy import float4, float8
from cdcflow.codecs.values import Interval
from cdcflow.codecs.values_time import encode_interval
from cdcflow.model.frame import UNCHANGED, Cell, RowBatch, image
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName

Cells = st.SearchStrategy[bytes]


def native(text: str, oid: int, modifier: int = -1) -> NativeType:
    return NativeType(text, oid=oid, modifier=modifier)


def whole(bits: int) -> Cells:
    half = 2 ** (bits - 1)
    return st.one_of(st.integers(-half, half - 1), st.sampled_from([0, -half, half - 1])).map(lambda n: b"%d" % n)


TEXTS: Cells = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.sampled_from(["", "NULL", "\x01\x1f\x7f", '"\\/\b\f\n\r\t', "__debezium_unavailable_value", "ä\u2028😀", "{}"]),
).map(str.encode)


def _numeric(number: int, scale: int) -> bytes:
    digits = b"%0*d" % (scale + 1, abs(number))
    whole, rest = (digits[:-scale], b"." + digits[-scale:]) if scale else (digits, b"")
    return (b"-" if number < 0 else b"") + whole + rest


NUMERICS: Cells = st.one_of(
    st.builds(_numeric, st.one_of(st.integers(), st.integers(-(10**60), 10**60)), st.integers(0, 20)),
    st.sampled_from([b"0", b"0.00", b"1.10", b"NaN", b"Infinity", b"-Infinity", b"9" * 400, b"0." + b"0" * 400 + b"1"]),
)
DOUBLES = st.floats(width=64)
SINGLES = st.floats(width=32)


def _special(number: float, text: bytes) -> bytes:
    if number != number:
        return b"NaN"
    return text if number - number == 0 else (b"Infinity" if number > 0 else b"-Infinity")


FLOAT8S: Cells = DOUBLES.map(lambda n: _special(n, float8(n) if n - n == 0 else b""))
FLOAT4S: Cells = SINGLES.map(lambda n: _special(n, float4(n) if n - n == 0 else b""))
DAYS = st.one_of(
    st.integers(-2440588, 2145031948), st.integers(-200000, 200000), st.sampled_from([-2440588, 2145031948])
)
DATES: Cells = st.one_of(
    DAYS.map(bustimetext_cy.days_date),
    st.dates().map(date.isoformat).map(str.encode),
    st.sampled_from([b"infinity", b"-infinity", b"0000-00-00", b"4713-01-01 BC", b"5874897-12-31", b"2024-02-30"]),
)
TIMES: Cells = st.one_of(st.integers(0, 86400000000), st.sampled_from([0, 86400000000])).map(bustimetext_cy.micros_time)
MICROS = st.one_of(st.integers(-210866803200000000, 2**63 - 10**12), st.integers(-(10**16), 10**16))
STAMPS: Cells = st.one_of(
    MICROS.map(bustimetext_cy.micros_timestamp),
    st.sampled_from([b"infinity", b"-infinity", b"294276-12-31 23:59:59.999999", b"0000-00-00 00:00:00"]),
)


def _zoned(cell: bytes) -> bytes:
    if cell.endswith(b"infinity"):
        return cell
    return cell[:-3] + b"+00 BC" if cell.endswith(b" BC") else cell + b"+00"


ZONES = st.sampled_from([b"+00", b"+02", b"-03:30", b"+15:59:59", b"-15:59:59"])
INTERVALS: Cells = st.one_of(
    st.builds(
        Interval,
        st.integers(-(2**31), 2**31 - 1),
        st.integers(-(2**31), 2**31 - 1),
        st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-(10**10), 10**10)),
    ).map(encode_interval),
    st.sampled_from([b"infinity", b"-infinity", b"00:00:00", b"-838:59:59.999999"]),
)
GEOMETRIES: Cells = st.tuples(st.integers(1, 7), st.none() | st.integers(1, 999999), st.binary(max_size=24)).map(
    lambda parts: buscells.geometry_text(b"\x01" + parts[0].to_bytes(4, "little") + parts[2], parts[1])
)


def listed(elements: Cells) -> Cells:
    return st.lists(st.none() | elements, max_size=5).map(buscells.array_text)


def array_of(text: str, oid: int, element: NativeType) -> NativeType:
    return NativeType(text, oid=oid, element=element)


@dataclass(frozen=True, slots=True)
class Sort:
    """A column of one kind with the values that its server prints."""

    type: NativeType
    logical: Logical
    cells: Cells


_TEXT = native("text", 25)
SORTS: dict[str, Sort] = {
    "bool": Sort(native("boolean", 16), Logical.BOOL, st.sampled_from([b"t", b"f"])),
    "int2": Sort(native("smallint", 21), Logical.INT2, whole(16)),
    "int4": Sort(native("integer", 23), Logical.INT4, whole(32)),
    "int8": Sort(native("bigint", 20), Logical.INT8, whole(64)),
    "uint8": Sort(native("xid8", 5069), Logical.UINT8, st.integers(0, 2**64 - 1).map(lambda n: b"%d" % n)),
    "numeric": Sort(native("numeric", 1700), Logical.DECIMAL, NUMERICS),
    "price": Sort(
        native("numeric(12,2)", 1700, (12 << 16 | 2) + 4),
        Logical.DECIMAL,
        st.integers(-(10**12) + 1, 10**12 - 1).map(
            lambda n: b"%s%d.%02d" % (b"-" if n < 0 else b"", abs(n) // 100, abs(n) % 100)
        ),
    ),
    "float4": Sort(native("real", 700), Logical.FLOAT4, FLOAT4S),
    "float8": Sort(native("double precision", 701), Logical.FLOAT8, FLOAT8S),
    "text": Sort(_TEXT, Logical.TEXT, TEXTS),
    "bytes": Sort(native("bytea", 17), Logical.BYTES, st.binary().map(lambda b: b"\\x" + b.hex().encode())),
    "date": Sort(native("date", 1082), Logical.DATE, DATES),
    "time": Sort(native("time without time zone", 1083), Logical.TIME, TIMES),
    "timetz": Sort(
        native("time with time zone", 1266), Logical.TIMETZ, st.tuples(TIMES, ZONES).map(lambda two: two[0] + two[1])
    ),
    "timestamp": Sort(native("timestamp without time zone", 1114), Logical.TIMESTAMP, STAMPS),
    "timestamptz": Sort(native("timestamp with time zone", 1184), Logical.TIMESTAMPTZ, STAMPS.map(_zoned)),
    "interval": Sort(native("interval", 1186), Logical.INTERVAL, INTERVALS),
    "uuid": Sort(native("uuid", 2950), Logical.UUID, st.uuids().map(lambda u: str(u).encode())),
    "json": Sort(native("jsonb", 3802), Logical.JSON, st.sampled_from([b'{"a": [1, "\\u0041"]}', b"null", b'" x"'])),
    "enum": Sort(NativeType("mood", oid=20000, labels=("a", "b c")), Logical.ENUM, st.sampled_from([b"a", b"b c"])),
    "set": Sort(NativeType("set('a','b')", labels=("a", "b")), Logical.SET, st.sampled_from([b"", b"a", b"a,b"])),
    "bit1": Sort(native("bit(1)", 1560, 1), Logical.BIT, st.sampled_from([b"0", b"1"])),
    "bits": Sort(native("bit(11)", 1560, 11), Logical.BIT, st.text("01", min_size=11, max_size=11).map(str.encode)),
    "varbit": Sort(native("bit varying", 1562), Logical.BIT, st.text("01", max_size=20).map(str.encode)),
    "geometry": Sort(native("geometry", 30000), Logical.GEOMETRY, GEOMETRIES),
    "range": Sort(native("int4range", 3904), Logical.OTHER, st.sampled_from([b"[1,2)", b"empty"])),
    "texts": Sort(
        array_of("text[]", 1009, _TEXT), Logical.ARRAY, listed(TEXTS) | st.sampled_from([b"{{a},{b}}", b"[0:1]={a,b}"])
    ),
    "ints": Sort(array_of("integer[]", 1007, native("integer", 23)), Logical.ARRAY, listed(whole(32))),
    "moments": Sort(
        array_of("timestamptz[]", 1185, native("timestamptz", 1184)), Logical.ARRAY, listed(STAMPS.map(_zoned))
    ),
    "numerics": Sort(array_of("numeric[]", 1231, native("numeric", 1700)), Logical.ARRAY, listed(NUMERICS)),
    "blobs": Sort(
        array_of("bytea[]", 1001, native("bytea", 17)),
        Logical.ARRAY,
        listed(st.binary(max_size=9).map(lambda b: b"\\x" + b.hex().encode())),
    ),
    "boxes": Sort(
        array_of("box[]", 1020, native("box", 603)),
        Logical.ARRAY,
        st.lists(st.sampled_from([b"(1,1),(0,0)", b"(2,2),(1,1)"]), max_size=3).map(
            lambda boxes: buscells.array_text(list(boxes), b";")
        ),
    ),
    "vector": Sort(
        NativeType("vector(2)", element=NativeType("float")),
        Logical.ARRAY,
        st.lists(SINGLES.filter(lambda n: n - n == 0).map(float4), min_size=1).map(
            lambda n: b"{" + b",".join(n) + b"}"
        ),
    ),
    "duration": Sort(
        NativeType("time(6)"), Logical.INTERVAL, st.sampled_from([b"-838:59:59", b"00:00:00", b"12:00:00.000001"])
    ),
}

COLUMNS = (
    Column("id", native("bigint", 20), Logical.INT8, nullable=False),
    *(Column(name, sort.type, sort.logical) for name, sort in SORTS.items()),
)


def route_of(columns: Sequence[Column], key: tuple[str, ...] = ("id",), engine: str = "postgresql") -> Route:
    """Return a route whose target has the table under other names: `shop.goods`, and each column in capitals."""
    name = TableName("public", "goods")
    table = Table(name, 16400, tuple(columns), key=key, primary_key=key, engine=engine)
    return Route(table, TableName("shop", "goods"), tuple((each, each.name.upper()) for each in columns), key)


Change = tuple[str, Sequence[Cell] | None, Sequence[Cell] | None]


def frame_of(route: Route, changes: Sequence[Change]) -> RowBatch:
    """Return a frame of changes: (operation, old cells, new cells)."""
    olds = [b"" if old is None else image(list(old)) for _, old, _ in changes]
    news = [b"" if new is None else image(list(new)) for _, _, new in changes]
    return RowBatch(
        route,
        tuple(column.name for column in route.source.columns),
        "".join(op for op, _, _ in changes).encode(),
        b"".join(news),
        array("i", map(len, news)).tobytes(),
        b"".join(olds),
        array("i", map(len, olds)).tobytes(),
    )


def stamps_of(count: int, stamp: Stamp | None = None) -> Stamps:
    """Return one transaction's stamps for so many rows."""
    order = array("I", range(1, count + 1)).tobytes()
    return Stamps(bytes(4 * count), order, order, [stamp or Stamp("0/1F4", "77", 1_700_000_000_123_456)])


def keyed(row: Sequence[Cell]) -> list[Cell]:
    """Return the row's key alone, as a log has it of a deleted row."""
    return [row[0], *[UNCHANGED] * (len(row) - 1)]
