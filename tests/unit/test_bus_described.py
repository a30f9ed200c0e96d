"""Tables that only their messages tell of: nothing says which of two shapes is newer, so no column becomes narrower."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.bus.config import Decoding
from cdcflow.bus.formats import connect_types
from cdcflow.bus.formats.opening import decoding
from cdcflow.bus.reading import AGAIN, Reading
from cdcflow.codecs.buskinds import Kind
from cdcflow.errors import SchemaStop
from cdcflow.model.change import Rows, SchemaChange, Step
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, NativeType, Table, TableName
from cdcflow.model.widening import holds, joined
from cdcflow.targets.sql.columns import refuse_narrower
from tests.unit.bus_double import Told, route_of

KEY = b'{"id":1}'


class Topic:
    """A topic of Debezium's, in which the table `public.t` has the columns `id` and others."""

    def __init__(self, there: dict[int, Route] | None = None) -> None:
        self.format = decoding(Decoding(format="json", envelope="debezium"))
        self.reading = Reading(self.format, Told(), route_of, there or {})
        self.routes = dict(there or {})
        self.rows: list[list[Any]] = []
        self._place = 0

    def bring(self, values: dict[str, Any], *columns: dict[str, Any], share: str = "t/0") -> None:
        """Bring a new row; without `columns` the message has no schema."""
        change = {"before": None, "after": {"id": 1, **values}, "source": {"schema": "public", "table": "t"}, "op": "c"}
        said = {"schema": _schema(columns), "payload": change} if columns else change
        self._place += 1
        while self.reading.add("s.public.t", share, self._place, KEY, json.dumps(said).encode(), None) == AGAIN:
            self._take(self.reading.take()[0])
        self._take(self.reading.take()[0])

    def again(self) -> Topic:
        """Return the topic as the pipeline reads it that joins once more."""
        return Topic(self.routes)

    def types(self) -> dict[str, str]:
        """Return the types that the target's table has by now."""
        (route,) = self.routes.values()
        return {column.name: column.type.text for column in route.source.columns}

    def _take(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, SchemaChange):
                self.routes[step.new.source.id] = step.new
            elif isinstance(step, Rows):
                for frame in step.frames.values():
                    self.routes.setdefault(frame.route.source.id, frame.route)
                    self.rows += [after for _, _, after in frame.rows()]


def _schema(columns: Iterable[dict[str, Any]]) -> dict[str, Any]:
    fields = [{"type": "int32", "optional": False, "field": "id"}, *columns]
    row = {"type": "struct", "fields": fields, "optional": True}
    images = [{**row, "field": "before"}, {**row, "field": "after"}]
    return {"type": "struct", "fields": [*images, {"type": "string", "field": "op"}]}


def field(kind: str, name: str = "v", *, optional: bool = True, **more: Any) -> dict[str, Any]:
    return {"type": kind, "optional": optional, "field": name, **more}


def test_an_older_type_that_comes_late_does_not_narrow_what_the_target_has() -> None:
    topic = Topic()
    topic.bring({"v": 5}, field("int32"))
    topic.bring({"v": 5_000_000_000}, field("int64"))
    later = topic.again()
    later.bring({"v": 6}, field("int32"), share="t/1")
    assert later.types() == {"id": "integer", "v": "bigint"}
    assert later.rows == [[b"1", b"6"]]


def test_a_wider_type_is_followed_behind_a_restart() -> None:
    topic = Topic()
    topic.bring({"v": 5}, field("int32"))
    later = topic.again()
    later.bring({"v": 5_000_000_000}, field("int64"))
    assert later.types()["v"] == "bigint"


def test_a_column_that_was_not_nullable_in_an_older_shape_stays_nullable() -> None:
    topic = Topic()
    topic.bring({"v": None}, field("int32"))
    later = topic.again()
    later.bring({"v": 6}, field("int32", optional=False))
    (route,) = later.routes.values()
    assert route.source.column("v").nullable


