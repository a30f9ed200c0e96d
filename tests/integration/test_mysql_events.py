"""Events of the log that come once in a while, written by real servers: each is read, or stops the run by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from tests.integration.mysql_pairs import Pair, pair
from tests.servers.fleet import Fleet
from tests.servers.mysql_session import rows
from tests.servers.waiting import until

BOTH = pytest.mark.parametrize("made", ["mysql-postgres", "mariadb-postgres"], indirect=True)


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path, fleet: Fleet) -> Iterator[Pair]:
    with pair(tmp_path, fleet, request.param) as found:
        yield found


@BOTH
def test_load_data_that_the_log_holds_as_text_stops_for_a_followed_table_only(made: Pair, tmp_path: Path) -> None:
    """The event of LOAD DATA is not a statement's: its head is longer."""
    data = tmp_path / "rows.csv"
    data.write_text("7,7\n8,8\n")
    made.source.execute(
        "CREATE TABLE loaded (id int PRIMARY KEY, v int); INSERT INTO loaded VALUES (1, 1);"
        "CREATE TABLE elsewhere (id int PRIMARY KEY, v int); CREATE TABLE ok (id int PRIMARY KEY)"
    )
    made.folder.write_rules(f"{made.schema}.*", {"match": f"{made.schema}.elsewhere", "exclude": True})
    made.run()

    def load(table: str) -> None:
        with made.source.connect(local_infile=True) as writer:
            rows(writer, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            rows(writer, "SET SESSION binlog_format = 'STATEMENT'")
            rows(writer, f"LOAD DATA LOCAL INFILE '{data}' INTO TABLE {table} FIELDS TERMINATED BY ','")

    load("elsewhere")
    made.source.execute("INSERT INTO ok VALUES (1)")
    made.run()
    assert made.there("ok") == [(1,)]
    assert made.source.query("SELECT id FROM elsewhere ORDER BY 1") == [(7,), (8,)]

    load("loaded")
    made.source.execute("INSERT INTO ok VALUES (2)")
    said = made.run(exit_code=5)
    assert "rows were changed by a statement that the log holds as text (LOAD)" in said
    assert f"table {made.schema}.loaded" in said
    assert "behind position binlog." in said
    assert made.there("loaded") == [(1, 1)]
    assert made.there("ok") == [(1,)]
    made.commands.call("resync", f"{made.schema}.loaded", exit_code=0)
    made.run()  # the statement stands before the copy now
    assert made.there("loaded") == [(1, 1), (7, 7), (8, 8)]
    assert made.there("ok") == [(1,), (2,)]


@BOTH
def test_prepared_transactions_that_together_pass_the_memory_stop_the_run(made: Pair) -> None:
    """None of them is large: each is less than a piece, and a quarter of the memory may wait."""
    made.source.execute("CREATE TABLE x (id int PRIMARY KEY, v longtext); CREATE TABLE ok (id int PRIMARY KEY)")
    made.folder.write_config(memory="64MB")
    made.run()
    names = [f"{made.folder.name}-{number}" for number in range(6)]
    for number, name in enumerate(names):
        with made.source.connect() as writer:
            rows(writer, f"XA START '{name}'; INSERT INTO x VALUES ({number}, repeat('x', 3000000)); XA END '{name}'")
            rows(writer, f"XA PREPARE '{name}'")
    made.source.execute("INSERT INTO ok VALUES (1)")
    try:
        said = made.run(exit_code=5)
        assert "more than 16 MB wait for XA COMMIT" in said
        assert "raise `memory:` in the configuration" in said
        assert made.there("ok") == []
    finally:
        for name in names:
            made.source.execute(f"XA COMMIT '{name}'")
    made.folder.write_config(memory=None)  # with room for them
    made.run()
    assert made.there("x", "id, char_length(v)") == [(number, 3_000_000) for number in range(6)]
    assert made.there("ok") == [(1,)]


@pytest.mark.parametrize("made", ["mariadb-postgres"], indirect=True)
def test_alter_that_is_logged_in_two_phases_is_followed_once(made: Pair) -> None:
    """What others commit while it runs stands between its two events."""
    made.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
    made.source.execute("CREATE TABLE other (id int PRIMARY KEY)")
    made.run()
    made.source.execute("INSERT INTO t VALUES (2, 2)")
    with made.source.connect() as altering, made.source.connect() as holding:
        rows(altering, "SET SESSION binlog_alter_two_phase = 1")
        rows(holding, "BEGIN; SELECT * FROM t")  # it cannot begin to rename before this ends
        statement = "ALTER TABLE t ADD COLUMN w int NOT NULL DEFAULT 7, ALGORITHM = COPY"
        running = threading.Thread(target=rows, args=(altering, statement))
        running.start()
        until(lambda: any("START ALTER" in text for text in logged(made)), what="it has begun in the log")
        made.source.execute("INSERT INTO other VALUES (1)")
        rows(holding, "COMMIT")
        running.join()
        assert between(made, "START ALTER", "COMMIT ALTER")
        rows(altering, "INSERT INTO t VALUES (3, 3, 3); ALTER TABLE t DROP COLUMN v; INSERT INTO t VALUES (4, 4)")
        with pytest.raises(pymysql.err.IntegrityError):  # begun in the log, and taken back
            rows(altering, "ALTER TABLE t ADD COLUMN x int, ADD UNIQUE KEY (w)")
    made.source.execute("INSERT INTO t VALUES (5, 7)")
    made.run()
    assert "copied again" not in "".join(made.outputs)
    assert made.there("t") == [(1, 7), (2, 7), (3, 3), (4, 4), (5, 7)]
    assert made.there("other") == [(1,)]


@pytest.mark.parametrize("made", ["mariadb-postgres"], indirect=True)
def test_rows_that_are_written_while_a_column_is_added_in_two_phases_have_the_shape_of_before(made: Pair) -> None:
    """They stand between the two events of the ALTER, which lets others write. Of several, one meets some."""
    made.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT seq, seq FROM seq_1_to_50000;"
    )
    made.run()
    ended, number = threading.Event(), 100_000

    def write() -> None:
        nonlocal number
        with made.source.connect() as writer:
            while not ended.is_set():
                number += 1
                rows(writer, f"INSERT INTO t (id, v) VALUES ({number}, 1); UPDATE t SET v = v + 1 WHERE id = {number}")

    writing = threading.Thread(target=write)
    writing.start()
    added: list[str] = []

    def met() -> bool:
        added.append(f"w{len(added)}")
        statement = f"ALTER TABLE t ADD COLUMN {added[-1]} int NOT NULL DEFAULT 7 FIRST, FORCE"
        made.source.execute(f"SET SESSION binlog_alter_two_phase = 1; {statement}, ALGORITHM = INPLACE, LOCK = NONE")
        return between(made, "START ALTER", "COMMIT ALTER")

    try:
        until(met, limit=60, what="rows stand between the halves of an ALTER")
    finally:
        ended.set()
        writing.join()
    made.run()
    assert "copied again" not in "".join(made.outputs)
    columns = ", ".join(["id", "v", *added])
    assert made.there("t", columns) == made.source.query(f"SELECT {columns} FROM t ORDER BY 1")


