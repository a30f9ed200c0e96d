"""Messages as Debezium writes them, in all of its handling modes: what cdcflow makes of them without headers of ours.

The forms are those of https://debezium.io/documentation/reference/stable/connectors/postgresql.html and .../mysql.html
"""

from __future__ import annotations

import hashlib
import json
import uuid
from base64 import b64encode
from typing import Any

import pytest

from cdcflow.bus.config import Decoding
from cdcflow.bus.formats.opening import open_format
from cdcflow.bus.formats.reading_forms import variable_decimal
from cdcflow.errors import DecodeError
from cdcflow.model.frame import UNCHANGED, Cell, cells
from cdcflow.model.schema import Logical, Table

TOPIC = "fulfillment.inventory.customers"
DEBEZIUM = Decoding()


def field(name: str, kind: str, named: str = "", optional: bool = True, **more: Any) -> dict[str, Any]:
    return {"type": kind, "optional": optional, "field": name} | ({"name": named, "version": 1} if named else {}) | more


def change(fields: list[dict[str, Any]], row: dict[str, Any] | None, op: str = "c", before: Any = None) -> bytes:
    value = {"type": "struct", "fields": fields, "optional": True, "name": f"{TOPIC}.Value"}
    schema = {
        "type": "struct",
        "fields": [{**value, "field": "before"}, {**value, "field": "after"}, field("op", "string")],
        "optional": False,
        "name": f"{TOPIC}.Envelope",
    }
    source = {
        "version": "3.2.0.Final",
        "connector": "postgresql",
        "schema": "public",
        "table": "customers",
        "lsn": 24023128,
    }
    payload = {"before": before, "after": row, "source": source, "op": op, "ts_ms": 1559033904863, "transaction": None}
    return json.dumps({"schema": schema, "payload": payload}).encode()


def key_of(row: dict[str, Any]) -> bytes:
    fields = [field(name, "int32", optional=False) for name in row]
    return json.dumps({"schema": {"type": "struct", "fields": fields, "optional": False}, "payload": row}).encode()


def read(value: bytes, key: bytes | None = None, config: Decoding = DEBEZIUM) -> tuple[Table, dict[str, Cell], str]:
    opened = open_format(config)
    table = opened.described(TOPIC, key, value)
    op, before, after = opened.reader(table, opened.mark(value)).read(key, value, {})
    image = after if after is not None else before
    return table, dict(zip(table.column_names, cells(image or b"", 0, len(table.columns)), strict=True)), op


def base64(raw: bytes) -> str:
    return b64encode(raw).decode()


# Type, name and parameters of the field; its value; what it means; the canonical text.
def decimal(scale: str) -> dict[str, Any]:
    parameters = {"scale": scale, "connect.decimal.precision": "5"}
    return field("v", "bytes", "org.apache.kafka.connect.data.Decimal", parameters=parameters)


def timed(kind: str, named: str) -> dict[str, Any]:
    return field("v", kind, f"io.debezium.time.{named}")


def data(kind: str, named: str, **more: Any) -> dict[str, Any]:
    return field("v", kind, f"io.debezium.data.{named}", **more)


# What Debezium writes for a value that was not logged (UnchangedToastedPlaceholder), by the column's type.
MARK = b"__debezium_unavailable_value"
BYTES_OF_THE_MARK = list(MARK)
UUID_OF_THE_MARK = str(uuid.UUID(bytes=hashlib.md5(MARK, usedforsecurity=False).digest(), version=3))
OBJECT_OF_THE_MARK = {MARK.decode(): MARK.decode()}
GEOMETRY_OF_THE_MARK = "0101000020E6100000000000FC83D797C1000000FC83D797C1"

UUID = "8bab1170-37c8-11e9-9ab7-0242ac110002"

