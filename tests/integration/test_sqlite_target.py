"""PostgreSQL to a SQLite file by the command: copies, streams, kills, shapes, and what the file then holds."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database
from tests.servers.waiting import until

CANONICAL = (
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1;"
    " SET bytea_output = 'hex'"
)

TYPES = {
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807", "0"],
    "numeric": ["-0.10", "123456789012345678901234567890.123456789", "NaN", "Infinity", "1e-20", "10"],
    "numeric(12,2)": ["0.10", "-9999999999.99"],
    "real": ["0.1", "1e20", "-Infinity", "NaN", "1.17549435e-38", "16777216"],
    "double precision": ["0.1", "1e300", "NaN", "Infinity", "5e-324", "3", "-1e-7", "123456789012345680"],
    "money": ["12.34"],
    "boolean": ["t", "f"],
    "text": ["", "a\tb\nc\\d\r", "é€😀", "12", "1.0", "\\N", "NULL", "'quoted\" ;--"],
    "varchar(10)": ["0012"],
    "char(5)": ["ab"],
    "name": ["n"],
    "bytea": ["\\x", "\\x00ff0a5c"],
    "date": ["2024-01-31", "infinity", "0044-03-15 BC", "9999-12-31"],
    "time": ["12:00:00.5", "24:00:00"],
    "timetz": ["12:00:00+02"],
    "timestamp": ["2024-01-31 12:00:00.123456", "-infinity", "2024-01-31 00:00:00"],
    "timestamptz": ["2024-01-31 12:00:00+05:45", "infinity"],
    "interval": ["1 year 2 mons -3 days 04:05:06.7", "-00:00:01"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "json": ['{"a": [1, 2.50, "\\u00e9"]}', "5", "1.0"],
    "jsonb": ['{"b": null, "a": 1.10}', "7"],
    "integer[]": ["{1,2,NULL}", "[0:1]={1,2}"],
    "text[]": ['{a,"b c",NULL,"\\"q\\""}'],
    "mood": ["happy", "1"],
    "small_number": ["5"],
    "pair": ["(1,\"a b\")"],
    "bit(4)": ["0101"],
    "varbit": ["01", ""],
    "inet": ["10.0.0.1/8"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "tsvector": ["'a' 'b'"],
    "point": ["(1,2)"],
    "polygon": ["((0,0),(1,1),(1,0))"],
    "int4range": ["[1,5)", "empty"],
    "oid": ["4294967295"],
    "pg_lsn": ["0/16B3748"],
}  # fmt: skip

MAKE_TYPES = """
CREATE TYPE mood AS ENUM ('happy', '1');
CREATE DOMAIN small_number AS integer CHECK (VALUE < 100);
CREATE TYPE pair AS (a integer, b text);
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


