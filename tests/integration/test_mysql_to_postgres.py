"""From MySQL and MariaDB to PostgreSQL by the command: copied, followed, altered, killed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_session import rows
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Pair:
    """A database of MySQL or MariaDB, one of PostgreSQL, and the pipeline between them."""

    source: MysqlDatabase
    target: Database
    folder: PipelineFolder

    def table(self, name: str) -> str:
        """Return a table's name in the target, for SQL."""
        return f'"{self.source.name}"."{name}"'

    def rows(self, name: str, columns: str = "*") -> list[tuple[Any, ...]]:
        """Return the target's rows, in order."""
        return self.target.query(f"SELECT {columns} FROM {self.table(name)} ORDER BY 1")


@pytest.fixture(params=["mysql", "mariadb"])
def pair(request: pytest.FixtureRequest, new_pipeline: Callable[..., PipelineFolder], target_db: Database) -> Pair:
    source: MysqlDatabase = request.getfixturevalue(f"{request.param}_source_db")
    return Pair(source, target_db, new_pipeline(source, target_db).write_rules(f"{source.name}.*"))


@pytest.fixture
def caught_up(cdcflow: Call) -> Callable[[], None]:
    def run() -> None:
        cdcflow("run", "--until-caught-up", exit_code=0)

    return run


def test_tables_are_copied_and_followed(pair: Pair, caught_up: Callable[[], None]) -> None:
    pair.source.execute(
        "CREATE TABLE a (id int PRIMARY KEY AUTO_INCREMENT, v varchar(20), d decimal(10,2), u bigint unsigned);"
        "INSERT INTO a (v, d, u) VALUES ('one', 1.5, 18446744073709551615), ('zwei ö', NULL, 0);"
        "CREATE TABLE keyless (n int, t text); INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (2, NULL)"
    )
    caught_up()
    assert pair.rows("a", "id, v, d::text, u::text") == [
        (1, "one", "1.50", "18446744073709551615"),
        (2, "zwei ö", None, "0"),
    ]
    assert pair.rows("keyless") == [(1, "x"), (1, "x"), (2, None)]
    pair.source.execute(
        "BEGIN; INSERT INTO a (v) VALUES ('three'); UPDATE a SET id = 20 WHERE id = 2; DELETE FROM a WHERE id = 1;"
        "COMMIT;"
        "DELETE FROM keyless WHERE n = 1 LIMIT 1; UPDATE keyless SET t = 'now' WHERE n = 2"
    )
    caught_up()
    assert pair.rows("a", "id, v") == [(3, "three"), (20, "zwei ö")]
    assert pair.rows("keyless") == [(1, "x"), (2, "now")]


def test_changes_of_shape_are_followed(
    pair: Pair, running: Callable[..., Running], caught_up: Callable[[], None]
) -> None:
    pair.source.execute("CREATE TABLE a (id int PRIMARY KEY, v varchar(20)); INSERT INTO a VALUES (1, 'one')")
    caught_up()
    pair.source.execute(
        "ALTER TABLE a ADD COLUMN n int NOT NULL DEFAULT 7 FIRST; INSERT INTO a VALUES (8, 2, 'two');"
        "ALTER TABLE a CHANGE v w varchar(40); INSERT INTO a VALUES (9, 3, 'three');"
        "ALTER TABLE a DROP COLUMN n, MODIFY id bigint; INSERT INTO a VALUES (5000000000, 'four')"
    )
    caught_up()
    assert pair.rows("a", "id, w") == [(1, "one"), (2, "two"), (3, "three"), (5000000000, "four")]
    pair.source.execute("TRUNCATE a; INSERT INTO a VALUES (1, 'again')")
    caught_up()
    assert pair.rows("a", "id, w") == [(1, "again")]


