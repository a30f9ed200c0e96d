"""A run between MySQL servers under failures: restarts, crashes, cut and hung connections, sessions that are ended."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pymysql
import pytest

from tests.servers.commands import PipelineFolder, Running
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_server import MysqlServer
from tests.servers.proxy import Proxy
from tests.servers.sides import Rows, are_same, same_sides
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]
TABLES = ("accounts", "ledger", "notes")

SHOP = """
CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL, email varchar(40));
CREATE TABLE ledger (source int, sink int, amount int);
CREATE TABLE notes (id bigint AUTO_INCREMENT PRIMARY KEY, body longtext, n int)
"""


def fill(database: MysqlDatabase) -> None:
    database.execute(SHOP)
    database.execute("INSERT INTO accounts VALUES " + ", ".join(f"({n}, 1000, 'a{n}')" for n in range(1, 501)))
    database.execute("INSERT INTO ledger VALUES " + ", ".join(["(1, 2, 0)"] * 300))
    database.execute("INSERT INTO notes (body, n) VALUES " + ", ".join(f"(repeat('n', {n}), {n})" for n in range(300)))


class Traffic(threading.Thread):
    """Transfers between accounts; it goes on when the server is there again."""

    def __init__(self, database: MysqlDatabase, seed: int) -> None:
        super().__init__(daemon=True)
        self._database, self._random, self._ended = database, random.Random(seed), threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                with self._database.connect(autocommit=False) as connection, connection.cursor() as cursor:
                    while not self._ended.is_set():
                        self._transfer(cursor.execute)
                        connection.commit()
                        self._ended.wait(0.002)
            except (pymysql.Error, OSError):
                self._ended.wait(0.05)

    def _transfer(self, run: Callable[[str], object]) -> None:
        one, other = self._random.sample(range(1, 501), 2)
        amount = self._random.randint(1, 100)
        run(f"UPDATE accounts SET balance = balance - {amount} WHERE id = {one}")
        run(f"UPDATE accounts SET balance = balance + {amount} WHERE id = {other}")
        run(f"INSERT INTO ledger VALUES ({one}, {other}, {amount})")
        note, kind = self._random.randint(1, 300), self._random.random()
        if kind < 0.3:
            run(f"UPDATE notes SET n = n + 1 WHERE id = {note}")
        elif kind < 0.4:
            run(f"DELETE FROM notes WHERE id = {note}")
        elif kind < 0.6:
            run(f"INSERT INTO notes (body, n) VALUES (repeat('y', {note * 3}), 0)")

    def stop(self) -> None:
        self._ended.set()
        self.join(90)
        assert not self.is_alive()


@contextmanager
def traffic(database: MysqlDatabase) -> Iterator[None]:
    running = Traffic(database, 1)
    running.start()
    try:
        yield
    finally:
        running.stop()


@dataclass
class Flow:
    """A pipeline between two databases of MySQL or MariaDB, its process, and what may be asked of it."""

    source: MysqlDatabase
    target: MysqlDatabase
    folder: PipelineFolder
    running: Start
    cdcflow: Call

    def start(self) -> Running:
        """Start it, with filled tables, and wait until all of them are followed."""
        fill(self.source)
        process = self.running("run")
        self.until_live(process)
        return process

    def until_live(self, process: Running) -> None:
        live = f"SELECT count(*) FROM cdcflow.tables WHERE state = 'live' AND pipeline = '{self.folder.name}'"
        self.until(process, lambda: self.target.query(live) == [(len(TABLES),)], "every table is live")

    def until(self, process: Running, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition, and no longer than the process runs."""

        def seen() -> bool:
            return process.ended or bool(condition())

        until(seen, limit=60, what=what)
        assert not process.ended, process.output()[-4000:]

    def until_same(self, process: Running, *tables: str) -> None:
        """Wait until both sides hold the same."""
        here, there = Rows(self.source), Rows(self.target)
        self.until(process, lambda: are_same(here, there, *(tables or TABLES)), "both sides are the same")

    def checkpoint(self) -> str:
        asked = f"SELECT position FROM cdcflow.checkpoints WHERE pipeline = '{self.folder.name}'"
        return str(self.target.value(asked))

    def until_moved(self, process: Running, before: str = "") -> None:
        before = before or until(self.checkpoint, what="the target answers")
        self.until(process, lambda: self.checkpoint() != before, "the checkpoint moves on")

    def end(self, process: Running, *tables: str) -> None:
        """End it in order, let another run catch up, and compare."""
        process.terminate()
        assert process.wait() == 0, process.output()
        self.cdcflow("run", "--until-caught-up", exit_code=0)
        same_sides(Rows(self.source), Rows(self.target), *(tables or TABLES))


