"""Copies that are broken off, moved or altered half-way, on real servers: each ends equal to its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.semantics import Pair, pair
from tests.servers.fleet import PostgresServer
from tests.servers.waiting import until

TABLE = """
CREATE TABLE t (id int PRIMARY KEY, a varchar(10), b text);
INSERT INTO t SELECT n, 'a', 'b' FROM generate_series(1, 200) n;
"""

SLOT = "FROM pg_replication_slots WHERE database = current_database() AND NOT temporary"
CONFIRMED = f"SELECT confirmed_flush_lsn - '0/0' {SLOT}"


@pytest.fixture
def made(tmp_path: Path, pg: Callable[..., PostgresServer]) -> Iterator[Pair]:
    with pair(tmp_path, pg(18, "source"), pg(18, "target")) as made:
        yield made


def rows(made: Pair, side: str, table: str) -> list[tuple[object, ...]]:
    database = made.source if side == "source" else made.target
    return database.query(f"SELECT * FROM {table} ORDER BY id")


@pytest.mark.parametrize("before", ["", "UPDATE t SET a = 'b4' WHERE id > 190"])
@pytest.mark.parametrize(
    "altered",
    [
        "ALTER TABLE t ADD COLUMN c text DEFAULT 'x'; UPDATE t SET c = 'y' WHERE id <= 10",
        "ALTER TABLE t ALTER a TYPE varchar(30); UPDATE t SET a = 'a much longer value' WHERE id <= 10",
        "ALTER TABLE t RENAME b TO bb; UPDATE t SET bb = 'y' WHERE id <= 10",
        "ALTER TABLE t DROP COLUMN b; UPDATE t SET a = 'y' WHERE id <= 10",
    ],
    ids=["column added", "column widened", "column renamed", "column dropped"],
)
def test_a_table_altered_while_its_copy_was_broken_off(made: Pair, before: str, altered: str) -> None:
    made.source.execute(TABLE)
    made.commands.call("run", "--until-caught-up", env={"CDCFLOW_KILL_AT": "chunk committed:1"}, exit_code=-9)
    assert made.target.value("SELECT state FROM cdcflow.tables") == "copying"
    for statement in [before, *altered.split("; ")]:
        if statement:
            made.change(statement)
    made.run()
    made.same("t")


def test_a_table_that_goes_to_another_place_is_copied_there(made: Pair) -> None:
    made.source.execute(TABLE)
    made.folder.write_rules({"match": "public.t"})
    made.run()
    made.folder.write_rules({"match": "public.t", "to": "public.t2"})
    made.change("UPDATE t SET a = 'z' WHERE id = 5")
    made.run()
    assert rows(made, "target", "t2") == rows(made, "source", "t")
    made.change("DELETE FROM t WHERE id = 6")
    made.run()
    assert rows(made, "target", "t2") == rows(made, "source", "t")


def test_a_renamed_table_goes_on_under_its_new_name_after_a_resync(made: Pair) -> None:
    made.source.execute(TABLE)
    made.folder.write_rules({"match": "public.*"})
    made.run()
    made.change("ALTER TABLE t RENAME TO t9; INSERT INTO t9 VALUES (1000, 'x', 'y')")
    assert "t9" in made.run(exit_code=5)
    made.commands.call("resync", "public.t9", exit_code=0)
    made.change("UPDATE t9 SET a = '7' WHERE id <= 50; INSERT INTO t9 SELECT n, '1' FROM generate_series(5001, 5010) n")
    made.run()
    assert rows(made, "target", "t9") == rows(made, "source", "t9")
    assert made.target.query("SELECT source_table, target_table, state FROM cdcflow.tables") == [("t9", "t9", "live")]


def test_a_stream_that_is_opened_again_keeps_the_log_of_a_copy_under_way(made: Pair) -> None:
    made.source.execute(
        f"{TABLE} CREATE TABLE u (id int PRIMARY KEY, v text);"
        " INSERT INTO u SELECT n, 'v' FROM generate_series(1, 100) n"
    )
    made.run()
    running = made.commands.start("run")
    running.until_output("streaming")
    with made.target.connect(autocommit=False) as lock:
        lock.execute("LOCK TABLE u IN SHARE MODE")
        made.commands.call("resync", "public.u", exit_code=0)
        state = "SELECT state FROM cdcflow.tables WHERE source_table = 'u'"
        until(lambda: made.target.value(state) != "live", what="the copy begins")
        copy = "SELECT count(*) FROM pg_replication_slots WHERE temporary AND database = current_database()"
        until(lambda: made.source.value(copy) == 1, what="the copy has its view")
        begin = made.source.value(CONFIRMED)
        for n in range(5):
            made.source.execute(f"UPDATE t SET b = 'n{n}'; UPDATE u SET v = 'w{n}'")
        until(lambda: made.target.value("SELECT b FROM t WHERE id = 1") == "n4")
        made.source.execute(f"SELECT pg_terminate_backend(active_pid) {SLOT}")
        running.until_output("interrupted")
        made.source.execute("UPDATE t SET b = 'after'")
        until(lambda: made.target.value("SELECT b FROM t WHERE id = 1") == "after")
        view = "SELECT min(restart_lsn) - '0/0' FROM pg_replication_slots WHERE temporary"
        assert made.source.value(CONFIRMED) <= max(begin, made.source.value(view) or 0) + 100_000
        lock.rollback()

    def equal() -> bool:
        if running.ended:
            raise RuntimeError(running.output()[-4000:])
        made.same("t", "u")
        return True

    until(equal, limit=60)
    running.terminate()
    assert running.wait() == 0


def test_a_table_is_not_copied_into_itself(made: Pair) -> None:
    made.source.execute(TABLE)
    made.folder.through(target=made.source.url)
    for command in (["check"], ["run", "--until-caught-up"], ["resync", "public.t"]):
        said = made.commands.call(*command, exit_code=2)
        assert "source and target are the same database" in said.stderr
    assert made.source.value("SELECT count(*) FROM t") == 200
    assert made.source.value("SELECT to_regnamespace('cdcflow')") is None


def test_rows_of_a_table_without_a_key_are_not_copied_twice_by_a_pipeline_that_begins_anew(made: Pair) -> None:
    made.source.execute("CREATE TABLE e (a int); ALTER TABLE e REPLICA IDENTITY FULL; INSERT INTO e VALUES (1), (1)")
    made.run()
    made.commands.call("teardown", "--yes", exit_code=0)
    assert "holds rows already" in made.run(exit_code=5)
    assert made.target.value("SELECT count(*) FROM e") == 2
    made.target.execute("TRUNCATE e")
    made.commands.call("resync", "public.e", exit_code=0)
    made.same("e")


def test_the_check_says_what_keeps_a_pipeline_from_going_on(made: Pair) -> None:
    made.source.execute(TABLE)
    made.run()
    made.commands.call("check", exit_code=0)
    made.source.drop_slots()
    said = made.commands.call("check", exit_code=3)
    assert "does not exist" in said.stdout
    assert "cdcflow resync --all" in said.stdout


def test_an_option_of_the_url_with_a_wrong_value_is_named(made: Pair) -> None:
    made.source.execute(TABLE)
    made.folder.through(target=f"{made.target.url}?sslmode=requir")
    said = made.commands.call("run", exit_code=2)
    assert 'invalid sslmode value: "requir"' in said.stderr
