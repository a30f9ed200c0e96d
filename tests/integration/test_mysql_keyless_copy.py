"""Tables of MySQL and MariaDB without a key, copied while others write into them: each row once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.integration.mysql_pairs import Pair, pair
from tests.servers.fleet import Fleet

TABLES = tuple(f"k{n}" for n in range(6))


@pytest.fixture(params=["mysql-postgres", "mariadb-sqlite", "mysql-mariadb"])
def made(request: pytest.FixtureRequest, tmp_path: Path, fleet: Fleet) -> Iterator[Pair]:
    with pair(tmp_path, fleet, request.param) as found:
        yield found


@contextmanager
def writing(made: Pair) -> Iterator[None]:
    """One row into each table, again and again, from before to behind."""
    ended, first = threading.Event(), threading.Event()

    def write() -> None:
        with closing(made.source.connect()) as connection, connection.cursor() as cursor:
            for number in itertools.count():
                for table in TABLES:
                    cursor.execute(f"INSERT INTO {table} VALUES ({number % 7}, 'w')")
                first.set()
                if ended.is_set():
                    return

    writer = threading.Thread(target=write)
    writer.start()
    assert first.wait(60)
    try:
        yield
    finally:
        ended.set()
        writer.join()


def test_more_tables_without_a_key_than_workers_come_over_with_each_row_once(made: Pair) -> None:
    made.source.execute("CREATE TABLE keyed (id INT PRIMARY KEY, v VARCHAR(9)); INSERT INTO keyed VALUES (1, 'a')")
    for number, table in enumerate(TABLES):
        engine = ("InnoDB", "MyISAM")[number % 2]
        made.source.execute(f"CREATE TABLE {table} (a INT, b VARCHAR(9)) ENGINE={engine}")
        made.source.execute(f"INSERT INTO {table} VALUES (1, 'b'), (1, 'b'), (NULL, NULL)")
    with writing(made):
        made.run()
    made.run()
    for table in (*TABLES, "keyed"):
        columns = "id, v" if table == "keyed" else "a, b"
        here = made.source.query(f"SELECT {columns} FROM {table}")
        assert sorted(map(repr, made.there(table, columns))) == sorted(map(repr, here))
