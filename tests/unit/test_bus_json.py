"""JSON on the bus: what is written, and that every value that a server prints comes back as it was."""

from __future__ import annotations

import json
from array import array
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdcflow.bus.config import Decoding, Encoding
from cdcflow.bus.formats import EXACT, OP, SCHEMA, UNCHANGED, Messages, Stamp, Writer
from cdcflow.bus.formats.opening import open_format
from cdcflow.codecs.copytext_cy import ImageError
from cdcflow.codecs.murmur2_cy import murmur2
from cdcflow.errors import DecodeError, RowRejected
from cdcflow.model.frame import UNCHANGED as ABSENT
from cdcflow.model.frame import Cell, cells
from cdcflow.model.route import Mode, OnDelete, Route
from cdcflow.model.schema import Column, Logical
from tests.unit.bus_columns import COLUMNS, SORTS, Change, frame_of, keyed, native, route_of, stamps_of

ROUTE = route_of(COLUMNS)
SMALL = route_of([COLUMNS[0], Column("note", native("text", 25), Logical.TEXT)])
ENCODINGS = {
    "debezium": Encoding(),
    "with schemas": Encoding(schemas=True),
    "numbers": Encoding(decimals="number"),
    "iso": Encoding(temporals="iso"),
    "flat": Encoding(envelope="flat"),
    "flat with schemas": Encoding(envelope="flat", schemas=True),
    "structured": Encoding(envelope="cloudevents"),
    "binary": Encoding(envelope="cloudevents", mode="binary"),
}
# Plain Python on a busy machine takes its time.
FEW = settings(max_examples=40, deadline=None)


def written(
    encoding: Encoding, route: Route, changes: list[Change], stamp: Stamp | None = None
) -> tuple[Writer, Messages]:
    names = tuple(column.name for column in route.source.columns)
    writer = open_format(encoding, "shop").writer("shop.shop.goods", route, names)
    return writer, writer.write(frame_of(route, changes), stamps_of(len(changes), stamp))


def headers(writer: Writer, messages: Messages, number: int) -> dict[str, bytes]:
    told = {OP: messages.ops[number : number + 1], SCHEMA: writer.fingerprint.encode()}
    return told | dict(messages.extras.get(number, ()))


def read_back(
    encoding: Encoding, writer: Writer, messages: Messages
) -> list[tuple[str, list[Cell] | None, list[Cell] | None]]:
    reader = open_format(Decoding(envelope=encoding.envelope)).reader(writer.shape, None)
    found = []
    for number, (key, value) in enumerate(zip(messages.keys, messages.values, strict=True)):
        op, before, after = reader.read(key, value, headers(writer, messages, number))
        width = len(writer.shape.columns)
        if op:
            images = [None if image is None else cells(image, 0, width) for image in (before, after)]
            found.append((op, images[0], images[1]))
    return found


@pytest.mark.parametrize("sort", SORTS)
@FEW
@given(data=st.data())
def test_every_value_that_a_server_prints_comes_back(sort: str, data: st.DataObject) -> None:
    route = route_of([COLUMNS[0], Column("v", SORTS[sort].type, SORTS[sort].logical)])
    values = st.none() | SORTS[sort].cells
    row: list[Cell] = [b"1", data.draw(values)]
    old: list[Cell] = [b"1", data.draw(values)]
    encoding = data.draw(st.sampled_from(list(ENCODINGS.values())))
    writer, messages = written(encoding, route, [("I", None, row), ("U", old, row), ("D", row, None)])
    found = read_back(encoding, writer, messages)
    if encoding.envelope == "flat":  # a tombstone's key is all that says which row was deleted
        assert found == [("c", None, row), ("u", None, row), ("d", keyed(row), None)]
    else:
        assert found == [("c", None, row), ("u", old, row), ("d", row, None)]
    for value in messages.values:
        assert value is None or json.loads(value, parse_constant=pytest.fail)


@pytest.mark.parametrize("sort", SORTS)
@FEW
@given(data=st.data())
def test_every_key_comes_back(sort: str, data: st.DataObject) -> None:
    column = Column("k", SORTS[sort].type, SORTS[sort].logical)
    key = data.draw(SORTS[sort].cells)
    writer, messages = written(ENCODINGS["flat"], route_of([column], ("k",)), [("I", None, [key]), ("D", [key], None)])
    if sort not in ("json", "float4", "float8"):  # NaN in a key is no concern of readers
        assert read_back(ENCODINGS["flat"], writer, messages)[1] == ("d", [key], None)
    assert messages.keys[0] == messages.keys[1]