FORMS: list[tuple[dict[str, Any], Any, Logical, bytes]] = [
    (field("v", "boolean"), True, Logical.BOOL, b"t"),
    (field("v", "int16"), -7, Logical.INT2, b"-7"),
    (field("v", "int64"), 9007199254740993, Logical.INT8, b"9007199254740993"),
    (field("v", "float"), 0.1, Logical.FLOAT4, b"0.1"),
    (field("v", "double"), 1e20, Logical.FLOAT8, b"1e+20"),
    (field("v", "double"), 100.0, Logical.FLOAT8, b"100"),
    (field("v", "string"), 'a"\u00e4\u2028', Logical.TEXT, 'a"\u00e4\u2028'.encode()),
    (field("v", "bytes"), base64(b"\0\xff"), Logical.BYTES, b"\\x00ff"),
    # decimal.handling.mode
    (
        decimal("2"),
        base64((-12345).to_bytes(3, "big", signed=True)),
        Logical.DECIMAL,
        b"-123.45",
    ),
    (decimal("3"), "", Logical.DECIMAL, b"0.000"),
    # decimal.format=NUMERIC of Connect's converter
    (decimal("2"), -123.45, Logical.DECIMAL, b"-123.45"),
    (decimal("0"), 100, Logical.DECIMAL, b"100"),
    (field("v", "string"), "1234567890123456789.10", Logical.TEXT, b"1234567890123456789.10"),
    (field("v", "double"), 3.14, Logical.FLOAT8, b"3.14"),
    (
        field("v", "struct", "io.debezium.data.VariableScaleDecimal"),
        {"scale": 4, "value": base64((1050000).to_bytes(3, "big"))},
        Logical.DECIMAL,
        b"105.0000",
    ),
    # time.precision.mode: adaptive, adaptive_time_microseconds, connect, isostring
    (timed("int32", "Date"), 17806, Logical.DATE, b"2018-10-02"),
    (field("v", "int32", "org.apache.kafka.connect.data.Date"), -1, Logical.DATE, b"1969-12-31"),
    (timed("string", "IsoDate"), "2018-10-02Z", Logical.DATE, b"2018-10-02"),
    (timed("int32", "Time"), 3723500, Logical.TIME, b"01:02:03.5"),
    (timed("int64", "MicroTime"), 3723000001, Logical.TIME, b"01:02:03.000001"),
    (timed("int64", "NanoTime"), 3723000001000, Logical.TIME, b"01:02:03.000001"),
    (field("v", "int32", "org.apache.kafka.connect.data.Time"), 0, Logical.TIME, b"00:00:00"),
    (timed("string", "IsoTime"), "01:02:03.500Z", Logical.TIME, b"01:02:03.5"),
    (timed("int64", "Timestamp"), -1, Logical.TIMESTAMP, b"1969-12-31 23:59:59.999"),
    (timed("int64", "MicroTimestamp"), 1529507596945104, Logical.TIMESTAMP, b"2018-06-20 15:13:16.945104"),
    (timed("int64", "NanoTimestamp"), 1529507596945104000, Logical.TIMESTAMP, b"2018-06-20 15:13:16.945104"),
    (
        field("v", "int64", "org.apache.kafka.connect.data.Timestamp"),
        1529507596000,
        Logical.TIMESTAMP,
        b"2018-06-20 15:13:16",
    ),
    (timed("string", "IsoTimestamp"), "2018-06-20T15:13:16.900Z", Logical.TIMESTAMP, b"2018-06-20 15:13:16.9"),
    (
        timed("string", "ZonedTimestamp"),
        "2018-06-20T15:13:16.945104Z",
        Logical.TIMESTAMPTZ,
        b"2018-06-20 15:13:16.945104+00",
    ),
    (
        timed("string", "ZonedTimestamp"),
        "2024-03-01T01:30:00.120+02:00",
        Logical.TIMESTAMPTZ,
        b"2024-02-29 23:30:00.12+00",
    ),
    (timed("string", "ZonedTimestamp"), "-0043-03-15T12:00:00Z", Logical.TIMESTAMPTZ, b"0044-03-15 12:00:00+00 BC"),
    (timed("string", "ZonedTime"), "15:13:16Z", Logical.TIMETZ, b"15:13:16+00"),
    # interval.handling.mode: numeric, string
    (timed("int64", "MicroDuration"), -5400000000, Logical.INTERVAL, b"-01:30:00"),
    (timed("string", "Interval"), "P1Y2M3DT4H5M6.78S", Logical.INTERVAL, b"1 year 2 mons 3 days 04:05:06.78"),
    (data("string", "Uuid"), UUID, Logical.UUID, UUID.encode()),
    (data("string", "Json"), '{"a": 1.0}', Logical.JSON, b'{"a": 1.0}'),
    (data("string", "Enum", parameters={"allowed": "new,open"}), "open", Logical.TEXT, b"open"),
    (data("string", "EnumSet", parameters={"allowed": "a,b"}), "a,b", Logical.TEXT, b"a,b"),
    (data("string", "Xml"), "<a/>", Logical.TEXT, b"<a/>"),
    (
        field("v", "bytes", "io.debezium.data.Bits", parameters={"length": "11"}),
        base64(b"\x05\x04"),
        Logical.BIT,
        b"10000000101",
    ),
    (
        field("v", "array", items={"type": "string", "optional": True}),
        ["a b", None, "NULL"],
        Logical.ARRAY,
        b'{"a b",NULL,"NULL"}',
    ),
    (
        field("v", "array", items={"type": "string", "optional": True, "name": "io.debezium.time.ZonedTimestamp"}),
        ["2018-06-20T15:13:16Z"],
        Logical.ARRAY,
        b'{"2018-06-20 15:13:16+00"}',
    ),
    (field("v", "map", keys={"type": "string"}, values={"type": "string"}), {"a": "1"}, Logical.JSON, b'{"a": "1"}'),
    (
        field("v", "struct", "io.debezium.data.geometry.Geometry"),
        {"wkb": base64(b"\x01" + (1).to_bytes(4, "little") + bytes(16)), "srid": 4326},
        Logical.TEXT,
        b"0101000020E6100000" + b"0" * 32,
    ),
]


