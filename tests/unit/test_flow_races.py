"""Two threads and a stop between them: what the applying thread and the keeper do to the same table."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from cdcflow.errors import AccessDenied, RowRejected, SourceUnavailable
from cdcflow.flow import lifecycle
from cdcflow.flow.pipeline import Run
from cdcflow.flow.roster import Roster
from cdcflow.model.copy import Chunk, DoneChunk, TableRecord
from cdcflow.model.ports import Turn
from cdcflow.model.route import Route
from tests.servers.waiting import until
from tests.unit import flow_fakes as fakes
from tests.unit.flow_fake_target import FakeLoader
from tests.unit.flow_fakes import Stage, source_away, target_away
from tests.unit.flow_shop import BOTH, Background, busy, live, run, shop, states
from tests.unit.flow_world import Fault


def test_a_stop_in_the_middle_of_a_copy_never_calls_a_table_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.world.make("orders", 1)
    for n in range(1, 11):
        stage.world.commit((1, "insert", n, "a"))
    slow, stopped, fast, go = threading.Event(), threading.Event(), threading.Event(), threading.Event()
    read = fakes.FakeSnapshot.read
    turns = iter(range(100))

    def paced(self: fakes.FakeSnapshot, route: Route, chunk: Chunk, turn: Turn) -> object:
        mine = next(turns)
        blocks = list(read(self, route, chunk))
        if mine == 0:  # its next block comes after the stop
            slow.set()
            stopped.wait(20)
        yield from blocks
        if mine == 1:  # everything is given, and the commit is on its way
            fast.set()
            go.wait(20)

    monkeypatch.setattr(fakes.FakeSnapshot, "read", paced)
    background = Background(stage)
    until(lambda: slow.is_set() and fast.is_set())
    background.parts.stop.set()
    stopped.set()
    until(lambda: sum(t.name.startswith("cdcflow-copy") for t in threading.enumerate()) == 1)
    go.set()
    background.end()
    assert states(stage) == {"orders": "copying"}
    monkeypatch.undo()
    run(stage)
    assert stage.same()


def test_the_log_carries_a_table_from_before_its_view_is_taken_whoever_opens_the_stream() -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    views = stage.faults.seen.count("snapshot")
    view = stage.faults.holds["snapshot"] = threading.Event()
    opening = stage.faults.holds["resume"] = threading.Event()
    loading = stage.faults.holds["load chunk"] = threading.Event()
    background.parts.store.ask("shop", [1])
    until(lambda: stage.faults.seen.count("snapshot") > views)
    streams = len(stage.source.streams)
    opening.set()
    until(lambda: len(stage.source.streams) > streams)
    assert 1 in stage.world.published
    view.set()
    until(lambda: states(stage)["orders"] == "copying")
    assert 1 in stage.world.published
    stage.world.commit((1, "update", 1, "written during the copy"))
    loading.set()
    until(live(stage, "orders"))
    until(stage.same)
    background.end()


def test_only_one_thread_copies_a_table_even_where_it_is_the_only_one() -> None:
    stage = Stage()
    stage.world.make("orders", 1)
    for n in range(1, 11):
        stage.world.commit((1, "insert", n, "a"))
    background = Background(stage)
    until(live(stage, "orders"))
    loading = stage.faults.holds["load chunk"] = threading.Event()
    views, opened = stage.faults.seen.count("snapshot"), len(stage.source.streams)
    background.parts.store.ask("shop", [1])
    until(lambda: states(stage)["orders"] == "copying" and len(stage.source.streams) > opened)
    assert stage.faults.seen.count("snapshot") == views + 1
    stage.world.commit((1, "update", 1, "new"))
    loading.set()
    until(live(stage, "orders"))
    until(stage.same)
    background.end()


@pytest.mark.parametrize(("moment", "error"), [("after slot", source_away), ("after save", target_away)])
def test_a_server_that_goes_away_behind_the_making_of_the_slot_is_waited_for(moment: str, error: object) -> None:
    stage = shop()
    stage.faults.planned = [Fault(moment, error, 1)]  # type: ignore[arg-type]
    run(stage)
    assert stage.same()


def test_a_wish_for_a_copy_outlives_whatever_else_is_written_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    monkeypatch.setattr(fakes.FakeSource, "rewritten", lambda *_: False)
    looking = stage.faults.holds["tables"] = threading.Event()
    views = stage.faults.seen.count("snapshot")
    stage.world.stamps[1] = "2"  # a harmless change and the wish come between two looks
    background.parts.store.ask("shop", [1])
    looking.set()
    until(lambda: stage.faults.seen.count("snapshot") > views)
    until(live(stage, "orders"))
    assert stage.target.asked == set()
    background.end()
    assert stage.same()


def test_what_one_thread_writes_of_a_table_is_not_undone_by_another_that_looked_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = shop()
    rosters: list[Roster] = []
    load = Roster.load
    monkeypatch.setattr(Roster, "load", lambda self, *args: (rosters.append(self), load(self, *args))[1])
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    stamps = fakes.FakeSource.stamps
    views = stage.faults.seen.count("snapshot")
    struck: list[TableRecord] = []

    def stamped(self: fakes.FakeSource, numbers: list[int]) -> dict[int, str]:
        if not struck:  # what a new shape does in the applying thread, while the keeper asks for fingerprints
            struck.append(rosters[0].record(1))
            rosters[0].put(lifecycle.again(replace(struck[0], shape="")))
            return {**stamps(self, numbers), 1: "2"}
        return stamps(self, numbers)

    monkeypatch.setattr(fakes.FakeSource, "stamps", stamped)
    until(lambda: stage.faults.seen.count("snapshot") > views)
    until(live(stage, "orders"))
    background.end()
    assert stage.same()


def test_a_table_dropped_between_its_copy_and_its_place_in_the_stream_is_passed_over() -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    copied = stage.faults.seen.count("after chunk")
    applying = stage.faults.holds["before commit"] = threading.Event()
    stage.world.commit((1, "update", 1, "q"))
    stage.world.make("late", 4)
    stage.world.commit((4, "insert", 1, "x"))
    until(lambda: stage.faults.seen.count("after chunk") > copied)
    del stage.world.tables[4]
    until(lambda: "late" not in states(stage))
    applying.set()
    until(stage.same)
    background.end()


def test_tables_that_fail_one_after_the_other_do_not_hold_the_log_back(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    attempts = iter(range(100))

    def load(_: object, route: Route, *args: object, **options: object) -> DoneChunk:
        if route.source.name.table == "other" and next(attempts) == 0:
            until(lambda: states(stage).get("bad") == "failed")
            raise SourceUnavailable("the view is gone")
        raise RowRejected("no")

    monkeypatch.setattr(FakeLoader, "load", load)
    with stage.world.lock:
        stage.world.make("bad", 4)
        stage.world.make("other", 5)
        stage.world.commit((4, "insert", 1, "x"), (5, "insert", 1, "x"))
    until(lambda: states(stage).get("bad") == "failed" and states(stage).get("other") == "failed")
    stage.world.commit((1, "update", 1, "z"))
    until(lambda: stage.world.confirmed == stage.world.end)
    background.end()


def test_a_table_that_the_log_must_not_carry_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    include = fakes.FakeSource.include

    def denied(self: fakes.FakeSource, routes: list[Route]) -> None:
        if any(route.source.id == 4 for route in routes):
            raise AccessDenied("must be owner of table late")
        include(self, routes)

    monkeypatch.setattr(fakes.FakeSource, "include", denied)
    with stage.world.lock:
        stage.world.make("late", 4)
        stage.world.make("fine", 5)
        stage.world.commit((4, "insert", 1, "x"), (5, "insert", 1, "x"))
    until(lambda: states(stage).get("late") == "failed" and states(stage).get("fine") == "live")
    busy(stage)
    until(lambda: all(sorted(stage.target.rows[n]) == stage.world.rows(n) for n in (1, 2, 3, 5)))
    background.end()


def test_a_run_that_waits_for_a_view_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = shop()
    parts = stage.parts()
    waits = threading.Event()

    def prepare(self: fakes.FakeSource, routes: list[Route], ended: threading.Event | None = None) -> None:
        assert ended is not None
        waits.set()
        assert ended.wait(20)
        raise SourceUnavailable("stopped while the source was asked")

    monkeypatch.setattr(fakes.FakeSource, "prepare", prepare)
    thread = threading.Thread(target=Run(parts, BOTH).run)
    thread.start()
    assert waits.wait(10)
    parts.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    monkeypatch.undo()
    run(stage)
    assert stage.same()


def test_a_failover_under_a_copy_starts_the_copy_over_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    loaded = stage.faults.holds["after chunk"] = threading.Event()
    seen = stage.faults.seen.count("after chunk")
    background.parts.store.ask("shop", [1])
    until(lambda: stage.faults.seen.count("after chunk") > seen)
    monkeypatch.setattr(stage.source, "identity", lambda: {"server": "another"})
    opened = len(stage.source.streams)
    stage.faults.planned.append(Fault("read", source_away))
    until(lambda: len(stage.source.streams) > opened)
    loaded.set()
    until(lambda: states(stage)["orders"] == "live" and len(stage.source.streams) > opened + 1)
    background.end()
    assert stage.same()
