"""What `cdcflow check` says about a PostgreSQL target, and that its statements mend what they are about."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from cdcflow.model.check import Finding, Level
from cdcflow.model.copy import TableRecord, TableState
from cdcflow.model.route import Route
from cdcflow.model.schema import TableName, UserType
from cdcflow.state import open_store
from cdcflow.targets.postgres import PostgresTarget
from tests.conftest import MakeDatabase
from tests.integration.target_shapes import column, key_column, route, table
from tests.servers.database import Database
from tests.servers.fleet import PostgresServer

_numbers = itertools.count(1)


def look(url: str, *routes: Route) -> list[Finding]:
    return PostgresTarget(url, "shop").check(routes)


def of(found: list[Finding], name: str) -> Finding:
    (one,) = [each for each in found if each.name == name]
    return one


def blockers(found: list[Finding]) -> dict[str, str]:
    return {each.name: each.do for each in found if each.level is Level.BLOCKER}


@pytest.fixture
def role(target_db: Database) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"Writer-{os.getpid()}_{next(_numbers)}"
    target_db.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'secret'")
    yield name
    target_db.execute(f'DROP OWNED BY "{name}" CASCADE; DROP ROLE "{name}"')


def as_role(database: Database, role: str) -> str:
    return database.server.url(database.name, user=role, password="secret")


@pytest.mark.parametrize("version", [14, 15, 16, 17, 18])
def test_an_empty_target_of_a_superuser_has_only_good_findings(
    pg: Callable[..., PostgresServer], new_database: MakeDatabase, version: int
) -> None:
    found = look(new_database(pg(version)).url, route(table(key_column()), to="sales.t"))
    assert {each.level for each in found} == {Level.OK}
    assert of(found, "target.schema").found == "will be made"


def test_checking_changes_nothing(target_db: Database) -> None:
    look(target_db.url, route(table(key_column()), to="sales.t"))
    assert target_db.query("SELECT nspname FROM pg_namespace WHERE nspname IN ('sales', 'cdcflow')") == []


def test_a_role_that_may_not_make_schemas_gets_the_grants(target_db: Database, role: str) -> None:
    target_db.execute("CREATE SCHEMA there")
    wanted = (route(table(key_column()), to="sales.t"), route(table(key_column()), to="there.t"))
    found = look(as_role(target_db, role), *wanted)
    grants = [each.do for each in found if each.level is Level.BLOCKER]
    assert grants == [
        f'CREATE SCHEMA cdcflow AUTHORIZATION "{role}"',
        f'GRANT CREATE ON DATABASE "{target_db.name}" TO "{role}"',
        f'GRANT USAGE, CREATE ON SCHEMA "there" TO "{role}"',
    ]
    for grant in grants:
        target_db.execute(grant)
    assert blockers(look(as_role(target_db, role), *wanted)) == {}
    for each in wanted:
        PostgresTarget(as_role(target_db, role), "shop").create(each)


def test_triggers_and_foreign_keys_that_would_fire_are_named(target_db: Database, role: str) -> None:
    target_db.execute(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY REFERENCES parent);"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER usual BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();"
        "CREATE TRIGGER replica BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();"
        "ALTER TABLE t ENABLE REPLICA TRIGGER replica"
    )
    target_db.execute(f'GRANT ALL ON t TO "{role}"; GRANT CREATE ON DATABASE "{target_db.name}" TO "{role}"')
    wanted = route(table(key_column()))
    found = look(as_role(target_db, role), wanted)
    grant = of(found, "target.session_replication_role")
    assert (grant.level, grant.do) == (
        Level.WARNING,
        f'GRANT SET ON PARAMETER session_replication_role TO "{role}"',
    )
    assert '"usual"' in of(found, "target.trigger").found
    assert '"t_id_fkey"' in of(found, "target.constraint").found
    target_db.execute(grant.do)
    found = look(as_role(target_db, role), wanted)
    assert of(found, "target.session_replication_role").level is Level.OK
    assert '"replica"' in of(found, "target.trigger").found
    assert not [each for each in found if each.name == "target.constraint"]
    target_db.execute(of(found, "target.trigger").do)
    assert [each.name for each in look(as_role(target_db, role), wanted) if each.level is not Level.OK] == []


def test_missing_privileges_on_a_table_that_is_there_come_with_their_grant(target_db: Database, role: str) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    target_db.execute(f'GRANT SELECT ON t TO "{role}"; GRANT CREATE ON DATABASE "{target_db.name}" TO "{role}"')
    wanted = route(table(key_column()))
    do = blockers(look(as_role(target_db, role), wanted))
    assert do == {"target.privilege": f'GRANT INSERT, UPDATE, DELETE, TRUNCATE ON "public"."t" TO "{role}"'}
    target_db.execute(do["target.privilege"])
    assert blockers(look(as_role(target_db, role), wanted)) == {}


def test_row_level_security_at_the_target_blocks(target_db: Database, role: str) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    target_db.execute(f'GRANT ALL ON t TO "{role}"; GRANT CREATE ON DATABASE "{target_db.name}" TO "{role}"')
    do = blockers(look(as_role(target_db, role), route(table(key_column()))))
    assert do == {"target.row_security": f'ALTER ROLE "{role}" BYPASSRLS'}


@pytest.mark.parametrize(
    ("source", "there", "level"),
    [
        ("integer", "bigint", Level.NOTE),
        ("bigint", "integer", Level.WARNING),
        ("text", "character varying(5)", Level.WARNING),
        ("character varying(5)", "character varying(9)", Level.NOTE),
        ("character varying(9)", "character varying(5)", Level.WARNING),
        ("character varying", "text", Level.NOTE),
        ("numeric(10,2)", "numeric(12,2)", Level.NOTE),
        ("numeric(10,2)", "numeric(12,4)", Level.NOTE),
        ("numeric(10,2)", "numeric(11,4)", Level.WARNING),
        ("numeric", "numeric(12,2)", Level.WARNING),
        ("numeric(10,2)", "numeric", Level.NOTE),
        ("jsonb", "text", Level.NOTE),
        ("text", "integer", Level.WARNING),
        ("timestamp(3) without time zone", "timestamp without time zone", Level.NOTE),
        ("timestamp without time zone", "timestamp(3) without time zone", Level.WARNING),
        ("text[]", "text", Level.NOTE),
        ("real", "double precision", Level.NOTE),
    ],
)
def test_a_column_of_another_type_is_a_warning_where_a_value_may_not_fit(
    target_db: Database, source: str, there: str, level: Level
) -> None:
    target_db.execute(f"CREATE TABLE t (id int PRIMARY KEY, a {there})")
    assert of(look(target_db.url, route(table(key_column(), column("a", source)))), "target.column_type").level is level


def test_a_check_constraint_of_a_persons_table_is_mentioned(target_db: Database) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY CHECK (id > 0))")
    assert of(look(target_db.url, route(table(key_column()))), "target.constraint").level is Level.NOTE


def test_an_encoding_that_cannot_hold_all_text_is_a_warning(
    pg_target: PostgresServer, new_database: MakeDatabase
) -> None:
    for encoding in ("LATIN1", "SQL_ASCII"):
        found = look(new_database(pg_target, encoding=encoding).url)
        assert of(found, "target.encoding").level is Level.WARNING


def test_extensions_and_enums_that_do_not_fit_block(target_db: Database) -> None:
    target_db.execute("CREATE TYPE mood AS ENUM ('old')")
    types = (
        UserType(TableName("public", "no_such_extension"), "extension", ""),
        UserType(TableName("public", "mood"), "enum", "AS ENUM ('new')"),
    )
    do = blockers(look(target_db.url, route(table(key_column(), types=types))))
    assert set(do) == {"target.extension", "target.type"}
    assert do["target.type"] == """ALTER TYPE "public"."mood" RENAME VALUE 'old' TO 'new'"""


def test_a_table_that_another_pipeline_writes_is_a_warning(target_db: Database) -> None:
    store = open_store(target_db.url)
    store.migrate()
    epoch = store.acquire("other", {"host": "there", "pid": "1"})
    name = TableName("public", "t")
    store.put("other", epoch, [TableRecord(1, name, name, TableState.LIVE)])
    store.close()
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    found = of(look(target_db.url, route(table(key_column()))), "target.shared")
    assert found.level is Level.WARNING
    assert "pipeline other" in found.found


def test_rows_that_a_first_copy_would_collide_with_are_a_warning(target_db: Database) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    found = of(look(target_db.url, route(table(key_column()))), "target.rows")
    assert found.level is Level.WARNING
    target_db.execute(found.do.partition(",")[0])
    assert not [each for each in look(target_db.url, route(table(key_column()))) if each.level is Level.WARNING]


def test_rows_that_this_pipeline_copied_are_fine(target_db: Database) -> None:
    store = open_store(target_db.url)
    store.migrate()
    epoch = store.acquire("shop", {"host": "here", "pid": "1"})
    name = TableName("public", "t")
    store.put("shop", epoch, [TableRecord(1, name, name, TableState.LIVE)])
    store.close()
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    assert {each.level for each in look(target_db.url, route(table(key_column())))} == {Level.OK}
