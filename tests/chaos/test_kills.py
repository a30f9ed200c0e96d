"""SIGKILL at any moment: nothing is lost, nothing is doubled. The databases are the oracle.

`CDCFLOW_KILLS=200` kills so often in all.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from cdcflow.ops.faults import MOMENTS, VARIABLE
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database, same
from tests.servers.waiting import until

SHARDS = 8
KILLS_IN_A_SHARD = max(1, int(os.environ.get("CDCFLOW_KILLS", "64")) // SHARDS)

TABLES = """
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL, note text);
CREATE TABLE entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int, amount int, seen timestamptz);
CREATE TABLE passing (id int PRIMARY KEY, v text, n int);
INSERT INTO passing SELECT n, 'first', n FROM generate_series(1, 300) n;
CREATE TABLE loose (a int, b text);
ALTER TABLE loose REPLICA IDENTITY FULL;
ALTER TABLE account ALTER note SET STORAGE EXTERNAL;
INSERT INTO account SELECT n, 1000, repeat('x', n % 3000) FROM generate_series(1, 4000) n;
INSERT INTO entry (account, amount, seen) SELECT n % 4000, 0, now() FROM generate_series(1, 20000) n;
INSERT INTO loose SELECT n % 10, 'row ' || n FROM generate_series(1, 50) n;
"""


class Traffic(threading.Thread):
    """Transfers between accounts, with inserts, deletes, key changes and large values, until told to stop."""

    def __init__(self, database: Database, seed: int) -> None:
        super().__init__(daemon=True)
        self._database, self._random, self._done = database, random.Random(seed), threading.Event()
        self.failure: BaseException | None = None
        self.transactions = 0

    def run(self) -> None:
        try:
            with self._database.connect(autocommit=False) as connection:
                while not self._done.is_set():
                    self._transaction(connection)
                    connection.commit()
                    self.transactions += 1
                    self._done.wait(0.003)
        except BaseException as error:
            self.failure = error

    def _transaction(self, connection: psycopg.Connection[Any]) -> None:
        pick = self._random.randrange(1, 4000)
        other = self._random.randrange(1, 4000)
        amount = self._random.randrange(100)
        run = connection.execute
        run("UPDATE account SET balance = balance - %s WHERE id = %s", [amount, pick])
        run("UPDATE account SET balance = balance + %s WHERE id = %s", [amount, other])
        run("INSERT INTO entry (account, amount, seen) VALUES (%s, %s, now())", [pick, amount])
        chance = self._random.randrange(44)
        if chance == 0:
            run("UPDATE account SET id = id + 10000 WHERE id = %s", [pick])
            run("UPDATE account SET id = id - 10000 WHERE id = %s", [pick + 10000])
        elif chance == 1:
            run("DELETE FROM entry WHERE id IN (SELECT id FROM entry ORDER BY id LIMIT 30)")
        elif chance == 2:
            run("UPDATE account SET note = repeat('y', %s) WHERE id = %s", [self._random.randrange(5000), pick])
        elif chance == 3:
            run("INSERT INTO loose VALUES (%s, 'more'), (%s, NULL)", [chance, pick])
        elif chance == 4:
            run("UPDATE loose SET b = 'changed' WHERE ctid = (SELECT min(ctid) FROM loose)")
        elif chance == 5:
            run("INSERT INTO entry (account, amount) SELECT n, 1 FROM generate_series(1, 500) n")
        elif chance == 6:
            run("SAVEPOINT s; INSERT INTO loose VALUES (0, 'never'); ROLLBACK TO s")
        elif chance == 7:  # sets that are large enough to be netted, of keys that come and go
            run("INSERT INTO passing SELECT n, 'new', n FROM generate_series(1, 300) n ON CONFLICT DO NOTHING")
        elif chance == 8:
            run("DELETE FROM passing WHERE mod(id, 3) <> %s", [pick % 3])
        elif chance == 9:
            run("DELETE FROM passing WHERE id <= 200")
            run("INSERT INTO passing SELECT n, 'again', -n FROM generate_series(1, 150) n")
        elif chance == 10:
            run("UPDATE passing SET id = id + 300 WHERE id <= 300 AND NOT EXISTS (SELECT FROM passing WHERE id > 300)")
            run("UPDATE passing SET id = id - 300, v = 'back' WHERE id BETWEEN 301 AND 450")
            run("DELETE FROM passing WHERE id > 300")
        elif chance == 11 and self._random.randrange(6) == 0:
            run("ALTER TABLE passing ALTER n TYPE bigint USING n + 1")
            run("ALTER TABLE passing ALTER n TYPE int USING n + 1")

    def end(self) -> None:
        self._done.set()
        self.join(90)
        assert not self.is_alive()
        if self.failure is not None:
            raise self.failure


@pytest.mark.timeout(600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_seeded_kills_lose_nothing_and_double_nothing(
    shard: int,
    source_db: Database,
    target_db: Database,
    pipeline_dir: PipelineFolder,
    cdcflow: Callable[..., Any],
    running: Callable[..., Running],
) -> None:
    chance = random.Random(f"kills {shard}")
    source_db.execute(TABLES)
    pipeline_dir.write_config(source={"url": source_db.url, "snapshot": {"chunk": "64KiB"}})
    traffic = Traffic(source_db, shard)
    traffic.start()
    killed = extra = 0
    try:
        while killed < KILLS_IN_A_SHARD + extra:
            if killed == KILLS_IN_A_SHARD // 2:
                source_db.execute(f"CREATE TABLE IF NOT EXISTS late{shard} (id int PRIMARY KEY, v text)")
                source_db.execute(
                    f"INSERT INTO late{shard} SELECT n, 'late' FROM generate_series(1, 3000) n ON CONFLICT DO NOTHING"
                )
            moment = MOMENTS[(killed + shard) % len(MOMENTS)] if killed % 2 == 0 else None
            env = {VARIABLE: f"{moment}:{chance.randrange(1, 6)}"} if moment else {}
            if killed % 7 == 6:
                process = running("resync", "public.passing", "public.loose", env=env)
            else:
                process = running("run", env=env)
            # A moment that this run does not meet is replaced by a kill at a seeded time.
            if not _ends(process, 0.4 + chance.random() * 1.4):
                process.kill()
            code = process.wait(30)
            if code == 0 and killed % 7 == 6:  # the resync was done before its time
                killed += 1
                extra += 1
                continue
            assert code in (-signal.SIGKILL, 128 + signal.SIGKILL), process.output()
            killed += 1
    finally:
        traffic.end()
    cdcflow("run", "--until-caught-up", exit_code=0)
    for table in ("account", "entry", "loose", "passing", f"late{shard}"):
        same(source_db, target_db, table)
    assert target_db.value("SELECT sum(balance) FROM account") == 4000 * 1000
    assert killed - extra == KILLS_IN_A_SHARD


def _ends(process: Running, limit: float) -> bool:
    try:
        until(lambda: process.ended, limit)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_each_named_moment_is_gone_on_from(
    moment: str,
    source_db: Database,
    target_db: Database,
    pipeline_dir: PipelineFolder,
    cdcflow: Callable[..., Any],
    running: Callable[..., Running],
) -> None:
    source_db.execute(TABLES)
    settings: dict[str, Any] = {"source": {"url": source_db.url, "snapshot": {"chunk": "64KiB"}}}
    if moment == "piece written":
        settings["batch"] = {"max_bytes": "1MB"}
    pipeline_dir.write_config(**settings)
    if moment in ("piece written", "batch sent", "batch committed"):
        cdcflow("run", "--until-caught-up", exit_code=0)
        source_db.execute("INSERT INTO entry (account, amount) SELECT n, 7 FROM generate_series(1, 30000) n")
        source_db.execute("UPDATE account SET balance = balance + 1")
    process = running("run", "--until-caught-up", env={VARIABLE: f"{moment}:1"})
    assert process.wait(60) in (-signal.SIGKILL, 128 + signal.SIGKILL), process.output()
    source_db.execute("DELETE FROM entry WHERE id % 7 = 0; UPDATE account SET note = NULL WHERE id % 5 = 0")
    cdcflow("run", "--until-caught-up", exit_code=0)
    for table in ("account", "entry", "loose"):
        same(source_db, target_db, table)
