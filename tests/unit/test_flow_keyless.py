"""Tables whose view is opened when they are read: what is on record of them by then, and that it is given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from cdcflow.errors import TableRefused
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.ports import Turn
from cdcflow.model.route import Route
from tests.unit.flow_fake_target import FakeLoader
from tests.unit.flow_fakes import FakeSnapshot, Stage
from tests.unit.flow_shop import run, states
from tests.unit.flow_world import At

Done = Callable[[int, int], DoneChunk]


def stage_of(number_of_rows: int) -> Stage:
    stage = Stage()
    stage.world.make("orders", 1)
    stage.world.make("events", 3, key=False)
    for n in range(number_of_rows):
        stage.world.commit((3, "insert", -n, "e"))
    return stage


@pytest.mark.parametrize("rows", [2, 1])
def test_where_the_view_of_a_table_stands_is_on_record_before_its_rows_are_there(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    stage, exact, seen = stage_of(rows), dict[int, At](), list[tuple[str, str]]()
    read, load = FakeSnapshot.read, FakeLoader.load

    def opened(self: FakeSnapshot, route: Route, chunk: Chunk, turn: Turn) -> Iterator[bytes]:
        number = route.source.id
        if number == 3:
            stage.world.commit((3, "insert", -100, "late"), (1, "insert", 1, "a"))
            exact[number] = At(stage.world.end)
            yield from (f"{key}\t{value}\n".encode() for key, value in stage.world.rows(number, stage.world.end))
        else:
            yield from read(self, route, chunk, turn)

    def loaded(
        self: FakeLoader, route: Route, chunk: Chunk, blocks: Iterable[bytes], done: Done, *, merge: bool
    ) -> DoneChunk:
        if route.source.id == 3:
            record = stage.target.records[3]
            seen.append((record.copied_from, record.copied_upto))
        return load(self, route, chunk, blocks, done, merge=merge)

    monkeypatch.setattr(FakeSnapshot, "read", opened)
    monkeypatch.setattr(
        FakeSnapshot, "position_of", lambda self, table_id: exact.get(table_id, self.position), raising=True
    )
    monkeypatch.setattr(FakeSnapshot, "upto", FakeSnapshot.position_of)
    monkeypatch.setattr(FakeLoader, "load", loaded)
    run(stage)
    assert seen == [(str(exact[3]), str(exact[3]))]
    assert stage.same()


def test_a_view_is_given_up_at_once_where_the_target_takes_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, given_up = stage_of(2), list[int]()

    def opened(self: FakeSnapshot, route: Route, chunk: Chunk, turn: Turn) -> Iterator[bytes]:
        try:
            yield b"1\te\n"
            yield b"2\te\n"
        finally:
            given_up.append(route.source.id)

    refused: list[TableRefused] = []

    def refusing(self: FakeLoader, route: Route, *_: object, **__: object) -> DoneChunk:
        if not refused:  # kept, and with it all that stood in the frames it came through
            refused.append(TableRefused("no such table", at="the target"))
            raise refused[0]
        raise AssertionError("it is not tried again")

    stage.world.tables.pop(1)
    monkeypatch.setattr(FakeSnapshot, "read", opened)
    monkeypatch.setattr(FakeLoader, "load", refusing)
    run(stage)
    assert given_up == [3]
    assert states(stage) == {"events": "failed"}
