"""Shapes worked out from DDL in the binlog are those that information_schema shows, and rows are judged rightly."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import flavour
from cdcflow.engines.mysql.names import ident
from cdcflow.model.schema import TableName
from tests.integration.mysql_ddl_random import Generator
from tests.integration.mysql_ddl_statements import MARIADB, MYSQL, SHARED
from tests.integration.mysql_ddl_world import World
from tests.servers.fleet import Fleet
from tests.servers.mysql_session import connect_to, rows

SERVERS = [("mysql", "9.7"), ("mysql", "8.0"), ("mariadb", "11.8"), ("mariadb", "11.4")]
# More of them find more: CDCFLOW_TEST_DDL_SEEDS=200.
SEEDS = int(os.environ.get("CDCFLOW_TEST_DDL_SEEDS", "4"))
STATEMENTS_A_SEED = 60


@pytest.fixture(params=SERVERS, ids=lambda pair: "".join(pair))
def world(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[Callable[[], tuple[World, str, str]]]:
    """`world()`: two fresh databases of one server, the first as latin1 and used."""
    engine, version = request.param
    server = fleet.mysql(version) if engine == "mysql" else fleet.mariadb("any", version)
    connection: Connection[Any] = connect_to(server.url())
    here, there = f"ddl_{os.getpid()}_a", f"ddl_{os.getpid()}_b"

    def clear() -> None:
        for name in (here, there):
            rows(connection, f"DROP DATABASE IF EXISTS {name}")

    def make() -> tuple[World, str, str]:
        clear()
        made = World(connection, flavour(connection))
        made.run(f"CREATE DATABASE {here} CHARACTER SET latin1", "")
        made.run(f"CREATE DATABASE {there}", "")
        rows(connection, f"USE {here}")
        return made, here, there

    yield make
    clear()
    connection.close()


def _statements(text: str) -> list[str]:
    """Split at line ends; a line that is indented goes on with the statement before."""
    found: list[str] = []
    for line in text.strip().split("\n"):
        if line.startswith("  "):
            found[-1] += "\n" + line
        else:
            found.append(line)
    return found


def test_statements_by_hand_give_the_shapes_that_the_server_shows(
    world: Callable[[], tuple[World, str, str]],
) -> None:
    made, here, there = world()
    own = MYSQL if made.flavour.engine == "mysql" else MARIADB
    for statement in _statements(SHARED) + _statements(own):
        made.run(statement.replace("?", there), here)
    assert not made.differences, "\n".join(f"{each.sql}: {each.what}" for each in made.differences)
    assert made.certain > 95
    assert made.uncertain < 6


def test_random_statements_give_the_shapes_and_rows_that_the_server_shows(
    world: Callable[[], tuple[World, str, str]],
) -> None:
    certain = same = recopied = 0
    for seed in range(SEEDS):
        made, here, _ = world()
        table = TableName(here, "t")
        made.run(
            "CREATE TABLE t (row_number_ int PRIMARY KEY AUTO_INCREMENT, id int NOT NULL, c0 varchar(20),"
            " c1 int DEFAULT 3, UNIQUE u0 (id))",
            here,
        )
        generator = Generator(seed)
        for _ in range(STATEMENTS_A_SEED):
            generator.columns = [name for name in made.tables[table][0].column_names if name != "row_number_"] or ["id"]
            statement = generator.statement("t")
            if seed % 2:
                _fill(made, table, generator)
            made.run(statement, here)
        assert not made.differences, f"seed {seed}\n" + "\n".join(
            f"{each.sql}: {each.what}" for each in made.differences
        )
        certain, same, recopied = certain + made.certain, same + made.same, recopied + made.recopied
    assert certain > SEEDS * STATEMENTS_A_SEED // 3
    assert same > recopied > 0


def _fill(made: World, table: TableName, generator: Generator) -> None:
    columns = [column for column in made.tables[table][0].columns if column.name != "row_number_"]
    names = "".join(f", {ident(column.name)}" for column in columns)
    rows(made.connection, "DELETE FROM t")
    for number in (1, 2, 3):
        values = "".join(f", {generator.value(column.logical.value, column.type.text)}" for column in columns)
        with suppress(pymysql.Error):  # NULL into a geometry that is NOT NULL
            rows(made.connection, f"INSERT IGNORE INTO t (row_number_{names}) VALUES ({number}{values})")
    made.hold_rows(table)
