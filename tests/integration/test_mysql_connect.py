"""Connections to real MySQL and MariaDB servers: pinned sessions, TLS, and what a refusal says."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pymysql
import pytest

from cdcflow.engines.mysql.connect import connect, flavour
from cdcflow.engines.mysql.errors import translate
from cdcflow.errors import AccessDenied, CdcflowError, ConfigError, OperatorError, SourceUnavailable, TargetUnavailable
from tests.conftest import MakeMysqlDatabase
from tests.servers.cache import run_folder
from tests.servers.certificates import Authority
from tests.servers.fleet import Fleet
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_server import MysqlServer
from tests.servers.proxy import Proxy

SERVERS = [("mysql", "9.7"), ("mysql", "8.0"), ("mariadb", "11.8"), ("mariadb", "11.4")]
PASSWORD = "Gehe1m-Wört:/@"


@pytest.fixture(params=SERVERS, ids=lambda each: "-".join(each))
def server(request: pytest.FixtureRequest, fleet: Fleet) -> MysqlServer:
    """Every version that is tested."""
    engine, version = request.param
    return fleet.mysql(version) if engine == "mysql" else fleet.mariadb(version=version)


@pytest.fixture
def database(server: MysqlServer, new_mysql_database: MakeMysqlDatabase) -> MysqlDatabase:
    return new_mysql_database(server)


def answers(url: str, sql: str, **arguments: object) -> tuple[object, ...]:
    with connect(url, side="source", **arguments) as connection, connection.cursor() as cursor:  # type: ignore[arg-type]
        cursor.execute(sql)
        (row,) = cursor.fetchall()
        return tuple(row)


def test_session_is_pinned_whatever_the_server_has_for_defaults(server: MysqlServer):
    isolation = "@@transaction_isolation" if server.flavour == "mysql" or server.version >= "11" else "@@tx_isolation"
    limit = "@@max_execution_time" if server.flavour == "mysql" else "@@max_statement_time"
    asked = f"SELECT @@time_zone, @@sql_mode, @@character_set_client, @@character_set_results, {isolation}, {limit},"
    found = answers(server.url(), asked + " @@group_concat_max_len, @@lc_time_names, @@autocommit")
    assert found[:5] == ("+00:00", "NO_ENGINE_SUBSTITUTION", "utf8mb4", "utf8mb4", "REPEATABLE-READ")
    assert found[5] == 0
    assert found[6:] == (1073741824, "en_US", 1)


def test_server_says_which_it_is(server: MysqlServer):
    with connect(server.url(), side="source") as connection:
        found = flavour(connection)
    assert found.engine == server.flavour
    assert f"{found.version[0]}.{found.version[1]}" == server.version


def test_target_takes_what_a_source_may_have_and_cuts_nothing(database: MysqlDatabase):
    database.execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, d DATE, s VARCHAR(3), n TINYINT)")
    with connect(database.url, side="target") as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (0, '2024-02-31', 'abc', 1), (7, '0000-00-00', 'é', 2)")
        for wrong in ("(8, NULL, 'abcd', 1)", "(8, NULL, 'a', 300)", "(8, NULL, 'a', 'x')"):
            with pytest.raises(pymysql.Error) as caught:
                cursor.execute(f"INSERT INTO t VALUES {wrong}")
            assert "rejects a row" in translate(caught.value, side="target", at="").what
        cursor.execute("UPDATE t SET n = 1 WHERE id = 0")
        assert cursor.rowcount == 1  # a row that was found and had the value already
        cursor.execute("SELECT id, CAST(d AS CHAR), s FROM t ORDER BY id")
        assert cursor.fetchall() == ((0, "2024-02-31", "abc"), (7, "0000-00-00", "é"))


def test_password_of_any_characters_opens_with_and_without_tls(
    server: MysqlServer, new_mysql_database: MakeMysqlDatabase
):
    name = f"odd_{server.version.replace('.', '')}"
    url = server.create_user(name, PASSWORD, ["SELECT ON *.*"])
    try:
        assert answers(url, "SELECT 1") == (1,)
        # The RSA exchange of caching_sha2_password, which nothing has cached yet.
        server.query("FLUSH PRIVILEGES")
        assert answers(url + "?ssl-mode=DISABLED", "SELECT 1") == (1,)
    finally:
        server.query(f"DROP USER {name}")


def test_application_is_shown_to_the_server(new_mysql_server: Callable[..., MysqlServer]):
    server = new_mysql_server("mysql", settings={"performance-schema": "1"})
    server.start()
    asked = "SELECT attr_value FROM performance_schema.session_connect_attrs WHERE attr_name = 'program_name'"
    assert answers(server.url(), f"{asked} AND processlist_id = CONNECTION_ID()", application="cdcflow test") == (
        "cdcflow test",
    )


def refused(url: str) -> CdcflowError:
    with pytest.raises(CdcflowError) as caught:
        connect(url, side="source")
    assert "Gehe1m" not in caught.value.report()
    return caught.value


def test_wrong_password_missing_database_and_nobody_there_are_told_apart(server: MysqlServer):
    name = f"plain_{server.version.replace('.', '')}"
    server.create_user(name, PASSWORD)
    try:
        wrong = refused(server.url(user=name, password="Gehe1m?"))
        assert (type(wrong), wrong.exit_code) == (AccessDenied, 5)
        assert wrong.what == "the source refused user or password"
        missing = refused(server.url("no_such_database"))
        assert missing.what == "the source has no such database"
        assert missing.do.startswith("CREATE DATABASE `no_such_database`")
        forbidden = refused(server.url("mysql", user=name, password=PASSWORD))
        assert forbidden.what == "the user may not use database mysql of the source"
        assert forbidden.do == f"GRANT SELECT ON `mysql`.* TO '{name}'@'%'"
    finally:
        server.query(f"DROP USER {name}")
    away = refused("mysql://u:Gehe1m@127.0.0.1:1/x")
    assert (type(away), away.exit_code) == (SourceUnavailable, 75)
    unknown = refused("mysql://u:Gehe1m@no-such-host.invalid/x")
    assert unknown.what == "the source's host name cannot be found"


def test_missing_privilege_is_told_with_the_grant_that_mends_it(server: MysqlServer, database: MysqlDatabase):
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    name = f"poor_{server.version.replace('.', '')}"
    url = server.create_user(name, PASSWORD)
    place = f"`{database.name}`.`t`"
    try:
        for statement, what in (
            (f"SELECT * FROM {place}", f"lacks SELECT on {place}"),
            ("SHOW BINARY LOGS", "lacks the privilege "),
        ):
            with connect(url, side="source") as connection, pytest.raises(pymysql.Error) as caught:
                connection.cursor().execute(statement)
            error = translate(caught.value, side="source", at=url, relation=place, user=name)
            assert type(error) is AccessDenied
            assert what in error.what
            assert error.do.startswith("GRANT ")
            server.query(error.do.replace("'127.0.0.1'", "'%'"))  # what it says is what the server takes
            with connect(url, side="source") as connection:
                connection.cursor().execute(statement)
    finally:
        server.query(f"DROP USER {name}")


def test_server_that_accepts_and_stays_deaf_is_given_up_when_the_url_says(
    mysql_source: MysqlServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cdcflow.engines.mysql.connect.CONNECT_TIMEOUT_SECONDS", 3600)
    proxy = Proxy(mysql_source)
    try:
        proxy.hang()
        error = refused(proxy.through(mysql_source.url()) + "?connect_timeout=2")
        assert type(error) is SourceUnavailable
    finally:
        proxy.close()


def test_read_limit_ends_a_wait_and_no_limit_outlives_the_time_to_connect(mysql_source: MysqlServer):
    with connect(mysql_source.url() + "?connect_timeout=3", side="target") as patient:
        cursor = patient.cursor()
        cursor.execute("SELECT SLEEP(3.5)")
    hasty = connect(mysql_source.url(), side="target", read_timeout=0.5)
    with pytest.raises(pymysql.Error) as caught:
        hasty.cursor().execute("SELECT SLEEP(3)")
    assert type(translate(caught.value, side="target", at="")) is TargetUnavailable


def test_statements_come_one_at_a_time_unless_asked_for(mysql_source: MysqlServer):
    with connect(mysql_source.url(), side="source") as connection, pytest.raises(pymysql.Error) as caught:
        connection.cursor().execute("SELECT 's3cr3t'; SELECT 2")
    error = translate(caught.value, side="source", at="")
    assert type(error) is OperatorError
    assert "s3cr3t" not in error.report()
    with connect(mysql_source.url(), side="source", multi_statements=True) as connection:
        connection.cursor().execute("SELECT 1; SELECT 2")


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_certificates_are_verified_as_far_as_the_url_says(engine: str, new_mysql_server: Callable[..., MysqlServer]):
    with Folder() as folder:
        right, other = Authority(folder / "right"), Authority(folder / "other", "other")
        signed = right.sign("localhost", "DNS:localhost")
        server = new_mysql_server(
            engine,
            settings={
                "ssl": None,
                "ssl-ca": str(right.certificate),
                "ssl-cert": str(signed.certificate),
                "ssl-key": str(signed.key),
            },
        )
        server.start()
        ours = right.sign("client", for_server=False)
        cipher = "SHOW STATUS LIKE 'Ssl_cipher'"
        for mode in ("PREFERRED", "REQUIRED", f"VERIFY_CA&ssl-ca={right.certificate}"):
            assert answers(f"{server.url()}?ssl-mode={mode}", cipher)[1]
        assert answers(f"{server.url()}?ssl-mode=DISABLED", cipher)[1] == ""
        named = server.url().replace("127.0.0.1", "localhost")
        verified = f"?ssl-mode=VERIFY_IDENTITY&ssl-ca={right.certificate}"
        assert answers(f"{named}{verified}&ssl-cert={ours.certificate}&ssl-key={ours.key}", cipher)[1]
        for url in (
            f"{server.url()}{verified}",  # the certificate is for localhost
            f"{named}?ssl-mode=VERIFY_CA&ssl-ca={other.certificate}",
            f"{named}?ssl-mode=VERIFY_CA",
        ):
            error = refused(url)
            assert (type(error), error.what) == (AccessDenied, "the source and cdcflow do not agree on TLS")
        error = refused(f"{named}?ssl-mode=VERIFY_CA&ssl-ca={folder}/none.pem")
        assert type(error) is ConfigError
        server.query("CREATE USER certified@'%%' REQUIRE X509")
        assert type(refused(server.url(user="certified"))) is AccessDenied
        shown = f"ssl-mode=REQUIRED&ssl-cert={ours.certificate}&ssl-key={ours.key}"
        assert answers(f"{server.url(user='certified')}?{shown}", "SELECT 1") == (1,)


def test_server_without_tls_is_taken_unless_tls_is_required(mariadb_source: MysqlServer):
    assert answers(mariadb_source.url(), "SHOW STATUS LIKE 'Ssl_cipher'")[1] == ""
    error = refused(mariadb_source.url() + "?ssl-mode=REQUIRED")
    assert (type(error), error.what) == (AccessDenied, "the source and cdcflow do not agree on TLS")


class Folder:
    """A folder that the servers' account may enter, which pytest's own are not."""

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(prefix="cdcflow-tls-", dir=run_folder()))
        self._path.chmod(0o755)
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path)