@pytest.fixture
def flow_of(
    new_mysql_database: Callable[..., MysqlDatabase],
    new_pipeline: Callable[..., PipelineFolder],
    running: Start,
    cdcflow: Call,
) -> Callable[..., Flow]:
    """`flow_of(source_server, target_server)`."""

    def make(source: MysqlServer, target: MysqlServer) -> Flow:
        here, there = new_mysql_database(source, "source"), new_mysql_database(target, "target")
        folder = new_pipeline(here, there)
        folder.write_rules({"match": f"{here.name}.*", "to": f"{there.name}.{{table}}"})
        return Flow(here, there, folder, running, cdcflow)

    return make


@pytest.fixture
def flow(flow_of: Callable[..., Flow], mysql_source: MysqlServer, mysql_target: MysqlServer) -> Flow:
    """Between the usual servers, which no test here may break."""
    return flow_of(mysql_source, mysql_target)


@pytest.mark.parametrize(
    ("side", "engine", "mode"),
    [
        ("source", "mysql", "fast"),
        ("source", "mysql", "kill"),
        ("source", "mariadb", "kill"),
        ("target", "mysql", "kill"),
        ("target", "mariadb", "kill"),
    ],
)
def test_a_server_that_restarts_is_waited_for(
    side: str,
    engine: str,
    mode: str,
    new_mysql_server: Callable[..., MysqlServer],
    request: pytest.FixtureRequest,
    flow_of: Callable[..., Flow],
) -> None:
    server = new_mysql_server(engine, durable=True)
    other: MysqlServer = request.getfixturevalue("mysql_target" if side == "source" else "mysql_source")
    flow = flow_of(server, other) if side == "source" else flow_of(other, server)
    process = flow.start()
    with traffic(flow.source):
        flow.until_moved(process)
        server.restart(mode)  # type: ignore[arg-type]
        flow.until_moved(process)
        flow.until_moved(process)
    flow.end(process)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_that_is_down_when_a_run_starts_is_waited_for(
    side: str, flow: Flow, proxy: Callable[[MysqlServer], Proxy]
) -> None:
    """A run waits for twenty seconds, in which a server need not have started: only its port is shut."""
    fill(flow.source)
    database = flow.source if side == "source" else flow.target
    between = proxy(database.server)  # type: ignore[arg-type]
    flow.folder.through(**{side: between.through(database.url)})
    between.refuse()
    process = flow.running("run")
    process.until_output(f"the connection to the {side} failed")
    between.passing()
    flow.until_live(process)
    flow.end(process)


