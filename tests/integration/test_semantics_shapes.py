"""Tables of every shape: names, partitions, truncates, triggers, columns that change, rules that leave things out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.semantics import Case, Pair, follow_large, pair
from tests.servers.fleet import PostgresServer
from tests.servers.waiting import until

LONG = "n" * 63

CASES: dict[str, Case] = {
    "names_that_need_quotes": Case(
        'CREATE SCHEMA "My %s Schema"; CREATE TABLE "My %s Schema"."Ord:er %(x)s" ("Id" int PRIMARY KEY, "select" text,'
        ' "per%cent" int, ":colon" int, "quo""te" text, "😀" text, "$1" int, "a,b(c)" text);'
        " INSERT INTO \"My %s Schema\".\"Ord:er %(x)s\" VALUES (1, 'a', 1, 1, 'q', 'e', 1, 'x'), (2, 'b', 2, 2, 'r', 'f', 2, 'y')",
        (
            "INSERT INTO \"My %s Schema\".\"Ord:er %(x)s\" VALUES (3, 'c', 3, 3, 'q', 'e', 3, 'z');"
            ' UPDATE "My %s Schema"."Ord:er %(x)s" SET "per%cent" = 9, ":colon" = 8, "😀" = \'new\', "Id" = 10 WHERE "Id" = 1;'
            ' DELETE FROM "My %s Schema"."Ord:er %(x)s" WHERE "Id" = 2',
        ),
        ('"My %s Schema"."Ord:er %(x)s"',),
    ),
    "names_of_63_bytes": Case(
        f"CREATE TABLE {LONG} ({LONG} int PRIMARY KEY, b text UNIQUE); INSERT INTO {LONG} VALUES (1, 'a')",
        (f"INSERT INTO {LONG} VALUES (2, 'b'); UPDATE {LONG} SET {LONG} = 3 WHERE {LONG} = 1",),
        (LONG,),
    ),
    "reserved_and_emoji_table_names": Case(
        'CREATE TABLE "table" ("user" int PRIMARY KEY, "from" text); CREATE TABLE "🚀" (a int PRIMARY KEY)',
        ('INSERT INTO "table" VALUES (1, \'x\'); INSERT INTO "🚀" VALUES (1)',),
        ('"table"', '"🚀"'),
    ),
    "several_tables_emptied_at_once": Case(
        "CREATE TABLE emptied (id serial PRIMARY KEY); CREATE TABLE emptied_too (id int PRIMARY KEY REFERENCES emptied);"
        " CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO emptied SELECT FROM generate_series(1, 5);"
        " INSERT INTO emptied_too VALUES (1), (2); INSERT INTO kept VALUES (1)",
        (
            "INSERT INTO emptied DEFAULT VALUES; TRUNCATE emptied, emptied_too RESTART IDENTITY; INSERT INTO emptied DEFAULT VALUES",
            "INSERT INTO emptied_too VALUES (1); TRUNCATE emptied CASCADE; INSERT INTO emptied DEFAULT VALUES",
        ),
        ("emptied", "emptied_too", "kept"),
    ),
    "a_partition_emptied_alone_and_the_whole": Case(
        "CREATE TABLE whole (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE whole_1 PARTITION OF whole FOR VALUES IN (1, 2);"
        " CREATE TABLE whole_2 PARTITION OF whole DEFAULT; INSERT INTO whole VALUES (1), (2), (3)",
        ("TRUNCATE whole; INSERT INTO whole VALUES (2), (7)",),
        ("whole",),
    ),
    "columns_that_come_and_go": Case(
        "CREATE TABLE shaped (id int PRIMARY KEY, a int, b text, c text NOT NULL DEFAULT 'c'); INSERT INTO shaped VALUES (1, 1, 'b'), (2, 2, 'b')",
        (
            "INSERT INTO shaped VALUES (3, 3, 'before')",
            "ALTER TABLE shaped ADD d numeric(9,2)",
            "INSERT INTO shaped VALUES (4, 4, 'with d', 'c', 1.5)",
            "ALTER TABLE shaped RENAME b TO bb",
            "UPDATE shaped SET bb = 'renamed' WHERE id = 1",
            "ALTER TABLE shaped DROP a",
            "INSERT INTO shaped (id, bb) VALUES (5, 'without a')",
            "ALTER TABLE shaped ALTER d TYPE numeric(12, 2)",
            "INSERT INTO shaped (id, bb, c) VALUES (6, 'other type', 'short')",
            "ALTER TABLE shaped ALTER c DROP NOT NULL",
            "UPDATE shaped SET c = NULL WHERE id = 1",
        ),
        ("shaped",),
    ),
    "a_column_added_within_a_transaction_of_rows": Case(
        "CREATE TABLE mixed (id int PRIMARY KEY); INSERT INTO mixed VALUES (1)",
        (
            "INSERT INTO mixed VALUES (2); ALTER TABLE mixed ADD v text; INSERT INTO mixed VALUES (3, 'v'); UPDATE mixed SET v = 'w' WHERE id = 1",
        ),
        ("mixed",),
    ),
}


@pytest.fixture(scope="module")
def followed(
    tmp_path_factory: pytest.TempPathFactory, pg_source: PostgresServer, pg_target: PostgresServer
) -> Iterator[Pair]:
    """All cases, followed in one run."""
    with pair(tmp_path_factory.mktemp("shapes"), pg_source, pg_target) as made:
        follow_large(made, list(CASES.values()))
        yield made


@pytest.fixture
def made(tmp_path: Path, pg_source: PostgresServer, pg_target: PostgresServer) -> Iterator[Pair]:
    """A pipeline of this test alone."""
    with pair(tmp_path, pg_source, pg_target) as made:
        yield made


@pytest.mark.parametrize("case", CASES)
def test_these_shapes_end_as_at_the_source(followed: Pair, case: str) -> None:
    followed.same(*CASES[case].tables)


def test_triggers_and_foreign_keys_of_the_target_do_not_fire(made: Pair) -> None:
    made.source.execute("CREATE TABLE watched (id int PRIMARY KEY, a text)")
    made.run()
    made.target.execute(
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.a := 'meddled'; RETURN NEW; END $$;"
        " CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION meddle()"
    )
    made.source.execute("INSERT INTO watched SELECT n, 'as it is' FROM generate_series(1, 200) n")
    made.run()
    made.source.execute("UPDATE watched SET a = 'changed' WHERE id = 1")
    made.run()
    made.same("watched")


def test_schema_changes_stop_ends_before_the_change_and_keeps_what_was_before(made: Pair) -> None:
    made.folder.write_rules({"match": "*.*", "schema_changes": "stop"})
    made.source.execute("CREATE TABLE fixed (id int PRIMARY KEY)")
    made.run()
    made.change("INSERT INTO fixed VALUES (1)")
    made.change("ALTER TABLE fixed ADD a int")
    made.change("INSERT INTO fixed VALUES (2, 2)")
    said = made.run(exit_code=5)
    assert 'ALTER TABLE "public"."fixed" ADD COLUMN "a" integer;' in said
    assert made.target.query("SELECT * FROM fixed") == [(1,)]
    made.target.execute("ALTER TABLE fixed ADD a int")
    made.run()
    made.same("fixed")


def test_schema_changes_ignore_goes_on_with_the_columns_of_both(made: Pair) -> None:
    made.folder.write_rules({"match": "*.*", "schema_changes": "ignore"})
    made.source.execute(
        "CREATE TABLE loose (id int PRIMARY KEY, a text, b text); INSERT INTO loose VALUES (1, 'a', 'b')"
    )
    made.run()
    made.change("ALTER TABLE loose ADD c int")
    made.change("INSERT INTO loose VALUES (2, 'a', 'b', 3)")
    made.change("ALTER TABLE loose DROP b")
    made.change("INSERT INTO loose VALUES (3, 'x', 4); UPDATE loose SET a = 'y' WHERE id = 1")
    made.run()
    assert made.target.query("SELECT id, a, b FROM loose ORDER BY id") == [(1, "y", "b"), (2, "a", "b"), (3, "x", None)]


@pytest.mark.parametrize("rows", [1, 200], ids=["in a small batch", "in a large batch"])
def test_a_row_that_the_target_rejects_is_named_and_what_was_before_stays(made: Pair, rows: int) -> None:
    made.target.execute("CREATE TABLE strict (id int PRIMARY KEY, a varchar(5), n int CHECK (n < 1000))")
    made.source.execute(
        "CREATE TABLE strict (id int PRIMARY KEY, a text, n int); INSERT INTO strict VALUES (0, 'first', 1)"
    )
    made.run()
    made.change(f"INSERT INTO strict SELECT n, 'ok', 1 FROM generate_series(1, {rows}) n")
    made.run()
    made.change(f"INSERT INTO strict SELECT n, 'much too long ' || n, 1 FROM generate_series(1001, {1000 + rows}) n")
    said = made.run(exit_code=5)
    assert "strict" in said
    assert '"id"=1001' in said
    assert "much too long" not in said
    assert made.target.value("SELECT count(*) FROM strict") == rows + 1


def test_rules_leave_columns_out_rename_them_and_keep_deleted_rows(made: Pair) -> None:
    made.folder.write_rules(
        {"match": "public.soft", "on_delete": "soft", "on_truncate": "ignore", "columns": {"exclude": ["secret"], "rename": {"a": "b"}}},
        {"match": "public.kept", "on_delete": "ignore"},
        {"match": "public.coded", "key": ["code"]},
        {"match": "public.events", "mode": "append"},
    )  # fmt: skip
    made.source.execute(
        "CREATE TABLE soft (id int PRIMARY KEY, a text, secret text); CREATE TABLE kept (id int PRIMARY KEY, a text);"
        " CREATE TABLE coded (id int PRIMARY KEY, code text NOT NULL UNIQUE, a text); ALTER TABLE coded REPLICA IDENTITY FULL;"
        " CREATE TABLE events (at int, a text); INSERT INTO soft SELECT n, 'a', 's' FROM generate_series(1, 100) n;"
        " INSERT INTO kept SELECT n, 'a' FROM generate_series(1, 100) n; INSERT INTO coded VALUES (1, 'x', 'a'), (2, 'y', 'a')"
    )
    made.run()
    # In a large batch and in a small one: a row that only changes its key was not deleted.
    for first in (1, 95):
        last = first + (79 if first == 1 else 0)
        made.change(f"UPDATE soft SET id = id + 1000 WHERE id BETWEEN {first} AND {last}")
        made.change(f"UPDATE kept SET id = id + 1000 WHERE id BETWEEN {first} AND {last}")
        made.run()
    made.change(
        "DELETE FROM soft WHERE id = 90; DELETE FROM kept WHERE id = 90; UPDATE coded SET code = 'z', a = 'n' WHERE id = 1"
    )
    made.change("DELETE FROM coded WHERE id = 2; INSERT INTO events VALUES (1, 'e'), (1, 'e')")
    made.change("DELETE FROM soft WHERE id = 91; INSERT INTO soft VALUES (91, 'back', 's')")
    made.run()
    made.change("TRUNCATE soft; DELETE FROM events")
    made.run()
    made.same("coded")
    soft = "SELECT count(*), count(cdcflow_deleted_at), sum(id) FROM soft"
    assert made.target.query(soft) == [(100, 1, 5050 + 81_000)]
    assert made.target.query("SELECT b FROM soft WHERE id = 91 AND cdcflow_deleted_at IS NULL") == [("back",)]
    assert made.target.query("SELECT count(*), sum(id) FROM kept") == [(100, 5050 + 81_000)]
    assert made.target.value("SELECT count(*) FROM events") == 2


def test_a_rewritten_column_and_a_new_table_are_copied_while_the_rest_streams(made: Pair) -> None:
    made.source.execute(
        "CREATE TABLE rewritten (id int PRIMARY KEY, v text); INSERT INTO rewritten SELECT n, n FROM generate_series(1, 300) n"
    )
    made.run()
    running = made.commands.start("run")
    running.until_output("streaming")
    made.change("ALTER TABLE rewritten ALTER v TYPE bigint USING v::bigint * 2")
    made.change("INSERT INTO rewritten VALUES (1000, 1)")
    made.change("CREATE TABLE late (id int PRIMARY KEY, a text); INSERT INTO late VALUES (1, 'there')")
    made.change("INSERT INTO late VALUES (2, 'followed')")

    def equal() -> bool:
        if running.ended:
            raise RuntimeError(running.output()[-4000:])
        try:
            made.same("rewritten", "late")
        except Exception:
            return False
        return True

    until(equal, limit=60, what="both tables are the same")
    running.terminate()
    assert running.wait() == 0


def test_a_transaction_of_many_rows_is_applied_in_pieces_and_becomes_visible_at_once(made: Pair) -> None:
    made.folder.write_config(memory="64MB", batch={"max_bytes": "8MB"})
    made.source.execute("CREATE TABLE many (id int PRIMARY KEY, a text, u int UNIQUE)")
    made.run()
    made.change(
        "INSERT INTO many SELECT n, repeat('x', 50), n FROM generate_series(1, 300000) n; UPDATE many SET u = -u WHERE id <= 1000;"
        " DELETE FROM many WHERE id > 299000; UPDATE many SET id = id + 1000000 WHERE id BETWEEN 5000 AND 6000"
    )
    made.run()
    made.same("many")


def test_the_slot_moves_while_the_replicated_tables_are_idle(made: Pair) -> None:
    made.folder.write_rules({"match": "public.idle"})
    made.source.execute("CREATE TABLE idle (id int PRIMARY KEY); CREATE TABLE busy (a text)")
    made.run()
    running = made.commands.start("run")
    running.until_output("streaming")
    made.source.execute("INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 2000)")
    now = made.source.value("SELECT pg_current_wal_lsn()")
    moved = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE database = current_database()"
    until(lambda: made.source.value(moved, [now]), limit=90, what="the slot passes the other table's rows")


@pytest.mark.parametrize(("source", "target"), [(14, 18), (18, 15)])
def test_an_old_and_a_new_server_replicate_either_way(
    tmp_path: Path, pg: Callable[..., PostgresServer], source: int, target: int
) -> None:
    cases = [case for name, case in CASES.items() if name != "a_column_added_within_a_transaction_of_rows"]
    with pair(tmp_path, pg(source, "source"), pg(target, "target")) as made:
        follow_large(made, cases)
        for case in cases:
            made.same(*case.tables)