@pytest.mark.parametrize(("form", "value", "logical", "cell"), FORMS)
def test_a_value_has_the_meaning_that_its_schema_gives_it(
    form: dict[str, Any], value: Any, logical: Logical, cell: bytes
) -> None:
    message = change([field("id", "int32", optional=False), form], {"id": 1, "v": value})
    table, row, op = read(message, key_of({"id": 1}))
    assert (table.column("v").logical, row["v"], op) == (logical, cell, "c")


def test_the_example_of_debeziums_documentation_is_read() -> None:
    fields = [
        field("id", "int32", optional=False),
        *(field(n, "string", optional=False) for n in ("first_name", "email")),
    ]
    row = {"id": 1, "first_name": "Anne", "email": "annek@noanswer.org"}
    table, found, op = read(change(fields, row), key_of({"id": 1}))
    assert str(table.name) == "public.customers"
    assert (table.key, table.primary_key) == (("id",), ("id",))
    assert [column.nullable for column in table.columns] == [False, False, False]
    assert (op, found) == ("c", {"id": b"1", "first_name": b"Anne", "email": b"annek@noanswer.org"})
    _, gone, op = read(change(fields, None, "d", row), key_of({"id": 1}))
    assert (op, gone) == ("d", found)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (field("v", "string"), "__debezium_unavailable_value"),
        (field("v", "bytes"), base64(b"__debezium_unavailable_value")),
        (field("v", "array", items={"type": "string"}), ["__debezium_unavailable_value"]),
        (data("string", "Json"), "__debezium_unavailable_value"),
        (field("v", "array", items={"type": "int32", "optional": True}), BYTES_OF_THE_MARK),
        (field("v", "array", items={"type": "int64", "optional": True}), BYTES_OF_THE_MARK),
        (field("v", "array", items={"type": "bytes", "optional": True}), [base64(MARK)]),
        (field("v", "array", items={"type": "string", "name": "io.debezium.data.Uuid"}), [UUID_OF_THE_MARK]),
        (field("v", "map", keys={"type": "string"}, values={"type": "string"}), OBJECT_OF_THE_MARK),
        (data("string", "Json"), json.dumps(OBJECT_OF_THE_MARK)),
        (data("string", "Json"), json.dumps(OBJECT_OF_THE_MARK, separators=(",", ":"))),
        (
            field("v", "struct", "io.debezium.data.geometry.Geometry"),
            {"wkb": base64(bytes.fromhex(GEOMETRY_OF_THE_MARK)), "srid": 4326},
        ),
    ],
)
def test_what_debezium_writes_for_a_value_that_was_not_logged_is_no_value(form: dict[str, Any], value: Any) -> None:
    message = change([field("id", "int32", optional=False), form], {"id": 1, "v": value}, "u")
    assert read(message)[1]["v"] is UNCHANGED


@pytest.mark.parametrize(
    ("form", "value", "cell"),
    [
        (field("v", "array", items={"type": "int32"}), [*BYTES_OF_THE_MARK, 1], None),
        (field("v", "array", items={"type": "string"}), [MARK.decode(), "a"], None),
        (field("v", "map", keys={"type": "string"}, values={"type": "string"}), {MARK.decode(): "a"}, None),
        (field("v", "string"), "x" * 103, b"x" * 103),
    ],
)
def test_what_only_resembles_the_mark_is_a_value(form: dict[str, Any], value: Any, cell: bytes | None) -> None:
    message = change([field("id", "int32", optional=False), form], {"id": 1, "v": value}, "u")
    found = read(message)[1]["v"]
    assert isinstance(found, bytes)
    assert cell in (None, found)


def test_a_tombstone_says_nothing_and_a_delete_may_have_only_its_key() -> None:
    opened = open_format(DEBEZIUM)
    fields = [field("id", "int32", optional=False), field("v", "string")]
    value, key = change(fields, {"id": 1, "v": "a"}), key_of({"id": 1})
    table = opened.described(TOPIC, key, value)
    reader = opened.reader(table, opened.mark(value))
    assert reader.read(key, None, {}) == ("", None, None)
    op, before, after = reader.read(key, change(fields, None, "d"), {})
    assert (op, after) == ("d", None)
    assert cells(before or b"", 0, 2) == [b"1", UNCHANGED]