@pytest.mark.parametrize(
    ("side", "how", "engine"),
    [
        ("source", "cut", "mysql"),
        ("source", "hang", "mysql"),
        ("source", "hang", "mariadb"),
        ("target", "cut", "mysql"),
        ("target", "hang", "mysql"),
    ],
)
def test_connections_that_are_cut_or_hang_are_made_again(
    side: str,
    how: str,
    engine: str,
    flow_of: Callable[..., Flow],
    mysql_target: MysqlServer,
    request: pytest.FixtureRequest,
    proxy: Callable[[MysqlServer], Proxy],
) -> None:
    source: MysqlServer = request.getfixturevalue(f"{engine}_source")
    flow = flow_of(source, mysql_target)
    between = proxy(source if side == "source" else mysql_target)
    flow.folder.through(**{side: between.through((flow.source if side == "source" else flow.target).url)})
    process = flow.start()
    with traffic(flow.source):
        for _ in range(2):
            flow.until_moved(process)
            if how == "cut":
                between.cut()
            else:
                between.hang()
                time.sleep(1)  # the failure itself, not a wait for something
                between.cut()
                between.passing()
            flow.until_moved(process)
    flow.end(process)


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_a_connection_that_is_cut_inside_a_large_event_is_made_again(
    engine: str, flow_of: Callable[..., Flow], request: pytest.FixtureRequest, proxy: Callable[[MysqlServer], Proxy]
) -> None:
    """A reader that stands still takes a few megabytes of an event, the cut is behind those."""
    source: MysqlServer = request.getfixturevalue(f"{engine}_source")
    flow = flow_of(source, request.getfixturevalue("mysql_target"))
    between = proxy(source)
    flow.folder.through(source=between.through(flow.source.url))
    process = flow.start()

    def stands_still() -> bool:
        """Not between two streams, where nothing would be on its way."""
        process.pause()
        readers = flow.source.query("SELECT 1 FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
        if not readers:
            process.resume()
        return bool(readers)

    for number in range(2):
        until(stands_still, what="the log is read")
        before = between.bytes_down
        flow.source.execute(
            f"BEGIN; INSERT INTO ledger VALUES ({number}, 1, 1);"
            "INSERT INTO notes (body, n) VALUES (repeat('b', 15000000), 77);"
            f"INSERT INTO ledger VALUES ({number}, 2, 2); COMMIT"
        )
        until(lambda before=before: between.bytes_down > before + 100_000, limit=90, what="some of it is on its way")  # type: ignore[misc]
        between.cut()
        process.resume()
        flow.until_same(process)
        assert "interrupted" in process.log()
    flow.end(process)


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_sessions_that_the_servers_end_are_opened_again(
    engine: str, flow_of: Callable[..., Flow], request: pytest.FixtureRequest
) -> None:
    """KILL of the reader of the log, and of everything that the pipeline has open at the target."""
    source: MysqlServer = request.getfixturevalue(f"{engine}_source")
    flow = flow_of(source, request.getfixturevalue("mysql_target"))
    process = flow.start()

    def end_sessions(server: MysqlServer, which: str) -> int:
        found = server.query(f"SELECT id FROM information_schema.processlist WHERE {which}")
        for (number,) in found:
            try:
                server.query(f"KILL {number}")
            except pymysql.Error:
                continue  # it has gone by itself
        return len(found)

    mine = "id <> connection_id() AND db = 'cdcflow'"
    with traffic(flow.source):
        for _ in range(2):
            flow.until_moved(process)
            assert until(lambda: end_sessions(source, "command LIKE 'Binlog Dump%%'"), what="there is a reader")
            flow.until_moved(process)
            assert until(lambda: end_sessions(flow.target.server, mine), what="there is a writer")  # type: ignore[arg-type]
            flow.until_moved(process)
    flow.end(process)


def test_servers_that_close_idle_sessions_do_no_harm(
    new_mysql_server: Callable[..., MysqlServer], flow_of: Callable[..., Flow]
) -> None:
    soon = {"wait-timeout": "1", "interactive-timeout": "1", "net-read-timeout": "1", "net-write-timeout": "1"}
    source, target = new_mysql_server(settings=soon), new_mysql_server("mariadb", settings=soon)
    flow = flow_of(source, target)
    process = flow.start()
    for number in range(2):

        def uptime() -> int:
            return int(source.query("SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1])

        before = uptime()
        until(lambda before=before: uptime() > before + 2, what="nothing has happened for more than the timeouts")  # type: ignore[misc]
        flow.source.execute(f"INSERT INTO ledger VALUES ({number}, {number}, 5)")
        flow.until_same(process, "ledger")
        assert not process.ended
    flow.end(process)


def test_locks_and_deadlocks_with_another_session_in_the_target_are_waited_for(flow: Flow) -> None:
    process = flow.start()

    def waits() -> bool:  # innodb_trx is not refreshed for who looks often
        ((_, count),) = flow.target.query("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")
        return int(count) > 0

    with flow.target.connect(autocommit=False) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT * FROM accounts WHERE id = 7 FOR UPDATE")
        flow.source.execute("UPDATE accounts SET balance = 7 WHERE id = 7; INSERT INTO ledger VALUES (7, 7, 7)")
        flow.until(process, waits, "the pipeline waits for the lock")
        holder.commit()
        flow.until_same(process)
        cursor.execute("UPDATE accounts SET email = email WHERE id = 9")
        flow.source.execute(
            "BEGIN; UPDATE accounts SET balance = 8 WHERE id = 8; UPDATE accounts SET balance = 9 WHERE id = 9; COMMIT"
        )
        flow.until(process, waits, "the pipeline waits for the lock")
        with suppress(pymysql.OperationalError):  # one of the two is chosen to be rolled back
            cursor.execute("UPDATE accounts SET email = email WHERE id = 8")
        holder.rollback()
        flow.until_same(process)
    flow.end(process)


@pytest.mark.parametrize("variable", ["read_only", "super_read_only"])
def test_target_that_is_read_only_for_a_time_is_waited_for(
    variable: str, flow_of: Callable[..., Flow], mysql_source: MysqlServer, new_mysql_server: Callable[..., MysqlServer]
) -> None:
    target = new_mysql_server()
    flow = flow_of(mysql_source, target)
    writer = target.create_user("writer", "w", ["ALL ON *.*"])
    target.query("REVOKE SUPER, CONNECTION_ADMIN ON *.* FROM writer")
    flow.folder.through(target=writer)
    process = flow.start()
    target.query(f"SET GLOBAL {variable} = ON")
    flow.source.execute("INSERT INTO ledger VALUES (5, 5, 5)")
    process.until_output("see that the URL leads to the primary")
    target.query("SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF")
    flow.until_same(process)
    flow.end(process)
