"""Avro and Protobuf: every value comes back as it was, and rows become the messages that the rules say."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.bus.config import Decoding, Encoding
from cdcflow.bus.formats import Stamp, proto_reading
from cdcflow.codecs.copytext_cy import ImageError
from cdcflow.errors import DecodeError, RowRejected
from cdcflow.model import frame as frames
from cdcflow.model.frame import UNCHANGED
from cdcflow.model.route import Mode, OnDelete
from tests.unit.bus_binary import FORMATS, TABLE, both, quick, reader_of, rows, written
from tests.unit.bus_rows import POSTGRES, MemoryRegistry, frame_of, read_back, route_of, stamps_of, table_of


@both
@quick
@given(row=rows, old=rows, decimals=st.sampled_from(["string", "number"]))
def test_every_value_comes_back_as_it_was(name: str, row: Any, old: Any, decimals: Any) -> None:
    registry = MemoryRegistry()
    old[0] = row[0]
    changes = [("I", None, row), ("U", old, row), ("D", row, None)]
    messages = written(name, TABLE, changes, registry, decimals=decimals)
    found = read_back(messages, reader_of(name, TABLE, registry), width=len(row))
    assert found == [("c", None, row), ("u", old, row), ("d", row, None)]


@both
@pytest.mark.parametrize("mode", ["structured", "binary"])
@quick
@given(row=rows)
def test_cloud_events_hold_the_same_rows(name: str, mode: Any, row: Any) -> None:
    registry = MemoryRegistry()
    messages = written(name, TABLE, [("I", None, row)], registry, envelope="cloudevents", mode=mode)
    reader = reader_of(name, TABLE, registry, envelope="cloudevents")
    assert read_back(messages, reader, width=len(row)) == [("c", None, row)]
    if mode == "binary":
        headers = dict(messages.extras[0])
        assert headers["ce_id"] == b"0/16B3748/1"
        assert headers["ce_specversion"] == b"1.0"


@both
def test_flat_rows_have_deletes_without_a_value(name: str) -> None:
    table = table_of({"id": "int8", "text": "text"}, ["id"])
    registry = MemoryRegistry()
    changes = [("I", None, [b"1", b"a"]), ("D", [b"1", UNCHANGED], None)]
    messages = written(name, table, changes, registry, envelope="flat")
    assert [value is None for value in messages.values] == [False, True]
    found = read_back(messages, reader_of(name, table, registry, envelope="flat"), width=2)
    assert found == [("c", None, [b"1", b"a"]), ("d", [b"1", UNCHANGED], None)]


@both
def test_an_update_of_the_key_is_a_delete_its_tombstone_and_a_create(name: str) -> None:
    table = table_of({"id": "int8", "text": "text"}, ["id"])
    registry = MemoryRegistry()
    messages = written(name, table, [("U", [b"1", UNCHANGED], [b"2", b"a"])], registry)
    assert messages.ops == b"ddc"
    assert messages.values[1] is None
    assert messages.keys[0] == messages.keys[1] != messages.keys[2]
    found = read_back(messages, reader_of(name, table, registry), width=2)
    assert found == [("d", [b"1", UNCHANGED], None), ("c", None, [b"2", b"a"])]


@both
def test_what_was_not_logged_is_told_from_a_text_that_looks_the_same(name: str) -> None:
    table = table_of({"id": "int8", "text": "text", "bytea": "bytea", "int4": "int4"}, ["id"], not_null=["int4"])
    registry = MemoryRegistry()
    same = b"__debezium_unavailable_value"
    changes = [("U", None, [b"1", UNCHANGED, UNCHANGED, UNCHANGED]), ("U", None, [b"1", same, None, b"4"])]
    messages = written(name, table, changes, registry)
    assert list(messages.extras) == [0]
    reader = reader_of(name, table, registry)
    found = read_back(messages, reader, width=4)
    assert [row[2] for row in found] == [row[2] for row in changes]
    # A message of Debezium's own has no headers: there the text says it.
    op, _, after = reader.read(messages.keys[1], messages.values[1], {})
    assert op == "u"
    assert frames.cells(after, 0, 4)[1] is UNCHANGED


@both
def test_every_column_may_be_one_that_was_not_logged(name: str) -> None:
    registry = MemoryRegistry()
    row = [b"1", *([UNCHANGED] * len(POSTGRES))]
    messages = written(name, TABLE, [("U", None, row)], registry)
    assert read_back(messages, reader_of(name, TABLE, registry), width=len(row)) == [("u", None, row)]


@both
def test_the_rules_keep_deletes_and_updates_back(name: str) -> None:
    table = table_of({"id": "int8", "text": "text"}, ["id"])
    changes = [("I", None, [b"1", b"a"]), ("U", None, [b"1", b"b"]), ("D", [b"1", UNCHANGED], None)]
    for rules, ops in (
        ({"on_delete": OnDelete.IGNORE}, b"cu"),
        ({"mode": Mode.APPEND}, b"c"),
        ({"on_delete": OnDelete.SOFT}, b"cud"),
    ):
        route = route_of(table, **rules)
        writer = FORMATS[name](Encoding(format=name), MemoryRegistry()).writer("t", route, table.column_names)
        assert writer.write(frame_of(route, changes), stamps_of(3)).ops == ops


@both
def test_copied_rows_are_reads_and_a_truncation_is_told(name: str) -> None:
    table = table_of({"id": "int8"}, ["id"])
    registry = MemoryRegistry()
    form = FORMATS[name](Encoding(format=name), registry)
    writer = form.writer("shop.orders", route_of(table), ("id",))
    frame = frame_of(route_of(table), [("I", None, [b"1"])])
    messages = writer.write(frame, stamps_of(1, Stamp("0/16B3748", snapshot=True)))
    assert messages.ops == b"r"
    key, value = writer.truncate(Stamp("0/16B3748", "742"))
    assert key is None
    assert form.reader(table, None).read(key, value, {"cdcflow.op": b"t"}) == ("t", None, None)


@both
def test_a_message_that_does_not_say_what_happened_to_its_row_is_not_passed_over(name: str) -> None:
    table, registry = table_of({"id": "int8"}, ["id"]), MemoryRegistry()
    messages = written(name, table, [("I", None, [b"1"])], registry)
    value = messages.values[0]
    assert value is not None
    length = {"avro": b"\x02", "protobuf": b"\x01"}[name]
    assert length + b"c" in value
    broken = value.replace(length + b"c", length + b"x")
    with pytest.raises(DecodeError, match="what happened"):
        reader_of(name, table, registry).read(messages.keys[0], broken, {})


def test_columns_whose_names_differ_by_camels_alone_are_not_mixed_up() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    message = file.message_type.add(name="Value")
    for number, column in enumerate(("user_id", "userId"), 1):
        # Registries give descriptors in which every field has a name for JSON.
        message.field.add(name=column, json_name="userId", number=number, type=9, label=1, proto3_optional=True)
    found = proto_reading.types([file])
    where = proto_reading.envelope(found, 0, flat=True)
    table = table_of({"user_id": "text", "userId": "text"}, ["user_id"])
    image = proto_reading.scanner(found, table, where, hides=False).read(b"\x0a\x01a", 0)[2]
    assert image is not None
    assert frames.cells(image, 0, 2) == [b"a", None]


@both
def test_a_stamp_that_lacks_its_parts_is_refused(name: str) -> None:
    table, registry = table_of({"id": "int8"}, ["id"]), MemoryRegistry()
    writer: Any = FORMATS[name](Encoding(format=name), registry).writer("t", route_of(table), ("id",))
    frame = frame_of(route_of(table), [("I", None, [b"1"])])
    stamps = stamps_of(1)
    with pytest.raises(ImageError, match="stamp"):
        writer._packing._encoder.write(
            (frame.ops, frame.after, frame.after_sizes, frame.before, frame.before_sizes),
            (stamps.of_row, stamps.order, stamps.table_order),
            [(b"", b"")],
            b"",
        )


@both
def test_a_key_that_the_format_cannot_say_is_rejected_without_its_value(name: str) -> None:
    table = table_of({"date": "date"}, ["date"])
    with pytest.raises(RowRejected) as rejected:
        written(name, table, [("I", None, [b"infinity"])], MemoryRegistry())
    assert "infinity" not in rejected.value.report()


@both
def test_a_table_is_described_by_its_schema(name: str) -> None:
    table = table_of({"a name": "int8", "text": "text", "bytea": "bytea", "texts": "texts"}, ["a name"])
    registry = MemoryRegistry()
    messages = written(name, table, [("I", None, [b"1", b"a", None, b"{}"])], registry)
    found = FORMATS[name](Decoding(format=name), registry).described("x.y", messages.keys[0], messages.values[0])
    assert str(found.name) == "shop.orders"
    assert found.key == ("a name",)
    assert [(column.name, column.type.text, column.nullable) for column in found.columns] == [
        ("a name", "bigint", False),
        ("text", "text", True),
        ("bytea", "bytea", True),
        ("texts", "text[]", True),
    ]
