"""Many cases through few pipelines: every case has tables of its own, and all of them share one copy and one log."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.commands import Commands, PipelineFolder
from tests.servers.database import Database, drop_database, make_database, same
from tests.servers.fleet import PostgresServer
from tests.servers.waiting import until

_numbers = itertools.count(1)

# So many rows of another table beside the case's own changes make the batch a large one.
FILLER_ROWS = 500


@dataclass(frozen=True, slots=True)
class Case:
    """What one test is about.

    setup: run before the copy. transactions: run after it, each as one transaction (several statements may be in
    one). tables: compared afterwards, as SQL writes them.
    """

    setup: str
    transactions: tuple[str, ...]
    tables: tuple[str, ...]


@dataclass(slots=True)
class Pair:
    """Two databases with a pipeline between them, and what was run in it."""

    source: Database
    target: Database
    folder: PipelineFolder
    commands: Commands
    outputs: list[str] = field(default_factory=list)

    def run(self, exit_code: int | None = 0) -> str:
        """`cdcflow run --until-caught-up`; return what it printed."""
        done = self.commands.call("run", "--until-caught-up", exit_code=exit_code)
        self.outputs.append(done.stderr)
        return done.stdout + done.stderr

    def change(self, transaction: str) -> None:
        """Commit one transaction at the source, which may hold savepoints; what does not need one runs as it is."""
        self.source.execute(f"BEGIN; {transaction}; COMMIT")

    def same(self, *tables: str) -> None:
        """Assert that these tables are equal on both sides."""
        for table in tables:
            same(self.source, self.target, table)

    def checkpoint(self) -> int:
        """Return the recorded position, in bytes since the beginning of the source's log."""
        found = self.target.query(
            "SELECT position::pg_lsn - '0/0' FROM cdcflow.checkpoints WHERE pipeline = %s AND position <> ''",
            [self.folder.name],
        )
        return int(found[0][0]) if found else 0

    def until_applied(self, running: object) -> None:
        """Wait until the position passed what the source has committed by now."""
        now = int(self.source.value("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))
        self.source.execute("INSERT INTO semantics_ticks DEFAULT VALUES")

        def applied() -> bool:
            assert not running.ended, running.output()[-4000:]  # type: ignore[attr-defined]
            return self.checkpoint() >= now

        until(applied, limit=60, what="the position passes the last commit")


@contextmanager
def pair(
    folder: Path,
    source: PostgresServer,
    target: PostgresServer,
    *,
    source_encoding: str = "UTF8",
) -> Iterator[Pair]:
    """Two fresh databases and a pipeline of every table outside the system's schemas."""
    here = make_database(source, label="source", encoding=source_encoding)
    there = make_database(target, label="target")
    commands = Commands(folder)
    try:
        name = f"s{os.getpid()}_{next(_numbers)}"
        made = PipelineFolder(folder, name, here.url, there.url).write_config().write_rules("*.*")
        yield Pair(here, there, made, commands)
    finally:
        commands.end()
        drop_database(here)
        drop_database(there)


def follow_small(pair: Pair, cases: list[Case]) -> None:
    """Copy, then apply every transaction alone while the pipeline runs: batches of the small kind."""
    _copy(pair, cases)
    running = pair.commands.start("run")
    try:
        pair.until_applied(running)
        for case in cases:
            for transaction in case.transactions:
                pair.change(transaction)
                pair.until_applied(running)
        running.terminate()
        assert running.wait() == 0, running.output()[-4000:]
    finally:
        pair.outputs.append(running.output())


def follow_large(pair: Pair, cases: list[Case]) -> None:
    """Copy, then make all changes, then follow them at once: one batch of the large kind."""
    _copy(pair, cases)
    for case in cases:
        for transaction in case.transactions:
            pair.change(transaction)
    pair.source.execute(f"INSERT INTO semantics_ticks SELECT FROM generate_series(1, {FILLER_ROWS})")
    pair.run()


def _copy(pair: Pair, cases: list[Case]) -> None:
    pair.source.execute("CREATE TABLE semantics_ticks (id bigserial PRIMARY KEY)")
    for case in cases:
        pair.source.execute(case.setup)
    pair.run()
    for case in cases:
        pair.same(*case.tables)
