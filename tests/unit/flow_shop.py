"""A small shop over scripted ports, and runs of a pipeline over it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from cdcflow.flow.pipeline import Again, Does, Run
from cdcflow.flow.progress import Report
from tests.unit.flow_fakes import Stage

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
    """Run a pipeline to its end."""
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
    """Return the state of each table."""
    return {record.source.table: record.state.value for record in stage.target.records.values()}


def live(stage: Stage, *names: str) -> Callable[[], bool]:
    """Return whether all these tables are live, as a function."""
    return lambda: all(states(stage).get(name) == "live" for name in names)
