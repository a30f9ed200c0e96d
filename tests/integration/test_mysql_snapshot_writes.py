"""The initial copy of MySQL and MariaDB tables while others write: where in the log it stands, and that it is exact."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pytest
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import XidEvent
from pymysqlreplication.row_event import WriteRowsEvent

from cdcflow.engines.mysql.connect import address
from cdcflow.errors import AccessDenied, CopyRestart, SourceUnavailable
from cdcflow.model.copy import Chunk
from cdcflow.model.route import Route
from cdcflow.sources.mysql import log_end, views
from cdcflow.sources.mysql.position import Binlog
from cdcflow.sources.mysql.sessions import Sessions
from cdcflow.sources.mysql.snapshot import MysqlSnapshot
from tests.integration.mysql_copies import SERVERS, database, finished, lines, opened, read, route_of
from tests.servers.fleet import Fleet
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_server import MysqlServer
from tests.servers.waiting import until


@pytest.fixture(params=SERVERS)
def db(request: pytest.FixtureRequest, fleet: Fleet, new_mysql_database: Callable[..., MysqlDatabase]) -> MysqlDatabase:
    return database(request.param, fleet, new_mysql_database)


def test_position_and_upto_are_one_where_nothing_happened(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES (1)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        before = str(snapshot.position)
        read(snapshot, route)
        if str(snapshot.upto()) != before:  # another test's server may have been busy
            assert snapshot.upto().covers(snapshot.position)
        assert snapshot.position_of(route.source.id) == snapshot.position


def test_upto_covers_what_a_chunk_may_hold(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES (1)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        (chunk,) = snapshot.plan(route, [])
        db.execute("INSERT INTO t VALUES (2)")
        assert lines(snapshot, route, chunk) == ["1", "2"]
        assert snapshot.upto(route.source.id).covers(snapshot.position)
        assert not snapshot.position.covers(snapshot.upto(route.source.id))
        assert snapshot.upto() == snapshot.upto(route.source.id)


@contextmanager
def writing(db: MysqlDatabase, statements: Callable[[int], Sequence[str]]) -> Iterator[list[str]]:
    """Others write meanwhile: yields what went wrong there."""
    ended = threading.Event()
    wrong: list[str] = []

    def write(first: int) -> None:
        with closing(db.connect(autocommit=False)) as connection, connection.cursor() as cursor:
            for number in itertools.count(first, 3):
                if ended.is_set():
                    return
                try:
                    for statement in statements(number):
                        cursor.execute(statement)
                    connection.commit()
                except Exception as error:
                    wrong.append(str(error))
                    return

    threads = [threading.Thread(target=write, args=[first]) for first in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_a_table_without_a_key_is_as_of_its_own_position_exactly(db: MysqlDatabase) -> None:
    """Each transaction inserts one row; its place in the log is compared with the copy's."""
    db.execute("CREATE TABLE t (a INT)")
    assert route_of(db).key == ()
    start = log_end_of(db)
    found: list[tuple[Any, list[int]]] = []
    with writing(db, lambda number: [f"INSERT INTO t VALUES ({number})"]) as wrong, opened(db) as sessions:
        for _ in range(8):
            with closing(MysqlSnapshot(sessions)) as snapshot:
                route = route_of(db)
                ((_, rows),) = read(snapshot, route)
                assert snapshot.upto(route.source.id) == snapshot.position_of(route.source.id)
                assert snapshot.position_of(route.source.id).covers(snapshot.position)
                found.append((snapshot.position_of(route.source.id), [int(row) for row in rows]))
    assert wrong == []
    order = commits(db, "t", start)
    assert len(order) > 20
    for position, numbers in found:
        assert sorted(numbers) == sorted(number for number, end in order if position.covers(end))
    assert len({len(numbers) for _, numbers in found}) > 1


def log_end_of(db: MysqlDatabase) -> Any:
    with opened(db) as sessions, sessions.sql() as connection:
        return log_end.end_position(connection, sessions.flavour)


