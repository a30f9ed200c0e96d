"""Tables that two instances shape, each by the messages that it meets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cdcflow.flow.shaping import Shaping
from cdcflow.model.change import ChangeBatch, SchemaChange
from cdcflow.model.copy import TableRecord
from cdcflow.model.position import Shares
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName
from tests.unit.bus_double import route_of

INT4 = NativeType("integer", 23), Logical.INT4
INT8 = NativeType("bigint", 20), Logical.INT8
ID = Column("id", *INT4, nullable=False)


class Target:
    """A store and a target's table that several instances share."""

    def __init__(self) -> None:
        self.records: dict[int, TableRecord] = {}
        self.columns: dict[str, str] = {}

    def instance(self) -> Shaping:
        """Let one more instance join."""
        parts = SimpleNamespace(
            settings=SimpleNamespace(pipeline="p"),
            source=SimpleNamespace(placed=list),
            target=self,
            rules=SimpleNamespace(route=route_of, route_of_past=route_of),
            observer=SimpleNamespace(table_state=lambda *_: None),
            report=SimpleNamespace(tables={}),
        )
        return Shaping(cast("Any", parts), cast("Any", self), 1)

    def tables(self, pipeline: str) -> dict[int, TableRecord]:
        return dict(self.records)

    @contextmanager
    def alone(self, pipeline: str) -> Iterator[None]:
        yield

    def put(self, pipeline: str, epoch: int, records: list[TableRecord]) -> None:
        self.records.update({record.table_id: record for record in records})

    def create(self, route: Route) -> None:
        self.columns = {column.name: column.type.text for column in route.source.columns}

    def apply(self, batch: ChangeBatch) -> None:
        for step in batch.steps:
            assert isinstance(step, SchemaChange)
            for column in step.old.source.columns:
                if column not in step.new.source.columns:
                    del self.columns[column.name]
            self.columns.update({column.name: column.type.text for column in step.new.source.columns})


def shape(*columns: Column, version: int, described: bool = True) -> Table:
    return Table(TableName("public", "t"), 7, (ID, *columns), ("id",), ("id",), version=version, described=described)


def meet(instance: Shaping, *shapes: Table) -> None:
    """Let an instance go through shapes of the table, each made of the one before."""
    steps = [SchemaChange(route_of(old), route_of(new)) for old, new in pairwise(shapes)]
    instance.prepare(ChangeBatch(list(steps), Shares({}), 0), Shares({}))


ONE = shape(Column("v", *INT4), version=1)
NEW = Column("x", *INT4), Column("y", *INT4)


@pytest.fixture
def target() -> Target:
    found = Target()
    meet(found.instance(), replace(ONE, version=0), ONE)
    assert found.columns == {"id": "integer", "v": "integer"}
    return found


def test_two_shapes_of_the_same_version_become_one_that_holds_both(target: Target) -> None:
    one, other = target.instance(), target.instance()
    meet(one, ONE, shape(Column("v", *INT4), NEW[0], version=2))
    meet(other, ONE, shape(Column("v", *INT8), NEW[1], version=2))
    assert target.columns == {"id": "integer", "v": "bigint", "x": "integer", "y": "integer"}
    assert one.behind()
    assert other.behind()
    (known,) = target.instance().known().values()
    assert known.source.version == 3


def test_an_older_shape_of_the_same_version_takes_nothing_away(target: Target) -> None:
    one, other = target.instance(), target.instance()
    meet(one, ONE, shape(Column("v", *INT8), *NEW, version=2))
    meet(other, ONE, shape(Column("v", *INT4), NEW[1], version=2))
    assert target.columns == {"id": "integer", "v": "bigint", "x": "integer", "y": "integer"}
    assert not one.behind()


def test_a_table_that_another_instance_made_meanwhile_keeps_what_it_has() -> None:
    target = Target()
    one, other = target.instance(), target.instance()
    made = shape(Column("v", *INT8), NEW[0], version=1)
    meet(one, replace(made, version=0), made)
    meet(other, ONE, shape(Column("v", *INT4), NEW[1], version=2))
    assert target.columns == {"id": "integer", "v": "bigint", "x": "integer", "y": "integer"}
    assert one.behind()


def test_shapes_whose_order_is_told_are_followed_as_they_are() -> None:
    target = Target()
    one = target.instance()
    first = shape(Column("v", *INT8), *NEW, version=1, described=False)
    then = shape(Column("v", *INT4), version=2, described=False)
    meet(one, replace(first, version=0), first)
    meet(one, first, then)
    assert target.columns == {"id": "integer", "v": "integer"}
