"""What the MySQL and MariaDB test servers promise: every other test counts on it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pymysql
import pytest

from tests.conftest import MakeMysqlDatabase
from tests.servers.cache import run_folder
from tests.servers.certificates import Authority
from tests.servers.fleet import Fleet, MysqlLike, skip_if_left_out
from tests.servers.mysql_database import MysqlDatabase, drop_mysql_database, make_mysql_database
from tests.servers.mysql_elsewhere import ExternalMysql
from tests.servers.mysql_server import MysqlServer
from tests.servers.mysql_session import connect_to, rows
from tests.servers.session import sweep
from tests.servers.waiting import until

ROOT = Path(__file__).parents[2]
MYSQL_SERVERS = [("mysql", "9.7"), ("mysql", "8.0"), ("mariadb", "11.8"), ("mariadb", "11.4")]


@pytest.mark.parametrize(("flavour", "version"), MYSQL_SERVERS)
def test_every_mysql_and_mariadb_writes_whole_rows_to_a_binlog_that_can_be_listed(
    flavour: str, version: str, fleet: Fleet, new_mysql_database: MakeMysqlDatabase
) -> None:
    server = fleet.mysql(version) if flavour == "mysql" else fleet.mariadb(version=version)
    database = new_mysql_database(server)
    # Debian's suite moves on: a cache that is filled later has a later release.
    release = database.value("SELECT @@version").split(".")
    assert [int(number) for number in release[:2]] >= [int(number) for number in version.split(".")]
    assert database.query("SELECT @@binlog_format, @@binlog_row_image, @@binlog_row_metadata") == [
        ("ROW", "FULL", "FULL")
    ]
    logs = database.query("SHOW BINARY LOGS")
    database.execute("CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t VALUES (1, 'ü€😀')")
    assert database.query("SELECT * FROM t") == [(1, "ü€😀")]
    assert database.query("SHOW BINARY LOGS") != logs
    events = database.query(f"SHOW BINLOG EVENTS IN '{logs[-1][0]}' FROM {logs[-1][1]}")
    assert any(kind.lower().startswith("write_rows") for _, _, kind, *_ in events)


@pytest.mark.parametrize(("flavour", "version"), MYSQL_SERVERS)
def test_a_mysql_server_keeps_rows_log_and_identity_over_a_restart_and_a_crash(
    flavour: str, version: str, new_mysql_server: Callable[..., MysqlServer]
) -> None:
    server = new_mysql_server(flavour, version, settings={"binlog-row-image": "MINIMAL"})
    identity = "SELECT @@server_uuid, @@server_id" if flavour == "mysql" else "SELECT @@gtid_binlog_pos, @@server_id"
    server.query("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY); INSERT INTO d.t VALUES (1)")
    was = server.query(identity)
    server.restart()
    assert server.query("SELECT a FROM d.t; ") == [(1,)]
    assert server.query(identity) == was
    server.query("INSERT INTO d.t VALUES (2)")
    server.kill()
    assert not server.running
    server.start()
    assert server.query("SELECT a FROM d.t ORDER BY a") == [(1,), (2,)]
    assert len(server.query("SHOW BINARY LOGS")) == 3
    assert server.query("SELECT @@binlog_row_image") == [("MINIMAL",)]


def test_two_mysql_servers_are_not_taken_for_one_another(
    mysql_source: MysqlLike, mysql_target: MysqlLike, mariadb_source: MysqlLike, mariadb_target: MysqlLike
) -> None:
    servers = [mysql_source, mysql_target, mariadb_source, mariadb_target]
    assert len({server.query("SELECT @@server_id")[0] for server in servers}) == 4
    assert mysql_source.query("SELECT @@server_uuid") != mysql_target.query("SELECT @@server_uuid")


@pytest.mark.parametrize("name", ["mysql_source_db", "mysql_target_db", "mariadb_source_db", "mariadb_target_db"])
def test_a_mysql_session_of_a_test_is_pinned_and_one_that_is_not_shows(
    name: str, request: pytest.FixtureRequest
) -> None:
    database: MysqlDatabase = request.getfixturevalue(name)
    read = "SELECT @@time_zone, @@sql_mode LIKE '%STRICT_TRANS_TABLES%', @@character_set_connection"
    assert database.query(read) == [("+00:00", 1, "utf8mb4")]
    if isinstance(database.server, ExternalMysql):
        pytest.skip("the defaults of a server of the environment are not ours")
    with database.connect(init_command=None) as unpinned:
        assert rows(unpinned, read)[0][:2] == ("+05:45", 0)


def test_a_mysql_database_is_dropped_under_an_open_transaction(
    mysql_source: MysqlLike, mariadb_source: MysqlLike
) -> None:
    for server in (mysql_source, mariadb_source):
        database = make_mysql_database(server)
        database.execute("CREATE TABLE t (a int PRIMARY KEY)")
        held = database.connect(autocommit=False)
        rows(held, "INSERT INTO t VALUES (1)")
        drop_mysql_database(database)
        assert server.query("SHOW DATABASES LIKE %s", [database.name]) == []


def test_a_mysql_database_is_reached_again_after_a_restart(new_mysql_server: Callable[..., MysqlServer]) -> None:
    server = new_mysql_server("mariadb")
    database = make_mysql_database(server)
    database.execute("CREATE TABLE t (a int PRIMARY KEY)")
    server.restart("kill")
    assert database.value("SELECT count(*) FROM t") == 0


@pytest.mark.parametrize("flavour", ["mysql", "mariadb"])
def test_a_mysql_user_needs_its_password_and_may_do_what_was_granted(flavour: str, fleet: Fleet) -> None:
    server = fleet.mysql(role="source") if flavour == "mysql" else fleet.mariadb("source")
    user = f"app_{os.getpid()}"
    url = server.create_user(user, "r:ght%@", ["REPLICATION SLAVE, REPLICATION CLIENT ON *.*"])
    try:
        with connect_to(url) as connection:
            assert rows(connection, "SHOW BINARY LOGS")
            with pytest.raises(pymysql.err.OperationalError, match="denied"):
                rows(connection, "SELECT * FROM mysql.user")
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            connect_to(server.url(user=user, password="wrong"))
    finally:
        server.query(f"DROP USER {user}")


def test_a_mysql_server_encrypts_with_a_certificate_of_its_own(mysql_source: MysqlLike) -> None:
    with connect_to(mysql_source.url(), ssl={"check_hostname": False}) as connection:
        ((_, cipher),) = rows(connection, "SHOW STATUS LIKE 'Ssl_cipher'")
        assert cipher


def test_a_mariadb_server_encrypts_with_the_certificate_that_it_is_given(
    new_mysql_server: Callable[..., MysqlServer],
) -> None:
    with tempfile.TemporaryDirectory(dir=run_folder()) as folder:
        Path(folder).chmod(0o755)
        authority = Authority(Path(folder) / "ca")
        signed = authority.sign("127.0.0.1", "IP:127.0.0.1")
        settings = {"ssl": "1", "ssl-cert": str(signed.certificate), "ssl-key": str(signed.key)}
        server = new_mysql_server("mariadb", settings=settings)
        with connect_to(server.url(), ssl={"ca": str(authority.certificate)}) as connection:
            assert rows(connection, "SHOW STATUS LIKE 'Ssl_cipher'")[0][1]


def test_mysql_is_left_out_when_the_person_asks_for_it(monkeypatch: pytest.MonkeyPatch, fleet: Fleet) -> None:
    monkeypatch.setenv("CDCFLOW_TEST_WITHOUT", "mysql8.0,mariadb")
    for asked in (lambda: fleet.mysql("8.0"), fleet.mariadb, lambda: fleet.mysql_alone("mariadb")):
        with pytest.raises(pytest.skip.Exception):
            asked()


def test_a_mysql_server_named_in_the_environment_is_used_and_not_stopped(
    monkeypatch: pytest.MonkeyPatch, mysql_source: MysqlLike
) -> None:
    monkeypatch.setenv("CDCFLOW_TEST_MYSQL_SOURCE", mysql_source.url())
    other = Fleet()
    server = other.mysql(role="source")
    assert other.told == [f"mysql source: CDCFLOW_TEST_MYSQL_SOURCE (mysql {mysql_source.version})"]
    assert server.query("SELECT @@server_id") == [(mysql_source.server_id,)]
    with pytest.raises(pytest.skip.Exception):
        server.restart()
    other.end()
    assert mysql_source.running


@pytest.mark.parametrize(("flavour", "version"), [("mysql", "9.7"), ("mariadb", "11.8")])
def test_a_mysql_server_of_a_killed_session_is_stopped_by_the_next(flavour: str, version: str) -> None:
    skip_if_left_out(flavour, version)
    code = (
        "from tests.servers.fleet import Fleet; f = Fleet(); "
        f"s = f.mysql_alone({flavour!r}, {version!r}); print(s.folder, flush=True); input()"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert killed.stdout is not None
    folder = Path(killed.stdout.readline().strip())
    server = int((folder / "data" / "pid").read_text())
    assert Path(f"/proc/{server}").exists()
    killed.kill()
    killed.communicate()
    until(lambda: _swept(folder.parent), what="the folder is gone")
    until(lambda: not Path(f"/proc/{server}").exists(), what="the server is gone")


def _swept(folder: Path) -> bool:
    sweep()
    return not folder.exists()
