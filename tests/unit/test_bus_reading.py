"""Messages become idempotent frames: shapes, older shapes, keys, what is left out and what cannot be read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdcflow.bus.config import Decoding
from cdcflow.bus.formats import MEETING
from cdcflow.bus.formats.opening import decoding
from cdcflow.bus.reading import AGAIN, Reading
from cdcflow.bus.shapes import number_of
from cdcflow.errors import DecodeError
from cdcflow.model.change import Rows, SchemaChange, Truncate, merge
from cdcflow.model.frame import UNCHANGED
from cdcflow.model.position import Share, Shares
from cdcflow.model.route import Mode
from cdcflow.model.schema import TableName
from tests.unit.bus_double import FORMAT, Bus, Told, route_of, said, table

ID = number_of(TableName("public", "t"))
TWO = table("id", "v")
THREE = table("id", "v", "w")


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
