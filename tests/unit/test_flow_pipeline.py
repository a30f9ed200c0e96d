"""Whole runs over scripted ports: killed at every moment that matters, with servers that go away."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdcflow.errors import (
    AccessDenied,
    ConfigError,
    Fenced,
    PositionLost,
    ReplayCollision,
    RowRejected,
    SourceUnavailable,
    TableRefused,
    UsageError,
)
from cdcflow.flow.pipeline import Again, Does, Run
from cdcflow.flow.progress import Report
from tests.servers.waiting import until
from tests.unit.flow_fakes import Fault, Killed, Stage, source_away, target_away

BOTH = Does.COPY | Does.FOLLOW


def shop() -> Stage:
    """Two keyed tables and one without a key, with rows in each."""
    stage = Stage()
    stage.world.make("orders", 1)
    stage.world.make("items", 2)
    stage.world.make("events", 3, key=False)
    for n in range(1, 8):
        stage.world.commit((1, "insert", n, "a"), (2, "insert", n, "b"), (3, "insert", -n, "e"))
    return stage


def busy(stage: Stage, seed: int = 0, transactions: int = 10) -> None:
    """More transactions: inserts, updates, deletes; now and then one large enough to come in pieces."""
    chance = random.Random(seed)
    for _ in range(transactions):
        changes = []
        for number in (1, 2):
            there = [key for key, _ in stage.world.rows(number)]
            fresh = max(there, default=0) + 1
            changes.append((number, "insert", fresh, f"n{seed}"))
            if len(there) > 2:
                gone, changed = chance.sample(there, 2)
                changes += [(number, "delete", gone, ""), (number, "update", changed, f"u{seed}")]
        changes.append((3, "insert", -chance.randint(100, 10**6), "e"))
        stage.world.commit(*changes[: chance.choice([3, 7])])


def run(stage: Stage, does: Does = BOTH, *, again: Again | None = None) -> Report:
    return Run(stage.parts(), does, until_caught_up=True, again=again).run()


class Background:
    """A run in a thread, as `cdcflow run` is, ended by its stop."""

    def __init__(self, stage: Stage) -> None:
        self.parts = stage.parts()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            Run(self.parts, BOTH).run()
        except BaseException as failure:
            self.failure = failure

    def end(self) -> None:
        self.parts.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure


def states(stage: Stage) -> dict[str, str]:
    return {record.source.table: record.state.value for record in stage.target.records.values()}


def test_everything_is_copied_then_followed_and_the_source_hears_of_it() -> None:
    stage = shop()
    report = run(stage)
    assert stage.same()
    assert report.rows_copied == 21
    assert set(states(stage).values()) == {"live"}
    busy(stage)
    report = run(stage)
    assert stage.same()
    assert report.changes_applied > 0
    assert stage.world.confirmed == stage.world.end
    assert sorted(set(stage.target.finished)) == ["events", "items", "orders"]


def test_snapshot_ends_before_the_stream_and_stream_goes_on() -> None:
    stage = shop()
    run(stage, Does.COPY)
    assert set(states(stage).values()) == {"catching_up"}
    assert stage.source.streams == []
    busy(stage)
    run(stage, Does.FOLLOW)
    assert stage.same()


def test_stream_without_a_copy_is_wrong_usage_and_makes_nothing() -> None:
    stage = shop()
    with pytest.raises(UsageError) as raised:
        run(stage, Does.FOLLOW)
    assert "cdcflow run" in raised.value.do
    assert stage.world.slot is None


def test_a_refused_table_is_named_before_anything_is_made_at_the_source() -> None:
    stage = shop()
    stage.source.refused = {1, 3}
    with pytest.raises(TableRefused) as raised:
        run(stage)
    assert "public.orders" in raised.value.what
    assert "public.events" in raised.value.what
    assert stage.world.slot is None


MOMENTS = [
    ("after slot", 1),
    ("after save", 1),
    ("put pending", 2),
    ("put copying", 1),
    ("put copying", 3),
    ("load chunk", 1),
    ("load chunk", 5),
    ("after chunk", 1),
    ("after chunk", 6),
    ("put catching_up", 1),
    ("put catching_up", 3),
    ("put live", 1),
    ("put live", 3),
    ("open stream", 1),
    ("before commit", 1),
    ("before commit", 4),
    ("after commit", 1),
    ("after commit", 3),
    ("piece", 1),
    ("ack", 1),
    ("ack", 2),
]


@pytest.mark.parametrize(("moment", "nth"), MOMENTS)
def test_a_kill_at_any_moment_loses_and_doubles_nothing(moment: str, nth: int) -> None:
    stage = shop()
    stage.faults.planned = [Fault(moment, Killed, nth)]
    for seed in range(4):
        with contextlib.suppress(Killed):
            run(stage)
        busy(stage, seed, 3)
    assert stage.faults.planned[0].nth <= 0, "the moment never came"
    stage.faults.planned.clear()
    run(stage)
    assert stage.same()
    assert set(states(stage).values()) == {"live"}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([moment for moment, _ in MOMENTS]), st.integers(1, 8)), max_size=6))
@example([("after save", 1), ("put live", 1)])  # a copy ahead of the recorded position, called live, then killed
def test_any_series_of_kills_loses_and_doubles_nothing(kills: list[tuple[str, int]]) -> None:
    stage = shop()
    for seed, (moment, nth) in enumerate(kills):
        stage.faults.planned = [Fault(moment, Killed, nth)]
        with contextlib.suppress(Killed):
            run(stage)
        busy(stage, seed, 2)
    stage.faults.planned.clear()
    run(stage)
    assert stage.same()


@pytest.mark.parametrize("moment", ["before commit", "after commit", "load chunk", "after chunk", "read", "snapshot"])
@pytest.mark.parametrize("error", [source_away, target_away])
def test_a_server_that_goes_away_is_waited_for(moment: str, error: Callable[[], BaseException]) -> None:
    stage = shop()
    stage.faults.planned = [Fault(moment, error, 2)]
    run(stage)
    busy(stage)
    report = run(stage)
    assert stage.same()
    assert report.tables == dict.fromkeys(["public.orders", "public.items", "public.events"], "live")


def test_a_server_that_stays_away_ends_the_run_as_temporary() -> None:
    stage = shop()
    parts = stage.parts()
    stage.faults.planned = [Fault("tables", source_away, n) for n in range(1, 500)]
    object.__setattr__(parts.settings, "outage", 0.5)
    with pytest.raises(SourceUnavailable) as raised:
        Run(parts, BOTH).run()
    assert raised.value.exit_code == 75


def test_a_stop_during_an_outage_is_heard() -> None:
    stage = shop()
    stage.faults.planned = [Fault("tables", source_away, n) for n in range(1, 500)]
    background = Background(stage)
    until(lambda: len(stage.faults.seen) > 2)
    background.end()


def test_a_lost_slot_stops_and_copying_all_again_makes_it_anew() -> None:
    stage = shop()
    run(stage)
    stage.world.slot = None
    busy(stage)
    with pytest.raises(PositionLost):
        run(stage)
    run(stage, again=Again(every=True))
    assert stage.same()
    busy(stage, 5)
    run(stage)
    assert stage.same()


def test_a_slot_that_nobody_remembers_is_not_taken_for_ours() -> None:
    stage = shop()
    run(stage)
    stage.target.checkpoint = None
    stage.target.records.clear()
    with pytest.raises(PositionLost) as raised:
        run(stage)
    assert "resync --all" in raised.value.do
    run(stage, again=Again(every=True))
    assert stage.same()


def test_copying_one_table_again_empties_it_first_and_leaves_the_others() -> None:
    stage = shop()
    run(stage)
    stage.target.rows[1] = [(999, "stray")]
    stage.target.rows[3].append((-1, "stray"))
    busy(stage)
    run(stage, again=Again(["public.orders"]))
    run(stage, again=Again(["public.events"]))
    assert stage.same()


def test_copying_an_unknown_table_again_names_the_nearest() -> None:
    stage = shop()
    run(stage)
    with pytest.raises(UsageError) as raised:
        run(stage, again=Again(["public.order"]))
    assert "public.orders" in raised.value.do


def test_a_table_that_the_target_rejects_fails_alone() -> None:
    stage = shop()
    error = RowRejected("a check is not satisfied", at="table public.x", do="change the table")
    stage.faults.planned = [Fault("load chunk", lambda: error, 1)]
    report = run(stage)
    (name,) = report.failed
    assert report.failed[name][1].endswith(f"cdcflow resync {name}")
    assert sorted(report.tables.values()) == ["failed", "live", "live"]
    run(stage, again=Again([name]))
    assert stage.same()


def test_a_row_that_is_rejected_in_the_stream_stops_with_what_came_before_applied() -> None:
    stage = shop()
    run(stage)
    busy(stage)
    stage.faults.planned = [Fault("before commit", lambda: RowRejected("no"), 1)]
    with pytest.raises(RowRejected):
        run(stage)
    stage.faults.planned.clear()
    run(stage)
    assert stage.same()


def test_a_replay_that_collides_has_its_table_copied_again_but_only_once_in_a_run() -> None:
    stage = shop()
    run(stage)
    busy(stage)
    collision = Fault("before commit", lambda: ReplayCollision("taken", table_id=1), 1)
    stage.faults.planned = [collision]
    copied = run(stage).rows_copied
    assert copied == len(stage.world.rows(1))
    assert stage.same()
    busy(stage, 1)
    stage.faults.planned = [replace(collision, nth=1), replace(collision, nth=2)]
    with pytest.raises(ReplayCollision):
        run(stage)


def test_a_lost_lease_stops_the_run() -> None:
    stage = shop()
    run(stage)
    stage.faults.planned = [Fault("before commit", lambda: Fenced("another one"), 1)]
    busy(stage)
    with pytest.raises(Fenced):
        run(stage)


def test_missing_access_is_not_retried() -> None:
    stage = shop()
    stage.faults.planned = [Fault("migrate", lambda: AccessDenied("no"), 1)]
    with pytest.raises(AccessDenied):
        run(stage)


def test_a_rule_that_matches_nothing_is_told_before_anything_is_made() -> None:
    stage = Stage()
    with pytest.raises(ConfigError):
        run(stage)
    assert stage.world.slot is None


# -- beside the stream


def live(stage: Stage, *names: str) -> Callable[[], bool]:
    return lambda: all(states(stage).get(name) == "live" for name in names)


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


def test_a_rewritten_table_is_copied_again() -> None:
    stage = shop()
    run(stage)
    stage.target.rows[1] = [(key, "old") for key, _ in stage.target.rows[1]]
    stage.world.stamps[1] = "2"
    run(stage)
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
