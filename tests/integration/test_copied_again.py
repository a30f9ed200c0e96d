"""What makes a table be copied again: a rewrite at the source, and a rule that makes something else of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.semantics import Pair, pair
from tests.servers.fleet import PostgresServer
from tests.servers.waiting import until

TABLE = """
CREATE TABLE t (id int PRIMARY KEY, a text NOT NULL, b text);
INSERT INTO t VALUES (1, 'a1', 'b1'), (2, 'a2', 'b2');
"""


@pytest.fixture
def made(tmp_path: Path, pg: Callable[..., PostgresServer]) -> Iterator[Pair]:
    with pair(tmp_path, pg(18, "source"), pg(18, "target")) as made:
        yield made


def columns(made: Pair, table: str = "t") -> list[str]:
    query = "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
    return sorted(name for (name,) in made.target.query(query, [table]))


def rows(made: Pair) -> list[tuple[object, ...]]:
    return made.target.query("SELECT * FROM t ORDER BY id")


def test_rewrites_in_a_row_while_running_lose_none_of_the_changes_behind_them(made: Pair) -> None:
    made.source.execute(
        "CREATE TABLE busy (id serial PRIMARY KEY, v int);"
        " CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, n FROM generate_series(1, 500) n"
    )
    made.run()
    running = made.commands.start("run")
    running.until_output("streaming")
    kind = "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'v'"
    for round_, now in enumerate(["bigint USING v::bigint * 2", "varchar(40) USING v || 'x'", "text USING v || 'y'"]):
        made.change(f"ALTER TABLE t ALTER v TYPE {now}")
        for n in range(30):
            made.source.execute(f"INSERT INTO t VALUES ({1000 * (round_ + 1) + n}, '{n}')")
            made.source.execute(f"UPDATE t SET v = '{n}' WHERE id = {n + 1}")
            made.source.execute("INSERT INTO busy (v) VALUES (1)")
        expected = made.source.value(kind)
        until(lambda expected=expected: made.target.value(kind) == expected, limit=60, what="the new type")  # type: ignore[misc]

    def equal() -> bool:
        if running.ended:
            raise RuntimeError(running.output()[-4000:])
        made.same("t", "busy")
        return True

    until(equal, limit=90, what="both tables are the same")
    running.terminate()
    assert running.wait() == 0


def test_columns_renamed_and_dropped_before_a_rewrite_are_so_in_the_copy_that_follows(made: Pair) -> None:
    made.source.execute(TABLE)
    made.run()
    made.change(
        "ALTER TABLE t RENAME a TO z; ALTER TABLE t DROP b; ALTER TABLE t ADD c float DEFAULT random();"
        " INSERT INTO t VALUES (3, 'a3', 0.5)"
    )
    made.run()
    made.same("t")
    assert columns(made) == ["c", "id", "z"]


def test_columns_that_changed_while_the_tool_was_away_are_so_in_a_copy_that_was_asked_for(made: Pair) -> None:
    made.source.execute(TABLE)
    made.run()
    made.source.execute("ALTER TABLE t RENAME a TO z; ALTER TABLE t DROP b")
    made.commands.call("resync", "public.t", exit_code=0)
    made.run()
    made.same("t")
    assert columns(made) == ["id", "z"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"columns": {"exclude": ["b"]}}, [(1, "a1"), (2, "a2")]),
        ({"columns": {"exclude": ["b"]}}, {}, [(1, "a1", "b1"), (2, "a2", "b2")]),
        ({}, {"columns": {"rename": {"a": "b", "b": "a"}}}, [(1, "a1", "b1"), (2, "a2", "b2")]),
        ({"key": ["a"]}, {}, [(1, "a1", "b1"), (2, "a2", "b2")]),
    ],
    ids=["excluded", "no longer excluded", "renamed", "another key"],
)
def test_a_table_whose_rule_changed_is_copied_again(
    made: Pair, before: dict[str, object], after: dict[str, object], expected: list[tuple[object, ...]]
) -> None:
    made.source.execute(TABLE)
    if "key" in before:
        made.source.execute("ALTER TABLE t REPLICA IDENTITY FULL; CREATE UNIQUE INDEX ON t (a)")
    made.folder.write_rules({"match": "public.t", **before})
    made.run()
    made.folder.write_rules({"match": "public.t", **after})
    said = made.run()
    assert "the rules for a table changed" in said
    assert rows(made) == expected
    assert "the rules for a table changed" not in made.run()
    made.change("INSERT INTO t VALUES (3, 'a3', 'b3'); UPDATE t SET b = 'new' WHERE id = 1")
    made.run()
    assert len(rows(made)) == 3


def test_rows_kept_as_deleted_go_when_the_rule_no_longer_says_so(made: Pair) -> None:
    made.source.execute(TABLE)
    made.folder.write_rules({"match": "public.t", "on_delete": "soft"})
    made.run()
    made.change("DELETE FROM t WHERE id = 1")
    made.run()
    assert made.target.value("SELECT count(*) FROM t") == 2
    made.folder.write_rules("public.t")
    made.run()
    assert made.target.query("SELECT id FROM t") == [(2,)]
    made.folder.write_rules({"match": "public.t", "on_delete": "soft"})
    made.run()
    made.change("DELETE FROM t WHERE id = 2")
    made.run()
    assert made.target.value("SELECT cdcflow_deleted_at IS NOT NULL FROM t WHERE id = 2")


def test_an_excluded_column_that_is_renamed_stops_until_the_rules_know_its_new_name(made: Pair) -> None:
    made.source.execute(TABLE)
    made.folder.write_rules({"match": "public.t", "columns": {"exclude": ["b"]}})
    made.run()
    made.change("ALTER TABLE t RENAME b TO c; INSERT INTO t VALUES (3, 'a3', 'c3')")
    assert 'public.t has no column "b"' in made.run(exit_code=2)
    made.folder.write_rules({"match": "public.t", "columns": {"exclude": ["c"]}})
    made.run()
    assert rows(made) == [(1, "a1"), (2, "a2"), (3, "a3")]
    made.run()


def test_a_renamed_column_that_stays_excluded_while_running_stops_the_run(made: Pair) -> None:
    made.source.execute(TABLE)
    made.folder.write_rules({"match": "public.t", "columns": {"exclude": ["b"]}})
    made.run()
    running = made.commands.start("run")
    running.until_output("streaming")
    made.change("ALTER TABLE t RENAME b TO c; INSERT INTO t VALUES (3, 'a3', 'c3')")
    assert running.wait() == 2
    assert 'public.t has no column "b"' in running.output()
    assert rows(made) == [(1, "a1"), (2, "a2")]


def test_a_column_that_a_rename_brings_in_past_a_patterns_exclude_is_filled(made: Pair) -> None:
    made.source.execute(TABLE)
    made.folder.write_rules({"match": "public.*", "columns": {"exclude": ["b"]}})
    made.run()
    running = made.commands.start("run")
    running.until_output("streaming")
    made.change("ALTER TABLE t RENAME b TO c; INSERT INTO t VALUES (3, 'a3', 'c3')")

    def filled() -> bool:
        if running.ended:
            raise RuntimeError(running.output()[-4000:])
        return rows(made) == [(1, "a1", "b1"), (2, "a2", "b2"), (3, "a3", "c3")]

    until(filled, limit=60, what="the column's older values are there")
    running.terminate()
    assert running.wait() == 0


@pytest.mark.parametrize("killed", [True, False])
def test_a_replay_that_meets_a_later_unique_value_in_a_table_of_ones_own_copies_it_again(
    made: Pair, killed: bool
) -> None:
    made.folder.write_config(source={"url": made.folder.source_url, "snapshot": {"chunk": "64KiB", "workers": 1}})
    made.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE, filler text);"
        " INSERT INTO t SELECT n, 'u' || n, repeat('x', 500) FROM generate_series(1, 2000) n"
    )
    made.target.execute("CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE, filler text)")
    if killed:
        made.commands.call("run", env={"CDCFLOW_KILL_AT": "chunk committed:2"}, exit_code=-9)
    else:
        made.run()
    for change in ("'taken' WHERE id = 1990", "'free' WHERE id = 1990", "'taken' WHERE id = 1995"):
        made.source.execute(f"UPDATE t SET u = {change}")
    said = made.run()
    made.same("t")
    assert ("a table has to be copied again" in said) is killed


@pytest.mark.parametrize("killed", [False, True])
def test_a_name_that_stands_for_another_column_now(made: Pair, killed: bool) -> None:
    for table in ("readded", "widened", "swapped", "vacated"):
        made.source.execute(
            f"CREATE TABLE {table} (id int PRIMARY KEY, a int, b text);"
            f" INSERT INTO {table} SELECT n, n, 10 * n FROM generate_series(1, 3) n"
        )
    made.run()
    made.source.execute("ALTER TABLE readded DROP a; ALTER TABLE readded ADD a int")
    made.source.execute("ALTER TABLE widened DROP a; ALTER TABLE widened ADD a bigint DEFAULT 9")
    made.change(
        "ALTER TABLE swapped RENAME a TO x; ALTER TABLE swapped RENAME b TO a; ALTER TABLE swapped RENAME x TO b"
    )
    made.source.execute("ALTER TABLE vacated RENAME a TO c; ALTER TABLE vacated ADD a int")
    for table in ("readded", "widened", "swapped", "vacated"):
        made.change(f"INSERT INTO {table} (id, a, b) VALUES (4, '4', '5')")
    if killed:
        made.commands.call("run", "--until-caught-up", env={"CDCFLOW_KILL_AT": "batch committed:1"}, exit_code=-9)
    made.run()
    made.same("readded", "widened", "swapped", "vacated")


def test_a_resync_whose_table_fails_says_so_and_ends_with_5(made: Pair) -> None:
    made.source.execute(TABLE)
    made.run()
    made.target.execute("DELETE FROM t; ALTER TABLE t ADD CONSTRAINT short CHECK (length(a) < 2)")
    done = made.commands.call("resync", "public.t", exit_code=5)
    assert "public.t could not be copied again" in done.stderr
    assert "short" in done.stderr
