"""JSON under schemas of a registry: what is registered is true of the messages, and they come back as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cdcflow.bus.config import Decoding, Encoding, Registry
from cdcflow.bus.formats import Messages, Stamp, Writer
from cdcflow.bus.formats.json import JsonFormat
from cdcflow.codecs.murmur2_cy import murmur2
from cdcflow.errors import DecodeError
from cdcflow.model.frame import Cell, cells
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical
from tests.unit.bus_columns import COLUMNS, SORTS, Change, frame_of, native, route_of, stamps_of
from tests.unit.bus_rows import MemoryRegistry
from tests.unit.test_bus_json import ENCODINGS, FEW, headers

PLAIN = {name: encoding for name, encoding in ENCODINGS.items() if not encoding.schemas}
ROUTE = route_of(COLUMNS)


class Shop:
    """A writer and a reader with one registry."""

    def __init__(self, encoding: Encoding = PLAIN["debezium"]) -> None:
        self.registry = MemoryRegistry()
        self.encoding = encoding
        registry = cast("Any", self.registry)
        self.writes = JsonFormat(encoding, "shop", registry=registry)
        self.reads = JsonFormat(Decoding(envelope=encoding.envelope), "shop", registry=registry)

    def written(self, route: Route, changes: list[Change], stamp: Stamp | None = None) -> tuple[Writer, Messages]:
        names = tuple(column.name for column in route.source.columns)
        writer = self.writes.writer("shop.public.goods", route, names)
        return writer, writer.write(frame_of(route, changes), stamps_of(len(changes), stamp))

    def valid(self, message: bytes) -> Any:
        """Return what a message says, which its schema has to be true of."""
        assert message[0] == 0
        said = json.loads(message[5:], parse_constant=pytest.fail)
        schema = json.loads(self.registry.definition(int.from_bytes(message[1:5], "big")).text)
        jsonschema.Draft7Validator.check_schema(schema)
        jsonschema.validate(said, schema, jsonschema.Draft7Validator)
        return said


@pytest.mark.parametrize("sort", SORTS)
@FEW
@given(data=st.data())
def test_every_value_is_what_the_registered_schema_says_and_comes_back(sort: str, data: st.DataObject) -> None:
    shop = Shop(data.draw(st.sampled_from(list(PLAIN.values()))))
    route = route_of([COLUMNS[0], Column("v", SORTS[sort].type, SORTS[sort].logical)])
    row: list[Cell] = [b"1", data.draw(st.none() | SORTS[sort].cells)]
    writer, messages = shop.written(route, [("I", None, row)])
    (key,), (value,) = messages.keys, messages.values
    assert key is not None
    assert value is not None
    shop.valid(key)
    shop.valid(value)
    assert int.from_bytes(messages.hashes, "little") == murmur2(key) & 0x7FFFFFFF
    op, before, after = shop.reads.reader(writer.shape, None).read(key, value, headers(writer, messages, 0))
    assert (op, before, after and cells(after, 0, 2)) == ("c", None, row)


def test_keys_of_deletes_are_read_and_so_is_what_was_written_without_a_registry() -> None:
    for encoding in (PLAIN["flat"], PLAIN["debezium"]):
        shop = Shop(encoding)
        plain = Shop(encoding)
        plain.writes = JsonFormat(encoding, "shop")
        for each in (shop, plain):
            row: list[Cell] = [b"7", *[None] * len(SORTS)]
            writer, messages = each.written(ROUTE, [("D", row, None)])
            reader = shop.reads.reader(writer.shape, None)
            number = 0
            op, before, _ = reader.read(messages.keys[number], messages.values[number], headers(writer, messages, 0))
            assert op == "d"
            assert before is not None
            assert cells(before, 0, len(row))[0] == b"7"


def test_a_table_that_was_emptied_is_said_under_the_schema_too() -> None:
    for encoding in PLAIN.values():
        shop = Shop(encoding)
        writer, _ = shop.written(ROUTE, [])
        key, value = writer.truncate(Stamp("0/1", "5", 1))
        assert key is None
        if encoding.envelope != "flat":
            shop.valid(value)
        assert shop.reads.reader(writer.shape, None).read(key, value, {"cdcflow.op": b"t"})[0] == "t"


def test_subjects_hold_the_names_of_the_schemas() -> None:
    shop = Shop()
    shop.written(ROUTE, [])
    assert sorted(shop.registry.subjects) == ["shop.public.goods-key", "shop.public.goods-value"]
    titles = {json.loads(shop.registry.definition(number).text)["title"] for number in (1, 2)}
    assert titles == {"shop.public.goods.Key", "shop.public.goods.Envelope"}


def test_an_event_of_a_copied_row_is_named_by_its_key_alone() -> None:
    route = route_of([COLUMNS[0], Column("note", native("text", 25), Logical.TEXT)])
    shop = Shop(PLAIN["structured"])
    _, messages = shop.written(route, [("I", None, [b"1", b"a"])], Stamp(snapshot=True))
    assert shop.valid(messages.values[0] or b"")["id"] == 'snapshot/shop.goods/{"ID":1}'
    shop = Shop(PLAIN["binary"])
    _, messages = shop.written(route, [("I", None, [b"1", b"a"])], Stamp(snapshot=True))
    assert dict(messages.extras[0])["ce_id"] == b'snapshot/shop.goods/{"ID":1}'


@pytest.mark.parametrize("name", ["debezium", "flat", "structured"])
def test_a_registered_schema_tells_others_tables_as_the_schema_in_a_message_does(name: str) -> None:
    """As Confluent's converter writes topics of Debezium's."""
    shop = Shop(PLAIN[name])
    row: list[Cell] = [b"1", *[None] * len(SORTS)]
    _, messages = shop.written(ROUTE, [("I", None, row)])
    key, value = messages.keys[0], messages.values[0] or b""
    found = shop.reads.described("shop.public.goods", key, value)
    beside = Shop(replace_schemas(PLAIN["flat" if name == "flat" else "debezium"]))
    beside.writes = JsonFormat(beside.encoding, "shop")
    _, others = beside.written(ROUTE, [("I", None, row)])
    wanted = beside.reads.described("shop.public.goods", others.keys[0], others.values[0] or b"")
    assert replace(found, name=wanted.name, id=wanted.id) == wanted
    mark = shop.reads.mark(value)
    assert mark == value[:5]
    op, _, after = shop.reads.reader(found, mark).read(key, value, {})
    assert op == "c"
    assert after is not None
    assert cells(after, 0, len(row)) == row


def replace_schemas(encoding: Encoding) -> Encoding:
    return encoding.model_copy(update={"schemas": True})


def test_without_a_registry_a_message_under_a_schema_is_refused_with_what_to_do() -> None:
    shop = Shop()
    writer, messages = shop.written(ROUTE, [("I", None, [b"1", *[None] * len(SORTS)])])
    bare = JsonFormat(Decoding(), "shop")
    value = messages.values[0] or b""
    with pytest.raises(DecodeError, match="begins with the number of a schema") as raised:
        bare.reader(writer.shape, None).read(messages.keys[0], value, headers(writer, messages, 0))
    assert "registry:" in raised.value.do
    with pytest.raises(DecodeError, match="begins with the number of a schema"):
        bare.described("shop.public.goods", messages.keys[0], value)


def test_schemas_in_the_messages_and_in_a_registry_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="schemas: true"):
        Encoding(schemas=True, registry=Registry(url="http://registry"))


@pytest.mark.parametrize(
    "text",
    [b"[]", b"5", b"{", b'{"oneOf": 5}', b'{"properties": []}', b'{"$ref": "#/a"}', b'{"$ref": "#"}', b"null"],
)
def test_a_registered_schema_that_is_none_of_a_row_is_unreadable(text: bytes) -> None:
    shop = Shop()
    number = shop.registry.register("s", "JSON", text.decode()).id
    with pytest.raises(DecodeError):
        shop.reads.described("a.b.c", None, bytes(1) + number.to_bytes(4, "big") + b'{"before":null,"op":"c"}')