@pytest.mark.parametrize(
    ("first", "then", "both"),
    [
        (field("double"), field("int64"), "text"),
        (field("int64", name="v"), field("string", name="v"), "text"),
        (field("int32") | {"name": "io.debezium.time.Date"}, field("string"), "text"),
    ],
)
def test_where_neither_type_holds_the_other_the_column_becomes_text_in_either_order(
    first: dict[str, Any], then: dict[str, Any], both: str
) -> None:
    for one, other in ((first, then), (then, first)):
        topic = Topic()
        topic.bring({"v": None}, one)
        later = topic.again()
        later.bring({"v": None}, other)
        assert later.types()["v"] == both


@pytest.mark.parametrize(("value", "kind"), [(10, "numeric"), (None, "numeric"), (10.25, "numeric"), ("ten", "text")])
def test_without_schemas_what_a_row_looks_like_says_nothing_against_what_is_known(value: object, kind: str) -> None:
    topic = Topic()
    topic.bring({"price": 10.5})
    later = topic.again()
    later.bring({"price": value})
    assert later.types() == {"id": "bigint", "price": kind}


def test_without_schemas_a_null_behind_a_restart_does_not_make_text_of_a_number() -> None:
    topic = Topic()
    topic.bring({"n": 5})
    later = topic.again()
    later.bring({"n": None})
    later.bring({"n": 7})
    assert later.types() == {"id": "bigint", "n": "bigint"}
    assert later.rows == [[b"1", None], [b"1", b"7"]]


def test_without_schemas_a_row_that_lacks_a_known_column_is_read_behind_a_restart() -> None:
    topic = Topic()
    topic.bring({"n": 5, "gone": 1})
    later = topic.again()
    later.bring({"n": 6})
    assert later.types() == {"id": "bigint", "n": "bigint", "gone": "bigint"}


def _numeric(precision: int, scale: int) -> connect_types.Described:
    parameters = {"connect.decimal.precision": precision, "scale": scale}
    return connect_types.Described("bytes", connect_types.DECIMAL, parameters)


_TYPES = [
    *(connect_types.Described(kind) for kind in connect_types.PLAIN),
    *(connect_types.Described("", name) for name in connect_types.NAMED),
    *(_numeric(precision, scale) for precision, scale in ((5, 0), (10, 2), (12, 1), (20, 0), (30, 10), (1000, 500))),
    connect_types.Described("bytes", connect_types.DECIMAL),
    connect_types.Described("bytes", connect_types.BITS, {"length": 8}),
    *(connect_types.Described("array", element=connect_types.Described(kind)) for kind in ("int32", "int64", "string")),
]
COLUMNS = st.sampled_from([connect_types.column("v", one, nullable=True) for one in _TYPES])


def _table(*columns: Column) -> Table:
    return Table(TableName("public", "t"), 7, columns, described=True)


@given(COLUMNS, COLUMNS, COLUMNS)
def test_shapes_met_in_any_order_come_to_one_that_holds_them_all(one: Column, two: Column, three: Column) -> None:
    first = joined(_table(*joined(_table(one), _table(two))), _table(three))
    second = joined(_table(three), _table(*joined(_table(two), _table(one))))
    third = joined(_table(one), _table(*joined(_table(three), _table(two))))
    assert first == second == third
    assert all(holds(first[0], each) for each in (one, two, three))


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ((10, 2), (12, 1), "numeric(13,2)"),
        ((10, 2), (12, 4), "numeric(12,4)"),
        ((1000, 0), (1000, 999), "numeric"),
    ],
)
def test_decimals_keep_the_digits_of_both(one: tuple[int, int], other: tuple[int, int], both: str) -> None:
    columns = [connect_types.column("v", _numeric(*digits), nullable=True) for digits in (one, other)]
    (found,) = joined(_table(columns[0]), _table(columns[1]))
    assert found.type.text == both


def test_a_type_of_another_engine_gives_way_to_the_one_that_messages_are_told_in() -> None:
    native, logical = connect_types.native(Kind.INT32)
    met = Column("v", native, logical)
    (found,) = joined(_table(Column("v", NativeType("int(11)"), logical)), _table(met))
    assert found == met


def test_no_target_makes_a_column_narrower_for_a_message_alone() -> None:
    wide, narrow = (route_of(_table(Column("v", *connect_types.native(kind)))) for kind in (Kind.INT64, Kind.INT32))
    refuse_narrower(narrow, wide)
    with pytest.raises(SchemaStop, match=r"column v of public\.t would no longer hold"):
        refuse_narrower(wide, narrow)