def test_without_schemas_the_values_tell_what_columns_are_and_a_shape_only_becomes_wider() -> None:
    opened = open_format(DEBEZIUM)

    def shape(row: str) -> dict[str, Logical]:
        value = b'{"before":null,"after":' + row.encode() + b',"op":"c"}'
        table = opened.described("a.b.c", b'{"id":1}', value)
        assert (table.key, str(table.name)) == (("id",), "b.c")
        assert opened.mark(value) is None
        return {column.name: column.logical for column in table.columns}

    first = shape('{"id":1,"n":2,"f":0.10,"t":"x","b":true,"o":{"a":[]},"big":99999999999999999999}')
    assert list(first.values()) == ["int8", "int8", "decimal", "text", "bool", "json", "decimal"]
    second = shape('{"id":1,"n":2.5,"f":null,"t":7,"b":1,"new":null}')
    assert second == first | {"n": "decimal", "t": "text", "b": "text", "new": "text"}


def test_numbers_without_a_schema_keep_every_digit() -> None:
    value = b'{"after":{"id":1,"f":0.100000000000000000000000000000000000001,"e":1.5e3},"op":"r"}'
    _, row, op = read(value, b'{"id":1}')
    assert (op, row["f"], row["e"]) == ("r", b"0.100000000000000000000000000000000000001", b"1500")


def test_a_flat_row_with_its_schema_is_read() -> None:
    schema = {
        "type": "struct",
        "fields": [field("id", "int32", optional=False), field("d", "int32", "io.debezium.time.Date")],
    }
    value = json.dumps({"schema": schema, "payload": {"id": 5, "d": 0}}).encode()
    table, row, op = read(value, key_of({"id": 5}), Decoding(envelope="flat"))
    assert (op, row, str(table.name)) == ("c", {"id": b"5", "d": b"1970-01-01"}, "inventory.customers")


def test_a_cloud_event_of_debezium_is_read() -> None:
    event = {
        "id": "name:test_server;lsn:29274832;txId:565",
        "source": "/debezium/postgresql/test_server",
        "specversion": "1.0",
        "type": "io.debezium.connector.postgresql.DataChangeEvent",
        "iodebeziumop": "r",
        "data": {"before": None, "after": {"pk": 1, "aa": "x"}},
    }
    _, row, op = read(json.dumps(event).encode(), b'{"pk":1}', Decoding(envelope="cloudevents"))
    assert (op, row) == ("r", {"pk": b"1", "aa": b"x"})


@pytest.mark.parametrize(
    "value",
    [
        b"x",
        b"{}",
        b'{"schema":{"type":"struct"},"payload":{"after":{}}}',
        b'{"schema":{"fields":[{}]},"payload":{}}',
        b"[1]",
    ],
)
def test_a_message_that_tells_of_no_table_is_refused(value: bytes) -> None:
    with pytest.raises(DecodeError):
        open_format(DEBEZIUM).described(TOPIC, None, value)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (field("v", "int32", "io.debezium.time.Date"), 2**40),
        (field("v", "int64", "io.debezium.time.Timestamp"), 2**62),
        (field("v", "int64", "io.debezium.time.NanoTimestamp"), 1),
        (field("v", "bytes"), "a"),
        (field("v", "bytes", "org.apache.kafka.connect.data.Decimal", parameters={"scale": "2"}), "!"),
        (data("struct", "VariableScaleDecimal"), {"scale": 10**9, "value": "AQ=="}),
        (field("v", "struct", "io.debezium.data.geometry.Geometry"), {"wkb": "AQ=="}),
        (field("v", "boolean"), 2),
        (field("v", "int32"), True),
        (field("v", "string", "io.debezium.time.ZonedTimestamp"), "yesterday"),
    ],
)
def test_a_value_that_its_schema_does_not_allow_is_refused_with_its_field(form: dict[str, Any], value: Any) -> None:
    message = change([field("id", "int32", optional=False), form], {"id": 1, "v": value})
    if value is True:
        assert read(message)[1]["v"] == b"1"  # as MySQL's tinyint(1) with a converter
        return
    with pytest.raises(DecodeError) as refused:
        read(message)
    assert refused.value.at.endswith("field v")


def test_a_decimal_of_any_length_keeps_its_digits() -> None:
    number = -(10**6000 + 7)
    text = variable_decimal({"value": number.to_bytes(2600, "big", signed=True), "scale": 3})
    assert text == b"-1" + b"0" * 5997 + b".007"
