"""What a source makes at the server, what it drops again, and what it needs for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest

from cdcflow.errors import (
    AccessDenied,
    ConfigError,
    OperatorError,
    TableRefused,
)
from cdcflow.model.route import Mode
from cdcflow.sources.postgres import Lsn, PostgresSource
from tests.integration.source_opened import begun, members, open_source, routes, slot_name
from tests.servers.cluster import Cluster
from tests.servers.database import Database, make_database


@pytest.fixture(params=[14, 16, 17, 18])
def database(
    request: pytest.FixtureRequest, pg: Callable[..., object], new_database: Callable[..., Database]
) -> Database:
    return new_database(pg(request.param))


@pytest.fixture
def source(database: Database) -> Iterator[PostgresSource]:
    source = open_source(database)
    yield source
    source.close()


def test_prepare_makes_slot_and_publications_and_teardown_drops_them(
    source: PostgresSource, database: Database
) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    assert not source.prepared()
    begun(source)
    assert source.prepared()
    assert database.slots() == [slot_name(database)]
    assert members(database) == {"a", "b"}
    assert members(database, "_append") == set()
    assert source.retained() is not None
    assert len(source.teardown()) == 3
    assert database.slots() == []
    assert not database.query("SELECT 1 FROM pg_publication")
    assert source.teardown() == []


def test_a_slot_survives_a_failover_where_the_server_can(source: PostgresSource, database: Database) -> None:
    begun(source)
    (slot,) = database.query("SELECT to_jsonb(s) FROM pg_replication_slots s WHERE database = %s", [database.name])[0]
    assert slot.get("failover", False) is (database.version >= 17)


def test_failover_asked_of_a_server_that_has_none_is_an_error_of_configuration(database: Database) -> None:
    source = open_source(database, failover=True)
    if database.version >= 17:
        begun(source)
    else:
        with pytest.raises(ConfigError, match="failover"):
            begun(source)
    source.close()


def test_what_an_unfinished_attempt_left_is_made_anew(source: PostgresSource, database: Database) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY)")
    first = begun(source)
    second = begun(source)
    assert Lsn.parse(second.position).covers(Lsn.parse(first.position))
    source.resume(second)


def test_many_tables_with_difficult_names_are_included(source: PostgresSource, database: Database) -> None:
    database.execute('CREATE SCHEMA "S %s"')
    names = ['"Mixed Case"', '"quote""d"', '"select"', '"100%"', '"a:b"', '"🐘"', f'"{"n" * 63}"']
    for name in names:
        database.execute(f'CREATE TABLE "S %s".{name} (id int PRIMARY KEY)')
    database.execute(
        "DO $$ BEGIN FOR n IN 1..700 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY)', n); END LOOP; END $$"
    )
    begun(source)
    assert len(members(database)) == 707


def test_include_changes_what_differs_and_nothing_else(source: PostgresSource, database: Database) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    begun(source)
    numbers = database.query("SELECT oid, prrelid FROM pg_publication_rel ORDER BY oid")
    source.include(routes(source))
    assert database.query("SELECT oid, prrelid FROM pg_publication_rel ORDER BY oid") == numbers
    database.execute("CREATE TABLE c (id int PRIMARY KEY)")
    source.include([route for route in routes(source) if route.source.name.table != "a"])
    assert members(database) == {"b", "c"}
    source.include([replace(r, mode=Mode.APPEND) if r.source.name.table == "c" else r for r in routes(source)])
    assert members(database) == {"a", "b"}
    assert members(database, "_append") == {"c"}
    source.include([])
    assert members(database) == set()


def test_a_child_by_inheritance_is_not_included_with_its_parent(source: PostgresSource, database: Database) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (a)")
    source.include([route for route in routes(source) if route.source.name.table == "a"])
    assert members(database) == {"a"}


@pytest.mark.parametrize(
    ("ddl", "refused"),
    [
        ("CREATE TABLE t (id int)", True),
        ("CREATE TABLE t (id int); ALTER TABLE t REPLICA IDENTITY FULL", False),
        ("CREATE TABLE t (id int PRIMARY KEY)", False),
        ("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING", True),
        ("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)", True),
        ("CREATE TABLE t (id int UNIQUE NOT NULL)", True),
        ("CREATE TABLE t (id int UNIQUE NOT NULL); ALTER TABLE t REPLICA IDENTITY USING INDEX t_id_key", False),
        (
            "CREATE TABLE t (id int NOT NULL); CREATE UNIQUE INDEX i ON t (id);"
            "ALTER TABLE t REPLICA IDENTITY USING INDEX i; DROP INDEX i",
            True,
        ),
        ("CREATE TABLE t (id int) PARTITION BY LIST (id); CREATE TABLE t1 PARTITION OF t DEFAULT", True),
        (
            "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE t1 PARTITION OF t DEFAULT",
            False,
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE t1 PARTITION OF t DEFAULT;"
            "ALTER TABLE t1 REPLICA IDENTITY NOTHING",
            True,
        ),
        (
            "CREATE TABLE t (id int) PARTITION BY LIST (id); ALTER TABLE t REPLICA IDENTITY FULL;"
            "CREATE TABLE t1 PARTITION OF t DEFAULT",
            True,
        ),
        (
            "CREATE TABLE t (id int) PARTITION BY LIST (id); ALTER TABLE t REPLICA IDENTITY FULL;"
            "CREATE TABLE t1 PARTITION OF t DEFAULT; ALTER TABLE t1 REPLICA IDENTITY FULL",
            False,
        ),
    ],
)
def test_a_table_is_refused_exactly_when_the_server_would_refuse_its_updates(
    source: PostgresSource, database: Database, ddl: str, refused: bool
) -> None:
    database.execute(ddl)
    database.execute("INSERT INTO t VALUES (1)")
    (route,) = [route for route in routes(source) if route.source.name.table == "t"]
    finding = source.refusal(route.source, route)
    assert (finding is not None) == refused
    if finding is not None:
        assert 'ALTER TABLE "public"."t"' in finding.do or "public.t" in finding.do
        with pytest.raises(TableRefused):
            source.include([route])
        assert source.refusal(route.source, replace(route, mode=Mode.APPEND)) is None
    # The oracle: once published, does an UPDATE fail?
    database.execute(f"CREATE PUBLICATION p_{database.name} FOR TABLE t WITH (publish_via_partition_root = true)")
    try:
        database.execute("UPDATE t SET id = 1")
    except psycopg.errors.ObjectNotInPrerequisiteState:
        assert refused
    else:
        assert not refused


def test_wal_level_replica_says_how_to_change_it(new_server: Callable[..., Cluster]) -> None:
    server = new_server(18, settings={"wal_level": "replica"})
    source = open_source(make_database(server))
    with pytest.raises(OperatorError) as refused:
        source.prepare([])
    assert "ALTER SYSTEM SET wal_level = 'logical'" in refused.value.do
    source.close()


def test_no_free_slot_says_how_to_get_one(new_server: Callable[..., Cluster]) -> None:
    server = new_server(18, settings={"max_replication_slots": "1"})
    database = make_database(server)
    database.query("SELECT pg_create_physical_replication_slot('taken')")
    source = open_source(database)
    with pytest.raises(OperatorError) as refused:
        source.prepare([])
    assert "max_replication_slots" in refused.value.do
    assert refused.value.exit_code == 5
    source.close()


def test_each_missing_privilege_is_named_with_what_grants_it(database: Database) -> None:
    role = f"r_{database.name}"
    database.execute(f"CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    limited = open_source(database, url=database.server.url(database.name, user=role, password="secret"))  # type: ignore[attr-defined]
    given, reports = list[str](), list[str]()
    try:
        for _ in range(6):
            try:
                limited.prepare(routes(limited)).close()
                break
            except AccessDenied as denied:
                reports.append(denied.report())
                statement = denied.do.splitlines()[0].split(", or")[0]
                given.append(statement)
                if statement.startswith("ALTER TABLE"):  # the name has no schema in the server's words
                    statement = f"ALTER TABLE public.t OWNER TO {role}"
                database.execute(statement)
        else:
            pytest.fail(f"still denied after {given}")
        assert not any("secret" in report for report in reports)
        assert any("CREATE ON DATABASE" in each for each in given)
        assert any(each.endswith("REPLICATION") for each in given)
    finally:
        limited.teardown()
        limited.close()
        database.execute(f"REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}")
