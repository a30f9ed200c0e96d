"""SQL types inside of MySQL's JSON documents, which their text does not tell, from MySQL to MySQL and elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.mysql_pairs import Pair, pair
from tests.servers.fleet import Fleet
from tests.servers.mysql_database import MysqlDatabase

# Each is put into a document of its own, in an object, in an array, deep inside, and as the document itself.
VALUES = (
    "CAST(1.50 AS DECIMAL(10,2))", "CAST(5 AS DECIMAL(3,0))", "CAST(-0.001 AS DECIMAL(30,20))",
    "CAST('12345678901234567890123456789012345.678901234567890123456789012345' AS DECIMAL(65,30))",
    "CAST('2024-01-31' AS DATE)", "CAST('-838:59:59' AS TIME)", "CAST('12:34:56.789' AS TIME(3))",
    "CAST('2024-01-31 12:34:56.123456' AS DATETIME(6))", "CAST('0000-00-00' AS DATE)", "CAST('2024-00-10' AS DATETIME)",
    "(SELECT moment FROM kinds)", "(SELECT bits FROM kinds)", "(SELECT fixed FROM kinds)",
    "(SELECT tiny FROM kinds)",
    "(SELECT middle FROM kinds)", "(SELECT large FROM kinds)", "(SELECT plain FROM kinds)",
    "(SELECT varied FROM kinds)",
    "X''", "REPEAT(X'00ff', 300)", "1.5e0", "'2024-01-31'", "'base64:type16:Cqo='",
    "TRUE", "18446744073709551615", "-7",
)  # fmt: skip

KINDS = (
    "CREATE TABLE kinds (id int PRIMARY KEY, moment timestamp(6) NULL, bits bit(12), fixed binary(4), tiny tinyblob,"
    " middle mediumblob, large longblob, plain blob, varied varbinary(9));"
    "INSERT INTO kinds VALUES"
    " (1, '2024-01-02 03:04:05.678', b'101010101010', X'ff00', X'00ff', X'0100', X'02', X'27', X'5c')"
)

SHAPES = (
    "JSON_OBJECT('a', {0}, 'k \"ü''\\\\n', {0})",
    "JSON_ARRAY(1, {0}, JSON_OBJECT('x', JSON_ARRAY({0}, JSON_ARRAY()), 'yy', JSON_OBJECT('z', {0})), {0}, 'end')",
    "JSON_EXTRACT(JSON_ARRAY({0}), '$[0]')",
)


def types(database: MysqlDatabase, table: str, name: str) -> dict[int, tuple[str, dict[str, str]]]:
    """Return each row's document as text, and the type of every value in it by its path."""
    found = {}
    for key, text in database.query(f"SELECT id, CAST(d AS CHAR) FROM `{name}`.{table}"):
        paths = list(_paths(json.loads(text), "$"))
        kinds = ", ".join(["JSON_TYPE(JSON_EXTRACT(d, %s))"] * len(paths))
        (row,) = database.query(f"SELECT {kinds} FROM `{name}`.{table} WHERE id = {key}", paths)
        found[key] = text, dict(zip(paths, row, strict=True))
    return found


def _paths(value: Any, path: str) -> Iterator[str]:
    yield path
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from _paths(inner, f"{path}.{json.dumps(key, ensure_ascii=False)}")
    for index, inner in enumerate(value) if isinstance(value, list) else ():
        yield from _paths(inner, f"{path}[{index}]")


def fill(source: MysqlDatabase, table: str, first: int, times: int = 1) -> None:
    """Insert every value in every shape, in one transaction."""
    rows, key = [], first
    for _ in range(times):
        for value in VALUES:
            for shape in SHAPES:
                rows.append(f"({key}, {shape.format(value)})")
                key += 1
    source.execute("SET SESSION sql_mode = ''; BEGIN; " + f"INSERT INTO {table} VALUES {', '.join(rows)}; COMMIT")


def same(made: Pair, *tables: str) -> None:
    for table in tables:
        here = types(made.source, table, made.schema)
        assert here
        assert types(made.target, table, made.schema) == here, table


