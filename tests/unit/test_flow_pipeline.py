"""Whole runs over scripted ports: killed at every moment that matters, with servers that go away."""

from __future__ import annotations

import contextlib
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
    UniqueRejected,
    UsageError,
)
from cdcflow.flow.copying import Round
from cdcflow.flow.pipeline import Again, Does, Run
from tests.servers.waiting import until
from tests.unit.flow_fakes import Stage, source_away, target_away
from tests.unit.flow_shop import BOTH, Background, busy, run, shop, states
from tests.unit.flow_world import Fault, Killed


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


@pytest.mark.parametrize("nth", [1, 2])
def test_a_kill_in_the_middle_of_a_second_copy_leaves_nothing_of_the_first(nth: int) -> None:
    stage = shop()
    run(stage)
    earlier = {table: {each.token for each in chunks} for table, chunks in stage.target.chunks.items()}
    assert any(earlier.values())
    busy(stage)
    stage.faults.planned = [Fault("after chunk", Killed, nth)]
    with pytest.raises(Killed):
        run(stage, again=Again(every=True))
    stage.faults.planned = []
    assert stage.target.chunks
    for table, chunks in stage.target.chunks.items():
        assert not {each.token for each in chunks} & earlier[table]
    run(stage)
    assert stage.same()


@pytest.mark.parametrize("moved", [True, False])
def test_a_unique_value_that_moves_between_chunks_of_several_moments_has_its_table_copied_again_once(
    monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    def rejected() -> UniqueRejected:
        return UniqueRejected("a unique constraint is not satisfied", at="table public.x", do="change the table")

    if moved:  # as where each chunk has a view of its own; the source of this stage has one for all
        monkeypatch.setattr(Round, "_is_overtaken", lambda self, table_id: True)
    stage = shop()
    stage.faults.planned = [Fault("load chunk", rejected, 1)]
    report = run(stage)
    assert len(report.failed) == (0 if moved else 1)
    if moved:
        assert stage.same()
        stage = shop()
        stage.faults.planned = [Fault("load chunk", rejected, nth) for nth in range(1, 100)]
        failed = run(stage).failed
        assert len(failed) == 3
        assert all("drop that constraint at the target" in do for _, do in failed.values())


def test_rows_that_somebody_else_put_into_a_table_are_not_emptied_for_a_unique_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Round, "_is_overtaken", lambda self, table_id: True)
    stage = shop()
    stage.target.rows[1] = [(1, "theirs"), (1000, "theirs")]
    error = UniqueRejected("a unique constraint is not satisfied", at="table public.orders", do="change the table")
    stage.faults.planned = [Fault("load chunk", lambda: error, nth) for nth in range(1, 100)]
    report = run(stage)
    assert "public.orders" in report.failed
    assert stage.target.rows[1] == [(1, "theirs"), (1000, "theirs")]


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
    # A copy that the end of its session broke off is read again by the next.
    assert run(stage).rows_copied >= len(stage.world.rows(1))
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
