"""What the test servers promise: every other test counts on it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.conftest import MakeDatabase
from tests.servers import cluster
from tests.servers.cluster import Cluster, free_port
from tests.servers.database import Database, is_same, same
from tests.servers.fleet import PostgresServer
from tests.servers.proxy import Proxy
from tests.servers.session import sweep
from tests.servers.waiting import until

ROOT = Path(__file__).parents[2]


def test_source_and_target_are_two_servers_with_logical_log(source_db: Database, target_db: Database) -> None:
    identifier = "SELECT system_identifier FROM pg_control_system()"
    assert source_db.value(identifier) != target_db.value(identifier)
    assert source_db.value("SHOW wal_level") == "logical"


@pytest.mark.parametrize("version", [14, 15, 16, 17, 18])
def test_every_supported_version_can_be_had(version: int, pg: Callable[..., PostgresServer]) -> None:
    with psycopg.connect(pg(version).url()) as connection:
        assert connection.info.server_version // 10_000 == version


def test_data_survive_a_crash_of_a_durable_server(new_server: Callable[..., PostgresServer]) -> None:
    server = new_server(18, durable=True)
    with psycopg.connect(server.url()) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
    server.restart("kill")
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]


def test_a_port_is_given_to_one_test_process_while_that_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scripted:
        def randint(self, _least: int, _most: int) -> int:
            return next(drawn)

    code = "from tests.servers.cluster import free_port; print(free_port(), flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert other.stdout is not None
    theirs, ours = int(other.stdout.readline()), free_port()
    monkeypatch.setattr(cluster, "_any", Scripted())
    again = random.SystemRandom().sample(range(20_000, 32_001), 100)
    drawn = iter([theirs, ours, *again])
    assert free_port() in set(again) - {theirs, ours}
    other.kill()
    other.communicate()
    drawn = iter([theirs])
    assert free_port() == theirs


def test_a_server_on_whose_port_another_one_answers_does_not_pass_for_that(new_server: Callable[..., Cluster]) -> None:
    server, other = new_server(18), new_server(18)
    server.stop()
    server.port = other.port
    server.configure(port=str(server.port))
    with pytest.raises(RuntimeError, match="taken by another server"):
        server._try_start()
    assert not server.running


def test_what_a_killed_session_left_behind_is_stopped_and_removed_by_the_next() -> None:
    code = "from tests.servers.fleet import Fleet; f = Fleet(); s = f.alone(18); print(s.folder, flush=True); input()"
    killed = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert killed.stdout is not None
    folder = Path(killed.stdout.readline().strip())
    postmaster = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    assert Path(f"/proc/{postmaster}").exists()
    killed.kill()
    killed.communicate()
    # Another test process may sweep at the same moment; whoever does it, in the end nothing is left.
    until(lambda: _swept(folder.parent), what="the folder is gone")
    until(lambda: not Path(f"/proc/{postmaster}").exists(), what="the server is gone")


def test_same_sees_one_changed_cell_and_a_doubled_row(source_db: Database, target_db: Database) -> None:
    for database in (source_db, target_db):
        database.execute("CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, 'x' FROM generate_series(1, 5) i")
    same(source_db, target_db, "t")
    target_db.execute("UPDATE t SET b = NULL WHERE a = 3")
    assert not is_same(source_db, target_db, "t")
    target_db.execute("UPDATE t SET b = 'x' WHERE a = 3; INSERT INTO t VALUES (5, 'x')")
    with pytest.raises(AssertionError, match="only at the target:    1"):
        same(source_db, target_db, "t")


def test_same_compares_by_column_name_not_by_order(source_db: Database, target_db: Database) -> None:
    source_db.execute("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x')")
    target_db.execute("CREATE TABLE t (b text, a int); INSERT INTO t VALUES ('x', 1)")
    same(source_db, target_db, "t")


def test_same_compares_many_rows_and_other_encodings(
    pg_target: PostgresServer, source_db: Database, new_database: MakeDatabase
) -> None:
    target = new_database(pg_target, encoding="LATIN1")
    for database in (source_db, target):
        database.execute("CREATE TABLE t AS SELECT i, 'ü' || i AS u FROM generate_series(1, 60000) i")
    same(source_db, target, "t")
    target.execute("UPDATE t SET u = 'u' WHERE i = 59999")
    assert not is_same(source_db, target, "t")


def test_a_role_other_than_the_superuser_needs_its_password(source_db: Database) -> None:
    role = f"app_{source_db.name}"
    source_db.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
    try:
        psycopg.connect(source_db.server.url(source_db.name, user=role, password="right")).close()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(source_db.server.url(source_db.name, user=role, password="wrong"))
    finally:
        source_db.execute(f"DROP ROLE {role}")


def test_the_proxy_passes_cuts_refuses_and_hangs(
    pg_source: PostgresServer, source_db: Database, proxy: Callable[[PostgresServer], Proxy]
) -> None:
    way = proxy(pg_source)
    url = way.through(source_db.url)
    connection = psycopg.connect(url, autocommit=True)
    assert connection.execute("SELECT 1").fetchone() == (1,)
    way.cut()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    way.refuse()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=5)
    way.passing()
    connection = psycopg.connect(url, autocommit=True)
    way.hang()
    connection.pgconn.send_query(b"SELECT 2")
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        psycopg.connect(url, connect_timeout=2)  # accepted, never answered
    connection.pgconn.consume_input()
    assert connection.pgconn.is_busy()
    way.passing()
    # Not get_result alone: it blocks with the interpreter's lock held, and the proxy's threads need that.
    until(lambda: _has_result(connection))
    result = connection.pgconn.get_result()
    assert result is not None
    assert result.get_value(0, 0) == b"2"
    connection.close()


def _swept(folder: Path) -> bool:
    sweep()
    return not folder.exists()


def _has_result(connection: psycopg.Connection) -> bool:
    connection.pgconn.consume_input()
    return not connection.pgconn.is_busy()


def test_until_fails_with_the_last_answer_after_its_limit() -> None:
    with pytest.raises(AssertionError, match="last: 0"):
        until(lambda: 0, limit=0.05)