class File:
    """The target file as a person reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.path)
        try:
            rows = connection.execute(sql, values).fetchall()
            connection.commit()
            return rows
        finally:
            connection.close()

    def value(self, sql: str) -> Any:
        return self.query(sql)[0][0]

    def names(self) -> set[str]:
        rows = self.query("SELECT name FROM sqlite_schema")
        return {name for (name,) in rows if not name.startswith(("cdcflow_", "sqlite_"))}


@pytest.fixture
def shop(
    new_pipeline: Callable[..., PipelineFolder], source_db: Database, target_db: Database, tmp_path: Path
) -> PipelineFolder:
    return new_pipeline(source_db, target_db).through(target="sqlite:///shop.db")


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "shop.db")


def canonical(value: object) -> str | None:
    """Turn a stored value back into the canonical text that it came from (numbers of REAL columns excepted)."""
    if value is None:
        return None
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def test_rows_are_copied_and_followed_into_a_file_that_is_made(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File
) -> None:
    source_db.execute("CREATE TABLE orders (id bigint PRIMARY KEY, note text, price numeric(10,2) NOT NULL)")
    source_db.execute("INSERT INTO orders SELECT i, 'n' || i, i / 100.0 FROM generate_series(1, 1000) i")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.value("SELECT count(*) FROM orders") == 1000
    assert file.query("SELECT * FROM orders WHERE id = 7") == [(7, "n7", "0.07")]
    source_db.execute("INSERT INTO orders VALUES (2000, NULL, 1)")
    source_db.execute("UPDATE orders SET note = 'changed' WHERE id <= 10")
    source_db.execute("UPDATE orders SET id = -id WHERE id = 20")
    source_db.execute("DELETE FROM orders WHERE id BETWEEN 500 AND 599")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.query("SELECT id, note, price FROM orders ORDER BY id") == source_db.query(
        "SELECT id, note, price::text FROM orders ORDER BY id"
    )
    assert file.value("PRAGMA journal_mode") == "wal"


def test_every_type_is_copied_and_streamed_as_its_canonical_text(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File
) -> None:
    source_db.execute(MAKE_TYPES)
    columns = ", ".join(f"c{number} {name}" for number, name in enumerate(TYPES))
    source_db.execute(f"CREATE TABLE types (id integer PRIMARY KEY, {columns})")

    def insert(first: int) -> None:
        for number in range(max(map(len, TYPES.values()))):
            values = [texts[number % len(texts)] for texts in TYPES.values()]
            listed = ", ".join("'" + text.replace("'", "''") + "'" for text in values)
            source_db.execute(f"INSERT INTO types VALUES ({first + number}, {listed})")
        source_db.execute(f"INSERT INTO types (id) VALUES ({first + 50})")

    insert(0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    insert(100)
    cdcflow("run", "--until-caught-up", exit_code=0)
    shown = ", ".join(f"c{number}::text" for number in range(len(TYPES)))
    with source_db.connect() as connection:
        connection.execute(CANONICAL)
        expected = connection.execute(f"SELECT id, {shown} FROM types ORDER BY id").fetchall()
    found = file.query("SELECT * FROM types ORDER BY id")
    assert len(found) == len(expected)
    for there, row in zip(found, expected, strict=True):
        assert there[0] == row[0]
        for name, value, text in zip(TYPES, there[1:], row[1:], strict=True):
            if name == "boolean" and text is not None:
                assert value == (text == "true"), name
            elif name in ("real", "double precision") and isinstance(value, float):
                assert value == float(text), name
            elif name == "char(5)" and text is not None:
                assert value == text.ljust(5), name
            else:
                assert canonical(value) == text, name
    half = len(found) // 2
    assert [row[1:] for row in found[:half]] == [row[1:] for row in found[half:]]
    kinds = dict(zip(TYPES, file.query("SELECT * FROM types WHERE id = 0")[0][1:], strict=True))
    assert isinstance(kinds["bigint"], int)
    assert isinstance(kinds["double precision"], float)
    assert isinstance(kinds["numeric"], str)
    assert isinstance(kinds["bytea"], bytes)


@pytest.mark.parametrize("moment", ["chunk sent:1", "chunk committed:1", "batch sent:2", "batch committed:2"])
def test_a_kill_at_any_moment_loses_nothing_and_doubles_nothing(
    shop: PipelineFolder,
    source_db: Database,
    cdcflow: Command,
    running: Callable[..., Running],
    file: File,
    moment: str,
) -> None:
    source_db.execute("CREATE TABLE plain (a int, b text); ALTER TABLE plain REPLICA IDENTITY FULL")
    source_db.execute("CREATE TABLE keyed (id int PRIMARY KEY, n int)")
    source_db.execute("INSERT INTO plain SELECT i % 10, 'x' FROM generate_series(1, 500) i")
    source_db.execute("INSERT INTO keyed SELECT i, 0 FROM generate_series(1, 500) i")
    killed = running("run", env={"CDCFLOW_KILL_AT": moment})
    until(lambda: killed.ended or "streaming" in killed.output(), what="it streams or is dead")
    numbers = count()

    def is_dead() -> bool:
        """After one more change: what is written at once may be one batch."""
        number = next(numbers)
        source_db.execute(f"INSERT INTO plain VALUES ({number}, 'y'); UPDATE keyed SET n = n + 1 WHERE id <= {number}")
        source_db.execute(f"DELETE FROM plain WHERE ctid = (SELECT ctid FROM plain WHERE a = {number % 10} LIMIT 1)")
        return killed.ended

    until(is_dead, limit=60, what="it is killed")
    assert killed.returncode == -9
    cdcflow("run", "--until-caught-up", exit_code=0)
    for table in ("plain", "keyed"):
        assert file.query(f"SELECT * FROM {table} ORDER BY 1, 2") == source_db.query(
            f"SELECT * FROM {table} ORDER BY 1, 2"
        )


def test_a_large_transaction_is_seen_whole_or_not_at_all(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File
) -> None:
    source_db.execute("CREATE TABLE big (id int PRIMARY KEY, t text)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    shop.write_config(batch={"max_bytes": "1MB"})
    source_db.execute("INSERT INTO big SELECT i, repeat('x', 50) FROM generate_series(1, 60000) i")
    cdcflow("run", "--until-caught-up", env={"CDCFLOW_KILL_AT": "piece written:3"}, exit_code=-9)
    assert file.value("SELECT count(*) FROM big") == 0
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.value("SELECT count(*) FROM big") == 60000


def test_shapes_follow_the_source(shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, a text, b int, c text)")
    source_db.execute("CREATE INDEX t_b ON t (b)")
    source_db.execute("INSERT INTO t VALUES (1, 'one', 10, 'x'), (2, 'two', 20, 'y')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert "t_b" in file.names()
    file.query("CREATE VIEW v AS SELECT id FROM t")
    file.query("ALTER TABLE t ADD COLUMN mine INTEGER DEFAULT 5")
    for statement in (
        "ALTER TABLE t ADD COLUMN d int NOT NULL DEFAULT 7; INSERT INTO t VALUES (3, 'three', 30, 'z', 8)",
        "ALTER TABLE t RENAME COLUMN a TO renamed; UPDATE t SET renamed = 'uno' WHERE id = 1",
        "ALTER TABLE t DROP COLUMN c; INSERT INTO t VALUES (4, 'four', 40, 9)",
        "ALTER TABLE t ALTER COLUMN b TYPE text; INSERT INTO t VALUES (5, 'five', 'fifty', 9)",
        "ALTER TABLE t ALTER COLUMN id TYPE bigint; INSERT INTO t VALUES (6000000000, 'six', '60', 9)",
        "ALTER TABLE t RENAME COLUMN b TO x; ALTER TABLE t RENAME COLUMN d TO b; ALTER TABLE t RENAME COLUMN x TO d;"
        " UPDATE t SET renamed = 'dos' WHERE id = 2",
    ):
        source_db.execute(statement)
        cdcflow("run", "--until-caught-up", exit_code=0)
        columns = source_db.query(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped"
        )
        rows = f"SELECT {', '.join(name for (name,) in columns)} FROM t ORDER BY id"
        assert file.query(rows) == source_db.query(rows)
    assert file.query("SELECT mine FROM t WHERE id = 1") == [(5,)]
    assert file.query("SELECT count(*) FROM v") == [(6,)]


def test_a_truncate_empties_the_table(shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute("TRUNCATE t; INSERT INTO t VALUES (3)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.query("SELECT id FROM t") == [(3,)]


def test_soft_deletes_keep_the_row_and_its_key_may_come_back(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File
) -> None:
    shop.write_rules({"match": "public.*", "on_delete": "soft"})
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, u text UNIQUE); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute("DELETE FROM t; INSERT INTO t VALUES (2, 'c'), (3, 'a')")
    source_db.execute("UPDATE t SET id = 1 WHERE id = 3")
    cdcflow("run", "--until-caught-up", exit_code=0)
    rows = file.query("SELECT id, u, cdcflow_deleted_at IS NULL FROM t ORDER BY id")
    assert rows == [(1, "a", 1), (2, "c", 1)]
    source_db.execute("TRUNCATE t")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.value("SELECT cdcflow_deleted_at FROM t WHERE id = 1").endswith("+00")


def test_append_takes_inserts_only(shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File) -> None:
    shop.write_rules({"match": "public.*", "mode": "append"})
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute("UPDATE t SET n = 5; DELETE FROM t; INSERT INTO t VALUES (2, 2)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.query("SELECT * FROM t ORDER BY id") == [(1, 1), (2, 2)]


def test_unchanged_toast_stays_and_values_that_change_places_do(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File
) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE DEFERRABLE, big text, n int)")
    source_db.execute("ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL")
    source_db.execute("INSERT INTO t SELECT i, i, repeat('x', 100000), 0 FROM generate_series(1, 3) i")
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute("UPDATE t SET n = n + 1; UPDATE t SET u = 4 - u; UPDATE t SET id = id + 10, n = n + 1")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.query("SELECT * FROM t ORDER BY id") == source_db.query("SELECT * FROM t ORDER BY id")


def test_a_table_without_a_key_is_matched_by_whole_rows(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File
) -> None:
    source_db.execute("CREATE TABLE t (a int, b float8, c bytea, d text); ALTER TABLE t REPLICA IDENTITY FULL")
    source_db.execute("INSERT INTO t SELECT i % 3, 'NaN', '\\x00', NULL FROM generate_series(1, 9) i")
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute("UPDATE t SET d = 'x' WHERE ctid IN (SELECT ctid FROM t WHERE a = 1 LIMIT 2)")
    source_db.execute("DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE a = 2 LIMIT 1)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.query("SELECT a, d, count(*) FROM t GROUP BY 1, 2 ORDER BY 1, 2") == [
        (0, None, 3),
        (1, None, 1),
        (1, "x", 2),
        (2, None, 2),
    ]


def test_a_table_is_copied_again_on_demand(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File
) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 2)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    file.query("UPDATE t SET n = 99")
    file.query("DELETE FROM t WHERE id = 1")
    cdcflow("resync", "public.t", exit_code=0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.query("SELECT * FROM t ORDER BY id") == [(1, 1), (2, 2)]


def test_indexes_come_with_the_copy_as_far_as_a_file_can_have_them(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File
) -> None:
    source_db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text, j jsonb);"
        "CREATE INDEX by_a ON t (a DESC, b); CREATE UNIQUE INDEX one_b ON t (b);"
        "CREATE UNIQUE INDEX part ON t (a) WHERE b IS NULL; CREATE INDEX low ON t (lower(b), a);"
        "CREATE INDEX gin ON t USING gin (j); CREATE TABLE u (id int REFERENCES t); CREATE INDEX by_id ON u (id)"
    )
    source_db.execute("ALTER TABLE u REPLICA IDENTITY FULL")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert {"t", "u", "by_a", "one_b", "by_id"} == file.names()
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.query("SELECT \"unique\" FROM pragma_index_list('t') ORDER BY name") == [(0,), (1,)]


def test_an_index_over_a_column_that_the_file_does_not_have_yet_waits_for_it(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File
) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    # Nothing is told of the column before the table's next row; indexes are made when another table is copied.
    source_db.execute("ALTER TABLE t ADD COLUMN h int; CREATE INDEX by_h ON t (h)")
    source_db.execute("CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert "by_h" not in file.names()  # SQLite would take "h" for a text, and make an index of that
    source_db.execute("INSERT INTO t VALUES (2, 2, 2); ALTER TABLE t DROP COLUMN a; INSERT INTO t VALUES (3, 3)")
    source_db.execute("CREATE TABLE v (id int PRIMARY KEY); INSERT INTO v VALUES (1)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.query("SELECT * FROM t ORDER BY id") == [(1, None), (2, 2), (3, 3)]
    assert file.query("SELECT name FROM pragma_index_info('by_h')") == [("h",)]
    assert file.query("PRAGMA integrity_check") == [("ok",)]


def test_two_tables_of_one_name_are_refused_with_what_to_do(
    shop: PipelineFolder, source_db: Database, cdcflow: Command
) -> None:
    source_db.execute("CREATE SCHEMA other; CREATE TABLE t (id int PRIMARY KEY)")
    source_db.execute("CREATE TABLE other.t (id int PRIMARY KEY)")
    shop.write_rules("public.*", "other.*")
    found = cdcflow("check", exit_code=3)
    assert "two tables would be called t" in found.stdout + found.stderr
    assert "to: other.other_t" in found.stdout + found.stderr or "to: public.public_t" in found.stdout + found.stderr
    done = cdcflow("run", "--until-caught-up")
    assert done.returncode != 0
    assert "two tables would be called t" in done.stdout + done.stderr


def test_status_and_teardown_work_with_the_state_in_the_file(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File, running: Callable[..., Running]
) -> None:
    source_db.execute("CREATE TABLE tables (id int PRIMARY KEY); INSERT INTO tables VALUES (1)")
    never = cdcflow("status")
    assert not file.path.exists(), never.stdout
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert "live" in cdcflow("status", exit_code=0).stdout
    one = running("run")
    one.until_output("streaming")
    assert cdcflow("run").returncode == 5
    one.terminate()
    assert one.wait() == 0
    cdcflow("teardown", "--yes", exit_code=0)
    assert file.query("SELECT * FROM tables") == [(1,)]
    assert file.query("SELECT * FROM cdcflow_checkpoints") == []


def test_a_file_that_is_something_else_is_said(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File
) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    file.path.write_text("this is no database, and long enough to be looked at as one" * 50)
    for command in (("check",), ("run", "--until-caught-up")):
        done = cdcflow(*command)
        assert done.returncode != 0
        assert "not a SQLite database" in done.stdout + done.stderr


def test_a_file_that_is_removed_while_it_is_written_to_stops_the_pipeline(
    shop: PipelineFolder, source_db: Database, file: File, running: Callable[..., Running]
) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = running("run")
    one.until_output("streaming")
    file.path.unlink()
    source_db.execute("INSERT INTO t VALUES (1)")
    assert one.wait() == 5
    assert "removed or replaced" in one.output()


def test_a_writer_of_another_process_is_waited_for(
    shop: PipelineFolder, source_db: Database, file: File, running: Callable[..., Running]
) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    one = running("run")
    one.until_output("streaming")
    until(lambda: "t" in file.names(), what="the table is there")
    other = sqlite3.connect(file.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    source_db.execute("INSERT INTO t VALUES (1)")
    assert not threading.Event().wait(2)  # it comes, finds the file taken, and neither ends nor writes
    assert not one.ended, one.output()
    assert other.execute("SELECT * FROM t").fetchall() == []
    other.execute("COMMIT")
    other.close()
    until(lambda: file.query("SELECT * FROM t") == [(1,)], what="the row arrives")
    one.terminate()
    assert one.wait() == 0


def test_a_row_that_the_file_refuses_is_named(
    shop: PipelineFolder, source_db: Database, cdcflow: Command, file: File
) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    file.query("CREATE UNIQUE INDEX mine ON t (n)")
    source_db.execute("INSERT INTO t VALUES (1, 1), (2, 77777), (3, 77777)")
    done = cdcflow("run", "--until-caught-up", exit_code=5)
    assert "key id=3" in done.stderr
    assert "77777" not in done.stderr
    file.query("DROP INDEX mine")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert file.value("SELECT count(*) FROM t") == 3
