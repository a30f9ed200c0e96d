"""Deletions in flat messages that come before any row of their table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cdcflow.bus.config import Decoding
from cdcflow.bus.formats import Format
from cdcflow.bus.formats.avro import AvroFormat
from cdcflow.bus.formats.avro_writing import long, text
from cdcflow.bus.formats.framing import head
from cdcflow.bus.formats.opening import decoding
from cdcflow.bus.reading import Reading
from cdcflow.bus.shapes import number_of
from cdcflow.model.change import Rows, SchemaChange
from cdcflow.model.frame import UNCHANGED
from cdcflow.model.route import Route
from cdcflow.model.schema import TableName
from tests.unit.bus_double import Told, in_order, route_of, table
from tests.unit.bus_rows import MemoryRegistry

ID = number_of(TableName("public", "t"))
TWO = table("id", "v")
THREE = table("id", "v", "w")


class Later(dict[int, Route]):
    """Routes that were known at first; `[]` finds those of `later` too."""

    def __init__(self, later: dict[int, Route] | None = None) -> None:
        super().__init__()
        self.later, self.asked = later or {}, 0

    def __missing__(self, number: int) -> Route:
        self.asked += 1
        return self.later[number]


def _json_key(number: int) -> bytes:
    fields = [{"type": "int32", "optional": False, "field": "id"}]
    return json.dumps({"schema": {"type": "struct", "fields": fields}, "payload": {"id": number}}).encode()


def _json_row(number: int) -> bytes:
    fields = [{"type": "int32", "optional": False, "field": "id"}, {"type": "string", "optional": True, "field": "v"}]
    return json.dumps({"schema": {"type": "struct", "fields": fields}, "payload": {"id": number, "v": "a"}}).encode()


def _avro() -> tuple[Format, Callable[[int], bytes], Callable[[int], bytes]]:
    registry = MemoryRegistry()
    columns: list[dict[str, Any]] = [{"name": "id", "type": "int"}]
    key = registry.register("k", "AVRO", json.dumps({"type": "record", "name": "Key", "fields": columns}))
    columns = [*columns, {"name": "v", "type": ["null", "string"]}]
    value = registry.register("v", "AVRO", json.dumps({"type": "record", "name": "Value", "fields": columns}))
    return (
        AvroFormat(Decoding(format="avro", envelope="flat"), registry),
        lambda number: head(key.id) + long(number),
        lambda number: head(value.id) + long(number) + long(1) + text("a"),
    )


FLAT: dict[str, tuple[Format, Callable[[int], bytes], Callable[[int], bytes]]] = {
    "json": (decoding(Decoding(envelope="flat")), _json_key, _json_row),
    "json without schemas": (
        decoding(Decoding(envelope="flat")),
        lambda number: b'{"id":%d}' % number,
        lambda number: b'{"id":%d,"v":"a"}' % number,
    ),
    "avro": _avro(),
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("form", FLAT)
def test_a_flat_deletion_before_any_row_goes_to_the_table_that_the_target_has(form: str, late: bool) -> None:
    format_, key, row = FLAT[form]
    first = Reading(format_, Told(), route_of, {}, flat=True)
    first.add("x.public.t", "t/0", 0, key(1), row(1), None)
    (rows,) = first.take()[0]
    assert isinstance(rows, Rows)
    there = {frame.route.source.id: frame.route for frame in rows.frames.values()}
    known = Later(there) if late else there
    again = Reading(format_, Told(), route_of, known, flat=True)
    assert again.add("x.public.t", "t/0", 1, key(1), None, None) is None
    assert again.add("x.public.t", "t/0", 2, key(2), row(2), None) is None
    assert again.add("x.public.t", "t/0", 3, key(2), None, None) is None
    steps = again.take()[0]
    assert not any(isinstance(step, SchemaChange) for step in steps)
    assert [op for op, _, _ in in_order(steps)] == ["D", "I", "D"]
    assert [before for _, before, _ in in_order(steps)] == [[b"1", UNCHANGED], None, [b"2", UNCHANGED]]
    frames = [frame for step in steps if isinstance(step, Rows) for frame in step.frames.values()]
    assert {frame.route.target for frame in frames} == {there[ID].target}


def test_flat_deletions_of_a_table_that_nobody_has_are_passed_over_and_looked_for_once_a_share() -> None:
    known = Later()
    reading = Reading(decoding(Decoding(envelope="flat")), Told(), route_of, known, flat=True)
    for place in range(3):
        assert reading.add("x.public.t", "t/0", place, b'{"id":1}', None, None) is None
    assert (known.asked, reading.take()[0]) == (1, [])
    reading.add("x.public.t", "t/1", 0, b'{"id":2}', None, None)
    assert known.asked == 2
    reading.forget("t/0")  # and taken again: whoever had it meanwhile may have made the table
    known.later = {ID: route_of(replace(table("id", "v"), id=ID))}
    reading.add("x.public.t", "t/0", 9, b'{"id":1}', None, None)
    assert [op for op, _, _ in in_order(reading.take()[0])] == ["D"]
