"""Every type of MySQL and MariaDB twice, by the command: once copied, once streamed; the target shows the same text."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.integration.binlog_columns import BOTH, MARIADB, MYSQL, Column, from_hex
from tests.integration.mysql_pairs import Pair, pair
from tests.servers.fleet import Fleet

STREAMED = 1000  # what is added to the numbers of the rows that are inserted again
HEX_OF_TEXT = "HEX(CONVERT({c} USING utf8mb4))"
COLUMNS = 20  # in one table
SAMPLE = "aé€ÿßŽžждλשעبתا日本語ｱ中文言한글😀İı~\\¥"


class Moved(Protocol):
    """A source, a target, and what brings the rows from one to the other; `engines` as in `mysql-postgres`."""

    @property
    def source(self) -> Any: ...
    @property
    def target(self) -> Any: ...
    @property
    def engines(self) -> tuple[str, str]: ...
    def run(self, exit_code: int | None = 0) -> str: ...
    def name(self, table: str, schema: str = "") -> str: ...


FLOATS = (
    Column(
        "FLOAT",
        ("0", "0.1", "16777217", "3.4028234663852886e38", "1.17549435e-38", "-0.0", "1e20", "123456.789", "NULL"),
        "{c} + 0e0",
    ),
    Column(
        "DOUBLE",
        ("0", "0.1", "1e300", "5e-324", "1.7976931348623157e308", "-0.0", "0.30000000000000004", "9007199254740993",
         "1e15", "1e16", "NULL"),
        "{c}",
    ),
)  # fmt: skip


def of_charset(name: str, widest: int) -> Column:
    """A text column of a character set: a sample of letters, and every byte where a character is one."""
    values = ["''", "'  x '", f"CONVERT('{SAMPLE}' USING {name})".replace("\\", "\\\\")]
    if widest == 1:
        values.append(f"CONVERT(x'{bytes(range(1, 256)).hex()}' USING {name})")
    return Column(f"VARCHAR(300) CHARACTER SET {name}", tuple(values), HEX_OF_TEXT, from_hex)


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path, fleet: Fleet) -> Iterator[Pair]:
    with pair(tmp_path, fleet, request.param) as found:
        yield found


def columns_of(made: Moved) -> tuple[Column, ...]:
    """Return every column that the source can have and the target can take."""
    charsets = made.source.query(
        "SELECT character_set_name, maxlen FROM information_schema.character_sets WHERE character_set_name <> 'binary'"
        " ORDER BY 1"
    )
    own = MYSQL if made.engines[0] == "mysql" else MARIADB
    if made.engines[0] == "mysql" and made.engines[1] in ("mysql", "mariadb"):
        own = tuple(_readable(each, made.engines[1]) if each.type == "JSON" else each for each in own)
    return (*BOTH, *own, *FLOATS, *(of_charset(name, int(widest)) for name, widest in charsets))


def _readable(column: Column, engine: str) -> Column:
    """Leave out what the target's JSON has no text for: MySQL reads each fraction as a DOUBLE, and MariaDB nothing
    that is nested more than 31 times."""
    left_out = "AS DECIMAL" if engine == "mysql" else "REPEAT('[', 99)"
    return replace(column, values=tuple(value for value in column.values if left_out not in value))


@dataclass(frozen=True, slots=True)
class Placed:
    """A column and where it is: few tables with many columns are copied sooner than many with one."""

    column: Column
    table: str
    name: str


def placed(columns: Sequence[Column]) -> list[Placed]:
    """Put columns into tables."""
    return [Placed(each, f"t{number // COLUMNS}", f"c{number % COLUMNS}") for number, each in enumerate(columns)]


def by_table(columns: Sequence[Placed]) -> dict[str, list[Placed]]:
    found: dict[str, list[Placed]] = {}
    for each in columns:
        found.setdefault(each.table, []).append(each)
    return found


def fill(made: Moved, tables: dict[str, list[Placed]], first: int) -> None:
    """Insert every value of every column in one transaction."""
    writer = made.source.connect()
    with writer, writer.cursor() as cursor:
        for statement in ("SET sql_mode = ''", "BEGIN"):
            cursor.execute(statement)
        for table, columns in tables.items():
            values = zip_longest(*(each.column.values for each in columns), fillvalue="NULL")
            rows = ", ".join(f"({first + id_}, {', '.join(row)})" for id_, row in enumerate(values))
            cursor.execute(f"INSERT IGNORE INTO {table} VALUES {rows}")
        cursor.execute("COMMIT")


def twice(made: Moved) -> list[Placed]:
    """Copy every value of every type, and follow it."""
    columns = placed(columns_of(made))
    tables = by_table(columns)
    for table, inside in tables.items():
        declared = ", ".join(f"{each.name} {each.column.type}" for each in inside)
        made.source.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, {declared})")
    fill(made, tables, 0)
    made.run()
    fill(made, tables, STREAMED)
    made.run()
    return columns


def is_float(column: Column) -> bool:
    return column in FLOATS


def canonical(made: Moved, column: Column, table: str, name: str) -> dict[int, Any]:
    """Return the text that each row's value should have everywhere."""
    rows = made.source.query(f"SELECT id, {column.question.format(c=name)} FROM {table}")
    if is_float(column):
        return {id_: None if value is None else repr(float(value)) for id_, value in rows}
    return {id_: value if value is None else column.text(str(value)).decode() for id_, value in rows}