def test_values_inside_of_documents_keep_their_sql_types(tmp_path: Path, fleet: Fleet) -> None:
    with pair(tmp_path, fleet, "mysql-mysql") as made:
        source = made.source
        source.execute(f"{KINDS}; CREATE TABLE t (id int PRIMARY KEY, d json); CREATE TABLE b (id int, d json)")
        source.execute(
            "CREATE TABLE n (id int PRIMARY KEY, d json, e json); INSERT INTO n VALUES (1, '{\"a\": 1}', NULL)"
        )
        for table in ("t", "b"):
            fill(source, table, 1)
        made.run()
        same(made, "t", "b", "n")
        fill(source, "t", 1000)
        fill(source, "b", 1000)
        source.execute("UPDATE n SET d = JSON_OBJECT('p', CAST(2.50 AS DECIMAL(5,2))), e = d WHERE id = 1")
        made.run()
        same(made, "t", "b", "n")
        # One row at a time, documents changed in part, and rows of a table without a key found by their documents.
        source.execute("UPDATE t SET d = JSON_SET(d, '$.new', CAST(7.10 AS DECIMAL(4,2))) WHERE id = 1")
        source.execute(
            "SET SESSION binlog_row_value_options = 'PARTIAL_JSON';"
            "UPDATE t SET d = JSON_SET(d, '$.a', CAST('2024-02-29' AS DATE)) WHERE id IN (1, 4);"
            "UPDATE t SET d = JSON_REMOVE(d, '$[0]') WHERE id IN (2, 5); UPDATE t SET id = id + 5000 WHERE id < 50;"
            "SET SESSION binlog_row_value_options = ''"
        )
        source.execute("DELETE FROM b WHERE id IN (1, 14, 32); UPDATE b SET id = -id WHERE id IN (2, 15, 34)")
        made.run()
        same(made, "t", "b", "n")


@pytest.mark.parametrize("engines", ["mysql-mariadb", "mysql-postgres", "mysql-sqlite"])
def test_documents_go_elsewhere_as_their_text(tmp_path: Path, fleet: Fleet, engines: str) -> None:
    with pair(tmp_path, fleet, engines) as made:
        made.source.execute(f"{KINDS}; CREATE TABLE t (id int PRIMARY KEY, d json)")
        fill(made.source, "t", 1)
        made.run()
        fill(made.source, "t", 1000)
        made.source.execute("INSERT INTO t VALUES (5000, JSON_ARRAY(CAST(1.50 AS DECIMAL(3,2))))")
        made.run()
        here = [(key, text) for key, text in made.source.query("SELECT id, CAST(d AS CHAR) FROM t ORDER BY id")]
        text = "d::text" if engines.endswith("postgres") else "d"
        assert [(key, found) for key, found in made.there("t", f"id, {text}")] == here


@pytest.mark.parametrize("copied", [True, False])
def test_a_document_that_the_target_cannot_make_is_named_by_table_and_key(
    tmp_path: Path, fleet: Fleet, copied: bool
) -> None:
    """The last second of TIMESTAMP, told in a time zone ahead of UTC, is none that a TIMESTAMP takes."""
    with pair(tmp_path, fleet, "mysql-mysql") as made:
        source = made.source
        source.execute(
            "CREATE TABLE m (moment timestamp NULL); SET SESSION time_zone = '+00:00';"
            "INSERT INTO m VALUES ('2038-01-19 03:14:07'); CREATE TABLE t (id int PRIMARY KEY, d json)"
        )
        if not copied:
            made.run()
        source.execute(
            "INSERT INTO t VALUES (6, '[1]'); SET SESSION time_zone = '+09:00';"
            "INSERT INTO t SELECT 7, JSON_ARRAY(moment) FROM m; SET SESSION time_zone = DEFAULT"
        )
        said = made.run(exit_code=None)
        assert "rejects a row" in said
        assert f"{made.schema}.t" in said
        assert "id=7" in said
        assert made.there("t") in ([], [(6, "[1]")])


@pytest.mark.parametrize("way", ["copied", "alone", "among others"])
def test_a_document_that_is_nested_too_deeply_for_mariadb_is_named_by_table_and_key(
    tmp_path: Path, fleet: Fleet, way: str
) -> None:
    with pair(tmp_path, fleet, "mysql-mariadb") as made:
        made.source.execute("CREATE TABLE t (id int PRIMARY KEY, d json)")
        if way != "copied":
            made.run()
        others = ", ".join(f"({key}, '[{key}]')" for key in range(100, 102 if way == "alone" else 400))
        made.source.execute(f"INSERT INTO t VALUES {others}, (7, '{'[' * 40}1{']' * 40}'), (8, '[]')")
        said = made.run(exit_code=None)
        assert "rejects a row" in said
        assert f"{made.schema}.t" in said
        assert "id=7" in said