def test_a_change_is_written_as_debezium_documents_it() -> None:
    route = route_of([COLUMNS[0], Column("first_name", native("text", 25), Logical.TEXT)])
    _, messages = written(Encoding(), route, [("I", None, [b"1", b"Anne"])])
    change = json.loads(messages.values[0] or b"")
    assert list(change) == ["before", "after", "source", "transaction", "op", "ts_ms", "ts_us", "ts_ns"]
    assert change["after"] == {"ID": 1, "FIRST_NAME": "Anne"}
    assert change["op"] == "c"
    assert change["transaction"] == {"id": "77", "total_order": 1, "data_collection_order": 1}
    source = change["source"]
    assert {name: source[name] for name in ("connector", "name", "snapshot", "schema", "table", "txId", "lsn")} == {
        "connector": "postgresql",
        "name": "shop",
        "snapshot": "false",
        "schema": "public",
        "table": "goods",
        "txId": 77,
        "lsn": 500,
    }
    assert (source["ts_ms"], source["ts_us"]) == (1_700_000_000_123, 1_700_000_000_123_456)
    rest = {"version", "ts_ms", "db", "sequence", "ts_us", "ts_ns", "xmin"}
    assert set(source) == rest | {"connector", "name", "snapshot", "schema", "table", "txId", "lsn"}


def test_a_row_of_mysql_says_where_in_the_binary_log_it_is() -> None:
    route = route_of(SMALL.source.columns, engine="mysql")
    stamp = Stamp("binlog.000003:1234@7 mysql=3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", "5", 1)
    _, messages = written(Encoding(), route, [("I", None, [b"1", None])], stamp)
    source = json.loads(messages.values[0] or b"")["source"]
    assert (source["connector"], source["db"], source["file"], source["pos"]) == (
        "mysql",
        "public",
        "binlog.000003",
        1234,
    )
    assert source["gtid"] == "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"
    assert {"server_id", "row", "thread", "query"} <= set(source)


def test_a_message_with_its_schema_is_what_connects_converter_reads() -> None:
    _, messages = written(Encoding(schemas=True), ROUTE, [("I", None, [b"1", *[None] * len(SORTS)])])
    value = json.loads(messages.values[0] or b"")
    fields = {field["field"]: field for field in value["schema"]["fields"]}
    assert list(fields) == list(value["payload"])
    columns = {field["field"]: field for field in fields["after"]["fields"]}
    assert list(columns) == list(value["payload"]["after"])
    assert (columns["DATE"]["type"], columns["DATE"]["name"]) == ("int32", "io.debezium.time.Date")
    assert columns["BITS"]["parameters"] == {"length": "11"}
    assert columns["ENUM"]["parameters"] == {"allowed": "a,b c"}
    key = json.loads(messages.keys[0] or b"")
    assert key["payload"] == {"ID": 1}
    assert key["schema"]["fields"] == [{"type": "int64", "optional": False, "field": "ID"}]


def test_a_decimal_with_digits_is_one_of_connects_and_not_a_double_that_loses_some() -> None:
    declared = Column("total", native("numeric(38,2)", 1700, (38 << 16 | 2) + 4), Logical.DECIMAL)
    free = Column("free", native("numeric", 1700), Logical.DECIMAL)
    route = route_of((*SMALL.source.columns, declared, free))
    _, messages = written(
        Encoding(schemas=True, decimals="number"), route, [("I", None, [b"1", b"a", b"1234567890123456789.10", b"1.5"])]
    )
    value = json.loads(messages.values[0] or b"", parse_float=str)
    fields = {field["field"]: field for field in value["schema"]["fields"]}
    columns = {field["field"]: field for field in fields["after"]["fields"]}
    assert columns["TOTAL"] == {
        "type": "bytes",
        "name": "org.apache.kafka.connect.data.Decimal",
        "version": 1,
        "parameters": {"scale": "2", "connect.decimal.precision": "38"},
        "optional": True,
        "field": "TOTAL",
    }
    assert value["payload"]["after"]["TOTAL"] == "1234567890123456789.10"
    assert columns["FREE"]["type"] == "double"