def commits(db: MysqlDatabase, table: str, start: Any) -> list[tuple[int, Any]]:
    """Return what each transaction inserted into a table of one integer, with where it ends in the log."""
    with opened(db) as sessions, sessions.sql() as connection:
        server = log_end.server_name(connection, sessions.flavour)
    place = address(db.url)
    settings_ = {"host": place.host, "port": place.port, "user": place.user, "password": place.password}
    reader = BinLogStreamReader(
        settings_, server_id=random.randint(10_000, 2**31), only_events=[XidEvent, WriteRowsEvent],
        log_file=start.file, log_pos=start.offset, resume_stream=True, blocking=False, is_mariadb=False,
    )  # fmt: skip
    found: list[tuple[int, Any]] = []
    pending: list[int] = []
    try:
        for event in reader:
            if isinstance(event, WriteRowsEvent):
                if (event.schema, event.table) == (db.name, table):
                    pending += [next(iter(row["values"].values())) for row in event.rows]
            else:
                found += [(number, Binlog(reader.log_file, reader.log_pos, None, server)) for number in pending]
                pending = []
    finally:
        reader.close()
    return found


def test_several_tables_without_a_key_each_have_their_own_position(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT)")
    db.execute("CREATE TABLE u (a INT)")
    db.execute("INSERT INTO t VALUES (1)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        one, two = route_of(db, "t"), route_of(db, "u")
        (first,), (second,) = snapshot.plan(one, []), snapshot.plan(two, [])
        with begun(snapshot, one, first) as of_one:
            db.execute("INSERT INTO t VALUES (2)")
            db.execute("INSERT INTO u VALUES (3)")
            with begun(snapshot, two, second) as of_two:
                db.execute("INSERT INTO u VALUES (4)")
                assert b"".join(of_one) == b"1\n"
                assert b"".join(of_two) == b"3\n"
        assert not snapshot.position_of(one.source.id).covers(snapshot.position_of(two.source.id))


def test_a_table_without_key_and_transactions_is_locked_while_it_is_read(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT) ENGINE=MyISAM")
    db.execute("INSERT INTO t VALUES (1)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        (chunk,) = snapshot.plan(route, [])
        with begun(snapshot, route, chunk) as blocks:
            waiting = threading.Thread(target=db.execute, args=["INSERT INTO t VALUES (2)"])
            waiting.start()
            waiting.join(0.3)
            assert waiting.is_alive()
            assert b"".join(blocks) == b"1\n"
            waiting.join(60)
            assert not waiting.is_alive()


@contextmanager
def begun(snapshot: MysqlSnapshot, route: Route, chunk: Chunk) -> Iterator[Iterator[bytes]]:
    """Begin to read a chunk, as a worker that its target keeps waiting: yields all of its blocks."""
    with closing(snapshot.read(route, chunk)) as blocks:  # type: ignore[type-var]
        first = next(blocks)
        yield itertools.chain([first], blocks)


# The server looks at its transactions every tenth of a second.
VIEWS = """
SELECT count(*) FROM information_schema.innodb_trx t
JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id WHERE p.db = %s
"""
CONNECTIONS = "SELECT count(*) FROM information_schema.processlist WHERE db = %s"


def test_only_what_is_read_has_a_view_a_lock_and_a_connection(db: MysqlDatabase) -> None:
    """Twelve tables without a key, half of them without transactions, are planned, and two of them are read."""
    names = [f"t{n}" for n in range(12)]
    for n, name in enumerate(names):
        db.execute(f"CREATE TABLE {name} (a INT) ENGINE={'MyISAM' if n % 2 else 'InnoDB'}")
        db.execute(f"INSERT INTO {name} VALUES ({n})")
    routes = [route_of(db, name) for name in names]
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        planned = [(route, *snapshot.plan(route, [])) for route in routes]
        before = int(db.value(CONNECTIONS, [db.name]))
        until(lambda: int(db.value(VIEWS, [db.name])) == 0)
        (one, first), (two, second), *others = planned
        with begun(snapshot, one, first) as of_one, begun(snapshot, two, second) as of_two:
            until(lambda: int(db.value(VIEWS, [db.name])) == 1)
            until(lambda: int(db.value(CONNECTIONS, [db.name])) <= before + 4)
            for number, name in enumerate(names[2:]):
                db.execute("SET lock_wait_timeout = 30")
                db.execute(f"INSERT INTO {name} VALUES ({number + 100})")
                db.execute(f"ALTER TABLE {name} COMMENT 'nobody reads it'")
            assert b"".join(of_one) == b"0\n"
            assert b"".join(of_two) == b"1\n"
        for number, (route, chunk) in enumerate(others):
            assert lines(snapshot, route, chunk) == [str(number + 2), str(number + 100)]
        until(lambda: int(db.value(VIEWS, [db.name])) == 0)


@pytest.mark.parametrize(
    "change", ["ADD UNIQUE u (a)", "DEFAULT CHARSET latin1", "ADD COLUMN c INT", "MODIFY a BIGINT NOT NULL"]
)
def test_a_table_without_a_key_that_was_altered_since_it_was_planned_starts_over(
    db: MysqlDatabase, change: str
) -> None:
    db.execute("CREATE TABLE t (a INT NOT NULL)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        (chunk,) = snapshot.plan(route, [])
        db.execute(f"ALTER TABLE t {change}")
        with pytest.raises(CopyRestart):
            lines(snapshot, route, chunk)


def test_a_view_of_a_table_without_a_key_is_read_once(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        (chunk,) = snapshot.plan(route, [])
        assert lines(snapshot, route, chunk) == []
        with pytest.raises(CopyRestart):
            lines(snapshot, route, chunk)


def test_finished_chunks_of_a_table_without_a_key_cannot_be_used(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        (chunk,) = snapshot.plan(route, [])
        with pytest.raises(CopyRestart):
            snapshot.plan(route, [finished(snapshot, chunk)])


def test_every_row_is_in_the_copy_or_behind_its_position(db: MysqlDatabase) -> None:
    """The log's end may be ahead of what can be seen: such a row must not be missed."""
    none_is_missed(db)


@pytest.fixture
def without_gtids(
    new_mysql_server: Callable[..., MysqlServer], new_mysql_database: Callable[..., MysqlDatabase]
) -> MysqlDatabase:
    off = {"gtid-mode": "OFF", "enforce-gtid-consistency": "OFF"}
    return new_mysql_database(new_mysql_server("mysql", "8.0", settings=off), "nogtid")


def test_no_row_is_missed_without_gtids_either(without_gtids: MysqlDatabase) -> None:
    none_is_missed(without_gtids)


def test_without_gtids_a_long_transaction_is_waited_for(
    without_gtids: MysqlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = without_gtids
    monkeypatch.setattr(views, "BETWEEN_LOCKS_SECONDS", 0.1)
    monkeypatch.setattr(views, "LOCK_ATTEMPTS", 2)
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    route = route_of(db)
    with closing(db.connect(autocommit=False)) as writer, opened(db) as sessions:
        with writer.cursor() as cursor:
            cursor.execute("INSERT INTO t VALUES (1)")
        with closing(MysqlSnapshot(sessions)) as snapshot:
            with pytest.raises(SourceUnavailable, match="locked"):
                snapshot.plan(route, [])
            writer.commit()
            assert [found for _, found in read(snapshot, route)] == [["1"]]


def test_a_user_who_may_not_lock_hears_what_to_grant(db: MysqlDatabase) -> None:
    if db.server.flavour != "mysql":
        pytest.skip("MariaDB tells where a view stands")
    db.execute("CREATE TABLE t (a INT)")
    url = db.server.create_user(  # type: ignore[attr-defined]
        f"r{random.randrange(10**9)}", "secret", [f"SELECT ON {db.name}.*", "REPLICATION CLIENT ON *.*"]
    )
    route = route_of(db)
    with (
        closing(Sessions(url)) as sessions,
        closing(MysqlSnapshot(sessions)) as snapshot,
        pytest.raises(AccessDenied) as caught,
    ):
        read(snapshot, route)
    assert "LOCK TABLES" in caught.value.do


def none_is_missed(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    start = log_end_of(db)
    found: list[tuple[Any, Any, set[int]]] = []
    with writing(db, lambda number: [f"INSERT INTO t VALUES ({number})"]) as wrong, opened(db) as sessions:
        for _ in range(15):
            with closing(MysqlSnapshot(sessions)) as snapshot:
                route = route_of(db)
                rows = {int(line) for _, each in read(snapshot, route) for line in each}
                found.append((snapshot.position, snapshot.upto(route.source.id), rows))
    assert wrong == []
    order = commits(db, "t", start)
    for position, upto, rows in found:
        assert {number for number, end in order if position.covers(end)} <= rows
        assert rows <= {number for number, end in order if upto.covers(end)}
