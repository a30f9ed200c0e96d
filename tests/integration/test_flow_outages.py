"""A run under failures: servers restarted, connections cut and hung, the process killed, while the source is busy."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from cdcflow.ops.faults import VARIABLE
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database, same
from tests.servers.fleet import PostgresServer
from tests.servers.proxy import Proxy
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]
TABLES = ("accounts", "ledger", "notes")

SHOP = """
CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL, email text);
INSERT INTO accounts SELECT n, 1000, 'a' || n FROM generate_series(1, 2000) AS n;
CREATE TABLE ledger (source int, sink int, amount int); ALTER TABLE ledger REPLICA IDENTITY FULL;
INSERT INTO ledger SELECT 1, 2, 0 FROM generate_series(1, 1000);
CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, n int);
INSERT INTO notes (body, n) SELECT repeat(md5(n::text), 100), n FROM generate_series(1, 3000) AS n;
"""


class Traffic:
    """Transfers between accounts: every transaction leaves the sum of all balances as it was."""

    def __init__(self, database: Database, seed: int) -> None:
        self._database, self._random = database, random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.transactions = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        connection: psycopg.Connection | None = None
        while not self._ended.is_set():
            try:
                if connection is None:
                    connection = self._database.connect(autocommit=False)
                self._transfer(connection)
                self.transactions += 1
                self._ended.wait(0.002)
            except psycopg.OperationalError:
                connection = None
                self._ended.wait(0.1)
        if connection is not None:
            connection.close()

    def _transfer(self, connection: psycopg.Connection) -> None:
        one, other = self._random.sample(range(1, 2001), 2)
        amount = self._random.randint(1, 100)
        connection.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", [amount, one])
        connection.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", [amount, other])
        connection.execute("INSERT INTO ledger VALUES (%s, %s, %s)", [one, other, amount])
        note = self._random.randint(1, 3000)
        kind = self._random.random()
        if kind < 0.3:
            connection.execute("UPDATE notes SET n = n + 1 WHERE id = %s", [note])
        elif kind < 0.4:
            connection.execute("DELETE FROM notes WHERE id = %s", [note])
        elif kind < 0.6:
            connection.execute("INSERT INTO notes (body, n) VALUES (repeat('y', %s), 0)", [note * 3])
        connection.commit()


@contextmanager
def traffic(database: Database, seed: int = 1) -> Iterator[Traffic]:
    running = Traffic(database, seed)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def all_same(source: Database, target: Database) -> None:
    for table in TABLES:
        same(source, target, table)


def until_live(running: Running, target: Database, limit: float = 60) -> None:
    def live() -> bool:
        assert not running.ended, running.output()[-4000:]
        return target.query("SELECT count(*) FROM cdcflow.tables WHERE state = 'live'") == [(len(TABLES),)]

    until(live, limit=limit, what="every table is live")


def checkpoint(target: Database) -> str:
    return str(target.value("SELECT position FROM cdcflow.checkpoints"))


def until_moved(running: Running, target: Database, before: str, limit: float = 60) -> None:
    def moved() -> bool:
        assert not running.ended, running.output()[-4000:]
        return checkpoint(target) != before

    until(moved, limit=limit, what="the checkpoint moves on")


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_restarts_is_waited_for(
    side: str,
    mode: str,
    new_server: Callable[..., PostgresServer],
    new_database: Callable[..., Database],
    new_pipeline: Callable[..., PipelineFolder],
    running: Start,
    cdcflow: Call,
) -> None:
    servers = {"source": new_server(18, durable=True), "target": new_server(18, durable=True)}
    source, target = (new_database(servers[name], label=name) for name in ("source", "target"))
    new_pipeline(source, target)
    source.execute(SHOP)
    process = running("run")
    until_live(process, target)
    with traffic(source):
        for _ in range(2):
            before = checkpoint(target)
            until_moved(process, target, before)
            servers[side].restart(mode)
            after = until(lambda: checkpoint(target), what="the target answers")
            until_moved(process, target, after)
    process.terminate()
    assert process.wait() == 0, process.output()
    cdcflow("run", "--until-caught-up", exit_code=0)
    all_same(source, target)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("how", ["cut", "hang"])
def test_connections_that_are_cut_or_hang_are_made_again(
    side: str,
    how: str,
    source_db: Database,
    target_db: Database,
    pg_source: PostgresServer,
    pg_target: PostgresServer,
    pipeline_dir: PipelineFolder,
    proxy: Callable[[PostgresServer], Proxy],
    running: Start,
    cdcflow: Call,
) -> None:
    source_db.execute(SHOP)
    between = proxy(pg_source if side == "source" else pg_target)
    url = between.through((source_db if side == "source" else target_db).url)
    pipeline_dir.through(**{side: url})
    process = running("run")
    until_live(process, target_db)
    with traffic(source_db):
        for _ in range(2):
            until_moved(process, target_db, checkpoint(target_db))
            if how == "cut":
                between.cut()
            else:
                between.hang()
                time.sleep(2)  # the failure itself, not a wait for something
                between.cut()
                between.passing()
            until_moved(process, target_db, checkpoint(target_db))
    process.terminate()
    assert process.wait() == 0, process.output()
    cdcflow("run", "--until-caught-up", exit_code=0)
    all_same(source_db, target_db)


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_any_moment_lose_and_double_nothing(
    seed: int,
    source_db: Database,
    target_db: Database,
    pipeline_dir: PipelineFolder,
    running: Start,
    cdcflow: Call,
) -> None:
    source_db.execute(SHOP)
    chance = random.Random(seed)
    with traffic(source_db, seed):
        for _ in range(8):
            process = running("run")
            time.sleep(chance.uniform(0.6, 2.5))  # the moment of the kill, not a wait
            assert not process.ended, process.output()[-4000:]
            process.kill()
    cdcflow("run", "--until-caught-up", exit_code=0)
    all_same(source_db, target_db)


def test_readers_of_the_target_see_only_states_of_the_source(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, running: Start
) -> None:
    source_db.execute(SHOP)
    process = running("run")
    until_live(process, target_db)
    with traffic(source_db) as busy:
        reader = target_db.connect()
        until_count = busy.transactions + 300
        while busy.transactions < until_count:
            assert reader.execute("SELECT sum(balance) FROM accounts").fetchone() == (2_000_000,)
        reader.close()
    assert not process.ended


def test_a_copy_killed_in_the_middle_goes_on_with_the_chunks_that_are_left(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, running: Start, cdcflow: Call
) -> None:
    source_db.execute(
        "CREATE TABLE big (id int PRIMARY KEY, v int, pad text);"
        "INSERT INTO big SELECT n, 0, repeat('p', 200) FROM generate_series(1, 200000) AS n"
    )
    pipeline_dir.write_config(source={"url": pipeline_dir.source_url, "snapshot": {"chunk": "1MB"}})
    for round_ in range(3):
        process = running("run", env={VARIABLE: "chunk committed:5"})
        assert process.wait(120) == -signal.SIGKILL, process.output()
        source_db.execute(f"UPDATE big SET v = v + 1 WHERE id % 10 = {round_}")
        source_db.execute(f"DELETE FROM big WHERE id % 100 = {round_ + 50}")
        source_db.execute(f"UPDATE big SET id = id + 1000000 WHERE id % 1000 = {round_ + 7}")
        first = 500_000 + round_ * 100
        source_db.execute(f"INSERT INTO big SELECT n, 9, 'new' FROM generate_series({first}, {first + 50}) AS n")
    done = cdcflow("run", "--until-caught-up", exit_code=0)
    assert "resumed=True" in done.stderr
    same(source_db, target_db, "big")
