"""Truncates and marks among messages: what goes alone, who is met, and what a truncate tells of its table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdcflow.bus.config import Decoding
from cdcflow.bus.formats import MEETING, SCHEMA
from cdcflow.bus.formats.opening import decoding
from cdcflow.bus.reading import Reading
from cdcflow.bus.shapes import number_of
from cdcflow.errors import DecodeError
from cdcflow.model.change import Meeting, Rows, Truncate
from cdcflow.model.route import OnTruncate, Route
from cdcflow.model.schema import TableName
from tests.unit.bus_double import Bus, Numbered, Told, route_of, said, table

ID = number_of(TableName("public", "t"))
TWO = table("id", "v")
THREE = table("id", "v", "w")


def test_truncate_goes_alone_and_meets_where_a_table_has_several_shares() -> None:
    bus = Bus((TWO, "two"))
    alone = bus.bring(said("t"), "two")
    assert isinstance(alone, Truncate)
    assert bus.bring(said("t"), "two", meeting=b"m/1") == alone
    met = bus.bring(said("t"), "two", share="t/1", meeting=b"m7/3")
    assert isinstance(met, Meeting)
    assert (met.name, met.share, met.place) == ("m7", "t/1", 3)
    assert met.shares == {"t/0", "t/1", "t/2"}
    assert met.then == alone


def test_a_mark_without_a_value_is_a_meeting_after_which_nothing_happens() -> None:
    bus = Bus((TWO, "two"))
    met = bus.reading.add("t", "t/1", 0, None, None, [(MEETING, b"m7/3")])
    assert isinstance(met, Meeting)
    assert (met.name, met.place, met.then, met.shares) == ("m7", 1, None, {"t/0", "t/1", "t/2"})
    assert bus.reading.add("t", "t/1", 1, b"k", None, [(SCHEMA, b"two")]) is None  # a tombstone


def test_a_truncate_without_a_value_empties_the_table_all_the_same() -> None:
    bus = Bus((TWO, "two"))
    alone = bus.bring(None, "two", op=b"t", meeting=b"m/1")
    assert isinstance(alone, Truncate)
    met = bus.bring(None, "two", share="t/1", op=b"t", meeting=b"m7/3")
    assert isinstance(met, Meeting)
    assert (met.name, met.place, met.then) == ("m7", 2, alone)


@pytest.mark.parametrize("header", [b"m", b"m/x", b"/3", b"m/-1", b"m/2"])
def test_a_meeting_that_makes_no_sense_is_unreadable(header: bytes) -> None:
    bus = Bus((TWO, "two"))
    with pytest.raises(DecodeError):
        bus.bring(said("t"), "two", share="t/5", meeting=header)


def test_where_the_rules_ignore_a_truncate_nobody_is_waited_for() -> None:
    bus = Bus((TWO, "two"), router=lambda table: replace(route_of(table), on_truncate=OnTruncate.IGNORE))
    bus.bring(said("c", {"id": 1, "v": "a"}), "two")
    assert bus.bring(said("t"), "two", share="t/0", meeting=b"m/2") is None
    bus.bring(said("c", {"id": 2, "v": "a"}), "two")
    assert len(bus.rows()) == 2


class Registered:
    """A reading of messages that name their schema by number, as Debezium's in Avro do; a truncate has no key."""

    def __init__(self, there: dict[int, Route] | None = None) -> None:
        self.reading = Reading(Numbered(), Told(), route_of, there or {})

    def bring(self, value: bytes, key: bytes | None = b"k") -> Any:
        return self.reading.add("t", "t/0", 0, key, value, None)


@pytest.mark.parametrize("known", [False, True])
def test_a_truncate_without_a_key_does_not_take_the_table_for_one_without_a_key(known: bool) -> None:
    of_target = replace(table("id", "v"), id=ID, version=1)
    bus = Registered({ID: route_of(of_target)} if known else None)
    alone = bus.bring(said("t", {"id": None, "v": None}), key=None)
    assert isinstance(alone, Truncate) if known else alone is None
    bus.bring(said("c", {"id": 1, "v": "a"}))
    (rows,) = bus.reading.take()[0]
    assert isinstance(rows, Rows)
    (frame,) = rows.frames.values()
    assert frame.route.key == ("id",)
    emptied = bus.bring(said("t", {"id": None, "v": None}), key=None)
    assert isinstance(emptied, Truncate)
    assert [route.key for route in emptied.routes] == [("id",)]


def test_a_truncate_that_tells_nothing_of_its_table_empties_what_is_there() -> None:
    emptied = b'{"before":null,"after":null,"source":{"schema":"public","table":"t"},"op":"t"}'
    there = {ID: route_of(replace(TWO, id=ID, version=1))}
    for known in ({}, there):
        reading = Reading(decoding(Decoding()), Told(), route_of, known)
        alone = reading.add("x.public.t", "t/0", 0, None, emptied, None)
        assert alone == (Truncate((there[ID],), cascade=False, restart_identity=False) if known else None)
        reading.add("x.public.t", "t/0", 1, b'{"id":1}', b'{"before":null,"after":{"id":1,"v":"a"},"op":"c"}', None)
        assert reading.take()[1] == 1
