"""What `cdcflow check` says about a PostgreSQL source, and that its statements mend what they are about."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from cdcflow.model.check import Finding, Level
from cdcflow.model.context import Context
from cdcflow.model.route import Mode, Route
from cdcflow.sources.postgres import Config
from cdcflow.sources.postgres import open as open_source
from tests.conftest import MakeDatabase
from tests.integration.target_shapes import route
from tests.servers.database import Database
from tests.servers.fleet import PostgresServer

_numbers = itertools.count(1)
CONTEXT = Context("shop", 1 << 28, 100_000, 1 << 26)


def look(url: str, **more: object) -> dict[str, Finding]:
    """Check every table of the database; return the worst finding of each name."""
    source = open_source(Config(url=url), CONTEXT)
    try:
        routes: list[Route] = [route(each, key=each.key, **more) for each in source.tables()]
        refused = [each.source for each in routes if source.refusal(each.source, each) is not None]
        found = source.check([each for each in routes if each.source not in refused], refused)
    finally:
        source.close()
    order = list(Level)
    return {each.name: each for each in sorted(found, key=lambda one: order.index(one.level))}


def blockers(found: dict[str, Finding]) -> dict[str, str]:
    return {each.name: each.do for each in found.values() if each.level is Level.BLOCKER}


@pytest.fixture
def role(source_db: Database) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"Reader-{os.getpid()}_{next(_numbers)}"
    source_db.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'secret'")
    yield name
    source_db.execute(f'DROP OWNED BY "{name}" CASCADE; DROP ROLE "{name}"')


def as_role(database: Database, role: str) -> str:
    return database.server.url(database.name, user=role, password="secret")


@pytest.mark.parametrize("version", [14, 15, 16, 17, 18])
def test_a_source_that_is_ready_has_only_good_findings(
    pg: Callable[..., PostgresServer], new_database: MakeDatabase, version: int
) -> None:
    database = new_database(pg(version))
    database.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id)")
    found = look(database.url)
    assert not [each for each in found.values() if each.level in (Level.BLOCKER, Level.WARNING)]
    assert {"source.version", "source.wal_level", "source.replication", "source.slot", "source.tables"} <= set(found)


def test_each_missing_privilege_comes_with_its_grant(source_db: Database, role: str) -> None:
    source_db.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); REVOKE ALL ON SCHEMA s FROM PUBLIC")
    wrong = blockers(look(as_role(source_db, role)))
    assert wrong == {
        "source.replication": f'ALTER ROLE "{role}" REPLICATION',
        "source.publication": f'GRANT CREATE ON DATABASE "{source_db.name}" TO "{role}"',
        "table.schema": f'GRANT USAGE ON SCHEMA "s" TO "{role}"',
        "table.select": f'GRANT SELECT ON "s"."t" TO "{role}"',
        "table.owner": f'GRANT "postgres" TO "{role}"',
    }
    for statement in wrong.values():
        source_db.execute(statement)
    assert blockers(look(as_role(source_db, role))) == {}


def test_reading_only_the_kept_columns_is_enough(source_db: Database, role: str) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, secret text)")
    source_db.execute(f'GRANT SELECT (id) ON t TO "{role}"')
    assert "table.select" in blockers(look(as_role(source_db, role)))
    assert "table.select" not in blockers(look(as_role(source_db, role), without=("secret",)))


def test_row_level_security_that_hides_rows_blocks(source_db: Database, role: str) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    source_db.execute(f'GRANT SELECT ON t TO "{role}"')
    do = blockers(look(as_role(source_db, role)))["table.row_security"]
    assert do == f'ALTER ROLE "{role}" BYPASSRLS'
    source_db.execute(do)
    assert "table.row_security" not in blockers(look(as_role(source_db, role)))


@pytest.mark.parametrize(
    ("makes", "mends"),
    [
        ("CREATE TABLE t (id int)", 'ALTER TABLE "public"."t" REPLICA IDENTITY FULL'),
        ("CREATE TABLE t (id int)", 'ALTER TABLE "public"."t" ADD PRIMARY KEY (id)'),
        ("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)", 'ALTER TABLE "public"."t" REPLICA IDENTITY FULL'),
        (
            "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING",
            'ALTER TABLE "public"."t" REPLICA IDENTITY DEFAULT',
        ),
    ],
)
def test_a_table_whose_updates_would_fail_once_captured_blocks(source_db: Database, makes: str, mends: str) -> None:
    source_db.execute(makes)
    found = look(source_db.url)["table.identity"]
    assert found.level is Level.BLOCKER
    assert mends.replace("(id)", "(...)") in found.do
    source_db.execute(mends)
    assert "table.identity" not in blockers(look(source_db.url))


def test_an_append_only_table_needs_no_identity(source_db: Database) -> None:
    source_db.execute("CREATE TABLE t (id int)")
    assert "table.identity" not in look(source_db.url, mode=Mode.APPEND)


def test_a_key_of_the_rules_that_the_log_does_not_hold_blocks(source_db: Database) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, email text NOT NULL)")
    source = open_source(Config(url=source_db.url), CONTEXT)
    (table,) = source.tables()
    for found in (source.check([route(table, key=("email",))], []), source.check([], [table])):
        (wrong,) = [each for each in found if each.level is Level.BLOCKER]
        assert 'ALTER TABLE "public"."t" REPLICA IDENTITY FULL' in wrong.do
    source.close()


def test_unlogged_tables_are_named_though_no_rule_reaches_them(source_db: Database) -> None:
    source_db.execute('CREATE UNLOGGED TABLE "U t" (id int PRIMARY KEY)')
    assert look(source_db.url)["table.logged"].subject == 'public."U t"'


def test_wal_level_and_slots_and_limits_are_named_with_the_setting_that_mends_them(
    new_server: Callable[..., PostgresServer], new_database: MakeDatabase
) -> None:
    server = new_server(
        18,
        settings={
            "wal_level": "replica",
            "max_replication_slots": "0",
            "max_wal_senders": "0",
            "max_slot_wal_keep_size": "64MB",
            "wal_sender_timeout": "5s",
            "idle_replication_slot_timeout": "1h",
        },
    )
    database = new_database(server)
    found = look(database.url)
    assert blockers(found) == {
        "source.wal_level": "ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
        "source.replication_slots": found["source.replication_slots"].do,
        "source.wal_senders": "ALTER SYSTEM SET max_wal_senders = 2; then restart the server",
    }
    assert "max_replication_slots = 2;" in found["source.replication_slots"].do
    for name in ("max_slot_wal_keep_size", "wal_sender_timeout", "idle_replication_slot_timeout"):
        assert found[f"source.{name}"].level is Level.WARNING
    for name in ("wal_level = 'logical'", "max_replication_slots = 2", "max_wal_senders = 2"):
        database.execute(f"ALTER SYSTEM SET {name}")
    database.close()
    server.restart()
    assert blockers(look(database.url)) == {}


def test_the_last_free_slot_is_enough_to_stream_and_not_to_copy_beside(
    new_server: Callable[..., PostgresServer], new_database: MakeDatabase
) -> None:
    database = new_database(new_server(18, settings={"max_replication_slots": "1"}))
    assert look(database.url)["source.replication_slots"].level is Level.WARNING
    database.execute("SELECT pg_create_logical_replication_slot('other', 'pgoutput')")
    assert look(database.url)["source.replication_slots"].level is Level.BLOCKER


def test_a_slot_of_somebody_else_under_our_name_blocks(
    new_server: Callable[..., PostgresServer], new_database: MakeDatabase
) -> None:
    database = new_database(new_server(18))
    other = new_database(database.server)
    other.execute("SELECT pg_create_logical_replication_slot('cdcflow_shop', 'pgoutput')")
    assert look(database.url)["source.slot"].level is Level.BLOCKER
    other.drop_slots()
    database.execute("SELECT pg_create_logical_replication_slot('cdcflow_shop', 'pgoutput')")
    assert look(database.url)["source.slot"].level is Level.OK


def test_an_invalidated_slot_says_to_resync(
    new_server: Callable[..., PostgresServer], new_database: MakeDatabase
) -> None:
    server = new_server(18, settings={"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"})
    database = new_database(server)
    database.execute("SELECT pg_create_logical_replication_slot('cdcflow_shop', 'pgoutput')")
    for _ in range(4):
        database.execute("SELECT pg_logical_emit_message(false, 'fill', 'x')")
        database.query("SELECT pg_switch_wal()")
    database.execute("CHECKPOINT")
    found = look(database.url)["source.slot"]
    assert (found.level, found.do) == (Level.BLOCKER, "cdcflow resync --all")


def test_a_publication_that_another_role_made_blocks(source_db: Database, role: str) -> None:
    source_db.execute("CREATE PUBLICATION cdcflow_shop WITH (publish_via_partition_root)")
    do = blockers(look(as_role(source_db, role)))["source.publication"]
    assert do == f'ALTER PUBLICATION "cdcflow_shop" OWNER TO "{role}"'
    assert look(source_db.url)["source.publication"].level is Level.OK


def test_a_database_without_an_encoding_is_a_warning(pg_source: PostgresServer, new_database: MakeDatabase) -> None:
    assert look(new_database(pg_source, encoding="SQL_ASCII").url)["source.encoding"].level is Level.WARNING
    assert look(new_database(pg_source, encoding="LATIN1").url)["source.encoding"].level is Level.OK