def test_a_cloud_event_has_the_attributes_that_the_specification_requires() -> None:
    changes: list[Change] = [("I", None, [b"1", b"a"]), ("U", [b"1", b"a"], [b"2", b"a"])]
    _, structured = written(ENCODINGS["structured"], SMALL, changes)
    events = [json.loads(value) for value in structured.values if value is not None]
    assert [event["id"] for event in events] == ["0/1F4/1", "0/1F4/2d", "0/1F4/2"]
    for event in events:
        assert list(event)[:4] == ["specversion", "id", "source", "type"]
        assert (event["specversion"], event["subject"]) == ("1.0", "shop.goods")
        assert event["time"] == "2023-11-14T22:13:20.123456Z"
        assert list(event["data"]) == ["before", "after", "source", "op"]
    _, binary = written(ENCODINGS["binary"], SMALL, changes)
    told = [dict(binary.extras[number]) for number, value in enumerate(binary.values) if value is not None]
    assert [each["ce_id"].decode() for each in told] == [event["id"] for event in events]
    assert [json.loads(value) for value in binary.values if value is not None] == [event["data"] for event in events]
    assert told[0]["content-type"] == b"application/json"


def test_a_copied_row_is_read_and_its_event_is_named_by_its_key() -> None:
    copied = Stamp(snapshot=True)
    _, messages = written(ENCODINGS["structured"], SMALL, [("I", None, [b"1", b"a"])], copied)
    event = json.loads(messages.values[0] or b"")
    assert (messages.ops, event["data"]["op"]) == (b"r", "r")
    assert event["id"] == 'snapshot/shop.goods/{"ID":1}'
    assert event["data"]["source"]["snapshot"] == "true"


def test_a_change_of_the_key_is_a_delete_with_its_tombstone_and_a_create() -> None:
    row: list[Cell] = [b"2", b"x"]
    writer, messages = written(Encoding(), SMALL, [("U", keyed([b"1", b"x"]), row), ("I", None, row)])
    assert array("I", messages.starts).tolist() == [0, 3, 4]
    assert messages.keys == [b'{"ID":1}', b'{"ID":1}', b'{"ID":2}', b'{"ID":2}']
    assert [value is None for value in messages.values] == [False, True, False, False]
    assert messages.ops == b"ddcc"
    assert array("I", messages.hashes).tolist() == [murmur2(key or b"") for key in messages.keys]
    assert read_back(Encoding(), writer, messages)[:2] == [("d", keyed([b"1", b"x"]), None), ("c", None, row)]


def test_a_part_of_a_changed_key_that_was_not_logged_anew_is_that_of_the_old_row() -> None:
    note = Column("note", native("text", 25), Logical.TEXT, nullable=False)
    route = route_of([COLUMNS[0], note], ("id", "note"))
    _, messages = written(Encoding(), route, [("U", [b"1", b"large"], [b"2", ABSENT])])
    assert messages.ops == b"ddc"
    assert messages.keys[2] == b'{"ID":2,"NOTE":"large"}'


def test_a_value_that_was_not_logged_stays_unknown_and_one_that_looks_alike_is_a_value() -> None:
    row: list[Cell] = [b"1", *(ABSENT if name != "text" else b"__debezium_unavailable_value" for name in SORTS)]
    writer, messages = written(Encoding(), ROUTE, [("U", None, row)])
    assert json.loads(dict(messages.extras[0])[UNCHANGED]) == [name.upper() for name in SORTS if name != "text"]
    assert json.loads(messages.values[0] or b"")["after"]["VARBIT"] == "__debezium_unavailable_value"
    assert read_back(Encoding(), writer, messages) == [("u", None, row)]


def test_what_json_cannot_say_of_both_images_is_told_apart() -> None:
    route = route_of([COLUMNS[0], Column("at", native("date", 1082), Logical.DATE)])
    change: Change = ("U", [b"1", b"infinity"], [b"1", b"-infinity"])
    writer, messages = written(Encoding(), route, [change])
    assert json.loads(dict(messages.extras[0])[EXACT]) == {"AT": "-infinity", "": {"AT": "infinity"}}
    assert read_back(Encoding(), writer, messages) == [("u", [b"1", b"infinity"], [b"1", b"-infinity"])]


@pytest.mark.parametrize(
    ("rules", "ops"),
    [
        ({}, b"cudd"),
        ({"on_delete": OnDelete.IGNORE}, b"cu"),
        ({"on_delete": OnDelete.SOFT}, b"cud"),
        ({"mode": Mode.APPEND}, b"c"),
    ],
)
def test_rows_that_the_rules_ignore_have_no_messages(rules: dict[str, Any], ops: bytes) -> None:
    row: list[Cell] = [b"1", None]
    _, messages = written(Encoding(), replace(SMALL, **rules), [("I", None, row), ("U", None, row), ("D", row, None)])
    assert messages.ops == ops
    assert len(messages.starts) == 16


