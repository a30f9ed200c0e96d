"""A table that a person made in the target before: narrower, or with constraints, columns and triggers of its own."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.semantics import Pair, pair
from tests.servers.database import rows_of
from tests.servers.fleet import PostgresServer

SECRET = "Gehe1m-Wort"
_numbers = itertools.count(1)

SOURCE = """
CREATE TABLE goods (id int PRIMARY KEY, code text, amount numeric, at timestamptz);
CREATE TABLE beside (id int PRIMARY KEY);
"""
COLUMNS = ["t.id", "t.code", "t.amount", "t.at"]
# What every one of the tables below takes.
GOOD = "'c' || n, n, '2024-01-01 00:00+00'"


@dataclass(frozen=True, slots=True)
class Stricter:
    """A target table; a row (behind its id) that only it refuses; what the error says and names; what mends it."""

    table: str
    row: str
    says: str
    names: str
    mend: str


ALWAYS = "a trigger that always fires"

STRICTER = {
    "a narrower text": Stricter(
        "CREATE TABLE goods (id int PRIMARY KEY, code varchar(8), amount numeric, at timestamptz)",
        "'a text that is secret', 1, NULL",
        "longer than its column",
        "code",
        "ALTER TABLE goods ALTER code TYPE text",
    ),
    "a narrower number": Stricter(
        "CREATE TABLE goods (id int PRIMARY KEY, code text, amount numeric(6,0), at timestamptz)",
        "'secret', 31337000, NULL",
        "out of its column's range",
        "",
        "ALTER TABLE goods ALTER amount TYPE numeric",
    ),
    "a check": Stricter(
        "CREATE TABLE goods (id int PRIMARY KEY, code text, amount numeric, at timestamptz,"
        " CONSTRAINT small_enough CHECK (amount < 100000))",
        "'secret', 31337000, NULL",
        "check constraint",
        "small_enough",
        "ALTER TABLE goods DROP CONSTRAINT small_enough",
    ),
    "not null": Stricter(
        "CREATE TABLE goods (id int PRIMARY KEY, code text, amount numeric, at timestamptz NOT NULL)",
        "'secret', 1, NULL",
        "must not be null",
        "at",
        "ALTER TABLE goods ALTER at DROP NOT NULL",
    ),
    "a unique index": Stricter(
        "CREATE TABLE goods (id int PRIMARY KEY, code text, amount numeric, at timestamptz);"
        " CREATE UNIQUE INDEX one_code ON goods (code)",
        "'c1', 1, NULL",
        "unique constraint",
        "one_code",
        "DROP INDEX one_code",
    ),
    "an exclusion": Stricter(
        "CREATE TABLE goods (id int PRIMARY KEY, code text, amount numeric, at timestamptz,"
        " CONSTRAINT apart EXCLUDE USING btree (amount WITH =))",
        "'secret', 1, NULL",
        "exclusion constraint",
        "apart",
        "ALTER TABLE goods DROP CONSTRAINT apart",
    ),
    ALWAYS: Stricter(
        "CREATE TABLE goods (id int PRIMARY KEY, code text, amount numeric, at timestamptz);"
        " CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.code = 'secret' THEN RAISE EXCEPTION 'not %', NEW.code; END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON goods FOR EACH ROW EXECUTE FUNCTION refuse();"
        " ALTER TABLE goods ENABLE ALWAYS TRIGGER refuse",
        "'secret', 1, NULL",
        "SQLSTATE P0001",
        "",
        "DROP TRIGGER refuse ON goods",
    ),
}


@pytest.fixture
def made(tmp_path: Path, pg_source: PostgresServer, pg_target: PostgresServer) -> Iterator[Pair]:
    """A pipeline of this test alone."""
    with pair(tmp_path, pg_source, pg_target) as made:
        made.source.execute(SOURCE)
        yield made


def equal(made: Pair) -> None:
    """Assert that the columns of both hold the same rows."""
    assert rows_of(made.source, "goods", COLUMNS) == rows_of(made.target, "goods", COLUMNS)


def clear_error(said: str, stricter: Stricter) -> None:
    """Assert that a person reads which table it was, why, and what to do, and no value."""
    assert "goods" in said
    assert stricter.says in said
    assert re.search(r"^\s*do:", said, re.MULTILINE), said
    assert "Traceback" not in said
    for value in ("secret", "31337"):
        assert value not in said


@pytest.mark.parametrize(
    ("kind", "rows"),
    [*((kind, 300) for kind in STRICTER), ("a check", 1), ("a narrower text", 1), ("a unique index", 1), (ALWAYS, 1)],
)
def test_a_row_that_only_the_target_refuses_ends_the_run_behind_what_fits(made: Pair, kind: str, rows: int) -> None:
    stricter = STRICTER[kind]
    made.target.execute(stricter.table)
    made.source.execute(f"INSERT INTO goods SELECT n, {GOOD} FROM generate_series(1, 50) n")
    made.run()
    made.change(f"INSERT INTO goods SELECT n, {GOOD} FROM generate_series(101, {100 + rows}) n")
    made.change("UPDATE goods SET code = 'new' WHERE id = 2; DELETE FROM goods WHERE id = 3")
    made.run()
    before = rows_of(made.target, "goods", COLUMNS)
    equal(made)

    made.change(f"INSERT INTO goods VALUES (1000, {stricter.row}); INSERT INTO beside VALUES (1)")
    made.change(f"INSERT INTO goods SELECT n, {GOOD} FROM generate_series(2001, {2000 + rows}) n")
    said = made.run(exit_code=5)
    clear_error(said, stricter)
    assert stricter.names in said
    assert re.search(r"key \"?id\"?=1000\b", said), said
    assert rows_of(made.target, "goods", COLUMNS) == before
    assert made.target.value("SELECT count(*) FROM beside") == 0  # its transaction is whole or not at all

    made.target.execute(stricter.mend)
    made.run()
    equal(made)
    made.same("beside")


@pytest.mark.parametrize("kind", STRICTER)
def test_a_row_that_only_the_target_refuses_fails_the_copy_of_its_table_alone(made: Pair, kind: str) -> None:
    stricter = STRICTER[kind]
    made.target.execute(stricter.table)
    made.source.execute(
        f"INSERT INTO goods SELECT n, {GOOD} FROM generate_series(1, 50) n;"
        f" INSERT INTO goods VALUES (1000, {stricter.row}); INSERT INTO beside VALUES (1)"
    )
    said = made.run(exit_code=5)
    clear_error(said, stricter)
    assert stricter.names in said
    assert made.target.value("SELECT count(*) FROM goods") == 0
    made.same("beside")
    made.target.execute(stricter.mend)
    made.commands.call("resync", "public.goods", exit_code=0)
    made.run()
    equal(made)


def test_columns_that_only_the_target_has_get_their_defaults_and_keep_what_a_person_put_there(made: Pair) -> None:
    made.target.execute(
        "CREATE TABLE goods (note text DEFAULT 'none', at timestamptz, amount numeric, serial bigserial, code text,"
        " came timestamptz NOT NULL DEFAULT now(), id int PRIMARY KEY, number int GENERATED ALWAYS AS IDENTITY,"
        " twice numeric GENERATED ALWAYS AS (amount * 2) STORED)"
    )
    made.source.execute(f"INSERT INTO goods SELECT n, {GOOD} FROM generate_series(1, 100) n")
    made.run()
    equal(made)
    made.target.execute("UPDATE goods SET note = 'mine' WHERE id % 2 = 0")
    for rows in (1, 300):  # a small batch and a large one
        made.change(f"INSERT INTO goods SELECT n, {GOOD} FROM generate_series({rows * 1000}, {rows * 1001 - 1}) n")
        made.change("UPDATE goods SET amount = amount + 1000")
        made.run()
        equal(made)
    assert made.target.value("SELECT count(*) FROM goods WHERE note = 'mine'") == 50
    assert made.target.value("SELECT count(*) FROM goods WHERE note = 'none'") == 50 + 1 + 300
    odd = "note IS NULL OR came IS NULL OR serial IS NULL OR number IS NULL OR twice <> amount * 2"
    assert made.target.query(f"SELECT * FROM goods WHERE {odd}") == []
    assert made.target.value("SELECT count(DISTINCT number) FROM goods") == 100 + 1 + 300


def test_a_column_that_only_the_target_has_and_must_not_be_null_is_named(made: Pair) -> None:
    made.target.execute(
        "CREATE TABLE goods (id int PRIMARY KEY, code text, amount numeric, at timestamptz, owner text NOT NULL)"
    )
    made.source.execute(f"INSERT INTO goods SELECT n, {GOOD} FROM generate_series(1, 10) n")
    said = made.run(exit_code=5)
    assert "goods" in said
    assert "owner" in said
    assert re.search(r"^\s*do:", said, re.MULTILINE), said
    assert made.target.value("SELECT count(*) FROM goods") == 0
    made.target.execute("ALTER TABLE goods ALTER owner SET DEFAULT 'nobody'")
    made.commands.call("resync", "public.goods", exit_code=0)
    made.run()
    equal(made)


# -- triggers

LOG_TRIGGER = """
CREATE TABLE fired (at bigserial, what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO public.fired (what) VALUES (TG_NAME || ' ' || TG_OP); RETURN NULL; END $$;
CREATE TRIGGER usual AFTER INSERT OR UPDATE OR DELETE ON goods FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER always AFTER INSERT OR UPDATE OR DELETE ON goods FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE goods ENABLE ALWAYS TRIGGER always;
"""
TABLE = "CREATE TABLE goods (id int PRIMARY KEY, code text, amount numeric, at timestamptz);"
TRIGGERS_FIRE = "may not switch triggers and foreign keys off"


def fired(made: Pair) -> list[tuple[str, int]]:
    return made.target.query("SELECT what, count(*) FROM fired GROUP BY 1 ORDER BY 1")


def test_only_triggers_that_are_set_to_fire_always_fire_once_for_each_row(made: Pair) -> None:
    made.target.execute(TABLE + LOG_TRIGGER)
    made.source.execute(f"INSERT INTO goods SELECT n, {GOOD} FROM generate_series(1, 10) n")
    made.run()
    made.change("UPDATE goods SET amount = 0 WHERE id = 1; DELETE FROM goods WHERE id = 2")
    said = made.run()
    assert fired(made) == [("always DELETE", 1), ("always INSERT", 10), ("always UPDATE", 1)]
    assert TRIGGERS_FIRE not in said
    equal(made)


@pytest.fixture
def role(made: Pair) -> Iterator[str]:
    """A role of the target that may make tables and nothing else."""
    name = f"own_{os.getpid()}_{next(_numbers)}"
    made.target.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'; GRANT CREATE ON DATABASE {made.target.name} TO {name};"
        f" GRANT CREATE ON SCHEMA public TO {name}"
    )
    made.folder.through(target=made.target.server.url(made.target.name, user=name, password=SECRET))
    yield name
    made.commands.end()
    made.target.execute(f"REVOKE ALL ON PARAMETER session_replication_role FROM {name}; DROP OWNED BY {name} CASCADE")
    made.target.execute(f"DROP ROLE {name}")


def test_triggers_fire_for_a_role_that_may_not_switch_them_off_and_it_is_told_so(made: Pair, role: str) -> None:
    made.target.execute(TABLE + LOG_TRIGGER + f"GRANT ALL ON goods, fired, fired_at_seq TO {role}")
    made.source.execute(f"INSERT INTO goods SELECT n, {GOOD} FROM generate_series(1, 10) n")
    grant = f'GRANT SET ON PARAMETER session_replication_role TO "{role}"'
    checked = made.commands.call("check", exit_code=0).stdout
    assert grant in checked
    assert '"usual"' in checked
    assert TRIGGERS_FIRE in made.run()
    assert fired(made) == [("always INSERT", 10), ("usual INSERT", 10)]
    made.change("UPDATE goods SET amount = 0 WHERE id = 1; DELETE FROM goods WHERE id = 2")
    assert TRIGGERS_FIRE in made.run()
    equal(made)
    assert ("usual UPDATE", 1) in fired(made)
    assert ("usual DELETE", 1) in fired(made)

    made.target.execute(f"{grant}; DELETE FROM fired")
    assert grant not in made.commands.call("check", exit_code=0).stdout
    made.change("UPDATE goods SET amount = 5 WHERE id = 4")
    assert TRIGGERS_FIRE not in made.run()
    assert fired(made) == [("always UPDATE", 1)]
    equal(made)


def test_a_foreign_key_that_a_role_may_not_switch_off_names_the_row_and_goes_on_with_the_grant(
    made: Pair, role: str
) -> None:
    made.target.execute(f"CREATE TABLE kinds (code text PRIMARY KEY); {TABLE} GRANT ALL ON goods, kinds TO {role}")
    made.target.execute("INSERT INTO kinds VALUES ('known')")
    made.target.execute("ALTER TABLE goods ADD CONSTRAINT goods_kind FOREIGN KEY (code) REFERENCES kinds")
    made.source.execute("INSERT INTO goods VALUES (1, 'known')")
    made.run()
    made.change("INSERT INTO goods VALUES (2, 'known')")
    made.run()
    made.change("INSERT INTO goods VALUES (3, 'other')")
    said = made.run(exit_code=5)
    assert "public.goods" in said
    assert "foreign key" in said
    assert re.search(r"key \"?id\"?=3\b", said), said
    assert made.target.query("SELECT id FROM goods ORDER BY id") == [(1,), (2,)]
    made.target.execute(f'GRANT SET ON PARAMETER session_replication_role TO "{role}"')
    made.run()
    equal(made)