def between(made: Pair, first: str, last: str) -> bool:
    """Return whether row events stand between the last events that hold these words."""
    events = made.source.query(f"SHOW BINLOG EVENTS IN '{log_file(made)}'")
    begins, ends = (max(at for at, event in enumerate(events) if word in str(event[5])) for word in (first, last))
    return any(str(event[2]).startswith("Write_rows") for event in events[begins:ends])


def logged(made: Pair) -> list[str]:
    """Return what the server says of each event of the log file that it writes to."""
    return [str(row[5]) for row in made.source.query(f"SHOW BINLOG EVENTS IN '{log_file(made)}'")]


def log_file(made: Pair) -> str:
    return str(made.source.query("SHOW BINARY LOGS")[-1][0])


@pytest.mark.parametrize("made", ["mysql-postgres"], indirect=True)
def test_tagged_gtids_are_gone_on_from(made: Pair) -> None:
    made.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (0, 0)")
    made.run()
    number = 0

    def write() -> None:
        nonlocal number
        with made.source.connect() as writer:
            for following in ("AUTOMATIC:night", "AUTOMATIC", "AUTOMATIC:a_1", "AUTOMATIC:night"):
                number += 1
                rows(writer, f"SET gtid_next = '{following}'; BEGIN; INSERT INTO t VALUES ({number}, 0)")
                rows(writer, "UPDATE t SET v = v + 1; COMMIT; SET gtid_next = 'AUTOMATIC'")

    write()
    running = made.start()
    running.until_output("streaming")
    write()
    until(lambda: made.there("t", "count(*)") == [(9,)] or running.ended, limit=60, what="all of it is there")
    running.kill()
    write()
    made.source.execute("FLUSH BINARY LOGS")
    made.run()
    assert made.there("t") == made.source.query("SELECT * FROM t ORDER BY 1")
    position = str(made.target.value("SELECT position FROM cdcflow.checkpoints"))
    executed = str(made.source.value("SELECT @@GLOBAL.gtid_executed")).replace("\n", "")
    assert ":night:" in executed
    assert position.partition("mysql=")[2] == executed
