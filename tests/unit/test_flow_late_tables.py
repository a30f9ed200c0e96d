"""Tables that appear, change or go while a pipeline runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cdcflow.errors import PositionLost
from cdcflow.flow.pipeline import Run
from cdcflow.model.copy import TableState
from tests.servers.waiting import until
from tests.unit.flow_fakes import FakeSource
from tests.unit.flow_shop import BOTH, Background, busy, live, run, shop, states
from tests.unit.flow_world import Fault, Killed


def test_a_table_that_appears_is_copied_while_the_others_stream() -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    loading = stage.faults.holds["load chunk"] = threading.Event()
    stage.world.make("late", 4)
    stage.world.commit(*((4, "insert", n, "x") for n in range(1, 6)))
    until(lambda: states(stage).get("late") == "copying")
    start = int(stage.target.records[4].copied_from)
    busy(stage)
    stage.world.commit((4, "update", 1, "y"))
    until(lambda: sorted(stage.target.rows[1]) == stage.world.rows(1))
    assert states(stage)["late"] == "copying"
    assert stage.world.confirmed <= start, "the log that the copy needs was given up"
    stage.world.commit((4, "delete", 2, ""))
    loading.set()
    until(live(stage, "late"))
    until(stage.same)
    background.end()
    assert stage.same()


def test_a_keyless_table_that_appears_gets_each_row_once() -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    stage.world.make("more", 4, key=False)
    for n in range(30):
        stage.world.commit((4, "insert", -(n % 3) - 1, "x"), (1, "update", 1, f"v{n}"))
    until(live(stage, "more"))
    stage.world.commit((4, "insert", -1, "x"))
    until(stage.same)
    background.end()


@pytest.mark.parametrize(
    ("moment", "nth"),
    [("put copying", 1), ("after chunk", 1), ("put catching_up", 1), ("before commit", 2), ("put live", 1)],
)
@pytest.mark.parametrize("key", [True, False])
def test_a_kill_while_a_late_table_joins_loses_and_doubles_nothing(moment: str, nth: int, key: bool) -> None:
    stage = shop()
    run(stage)
    stage.world.make("late", 4, key=key)
    for n in range(1, 6):
        stage.world.commit((4, "insert", n if key else -n, "x"), (1, "update", 1, f"v{n}"))
    stage.faults.planned = [Fault(moment, Killed, nth)]
    for seed in range(3):
        with contextlib.suppress(Killed):
            run(stage)
        stage.world.commit((4, "insert", (50 + seed) * (1 if key else -1), "z"))
    stage.faults.planned.clear()
    run(stage)
    assert stage.same()


@pytest.mark.parametrize("times", [1, 2])
def test_a_late_table_whose_log_is_gone_is_copied_again_once_and_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    open_stream, lost = FakeSource.stream, 0

    def stream(self: FakeSource, start: Any, follow: Any, router: Any) -> Any:
        nonlocal lost
        if 4 in follow and follow[4].idempotent_until is not None and lost < times:
            lost += 1
            raise PositionLost("the log is gone", why="it was purged")
        return open_stream(self, start, follow, router)

    monkeypatch.setattr(FakeSource, "stream", stream)
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    stage.world.make("late", 4)
    for turn in range(1, times + 1):  # each copy takes longer than the log is kept
        loading = stage.faults.holds["load chunk"] = threading.Event()
        stage.world.commit((4, "insert", turn, "x"))
        until(lambda: states(stage).get("late") == "copying")
        busy(stage, turn)
        until(lambda: sorted(stage.target.rows[1]) == stage.world.rows(1))
        loading.set()
        until(lambda turn=turn: lost == turn)  # type: ignore[misc]
    if times == 1:
        until(live(stage, "late"))
        until(stage.same)
        background.end()
    else:
        until(lambda: states(stage)["late"] == "failed")
        stage.world.commit((1, "insert", 999, "w"))
        until(lambda: sorted(stage.target.rows[1]) == stage.world.rows(1))
        background.end()
        assert "cdcflow resync public.late" in stage.target.records[4].hint


def test_a_rewritten_table_is_copied_again() -> None:
    stage = shop()
    run(stage)
    stage.target.rows[1] = [(key, "old") for key, _ in stage.target.rows[1]]
    stage.world.stamps[1] = "2"
    run(stage)
    assert stage.same()
    assert stage.target.records[1].stamp == "2"


def test_a_rewrite_before_a_table_goes_live_is_noticed_before_the_run_ends() -> None:
    """The source is looked at while the table still catches up, and then all that was asked for is there."""
    stage = shop()
    run(stage)
    begun = str(stage.world.end)
    stage.world.commit((1, "insert", 50, "z"), (2, "insert", 50, "z"))
    stage.target.records[1] = replace(
        stage.target.records[1],
        state=TableState.CATCHING_UP,
        copied_from=begun,
        copied_upto=str(stage.world.end),
        stamp="1",
    )
    stage.target.rows[1] = [(key, "old") for key, _ in stage.world.rows(1)]
    stage.world.stamps[1] = "2"
    stamps, looked = stage.source.stamps, threading.Event()
    stage.faults.holds["read"] = looked

    def watched(table_ids: Sequence[int]) -> dict[int, str]:
        if 1 not in table_ids:
            looked.set()
        return stamps(table_ids)

    stage.source.stamps = watched  # type: ignore[method-assign]
    parts = stage.parts()
    parts.settings = replace(parts.settings, look_every=60)
    Run(parts, BOTH, until_caught_up=True).run()
    assert stage.same()
    assert stage.target.records[1].stamp == "2"


def test_the_log_that_a_copy_needs_is_kept_while_its_table_is_still_being_made() -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    made = stage.faults.seen.count("create")
    making = stage.faults.holds["create"] = threading.Event()
    opening = stage.faults.holds["resume"] = threading.Event()
    stage.world.stamps[1] = "2"
    until(lambda: stage.faults.seen.count("create") > made)
    opening.set()  # the stream is opened again, without the table, after its copy's view was taken
    stage.world.commit((1, "update", 1, "behind the view"), (2, "update", 1, "x"))
    until(lambda: stage.target.checkpoint is not None and stage.target.checkpoint.position == str(stage.world.end))
    assert states(stage)["orders"] == "pending"
    making.set()
    until(live(stage, "orders"))
    background.end()
    assert stage.same()


def test_a_table_that_is_dropped_while_it_is_copied_no_longer_holds_the_log_back() -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    loading = stage.faults.holds["load chunk"] = threading.Event()
    stage.world.make("late", 4)
    stage.world.commit((4, "insert", 1, "x"))
    until(lambda: states(stage).get("late") == "copying")
    del stage.world.tables[4]
    loading.set()
    stage.world.commit((1, "update", 1, "y"))
    until(lambda: stage.world.confirmed == stage.world.end)
    background.end()


def test_a_note_of_another_process_has_the_table_copied_again() -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    stage.target.rows[1].clear()
    background.parts.store.ask("shop", [1])
    until(stage.same)
    until(live(stage, "orders"))
    background.end()


def test_a_table_altered_while_it_was_copied_is_copied_again() -> None:
    stage = shop()
    held = stage.faults.holds["load chunk"] = threading.Event()
    background = Background(stage)
    until(lambda: "load chunk" in stage.faults.seen)
    stage.world.stamps[2] = "2"
    held.set()
    until(live(stage, "orders", "items", "events"))
    background.end()
    assert stage.same()
    assert stage.target.records[2].stamp == "2"


def test_a_refused_table_that_appears_fails_and_the_others_go_on() -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    stage.source.refused = {4}
    stage.world.make("late", 4)
    until(lambda: states(stage).get("late") == "failed")
    busy(stage)
    until(lambda: all(sorted(stage.target.rows[n]) == stage.world.rows(n) for n in (1, 2, 3)))
    assert 4 not in stage.world.published
    background.end()


def test_a_dropped_table_is_forgotten() -> None:
    stage = shop()
    background = Background(stage)
    until(live(stage, "orders", "items", "events"))
    del stage.world.tables[2]
    until(lambda: "items" not in states(stage))
    busy(stage)
    background.end()