def in_postgres(made: Moved, column: Column, table: str, name: str) -> dict[int, Any]:
    shown = f"{name}::text::float8" if is_float(column) else f"{name}::text"
    if column.type == "FLOAT":
        shown = f"{name}::float8"
    rows = made.target.query(f"SELECT id, {shown} FROM {made.name(table)}")
    return {id_: repr(value) if isinstance(value, float) else value for id_, value in rows}


def in_sqlite(made: Moved, column: Column, table: str, name: str) -> dict[int, Any]:
    rows = made.target.query(f"SELECT id, {name} FROM {made.name(table)}")
    found: dict[int, Any] = {}
    for id_, value in rows:
        if isinstance(value, bytes):
            found[id_] = "\\x" + value.hex()
        elif is_float(column) and value is not None:
            # A whole number in a REAL column is kept as an integer, which has no -0.
            found[id_] = repr(struct.unpack("<f", struct.pack("<f", value))[0] if column.type == "FLOAT" else value)
        else:
            found[id_] = None if value is None else str(value)
    return found


def difference(found: dict[int, Any], wanted: dict[int, Any]) -> dict[int, Any]:
    """Return what is not as it should be: number of row, and both values."""
    return {
        id_: (str(found.get(id_, "missing"))[:150], str(wanted.get(id_, "not there"))[:150])
        for id_ in sorted({*found, *wanted})
        if id_ not in found or id_ not in wanted or found[id_] != wanted[id_]
    }


@pytest.mark.parametrize(
    "made", ["mysql-postgres", "mariadb-postgres", "mysql-sqlite", "mariadb-sqlite"], indirect=True
)
def test_every_value_has_its_canonical_text(made: Pair) -> None:
    wrong = {}
    ask = in_postgres if made.engines[1] == "postgres" else in_sqlite
    for each in twice(made):
        where = made, each.column, each.table, each.name
        wanted = canonical(*where)
        if made.engines[1] == "sqlite":
            wanted = {id_: "0.0" if value == "-0.0" else value for id_, value in wanted.items()}
        wrong[each.column.type] = difference(ask(*where), wanted)
    assert {name: rows for name, rows in wrong.items() if rows} == {}


@pytest.mark.parametrize("made", ["mysql-mysql", "mariadb-mariadb", "mysql-mariadb", "mariadb-mysql"], indirect=True)
def test_every_value_is_told_alike_by_both_servers(made: Pair) -> None:
    wrong = {}
    for each in twice(made):
        question = each.column.question.format(c=each.name)
        wanted, found = (
            {id_: value if value is None else str(value) for id_, value in rows}
            for rows in (
                made.source.query(f"SELECT id, {question} FROM {each.table}"),
                made.target.query(f"SELECT id, {question} FROM {made.name(each.table)}"),
            )
        )
        wrong[each.column.type] = difference(found, wanted)
    assert {name: rows for name, rows in wrong.items() if rows} == {}