def test_no_tombstones_where_the_configuration_wants_none() -> None:
    _, messages = written(Encoding(tombstones=False), SMALL, [("D", [b"1", None], None)])
    assert [value is None for value in messages.values] == [False]


def test_a_table_without_a_key_has_messages_without_one() -> None:
    keyless = route_of(SMALL.source.columns, ())
    writer, messages = written(Encoding(), keyless, [("I", None, [b"1", None]), ("D", [b"1", None], None)])
    assert messages.keys == [None, None]
    assert messages.ops == b"cd"
    assert read_back(Encoding(), writer, messages)[1] == ("d", [b"1", None], None)


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_truncate_is_read_as_one(name: str) -> None:
    encoding = ENCODINGS[name]
    writer, _ = written(encoding, SMALL, [])
    key, value = writer.truncate(Stamp("0/1", "5", 1))
    json.loads(value)
    reader = open_format(Decoding(envelope=encoding.envelope)).reader(writer.shape, None)
    assert reader.read(key, value, {OP: b"t", SCHEMA: b"x"}) == ("t", None, None)


def test_text_that_is_no_utf_8_is_refused_with_table_and_key() -> None:
    with pytest.raises(RowRejected) as refused:
        written(Encoding(), SMALL, [("I", None, [b"1", b"\xff"])])
    assert "public.goods" in refused.value.at
    assert "ID" in refused.value.at


BAD_CHANGES = (
    b"",
    b"{",
    b"[]",
    b"nul",
    b'{"op":"c"}',
    b'{"op":"x","after":{}}',
    b'{"op":"c","after":{"ID":1}',
    b'{"op":"c","after":{"ID":1}} x',
    b'{"op":"c","after":{},"after":{}}',
)
BAD_ROWS = (
    b'{"ID":01}',
    b'{"ID":[1]}',
    b'{"ID":1.5}',
    b'{"NOTE":"\xff"}',
    b'{"NOTE":"\\ud800"}',
    b'{"NOTE":"\n"}',
    b'{"x":' + b"[" * 999 + b"]" * 999 + b"}",
)


@pytest.mark.parametrize("value", BAD_CHANGES + tuple(b'{"op":"c","after":' + row + b"}" for row in BAD_ROWS))
def test_a_message_that_is_none_is_refused_without_its_values(value: bytes) -> None:
    writer, _ = written(Encoding(), SMALL, [])
    reader = open_format(Decoding()).reader(writer.shape, None)
    with pytest.raises(DecodeError):
        reader.read(None, value, {})


def test_an_error_names_the_field() -> None:
    writer, _ = written(Encoding(), SMALL, [])
    reader = open_format(Decoding()).reader(writer.shape, None)
    with pytest.raises(DecodeError) as refused:
        reader.read(None, b'{"op":"c","after":{"ID":"1","NOTE":null,"ID":true,"ID":{"secret":1}}}', {})
    assert refused.value.at == "table shop.goods, field ID"
    assert "secret" not in refused.value.report()


def test_fields_come_in_any_order_and_unknown_ones_are_stepped_over() -> None:
    writer, _ = written(Encoding(), SMALL, [])
    reader = open_format(Decoding()).reader(writer.shape, None)
    row = b'{ "NOTE":"\\u00e4\\ud83d\\ude00", "z":{}, "I\\u0044":7 }'
    value = b' { "x" : [ {"y":null} , -1.5e3 ] , "after" : ' + row + b' , "op":"u" } '
    op, before, after = reader.read(None, value, {})
    assert (op, before) == ("u", None)
    assert cells(after or b"", 0, 2) == [b"7", "ä😀".encode()]


@pytest.mark.parametrize(
    ("key", "number"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_are_hashed_as_kafkas_own_client_does(key: bytes, number: int) -> None:
    """The vectors are those of Kafka's UtilsTest."""
    assert murmur2(key) == number & 0x7FFFFFFF


def test_a_stamp_that_lacks_its_parts_is_refused() -> None:
    writer: Any = written(Encoding(), SMALL, [])[0]
    frame, stamps = frame_of(SMALL, [("I", None, [b"1", b"a"])]), stamps_of(1)
    with pytest.raises(ImageError, match="stamp"):
        writer._packing._encoder.write(
            (frame.ops, frame.after, frame.after_sizes, frame.before, frame.before_sizes),
            (stamps.of_row, stamps.order, stamps.table_order),
            [(b"", b"")],
            b"",
        )
