"""Messages become idempotent frames: shapes, older shapes, keys, what is left out and what cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cdcflow.bus.config import Decoding
from cdcflow.bus.formats import MEETING, SCHEMA, Format
from cdcflow.bus.formats.avro import AvroFormat
from cdcflow.bus.formats.avro_writing import long, text
from cdcflow.bus.formats.framing import head
from cdcflow.bus.formats.opening import decoding
from cdcflow.bus.reading import AGAIN, Reading
from cdcflow.bus.shapes import number_of
from cdcflow.errors import DecodeError
from cdcflow.model.change import Meeting, Rows, SchemaChange, Step, Truncate, merge
from cdcflow.model.frame import UNCHANGED
from cdcflow.model.position import Share, Shares
from cdcflow.model.route import Mode, OnTruncate, Route
from cdcflow.model.schema import Table, TableName
from tests.unit.bus_double import FORMAT, Numbered, Told, of, route_of, said, table
from tests.unit.bus_rows import MemoryRegistry

ID = number_of(TableName("public", "t"))
TWO = table("id", "v")
THREE = table("id", "v", "w")


class Bus:
    """A reading with what it was brought; places count up by themselves."""

    def __init__(self, *known: tuple[Table, str], there: dict[int, Route] | None = None, **options: Any) -> None:
        self.catalogue = Told(*known)
        router = options.pop("router", route_of)
        self.reading = Reading(FORMAT, self.catalogue, router, there or {}, **options)
        self.place = 0

    def bring(self, value: bytes | None, fingerprint: str = "", share: str = "t/0", **more: bytes) -> Any:
        headers = of(fingerprint, **more) if fingerprint else None
        self.place += 1
        return self.reading.add("t", share, self.place - 1, b"k", value, headers)

    def rows(self) -> list[tuple[str, Any, Any]]:
        """Return (op, before, after) of everything since the last call, in the order of the messages."""
        return in_order(self.reading.take()[0])


def in_order(steps: list[Step]) -> list[tuple[str, Any, Any]]:
    found = []
    for step in steps:
        if isinstance(step, Rows):
            readers = {number: frame.rows() for number, frame in step.frames.items()}
            assert all(frame.idempotent for frame in step.frames.values())
            found += [
                (chr(op), before, after)
                for op, before, after in (next(readers[number]) for number in memoryview(step.order).cast("I"))
            ]
    return found


def test_a_whole_row_overwrites_and_one_with_absent_cells_updates() -> None:
    bus = Bus((TWO, "two"))
    bus.bring(said("c", {"id": 1, "v": "a"}), "two")
    bus.bring(said("u", {"id": 1, "v": "b"}), "two")
    bus.bring(said("u", {"id": 1}), "two")
    bus.bring(said("d", before={"id": 1}), "two")
    assert bus.rows() == [
        ("I", None, [b"1", b"a"]),
        ("I", None, [b"1", b"b"]),
        ("U", None, [b"1", UNCHANGED]),
        ("D", [b"1", UNCHANGED], None),
    ]


def test_a_value_that_holds_the_bytes_of_an_absent_cell_is_whole() -> None:
    bus = Bus((TWO, "two"))
    text = (-2).to_bytes(4, "little", signed=True).decode("latin-1")
    bus.bring(said("u", {"id": 1, "v": text}), "two")
    assert [op for op, _, _ in bus.rows()] == ["I"]


def test_a_message_without_a_value_says_nothing_behind_a_delete() -> None:
    bus = Bus((TWO, "two"))
    assert bus.bring(None, "two") is None
    assert bus.reading.take() == ([], 0, 0)


def test_tables_that_the_rules_leave_out_are_dropped() -> None:
    bus = Bus((TWO, "two"), router=lambda _: None)
    bus.bring(said("c", {"id": 1, "v": "a"}), "two")
    assert bus.rows() == []


def test_append_mode_takes_inserted_rows_alone() -> None:
    bus = Bus((TWO, "two"), router=lambda one: route_of(one, mode=Mode.APPEND))
    for op in ("c", "u", "r"):
        bus.bring(said(op, {"id": 1, "v": op}), "two")
    bus.bring(said("d", before={"id": 1}), "two")
    assert [after for _, _, after in bus.rows()] == [[b"1", b"c"], [b"1", b"r"]]


def test_a_table_without_a_key_is_updated_by_its_old_rows() -> None:
    keyless = table("id", "v", key=())
    bus = Bus((keyless, "x"))
    bus.bring(said("u", {"id": 1, "v": "b"}, {"id": 1, "v": "a"}), "x")
    assert bus.rows() == [("U", [b"1", b"a"], [b"1", b"b"])]
    with pytest.raises(DecodeError, match="does not hold the old row"):
        bus.bring(said("u", {"id": 1, "v": "b"}), "x")


def test_a_row_that_changes_the_key_of_the_rules_leaves_its_old_place() -> None:
    bus = Bus((TWO, "two"), router=lambda one: route_of(one, key=("v",)))
    bus.bring(said("u", {"id": 1, "v": "b"}, {"id": 1, "v": "a"}), "two")
    assert [op for op, _, _ in bus.rows()] == ["D", "I"]


@pytest.mark.parametrize(
    "message",
    [
        said("u", {"id": 1, "v": "b"}),
        said("u", {"id": 1, "v": "b"}, {"id": 1}),
        said("u", {"v": "b"}, {"id": 1}),
        said("d", before={"id": 1}),
    ],
)
def test_a_change_that_does_not_hold_the_key_of_the_rules_is_refused(message: bytes) -> None:
    bus = Bus((TWO, "two"), router=lambda one: route_of(one, key=("v",)))
    bus.bring(said("c", {"id": 1, "v": "a"}), "two")
    with pytest.raises(DecodeError, match=r"does not hold the row's old key \(v\)"):
        bus.bring(message, "two")
    assert [op for op, _, _ in bus.rows()] == ["I"]


def test_a_newer_shape_is_said_before_its_first_row_and_what_was_read_is_taken_first() -> None:
    bus = Bus((TWO, "two"), (THREE, "three"))
    bus.bring(said("c", {"id": 1, "v": "a"}), "two")
    assert bus.bring(said("c", {"id": 2, "v": "a", "w": "x"}), "three") is AGAIN
    assert len(bus.rows()) == 1
    bus.bring(said("c", {"id": 2, "v": "a", "w": "x"}), "three")
    change, rows = bus.reading.take()[0]
    assert isinstance(change, SchemaChange)
    assert (change.old.source.column_names, change.new.source.column_names) == (("id", "v"), ("id", "v", "w"))
    assert change.old.source.version < change.new.source.version
    assert change.new.source.id == ID
    assert isinstance(rows, Rows)


def test_the_shape_that_the_target_has_is_not_said_again() -> None:
    catalogue = Told((TWO, "two"), (THREE, "three"))
    there = catalogue.find("three")
    assert there is not None
    bus = Bus((TWO, "two"), (THREE, "three"), there={ID: route_of(there)})
    bus.bring(said("c", {"id": 2, "v": "a", "w": "x"}), "three")
    assert [type(step) for step in bus.reading.take()[0]] == [Rows]


def test_shapes_of_another_catalogue_than_the_target_s_are_newer() -> None:
    """What is on record is the ninth there: here is the first that is told, the same one or not."""
    at_nine = replace(TWO, id=ID, version=9)
    for first in (TWO, THREE):
        catalogue = Told((first, "first"), (table("id", "v", "w", "x"), "second"))
        there = catalogue.placed(at_nine)
        assert there.version == (1 if first is TWO else 0)
        bus = Bus(there={ID: route_of(there)})
        bus.reading = Reading(FORMAT, catalogue, route_of, {ID: route_of(there)})
        row = dict.fromkeys(("id", "v", "w", "x"), "1")
        bus.bring(said("c", row), "second")
        change, rows = bus.reading.take()[0]
        assert isinstance(change, SchemaChange)
        assert isinstance(rows, Rows)
        assert [len(frame.route.columns) for frame in rows.frames.values()] == [4]


def test_a_catalogue_that_was_made_anew_meanwhile_is_newer() -> None:
    bus = Bus((table("other"), "other"), (TWO, "two"))
    bus.bring(said("c", {"id": 1, "v": "a"}), "two")
    bus.reading.take()
    bus.catalogue.__init__((THREE, "three"))  # type: ignore[misc]
    bus.bring(said("c", {"id": 2, "v": "a", "w": "x"}), "three")
    assert isinstance(bus.reading.take()[0][0], SchemaChange)


def test_rows_of_an_older_shape_go_where_their_columns_are_by_now() -> None:
    old = table("id", "a", "b")
    new = table("id", "renamed", "c", numbers=(1, 2, 4))
    bus = Bus((old, "old"), (new, "new"))
    bus.bring(said("c", {"id": 2, "renamed": "x", "c": "y"}), "new", share="t/1")
    bus.reading.take()
    bus.bring(said("c", {"id": 1, "a": "p", "b": "q"}), "old", share="t/0")
    (step,) = bus.reading.take()[0]
    assert isinstance(step, Rows)
    (frame,) = step.frames.values()
    assert [(column.name, name) for column, name in frame.route.columns] == [("id", "id"), ("a", "renamed")]
    assert frame.names == ("id", "a", "b")


def test_a_name_that_came_back_for_another_column_is_away_in_between() -> None:
    """Of the shape without it no row may have come, or none in this share yet."""
    again = table("id", "v", numbers=(1, 3))
    bus = Bus((TWO, "two"), (table("id"), "one"), (again, "again"))
    bus.bring(said("c", {"id": 1, "v": "a"}), "two")
    bus.reading.take()
    bus.bring(said("c", {"id": 2, "v": "b"}), "again")
    without, with_, rows = bus.reading.take()[0]
    assert isinstance(without, SchemaChange)
    assert isinstance(with_, SchemaChange)
    assert [each.new.source.column_names for each in (without, with_)] == [("id",), ("id", "v")]
    assert with_.old is without.new
    assert isinstance(rows, Rows)


def test_rows_of_two_shapes_in_one_share_are_never_in_one_step() -> None:
    bus = Bus((TWO, "two"), (THREE, "three"))
    bus.bring(said("c", {"id": 9, "v": "a", "w": "x"}), "three", share="t/1")
    bus.bring(said("c", {"id": 1, "v": "a"}), "two", share="t/0")
    bus.bring(said("u", {"id": 1, "v": "b", "w": "y"}), "three", share="t/0")
    steps = bus.reading.take()[0]
    assert [type(step) for step in steps] == [Rows, Truncate, Rows]
    assert isinstance(steps[1], Truncate)
    assert steps[1].routes == ()


def test_rows_of_two_shapes_in_one_share_stay_apart_also_where_what_is_taken_is_joined_again() -> None:
    bus = Bus((TWO, "two"), (THREE, "three"))
    end, batches = Shares({"t/0": Share(1, 9), "t/1": Share(1, 9)}), []
    for message, fingerprint, share in (
        (said("c", {"id": 9, "v": "a", "w": "x"}), "three", "t/1"),
        (said("c", {"id": 1, "v": "a"}), "two", "t/0"),
        (said("u", {"id": 1, "v": "b", "w": "y"}), "three", "t/0"),
    ):
        bus.bring(message, fingerprint, share=share)
        batches.append(bus.reading.batch(end, sent=1.0, lagging=True))
    joined = merge([batch for batch in batches if batch is not None])
    assert [[len(frame) for frame in step.frames.values()] for step in joined.steps if isinstance(step, Rows)] == [
        [1, 1],
        [1],
    ]
    assert joined.rows == 3


def test_a_shape_that_comes_again_is_the_newest_once_its_record_was_written_again() -> None:
    bus = Bus((TWO, "two"), (THREE, "three"))
    bus.bring(said("c", {"id": 1, "v": "a"}), "two")
    bus.reading.take()
    bus.bring(said("c", {"id": 2, "v": "a", "w": "x"}), "three")
    bus.reading.take()
    bus.catalogue.later.append((TWO, "two"))
    bus.bring(said("c", {"id": 3, "v": "a"}), "two")
    change = bus.reading.take()[0][0]
    assert isinstance(change, SchemaChange)
    assert change.new.source.column_names == ("id", "v")
    assert change.new.source.version == 3


def test_a_shape_that_comes_again_while_others_rows_are_at_hand_is_said_once_these_are_taken() -> None:
    bus = Bus((TWO, "two"), (THREE, "three"))
    bus.bring(said("c", {"id": 1, "v": "a", "w": "x"}), "three")
    bus.reading.take()
    bus.catalogue.later.append((TWO, "two"))
    bus.bring(said("c", {"id": 2, "v": "a"}), "two", share="t/1")
    bus.reading.take()
    bus.catalogue.later.append((THREE, "three"))
    bus.bring(said("c", {"id": 4, "v": "a"}), "two", share="t/1")
    message = said("c", {"id": 3, "v": "a", "w": "x"}), "three"
    assert bus.bring(*message, share="t/1") is AGAIN
    bus.reading.take()
    assert bus.bring(*message, share="t/1") is None
    change, *_, rows = bus.reading.take()[0]
    assert isinstance(change, SchemaChange)
    assert change.new.source.column_names == ("id", "v", "w")
    assert isinstance(rows, Rows)
    assert [[name for _, name in frame.route.columns] for frame in rows.frames.values()] == [["id", "v", "w"]]


@pytest.mark.parametrize("met", [True, False], ids=["behind a mark", "in a share that is new here"])
def test_a_shape_that_comes_again_is_known_for_it_where_the_share_has_not_brought_the_other_one(met: bool) -> None:
    bus = Bus((THREE, "three"), (TWO, "two"))
    bus.bring(said("c", {"id": 1, "v": "a", "w": "x"}), "three", share="t/1")
    bus.reading.take()
    bus.bring(said("c", {"id": 2, "v": "a"}), "two", share="t/0")
    bus.reading.take()
    if met:
        assert bus.reading.add("t", "t/1", 7, None, None, [(MEETING, b"m/2")])
    bus.catalogue.later.append((THREE, "three"))
    bus.bring(said("c", {"id": 3, "v": "a", "w": "x"}), "three", share="t/1" if met else "t/2")
    change, *_, rows = bus.reading.take()[0]
    assert isinstance(change, SchemaChange)
    assert change.new.source.column_names == ("id", "v", "w")
    assert isinstance(rows, Rows)
    assert [[name for _, name in frame.route.columns] for frame in rows.frames.values()] == [["id", "v", "w"]]


def test_a_shape_that_nobody_told_of_names_where_it_should_be() -> None:
    bus = Bus(where=lambda share, place: f"{share} at {place}")
    with pytest.raises(DecodeError, match="nowhere is not in the topic of shapes") as failure:
        bus.bring(said("c", {"id": 1}), "nowhere")
    assert failure.value.at == "t/0 at 0"


def test_a_row_of_others_that_lacks_a_column_is_refused_for_what_it_is() -> None:
    reading = Reading(decoding(Decoding(envelope="flat")), Told(), route_of, {}, flat=True)
    reading.add("x.public.t", "t/0", 0, b'{"id":1}', b'{"id":1,"v":"a"}', None)
    with pytest.raises(DecodeError, match="a new row lacks columns that its table has"):
        reading.add("x.public.t", "t/0", 1, b'{"id":2}', b'{"id":2}', None)


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


def test_messages_that_describe_themselves_only_ever_add_columns() -> None:
    bus = Bus()
    for row in ({"id": 1, "v": "a", "w": "b"}, {"id": 2, "v": "c"}):
        bus.bring(said("c", row))
    assert [type(step) for step in bus.reading.take()[0]] == [Rows, Truncate, Rows]
    bus.bring(said("c", {"id": 3, "x": "d"}))
    change, rows = bus.reading.take()[0]
    assert isinstance(change, SchemaChange)
    assert change.new.source.column_names == ("id", "x", "v", "w")
    assert isinstance(rows, Rows)


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


def test_what_cannot_be_read_is_put_aside_and_the_rest_goes_on() -> None:
    bus = Bus((TWO, "two"), unreadable="dead_letter", where=lambda share, place: f"{share} at {place}")
    bus.bring(said("c", {"id": 1, "v": "a"}), "two")
    bus.bring(b"{", "two")
    bus.bring(said("c", {"id": 3}), "two")  # under a new key, without its value
    bus.bring(said("c", {"id": 2, "v": "a"}), "two")
    assert len(bus.rows()) == 2
    first, second = bus.reading.letters
    assert (first.topic, first.share, first.place, first.value) == ("t", "t/0", 1, b"{")
    assert first.reason.at == "t/0 at 1"
    assert "new key" in second.reason.what


def test_a_header_without_a_value_is_put_aside_as_unreadable() -> None:
    bus = Bus((TWO, "two"), unreadable="dead_letter", where=lambda share, place: f"{share} at {place}")
    bus.reading = Reading(
        decoding(Decoding()), bus.catalogue, route_of, {}, unreadable="dead_letter", where="{} at {}".format
    )
    row = b'{"before":null,"after":{"id":1,"v":"a"},"op":"c"}'
    whole = [("cdcflow.schema", b"two"), ("cdcflow.op", b"c")]
    bus.reading.add("t", "t/0", 0, b'{"id":1}', row, [("cdcflow.schema", b"two"), ("cdcflow.op", None)])
    bus.reading.add("t", "t/0", 1, b'{"id":1}', row, whole)
    assert len(bus.rows()) == 1
    assert [each.reason.at for each in bus.reading.letters] == ["t/0 at 0"]


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
