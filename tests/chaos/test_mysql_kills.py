"""SIGKILL at any moment between MySQL, MariaDB, PostgreSQL and SQLite: nothing is lost, nothing is doubled.

`CDCFLOW_KILLS=200` kills so often in all; without it a few times for each pair.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cdcflow.ops.faults import MOMENTS, VARIABLE
from tests.servers.commands import PipelineFolder, Running
from tests.servers.mysql_database import MysqlDatabase, compression_put_back
from tests.servers.sides import File, Rows, Side, same_sides
from tests.servers.waiting import until

PAIRS = ("mysql-postgres", "postgres-mysql", "mysql-mysql", "mysql-sqlite", "mariadb-postgres")
KILLS = max(1, int(os.environ.get("CDCFLOW_KILLS", "15")) // len(PAIRS))
# A MariaDB target is one of its own in the matrix of engines, but not of kinds of killing: it is met when asked for.
MORE_PAIRS = ("mariadb-mariadb", "postgres-mariadb") if "CDCFLOW_KILLS" in os.environ else ()
TABLES = ("account", "entry", "passing", "loose")

ACCOUNTS, ENTRIES = 3000, 12_000

MAKE = """
CREATE TABLE numbers (n int PRIMARY KEY);
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL, note text);
CREATE TABLE entry (id bigint {identity} PRIMARY KEY, account int, amount int NOT NULL DEFAULT 3, text varchar(60));
CREATE TABLE passing (id int PRIMARY KEY, v varchar(20), n int);
CREATE TABLE loose (a int, b text)
"""
FILL = f"""
INSERT INTO passing SELECT n, 'first', n FROM numbers WHERE n <= 300;
INSERT INTO account SELECT n, 1000, repeat('x', mod(n, 1500)) FROM numbers WHERE n <= {ACCOUNTS};
INSERT INTO entry (account, amount, text) SELECT mod(n, 3000), 0, 'an entry of the first days' FROM numbers;
INSERT INTO loose SELECT mod(n, 10), concat('row ', n) FROM numbers WHERE n <= 50
"""
# What the engines say in other words.
WORDS = {
    "postgres": {
        "identity": "GENERATED ALWAYS AS IDENTITY",
        "one loose": "UPDATE loose SET b = 'changed' WHERE ctid = (SELECT min(ctid) FROM loose)",
        "no loose": "DELETE FROM loose WHERE ctid = (SELECT max(ctid) FROM loose)",
        "wide": "ALTER TABLE passing ALTER n TYPE bigint",
        "narrow": "ALTER TABLE passing ALTER n TYPE int",
    },
    "mysql": {
        "identity": "AUTO_INCREMENT",
        "one loose": "UPDATE loose SET b = 'changed' LIMIT 1",
        "no loose": "DELETE FROM loose LIMIT 1",
        "wide": "ALTER TABLE passing MODIFY n bigint",
        "narrow": "ALTER TABLE passing MODIFY n int",
    },
}
WORDS["mariadb"] = WORDS["mysql"]
# Ways in which a session may write to the log.
HABITS = {
    "postgres": (),
    "mysql": (
        "SET SESSION binlog_row_image = 'MINIMAL'",
        "SET SESSION binlog_row_image = 'NOBLOB'",
        "SET SESSION binlog_row_image = 'FULL'",
        "SET SESSION binlog_transaction_compression = ON",
        "SET SESSION binlog_transaction_compression = OFF",
        "FLUSH BINARY LOGS",
    ),
    "mariadb": (
        "SET SESSION binlog_row_image = 'MINIMAL'",
        "SET SESSION binlog_row_image = 'NOBLOB'",
        "SET SESSION binlog_row_image = 'FULL'",
        "SET GLOBAL log_bin_compress_min_len = 10, GLOBAL log_bin_compress = ON",
        "SET GLOBAL log_bin_compress = OFF",
        "FLUSH BINARY LOGS",
    ),
}


class Traffic(threading.Thread):
    """Transfers between accounts, with inserts, deletes, key changes, DDL and large values, until told to stop."""

    def __init__(self, source: Rows, engine: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._source, self._engine, self._random = source, engine, random.Random(seed)
        self._words = WORDS[engine]
        self._done = threading.Event()
        self._extra = False
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with self._source.database.connect(autocommit=False) as connection, connection.cursor() as cursor:
                while not self._done.is_set():
                    self._transaction(cursor.execute)
                    connection.commit()
                    self._done.wait(0.003)
        except BaseException as error:
            self.failure = error

    def _transaction(self, run: Callable[[str], Any]) -> None:
        pick = self._random.randrange(1, ACCOUNTS)
        other = self._random.randrange(1, ACCOUNTS)
        amount = self._random.randrange(100)
        run(f"UPDATE account SET balance = balance - {amount} WHERE id = {pick}")
        run(f"UPDATE account SET balance = balance + {amount} WHERE id = {other}")
        run(f"INSERT INTO entry (account, amount) VALUES ({pick}, {amount})")
        chance = self._random.randrange(44)
        if chance == 0:
            run(f"UPDATE account SET id = id + 10000 WHERE id = {pick}")
            run(f"UPDATE account SET id = id - 10000 WHERE id = {pick + 10000}")
        elif chance == 1:
            run("DELETE FROM entry WHERE id IN (SELECT id FROM (SELECT id FROM entry ORDER BY id LIMIT 30) x)")
        elif chance == 2:
            run(f"UPDATE account SET note = repeat('y', {self._random.randrange(5000)}) WHERE id = {pick}")
        elif chance == 3:
            run(f"INSERT INTO loose VALUES ({chance}, 'more'), ({pick}, NULL)")
        elif chance == 4:
            run(self._words["one loose"])
            run(self._words["no loose"])
        elif chance == 5:
            run("INSERT INTO entry (account) SELECT n FROM numbers WHERE n <= 500")
        elif chance == 6:
            run("SAVEPOINT s")
            run("INSERT INTO loose VALUES (0, 'never')")
            run("ROLLBACK TO SAVEPOINT s")
        elif chance == 7:  # sets that are large enough to be netted, of keys that come and go
            run(
                "INSERT INTO passing (id, v, n) SELECT n, 'new', n FROM numbers"
                " WHERE n <= 300 AND n NOT IN (SELECT id FROM passing)"
            )
        elif chance == 8:
            run(f"DELETE FROM passing WHERE mod(id, 3) <> {pick % 3}")
        elif chance == 9:
            run("DELETE FROM passing WHERE id <= 200")
            run("INSERT INTO passing (id, v, n) SELECT n, 'again', -n FROM numbers WHERE n <= 150")
        elif chance == 10:
            run("UPDATE passing SET id = id + 300 WHERE id <= 300")
            run("UPDATE passing SET id = id - 300, v = 'back' WHERE id BETWEEN 301 AND 450")
            run("DELETE FROM passing WHERE id > 300")
        elif chance == 11 and self._random.randrange(3) == 0:
            self._reshape(run)
        elif chance == 12 and self._random.randrange(3) == 0:
            run("TRUNCATE TABLE passing")
            run("INSERT INTO passing (id, v, n) SELECT n, 'after', n FROM numbers WHERE n <= 100")
        elif chance == 13 and self._engine != "postgres":
            self._prepared(pick)
        elif chance > 40 and HABITS[self._engine]:
            run("COMMIT")  # some may not be changed inside
            run(self._random.choice(HABITS[self._engine]))

    def _reshape(self, run: Callable[[str], Any]) -> None:
        if self._random.randrange(2):
            run(self._words["wide"])
            run("UPDATE passing SET n = n + 1")
            run(self._words["narrow"])
        elif self._extra:
            run("ALTER TABLE passing DROP COLUMN extra")
            self._extra = False
        else:
            run("ALTER TABLE passing ADD COLUMN extra int DEFAULT 5")
            run("UPDATE passing SET extra = n WHERE id < 50")
            self._extra = True

    def _prepared(self, number: int) -> None:
        """Prepare a transaction, let another go before it, and end it one way or the other."""
        name = f"{self._source.schema}-{number}-{self._random.randrange(10**9)}"
        connect = self._source.database.connect
        with connect() as connection, connect() as other, connection.cursor() as cursor:
            cursor.execute(f"XA START '{name}'")
            cursor.execute(f"INSERT INTO entry (account, text) VALUES ({number}, 'prepared')")
            cursor.execute(f"XA END '{name}'")
            cursor.execute(f"XA PREPARE '{name}'")
            other.cursor().execute(f"INSERT INTO entry (account, text) VALUES ({number}, 'between')")
            cursor.execute(f"XA {'COMMIT' if number % 3 else 'ROLLBACK'} '{name}'")

    def end(self) -> None:
        self._done.set()
        self.join(90)
        assert not self.is_alive()
        if self.failure is not None:
            raise self.failure


def fill(source: Rows, engine: str) -> None:
    """Make the tables and their first rows."""
    database = source.database
    database.execute(MAKE.format(identity=WORDS[engine]["identity"]))
    for first in range(1, ENTRIES + 1, 4000):
        database.execute("INSERT INTO numbers VALUES " + ", ".join(f"({n})" for n in range(first, first + 4000)))
    database.execute(FILL)
    if engine == "postgres":
        database.execute("ALTER TABLE loose REPLICA IDENTITY FULL")


@pytest.fixture(params=PAIRS + MORE_PAIRS)
def engines(request: pytest.FixtureRequest) -> tuple[str, str]:
    here, _, there = request.param.partition("-")
    return here, there


@pytest.fixture
def sides(request: pytest.FixtureRequest, engines: tuple[str, str], tmp_path: Path) -> Iterator[tuple[Rows, Side]]:
    """The source with its tables, and the empty target."""
    names = [
        f"{role}_db" if engine == "postgres" else f"{engine}_{role}_db"
        for engine, role in zip(engines, ("source", "target"), strict=True)
    ]
    source = Rows(request.getfixturevalue(names[0]))
    target = File(tmp_path / "copy.db") if engines[1] == "sqlite" else Rows(request.getfixturevalue(names[1]))
    fill(source, engines[0])
    with compression_put_back(source.database):
        yield source, target


@pytest.fixture
def folder(sides: tuple[Rows, Side], new_pipeline: Callable[..., PipelineFolder]) -> PipelineFolder:
    """A pipeline from one to the other, its copy in small chunks."""
    source, target = sides
    made = new_pipeline(source, target)
    made.write_config(source={"url": source.url, "snapshot": {"chunk": "64KiB"}}, batch={"max_bytes": "1MB"})
    return made.write_rules({"match": f"{source.schema}.*", "to": f"{target.schema}.{{table}}"})


@pytest.mark.timeout(1800)
def test_seeded_kills_lose_nothing_and_double_nothing(
    engines: tuple[str, str],
    sides: tuple[Rows, Side],
    folder: PipelineFolder,
    cdcflow: Callable[..., Any],
    running: Callable[..., Running],
) -> None:
    source, target = sides
    seed = os.environ.get("CDCFLOW_KILLS_SEED", "kills")
    chance = random.Random(f"{seed} {engines}")
    tables = [*TABLES]
    traffic = Traffic(source, engines[0], chance.randrange(1 << 30))
    traffic.start()
    killed = met = 0
    try:
        while killed < KILLS:
            if killed == KILLS // 2 and "late" not in tables:
                tables.append("late")
                source.database.execute("CREATE TABLE late (id int PRIMARY KEY, v text)")
                source.database.execute("INSERT INTO late SELECT n, 'late' FROM numbers WHERE n <= 3000")
            moment = chance.choice(MOMENTS) if met % 2 == 0 else None
            env = {VARIABLE: f"{moment}:{chance.randrange(1, 6)}"} if moment else {}
            again = met % 7 == 6
            words = ("resync", f"{source.schema}.passing", f"{source.schema}.loose") if again else ("run",)
            process = running(*words, env=env)
            met += 1
            # A moment that this run does not meet is replaced by a kill at a seeded time.
            if not _ends(process, 0.4 + chance.random() * 2.2):
                process.kill()
            code = process.wait(30)
            if code == 0 and again:  # the resync was done before its time
                continue
            assert code in (-signal.SIGKILL, 128 + signal.SIGKILL), process.output()
            killed += 1
    finally:
        traffic.end()
    cdcflow("run", "--until-caught-up", exit_code=0)
    same_sides(source, target, *tables)
    assert sum(balance for (balance,) in target.query(f"SELECT balance FROM {target.table('account')}")) == (
        ACCOUNTS * 1000
    )


def _ends(process: Running, limit: float) -> bool:
    try:
        until(lambda: process.ended, limit)
    except AssertionError:
        return False
    return True


MOMENTS_OF_A_COPY = ("slot made", "position saved", "chunk sent", "chunk committed")


@pytest.mark.parametrize("moment", ["position saved", "chunk committed", "piece written", "batch sent"])
@pytest.mark.parametrize("engines", [("mysql", "mysql")])
def test_a_kill_at_each_named_moment_is_gone_on_from(
    moment: str,
    sides: tuple[Rows, Side],
    folder: PipelineFolder,
    cdcflow: Callable[..., Any],
    running: Callable[..., Running],
) -> None:
    source, target = sides
    assert isinstance(source.database, MysqlDatabase)
    if moment not in MOMENTS_OF_A_COPY:
        cdcflow("run", "--until-caught-up", exit_code=0)
        source.database.execute("INSERT INTO entry (account, amount) SELECT n, 7 FROM numbers; DELETE FROM loose")
        source.database.execute("UPDATE account SET balance = balance + 1; INSERT INTO loose VALUES (1, 'a'), (1, 'a')")
        source.database.execute("INSERT INTO entry (account, text) SELECT n, repeat('z', 60) FROM numbers")
    process = running("run", "--until-caught-up", env={VARIABLE: f"{moment}:1"})
    assert process.wait(60) in (-signal.SIGKILL, 128 + signal.SIGKILL), process.output()
    source.database.execute(
        "DELETE FROM entry WHERE mod(id, 7) = 0; UPDATE account SET note = NULL WHERE mod(id, 5) = 0"
    )
    cdcflow("run", "--until-caught-up", exit_code=0)
    same_sides(source, target, *TABLES)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("engines", [("mysql", "mysql")])
def test_a_batch_with_ddl_inside_that_is_killed_in_its_middle_is_written_once(
    count: int,
    sides: tuple[Rows, Side],
    folder: PipelineFolder,
    cdcflow: Callable[..., Any],
    running: Callable[..., Running],
) -> None:
    """DDL commits in MySQL: what stood before it is in the target already when the batch comes again."""
    source, target = sides
    cdcflow("run", "--until-caught-up", exit_code=0)
    source.database.execute(
        "INSERT INTO loose VALUES (7, 'before'), (7, 'before'); ALTER TABLE passing ADD COLUMN extra int DEFAULT 5;"
        "INSERT INTO loose VALUES (8, 'between'), (8, 'between'); UPDATE passing SET extra = 1 WHERE id < 9;"
        "ALTER TABLE passing DROP COLUMN v; TRUNCATE TABLE loose; INSERT INTO loose VALUES (9, 'behind'), (9, 'behind')"
    )
    process = running("run", "--until-caught-up", env={VARIABLE: f"batch sent:{count}"})
    assert process.wait(60) in (-signal.SIGKILL, 128 + signal.SIGKILL), process.output()
    process = running("run", "--until-caught-up", env={VARIABLE: "batch committed:1"})
    assert process.wait(60) in (-signal.SIGKILL, 128 + signal.SIGKILL), process.output()
    cdcflow("run", "--until-caught-up", exit_code=0)
    same_sides(source, target, *TABLES)
