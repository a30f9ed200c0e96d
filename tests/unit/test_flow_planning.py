"""While large tables are planned: a run shows that it lives, ends when told to, and notices its successor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from cdcflow.errors import Fenced
from cdcflow.flow import lease
from cdcflow.flow.pipeline import Run
from cdcflow.flow.progress import Fanout
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.ports import Turn
from cdcflow.model.route import Route
from tests.unit.flow_fake_target import FakeStore
from tests.unit.flow_fakes import FakeSnapshot
from tests.unit.flow_shop import BOTH, run, shop, states

STEPS = 5
Step = Callable[[], None]


def slow(monkeypatch: pytest.MonkeyPatch, step: Step) -> None:
    """Make each plan one of several steps, as the walk over an index is."""
    plan = FakeSnapshot.plan

    def stepwise(self: FakeSnapshot, route: Route, done: Sequence[DoneChunk], turn: Turn) -> list[Chunk]:
        for _ in range(STEPS):
            step()
            turn()
        return plan(self, route, done, turn)

    monkeypatch.setattr(FakeSnapshot, "plan", stepwise)


def test_each_step_of_a_plan_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, events = shop(), list[str]()

    class Watching(Fanout):
        def state(self, state: str) -> None:
            events.append(state)

        def alive(self) -> None:
            events.append("alive")

    parts = stage.parts()
    parts.observer = Watching()
    slow(monkeypatch, lambda: events.append("step"))
    Run(parts, BOTH, until_caught_up=True).run()
    assert events.count("step") == STEPS * len(stage.world.tables)
    for number, event in enumerate(events):
        if event == "step":
            assert events[number + 1] == "alive"
    assert events.index("copying") < events.index("step")
    assert stage.same()


def test_a_stop_between_two_steps_of_a_plan_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, steps = shop(), list[int]()
    parts = stage.parts()

    def step() -> None:
        steps.append(1)
        if len(steps) == STEPS + 2:  # in the second table
            parts.stop.set()

    slow(monkeypatch, step)
    report = Run(parts, BOTH).run()
    assert report.stopped
    assert len(steps) == STEPS + 2
    assert sorted(states(stage).values()) == ["copying", "pending", "pending"]
    assert not any(stage.target.rows.values())
    monkeypatch.undo()
    run(stage)
    assert stage.same()


def test_the_loss_of_the_lease_is_noticed_while_a_table_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, steps = shop(), list[int]()
    parts = stage.parts()
    store = parts.store
    assert isinstance(store, FakeStore)

    def step() -> None:
        steps.append(1)
        store.lease = False

    slow(monkeypatch, step)
    monkeypatch.setattr(lease, "LEASE_EVERY_SECONDS", 0.0)
    with pytest.raises(Fenced):
        Run(parts, BOTH).run()
    assert len(steps) == 1
