"""Connections to real servers: what the session prints, and what a refusal says and advises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

import psycopg
import pytest

from cdcflow.engines.postgres.connect import SESSION, connect, connect_raw
from cdcflow.engines.postgres.errors import translate
from cdcflow.errors import AccessDenied, CdcflowError, SourceUnavailable, TargetUnavailable
from tests.servers.cluster import Cluster
from tests.servers.database import Database
from tests.servers.fleet import PostgresServer
from tests.servers.proxy import Proxy

SECRET = "s3cr3t@:/%#' x"
Dial = Callable[..., object]


@pytest.fixture(params=["driver", "libpq"])
def dial(request: pytest.FixtureRequest) -> Dial:
    """Both ways in: they must fail alike."""
    return connect if request.param == "driver" else connect_raw


@contextmanager
def role(database: Database, options: str = "") -> Iterator[tuple[str, str]]:
    """A role without privileges, and the URL for it; removed with what it owns."""
    name = f"role_{database.name}"
    password = SECRET.replace("'", "''")
    database.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' {options}")
    try:
        yield name, database.server.url(database.name, user=name, password=quote(SECRET, safe=""))
    finally:
        database.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


@pytest.mark.parametrize("version", [14, 17, 18])
@pytest.mark.parametrize("replication", [False, True])
def test_the_session_is_the_same_whatever_the_role_says(
    version: int, replication: bool, pg: Callable[..., PostgresServer], new_database: Callable[..., Database]
) -> None:
    database = new_database(pg(version))
    with role(database, "SUPERUSER") as (name, url):
        for setting, value in {
            "TimeZone": "'Asia/Tokyo'",
            "DateStyle": "'German, DMY'",
            "IntervalStyle": "iso_8601",
            "bytea_output": "escape",
            "extra_float_digits": "-3",
            "statement_timeout": "'1h'",
            "client_encoding": "LATIN1",
            "default_transaction_isolation": "serializable",
            "default_transaction_read_only": "on",
            **({"transaction_timeout": "'1h'"} if version >= 17 else {}),
        }.items():
            database.execute(f"ALTER ROLE {name} SET {setting} = {value}")
        with connect(url, side="source", replication=replication) as connection:
            for setting, value in SESSION.items():
                found = connection.execute(f"SHOW {setting}").fetchone()
                assert found is not None
                assert found[0].removesuffix(", MDY").removesuffix(", DMY") == value, setting
            assert connection.execute("SHOW client_encoding").fetchone() == ("UTF8",)
            if version >= 17:
                assert connection.execute("SHOW transaction_timeout").fetchone() == ("0",)


def test_a_password_with_every_special_character_works(target_db: Database, dial: Dial) -> None:
    with role(target_db) as (_, url):
        close(dial(url, side="target"))


def test_a_wrong_password_is_named_and_not_shown(new_server: Callable[..., Cluster], dial: Dial) -> None:
    server = new_server(18)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE ROLE app LOGIN PASSWORD 'right'")
        row = connection.execute("SHOW hba_file").fetchone()
    assert row is not None
    rules = open(row[0]).read()  # noqa: SIM115, PTH123
    with open(row[0], "w") as file:  # noqa: PTH123
        file.write(
            "host postgres app,idle 127.0.0.1/32 scram-sha-256\n"
            "host all missing 127.0.0.1/32 trust\n"
            "host all refused 127.0.0.1/32 reject\n" + rules
        )
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE ROLE refused LOGIN")
        connection.execute("CREATE ROLE idle PASSWORD 'right'")

    with pytest.raises(AccessDenied, match="refused user or password") as caught:
        dial(server.url(user="app", password=quote(SECRET, safe="")), side="target")
    assert "s3cr3t" not in caught.value.report()
    assert caught.value.__cause__ is None
    assert caught.value.exit_code == 5
    with pytest.raises(AccessDenied, match="refused user or password"):
        dial(server.url(user="app"), side="target")
    with pytest.raises(AccessDenied, match="does not let this host in"):
        dial(server.url(user="refused"), side="target")
    with pytest.raises(AccessDenied, match="no such user") as caught:
        dial(server.url(user="missing"), side="target")
    assert caught.value.do.startswith('CREATE ROLE "missing" LOGIN')
    with pytest.raises(AccessDenied, match="no such user") as caught:
        dial(server.url(user="idle", password="right"), side="target")
    assert caught.value.do.startswith('ALTER ROLE "idle" LOGIN')
    close(dial(server.url(user="app", password="right"), side="target"))


def test_a_missing_database_is_named(pg_target: PostgresServer, dial: Dial) -> None:
    with pytest.raises(AccessDenied, match="no such database") as caught:
        dial(pg_target.url("nowhere"), side="target")
    assert caught.value.do.startswith('CREATE DATABASE "nowhere"')


def test_a_role_without_connect_is_told_the_grant(target_db: Database, dial: Dial) -> None:
    target_db.execute(f"REVOKE CONNECT ON DATABASE {target_db.name} FROM PUBLIC")
    with role(target_db) as (name, url):
        with pytest.raises(AccessDenied) as caught:
            dial(url, side="target")
        assert caught.value.do == f'GRANT CONNECT ON DATABASE "{target_db.name}" TO "{name}"'
        target_db.execute(caught.value.do)
        close(dial(url, side="target"))


def test_a_role_without_replication_is_told_to_get_it(source_db: Database, dial: Dial) -> None:
    with role(source_db) as (name, url):
        with pytest.raises(AccessDenied) as caught:
            dial(url, side="source", replication=True)
        assert caught.value.do == f'ALTER ROLE "{name}" REPLICATION'
        source_db.execute(caught.value.do)
        close(dial(url, side="source", replication=True))


def test_tls_that_the_server_does_not_have_is_not_retried(new_server: Callable[..., Cluster], dial: Dial) -> None:
    with pytest.raises(AccessDenied, match="TLS"):
        dial(new_server(18).url() + "?sslmode=require", side="target")


def test_a_stopped_server_is_temporary_and_says_which_end(new_server: Callable[..., Cluster], dial: Dial) -> None:
    server = new_server(18)
    server.stop()
    with pytest.raises(SourceUnavailable):
        dial(server.url(), side="source")
    with pytest.raises(TargetUnavailable):
        dial(server.url(), side="target")


def test_a_server_that_accepts_and_stays_silent_is_given_up_when_the_url_says(
    pg_target: PostgresServer, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdcflow.engines.postgres.connect.CONNECT_TIMEOUT_SECONDS", 3600)
    proxy = Proxy(pg_target)
    proxy.hang()
    try:
        with pytest.raises(TargetUnavailable):
            dial(proxy.through(pg_target.url()) + "?connect_timeout=2", side="target")
    finally:
        proxy.close()


def test_the_second_host_is_used_when_the_first_is_down(
    new_server: Callable[..., Cluster], pg_target: PostgresServer, dial: Dial
) -> None:
    down = new_server(18)
    down.stop()
    both = f"127.0.0.1:{down.port},127.0.0.1:{pg_target.port}"
    close(dial(pg_target.url().replace(f"127.0.0.1:{pg_target.port}", both), side="target"))


@pytest.mark.parametrize(
    ("statement", "do"),
    [
        ("SELECT * FROM public.t", 'GRANT SELECT ON TABLE "public"."t" TO "{role}"'),
        ("CREATE TABLE s.x ()", 'GRANT USAGE ON SCHEMA "s" TO "{role}"'),
        ("CREATE SCHEMA x", 'GRANT CREATE ON DATABASE "{database}" TO "{role}"'),
        ("CREATE PUBLICATION p", 'GRANT CREATE ON DATABASE "{database}" TO "{role}"'),
        ("SET session_replication_role = replica", 'GRANT SET ON PARAMETER session_replication_role TO "{role}"'),
        ("SELECT * FROM public.hidden", 'ALTER ROLE "{role}" BYPASSRLS'),
        ("ALTER TABLE public.t ADD b int", 'ALTER TABLE "public"."t" OWNER TO "{role}", or GRANT'),
    ],
)
def test_a_missing_privilege_comes_with_the_statement_that_grants_it(
    statement: str, do: str, source_db: Database
) -> None:
    source_db.execute(
        "CREATE TABLE t (a int); CREATE SCHEMA s; CREATE TABLE hidden (a int);"
        " ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; GRANT SELECT ON hidden TO PUBLIC"
    )
    with role(source_db) as (name, url), connect(url, side="source") as connection:
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(statement.encode())
        error = translate(caught.value, side="source", at=f"postgresql://{name}@h/d", relation='"public"."t"')
        assert isinstance(error, AccessDenied)
        assert error.do.startswith(do.format(role=name, database=source_db.name))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO public.t VALUES ('s3cr3t')",
        "INSERT INTO public.u VALUES ('s3cr3t'), ('s3cr3t')",
        "INSERT INTO public.c VALUES ('s3cr3t')",
        "SELECT 's3cr3t'::pg_catalog.date",
        "DO $$ BEGIN RAISE EXCEPTION 's3cr3t'; END $$",
    ],
)
def test_no_error_of_the_server_shows_a_value(statement: str, target_db: Database) -> None:
    target_db.execute(
        "CREATE TABLE t (a int); CREATE TABLE u (a text UNIQUE); CREATE TABLE c (a text CHECK (length(a) < 3))"
    )
    with connect(target_db.url, side="target") as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(statement.encode())
    error = translate(caught.value, side="target", at="x")
    assert isinstance(error, CdcflowError)
    assert "s3cr3t" not in error.report()


def close(connection: object) -> None:
    if isinstance(connection, psycopg.Connection):
        connection.close()
    else:
        connection.finish()  # type: ignore[attr-defined]