def test_a_table_that_another_takes_the_place_of_is_copied_again(
    pair: Pair, running: Callable[..., Running], cdcflow: Call
) -> None:
    pair.source.execute(
        "CREATE TABLE a (id int PRIMARY KEY, v varchar(20)); INSERT INTO a VALUES (1, 'old'), (2, 'old');"
        "CREATE TABLE b (id int PRIMARY KEY, v varchar(20), more int); INSERT INTO b VALUES (1, 'new', 5)"
    )
    cdcflow("run", "--until-caught-up", exit_code=0)
    pair.source.execute("RENAME TABLE a TO a_old, b TO a; INSERT INTO a VALUES (3, 'later', 6)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    until(lambda: pair.rows("a", "id, v, more") == [(1, "new", 5), (3, "later", 6)], what="a is what b was")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert pair.rows("a", "id, v, more") == [(1, "new", 5), (3, "later", 6)]


def test_a_killed_run_loses_and_doubles_nothing(pair: Pair, running: Callable[..., Running], cdcflow: Call) -> None:
    pair.source.execute("CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a VALUES (0, 0)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    for number in range(1, 4):
        process = running("run")
        for each in range(50):
            pair.source.execute(
                f"INSERT INTO a VALUES ({number * 1000 + each}, 0); UPDATE a SET v = v + 1 WHERE id = 0"
            )
        until(lambda number=number: pair.target.value(f"SELECT max(id) FROM {pair.table('a')}") > number * 1000)  # type: ignore[misc]
        process.kill()
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert pair.rows("a") == sorted(pair.source.query("SELECT id, v FROM a"))


def test_a_table_that_is_copied_while_a_transaction_is_prepared_has_its_rows_when_it_is_committed(
    pair: Pair, running: Callable[..., Running], cdcflow: Call
) -> None:
    """The stream is opened again where the copy of the table begins, behind the rows of the transaction."""
    pair.source.execute("CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'copied')")
    process = running("run")
    process.until_output("streaming")
    pair.source.execute("CREATE TABLE b (id int PRIMARY KEY, v text); INSERT INTO b VALUES (1, 'copied')")
    name = f"{pair.folder.name}-late"
    with pair.source.connect() as connection, connection.cursor() as cursor:
        for statement in (
            f"XA START '{name}'",
            "INSERT INTO a VALUES (2, 'prepared')",
            "INSERT INTO b VALUES (2, 'prepared')",
            f"XA END '{name}'",
            f"XA PREPARE '{name}'",
        ):
            cursor.execute(statement)
    pair.source.execute("INSERT INTO b VALUES (3, 'followed')")
    there = f"SELECT to_regclass('{pair.table('b')}') IS NOT NULL"
    until(lambda: pair.target.value(there) and (3, "followed") in pair.rows("b"), what="the new table is there")
    pair.source.execute(f"XA COMMIT '{name}'; INSERT INTO b VALUES (4, 'followed')")
    until(lambda: (4, "followed") in pair.rows("b") or process.ended, what="what was committed arrives")
    process.terminate()
    assert process.wait() == 0, process.output()
    assert pair.rows("a") == [(1, "copied"), (2, "prepared")]
    assert pair.rows("b") == [(1, "copied"), (2, "prepared"), (3, "followed"), (4, "followed")]


def test_a_prepared_transaction_counts_when_it_is_committed(pair: Pair, cdcflow: Call) -> None:
    """Also where the run that saw its rows has ended before, and others have been applied since."""
    pair.source.execute("CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'copied')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    names = [f"{pair.folder.name}-{word}" for word in ("kept", "dropped")]
    for number, name in enumerate(names, 2):
        with pair.source.connect() as connection, connection.cursor() as cursor:
            for statement in (
                f"XA START '{name}'",
                f"INSERT INTO a VALUES ({number}, 'prepared')",
                f"XA END '{name}'",
                f"XA PREPARE '{name}'",
            ):
                cursor.execute(statement)
    pair.source.execute("INSERT INTO a VALUES (10, 'between')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert pair.rows("a") == [(1, "copied"), (10, "between")]
    pair.source.execute("INSERT INTO a VALUES (11, 'between')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert pair.rows("a") == [(1, "copied"), (10, "between"), (11, "between")]
    pair.source.execute(f"XA COMMIT '{names[0]}'; XA ROLLBACK '{names[1]}'")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert pair.rows("a") == [(1, "copied"), (2, "prepared"), (10, "between"), (11, "between")]


def test_what_is_read_again_for_the_sake_of_a_prepared_transaction_is_not_applied_again(
    pair: Pair, cdcflow: Call
) -> None:
    """Neither XA transactions that ended before the position, one of them in another shape than the table has now."""
    pair.source.execute("CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'copied')")
    pair.source.execute("CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (1)")
    cdcflow("run", "--until-caught-up", exit_code=0)

    def write(name: str, statement: str, end: str) -> str:
        name = f"'{pair.folder.name}-{name}'"
        with pair.source.connect() as writer:
            rows(writer, f"XA START {name}; {statement}; XA END {name}; {end.format(name)}")
        return name

    kept = write("kept", "INSERT INTO a VALUES (2, 'prepared')", "XA PREPARE {0}")
    write("once", "UPDATE a SET v = 'older' WHERE id = 1", "XA COMMIT {0} ONE PHASE")
    ended = write("ended", "INSERT INTO b VALUES (2); INSERT INTO b VALUES (3)", "XA PREPARE {0}")
    pair.source.execute(f"XA COMMIT {ended}; UPDATE a SET v = 'newer' WHERE id = 1")
    pair.source.execute("ALTER TABLE b ADD COLUMN v text; INSERT INTO b VALUES (4, 'four')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    pair.source.execute("INSERT INTO b VALUES (5, 'five'); INSERT INTO a VALUES (10, 'behind')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert pair.rows("a") == [(1, "newer"), (10, "behind")]
    assert pair.rows("b") == [(1, None), (2, None), (3, None), (4, "four"), (5, "five")]
    pair.source.execute(f"XA COMMIT {kept}")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert pair.rows("a") == [(1, "newer"), (2, "prepared"), (10, "behind")]
