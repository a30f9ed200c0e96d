"""The initial copy of MySQL and MariaDB tables: every type, every kind of key, and writes that go on meanwhile."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import XidEvent
from pymysqlreplication.row_event import WriteRowsEvent

from cdcflow.codecs import floattext_cy
from cdcflow.engines.mysql.connect import address
from cdcflow.errors import AccessDenied, CopyRestart, RowRejected, SourceUnavailable
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route, ZeroDates
from cdcflow.model.schema import TableName
from cdcflow.sources.mysql import catalog, log_end, selecting, views
from cdcflow.sources.mysql.chunks import Piece, where
from cdcflow.sources.mysql.position import Binlog
from cdcflow.sources.mysql.sessions import Sessions
from cdcflow.sources.mysql.snapshot import MysqlSnapshot
from tests.servers.fleet import Fleet, MysqlLike
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_server import MysqlServer

# The values of a type, as SQL, and what becomes of each.
Cases = list[tuple[str, str, Sequence[tuple[str, str]]]]

COMMON: Cases = [
    ("ti", "TINYINT", [("-128", "-128"), ("127", "127"), ("NULL", r"\N")]),
    ("tiu", "TINYINT UNSIGNED", [("255", "255"), ("0", "0")]),
    ("tb", "TINYINT(1)", [("1", "1"), ("7", "7")]),
    ("si", "SMALLINT", [("-32768", "-32768")]),
    ("mi", "MEDIUMINT UNSIGNED", [("16777215", "16777215")]),
    ("i", "INT", [("-2147483648", "-2147483648")]),
    ("z", "INT ZEROFILL", [("42", "42"), ("0", "0")]),
    ("bi", "BIGINT", [("-9223372036854775808", "-9223372036854775808")]),
    ("bu", "BIGINT UNSIGNED", [("18446744073709551615", "18446744073709551615")]),
    ("y", "YEAR", [("2024", "2024"), ("0", "0")]),
    ("d", "DECIMAL(65,30)", [("-0.1", "-0.100000000000000000000000000000")]),
    ("d2", "DECIMAL(10,2)", [("-0.1", "-0.10"), ("12345678.9", "12345678.90"), ("0", "0.00")]),
    ("d0", "DECIMAL(20,0)", [("12345678901234567890", "12345678901234567890")]),
    ("dz", "DECIMAL(10,2) ZEROFILL", [("1.5", "1.50"), ("0.25", "0.25")]),
    (
        "f",
        "FLOAT",
        [("0.1", "0.1"), ("16777216", "1.6777216e+07"), ("3.4028235e38", "3.4028235e+38"), ("-1.5e-20", "-1.5e-20")],
    ),
    ("f2", "FLOAT(10,2)", [("1.25", "1.25"), ("123456.79", "123456.79")]),
    (
        "db",
        "DOUBLE",
        [("0.1", "0.1"), ("1e20", "1e+20"), ("1e-7", "1e-07"), ("1.7976931348623157e308", "1.7976931348623157e+308")],
    ),
    ("db2", "DOUBLE(10,2)", [("1.25", "1.25"), ("0.1", "0.1")]),
    ("b1", "BIT(1)", [("b'1'", "1"), ("b'0'", "0")]),
    ("b9", "BIT(9)", [("b'100000001'", "100000001"), ("b'1'", "000000001")]),
    ("b64", "BIT(64)", [("~0", "1" * 64), ("0", "0" * 64)]),
    ("dt", "DATE", [("'2024-02-29'", "2024-02-29"), ("'9999-12-31'", "9999-12-31"), ("'0001-01-01'", "0001-01-01")]),
    ("dt0", "DATE", [("'0000-00-00'", r"\N"), ("'2024-00-10'", r"\N"), ("'2024-01-00'", r"\N")]),
    ("dtm", "DATETIME", [("'2024-01-31 12:00:00'", "2024-01-31 12:00:00"), ("'0000-00-00'", r"\N")]),
    (
        "dtm6",
        "DATETIME(6)",
        [
            ("'2024-01-31 12:00:00.5'", "2024-01-31 12:00:00.5"),
            ("'2024-01-31 12:00:00.000001'", "2024-01-31 12:00:00.000001"),
            ("'2024-01-31'", "2024-01-31 00:00:00"),
        ],
    ),
    ("ts", "TIMESTAMP NULL", [("'2024-06-30 12:00:00'", "2024-06-30 12:00:00+00"), ("'0000-00-00'", r"\N")]),
    ("ts3", "TIMESTAMP(3) NULL", [("'2024-06-30 12:00:00.120'", "2024-06-30 12:00:00.12+00")]),
    ("t", "TIME", [("'-838:59:59'", "-838:59:59"), ("'12:34:56'", "12:34:56"), ("'0'", "00:00:00")]),
    ("t6", "TIME(6)", [("'-00:00:00.5'", "-00:00:00.5"), ("'100:00:00.25'", "100:00:00.25")]),
    ("c", "CHAR(10)", [("'a  '", "a"), ("''", "")]),
    ("vc", "VARCHAR(100)", [("'a  '", "a  "), (r"'tab\tnl\nbs\\cr\r'", r"tab\tnl\nbs\\cr\r"), ("'😀'", "😀")]),
    ("vl", "VARCHAR(100) CHARACTER SET latin1", [("'Größe'", "Größe")]),
    ("vg", "VARCHAR(100) CHARACTER SET gbk", [("'中文'", "中文")]),
    ("vu", "VARCHAR(100) CHARACTER SET utf16", [("'zwölf 😀'", "zwölf 😀")]),
    ("tx", "TEXT", [("REPEAT('x', 300)", "x" * 300)]),
    ("lt", "LONGTEXT", [(r"'\\N'", r"\\N")]),
    ("bn", "BINARY(4)", [("'ab'", r"\\x61620000"), ("X'00FF5C0A'", r"\\x00ff5c0a")]),
    ("vb", "VARBINARY(10)", [("X'5C00'", r"\\x5c00"), ("''", r"\\x")]),
    ("bl", "BLOB", [("X'DEADBEEF'", r"\\xdeadbeef")]),
    ("e", "ENUM('a','b,c','d''e','ü')", [("'b,c'", "b,c"), ("4", "ü"), ("'d''e'", "d'e")]),
    ("s", "SET('a','b','c')", [("'a,c'", "a,c"), ("''", "")]),
    ("p", "POINT", [("ST_GeomFromText('POINT(1 2)')", "0101000000000000000000F03F0000000000000040"), ("NULL", r"\N")]),
    (
        "g",
        "GEOMETRY",
        [
            (
                "ST_GeomFromText('LINESTRING(0 0, 1 1)', 3857)",
                "0102000020110F00000200000000000000000000000000000000000000000000000000F03F000000000000F03F",
            )
        ],
    ),
]
OF_MYSQL: Cases = [
    ("j", "JSON", [("""'{"b": 1, "a": [1, 2.5, null, "x\\\\ty"]}'""", r'{"a": [1, 2.5, null, "x\\ty"], "b": 1}')]),
    ("fn", "FLOAT", [("-0e0", "-0")]),
    ("dn", "DOUBLE", [("-0e0", "-0")]),
    (
        "g4",
        "POINT SRID 4326",
        [
            (
                "ST_GeomFromText('POINT(10 20)', 4326, 'axis-order=long-lat')",
                "0101000020E610000000000000000024400000000000003440",
            )
        ],
    ),
]
OF_MYSQL_9: Cases = [("v", "VECTOR(3)", [("STRING_TO_VECTOR('[1,-2.5,0.1]')", "{1,-2.5,0.1}")])]
OF_MARIADB: Cases = [
    ("j", "JSON", [("""'{"b": 1,"a":2}'""", '{"b": 1,"a":2}')]),
    ("u", "UUID", [("'123E4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000")]),
    ("i6", "INET6", [("'2001:db8::1'", "2001:db8::1")]),
    ("i4", "INET4", [("'10.0.0.1'", "10.0.0.1")]),
    ("cc", "VARCHAR(100) COMPRESSED", [("'abc'", "abc")]),
    ("v", "VECTOR(3) NOT NULL", [("VEC_FromText('[1,-2.5,0.1]')", "{1,-2.5,0.1}")]),
]

SERVERS = ("mysql-9.7", "mysql-8.0", "mariadb-11.8")


@pytest.fixture(params=SERVERS)
def db(request: pytest.FixtureRequest, fleet: Fleet, new_mysql_database: Callable[..., MysqlDatabase]) -> MysqlDatabase:
    flavour, _, version = request.param.partition("-")
    server: MysqlLike = fleet.mysql(version, "source") if flavour == "mysql" else fleet.mariadb("source")
    return new_mysql_database(server, "copy")


@contextmanager
def opened(db: MysqlDatabase) -> Iterator[Sessions]:
    with closing(Sessions(db.url)) as sessions:
        yield sessions


def route_of(db: MysqlDatabase, table: str = "t", **changes: Any) -> Route:
    with opened(db) as sessions, sessions.sql() as connection:
        found = catalog.shape_of(connection, sessions.flavour, TableName(db.name, table))
    assert found is not None
    columns = tuple((column, column.name) for column in found.columns if not column.generated)
    return replace(Route(found, found.name, columns, found.key), **changes)


def fresh(route: Route, **changes: Any) -> Route:
    """The same with other estimates, as another server's statistics would have them."""
    return replace(route, source=replace(route.source, **changes))


def read(snapshot: MysqlSnapshot, route: Route, done: Sequence[DoneChunk] = ()) -> list[tuple[Chunk, list[str]]]:
    """Plan and read what is left of a table: each chunk with its lines."""
    return [(chunk, lines(snapshot, route, chunk)) for chunk in snapshot.plan(route, done)]


def lines(snapshot: MysqlSnapshot, route: Route, chunk: Chunk) -> list[str]:
    return b"".join(snapshot.read(route, chunk)).decode().split("\n")[:-1]


def whole(db: MysqlDatabase, table: str = "t", **options: Any) -> list[str]:
    route = route_of(db, table)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, **options)) as snapshot:
        return [line for _, found in read(snapshot, route) for line in found]


def finished(snapshot: MysqlSnapshot, chunk: Chunk) -> DoneChunk:
    return DoneChunk(chunk, str(snapshot.position), snapshot.token, 0, 0)


# -- values


def test_every_type_is_copied_as_canonical_text(db: MysqlDatabase) -> None:
    mysql = db.server.flavour == "mysql"
    cases = COMMON + (OF_MYSQL if mysql else OF_MARIADB) + (OF_MYSQL_9 if mysql and db.version >= "9" else [])
    definitions = ", ".join(f"`{name}` {text}" for name, text, _ in cases)
    db.execute(f"CREATE TABLE t (id INT PRIMARY KEY, {definitions})")
    db.execute("SET sql_mode = ''")
    rows = max(len(values) for *_, values in cases)
    for row in range(rows):
        chosen = [values[row % len(values)][0] for *_, values in cases]
        db.execute(f"INSERT INTO t VALUES ({row}, {', '.join(chosen)})")
    found = [line.split("\t") for line in whole(db)]
    assert len(found) == rows
    for row, cells in enumerate(sorted(found, key=lambda each: int(each[0]))):
        assert dict(zip((n for n, *_ in cases), cells[1:], strict=True)) == {
            name: values[row % len(values)][1] for name, _, values in cases
        }


def test_floating_point_numbers_are_those_that_were_stored(db: MysqlDatabase) -> None:
    numbers = random.Random(4)
    doubles = [numbers.uniform(-1, 1) * 10.0 ** numbers.randint(-300, 300) for _ in range(2000)]
    doubles += [2.0**power for power in range(-1022, 1023, 7)] + [5e-324, 1e23, 9007199254740993.0]
    db.execute("CREATE TABLE t (id INT PRIMARY KEY, d DOUBLE, f FLOAT)")
    db.execute("SET sql_mode = ''")
    rows = ", ".join(f"({n}, {value!r}, {value!r})" for n, value in enumerate(doubles))
    db.execute(f"INSERT INTO t VALUES {rows}")
    stored = {row[0]: row[1:] for row in db.query("SELECT id, d * 1e0, f * 1e0 FROM t")}
    for line in whole(db):
        number, double, single = line.split("\t")
        assert double == floattext_cy.float8(stored[int(number)][0]).decode()
        assert single == floattext_cy.float4(stored[int(number)][1]).decode()
        assert float(double) == doubles[int(number)]


def test_a_date_that_no_calendar_has_is_what_the_route_says(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (id INT PRIMARY KEY, d DATE NOT NULL, s TIMESTAMP NOT NULL)")
    db.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
    db.execute("INSERT INTO t VALUES (1, '2023-02-31', '0000-00-00')")
    route = route_of(db)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        (chunk,) = snapshot.plan(route, [])
        assert lines(snapshot, route, chunk) == [r"1	\N	\N"]
        epoch = replace(route, zero_dates=ZeroDates.EPOCH)
        assert lines(snapshot, epoch, chunk) == ["1	1970-01-01	1970-01-01 00:00:00+00"]
        with pytest.raises(RowRejected) as caught:
            lines(snapshot, replace(route, zero_dates=ZeroDates.FAIL), chunk)
        assert "column d" in caught.value.at


def test_a_large_value_comes_in_several_packets(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB, c LONGTEXT)")
    with closing(db.connect(max_allowed_packet=64 << 20)) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION net_write_timeout = 600")
        for number, size in enumerate((0, 250, 251, 65536)):
            cursor.execute(f"INSERT INTO t VALUES ({number}, REPEAT('a', {size}), REPEAT('b', {size}))")
        cursor.execute("INSERT INTO t VALUES (9, REPEAT('a', 9000000), REPEAT('b', 9000000))")
    found = {line.split("\t")[0]: line.split("\t")[1:] for line in whole(db)}
    assert found["9"] == ["\\\\x" + "61" * 9_000_000, "b" * 9_000_000]
    assert found["2"] == ["\\\\x" + "61" * 251, "b" * 251]


def test_invisible_columns_are_copied_and_generated_ones_are_not(db: MysqlDatabase) -> None:
    if db.server.flavour == "mysql" and db.version < "8.0.23":
        db.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, g INT AS (a + 1) STORED)")
    else:
        db.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT INVISIBLE, g INT AS (a + 1) STORED)")
    db.execute("INSERT INTO t (id, a) VALUES (1, 5)")
    assert whole(db) == ["1	5"]


def test_names_that_need_quotes(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE `od``d 'na\"me` (`or``der` INT PRIMARY KEY, `select` INT)")
    db.execute("INSERT INTO `od``d 'na\"me` VALUES (1, 2), (2, 3)")
    assert whole(db, "od`d 'na\"me", chunk_rows=1) == ["1	2", "2	3"]


# -- keys

KEYS = {
    "int": ("a INT", ["-2147483648", "-5", "0", "1", "2", "3", "1000", "2147483647"], "a"),
    "bigint unsigned": ("a BIGINT UNSIGNED", ["0", "1", "9223372036854775808", "18446744073709551615"], "a"),
    "bigint": ("a BIGINT", ["-9223372036854775808", "-1", "0", "9223372036854775807"], "a"),
    "zerofill": ("a INT ZEROFILL", ["0", "7", "42", "99999"], "a"),
    "decimal": ("a DECIMAL(20,5)", ["-1.5", "0", "0.00001", "123456789012345.12345"], "a"),
    "float": ("a FLOAT", ["-0.1", "0.1", "0.3", "1e20", "16777216"], "a"),
    "double": ("a DOUBLE", ["-0.1", "0.1", "1e-300", "1e300", "0.30000000000000004"], "a"),
    "date": ("a DATE", ["'0000-00-00'", "'2024-00-10'", "'2024-01-01'", "'2024-01-02'"], "a"),
    "datetime": ("a DATETIME(6)", ["'2024-01-01'", "'2024-01-01 00:00:00.000001'", "'2025-01-01'"], "a"),
    "timestamp": ("a TIMESTAMP(3)", ["'2024-01-01'", "'2024-01-01 00:00:00.001'", "'2025-01-01'"], "a"),
    "time": ("a TIME", ["'-838:59:59'", "'-01:00:00'", "'00:00:00'", "'09:00:00'", "'100:00:00'"], "a"),
    "year": ("a YEAR", ["0", "1901", "2024", "2155"], "a"),
    "varchar": ("a VARCHAR(50)", ["''", "'B'", "'a'", "'c '", "'Ö'", "'😀'", "'zz'", "'é'", r"'\\'", "'x''y'"], "a"),
    "char": ("a CHAR(5)", ["''", "'B'", "'a'", "'zz'", "'é'"], "a"),
    "bin text": ("a VARCHAR(50) COLLATE utf8mb4_bin", ["'A'", "'a'", "'B'", "'b'", "'😀'", "'a0'"], "a"),
    "latin1": ("a VARCHAR(50) CHARACTER SET latin1", ["'a'", "'B'", "'é'", "'ü'", "'z'", "''"], "a"),
    "utf16": ("a VARCHAR(50) CHARACTER SET utf16", ["'a'", "'B'", "'é'", "'😀'", "'z'"], "a"),
    "varbinary": ("a VARBINARY(50)", ["X''", "X'00'", "X'0000'", "X'61'", "X'FF'", "X'5C27'"], "a"),
    "binary": ("a BINARY(3)", ["X'00'", "X'61'", "X'6100FF'", "X'FFFFFF'"], "a"),
    "enum": ("a ENUM('z','b','a')", ["'z'", "'a'", "'b'"], "a"),
    "bit": ("a BIT(9)", ["1", "2", "300"], "a"),
    "prefix": ("a VARCHAR(50)", ["'a1'", "'b1'", "'c1'", "'d1'"], "a(1)"),
    "two": ("a INT, b VARCHAR(20)", ["1, 'a'", "1, 'B'", "1, 'c'", "2, 'a'", "3, 'x'", "-1, ''"], "a, b"),
    "two, text first": ("a VARCHAR(20), b INT", ["'a', -1", "'a', 1", "'B', 0", "'c', 5", "'c', 6"], "a, b"),
    "three": (
        "a BIGINT, b DATE, c BINARY(2)",
        [f"{x}, '2024-01-0{y}', X'{z}'" for x in (-1, 5) for y in (1, 2) for z in ("0000", "00FF", "AA")],
        "a, b, c",
    ),
    "text and enum": ("a INT, b ENUM('z','a')", ["1, 'z'", "1, 'a'", "2, 'z'"], "a, b"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_chunks_by_any_key_hold_each_row_once(db: MysqlDatabase, kind: str) -> None:
    columns, values, key = KEYS[kind]
    rows = 2
    db.execute("SET sql_mode = ''")
    db.execute(f"CREATE TABLE t ({columns}, n INT, PRIMARY KEY ({key}))")
    for number, value in enumerate(values):
        db.execute(f"INSERT INTO t VALUES ({value}, {number})")
    route = fresh(route_of(db), estimated_rows=1000)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=rows)) as snapshot:
        found = read(snapshot, route)
        again = read(snapshot, route, [finished(snapshot, chunk) for chunk, _ in found[::2]])
    numbers = sorted(int(line.split("\t")[-1]) for _, each in found for line in each)
    assert numbers == list(range(len(values)))
    if kind not in ("enum", "bit", "prefix"):
        assert len(found) >= min(2, len(values) // rows)
        assert all(len(each) <= 2 * rows + 1 for _, each in found) or kind == "text and enum"
    left = sorted(line for _, each in again for line in each)
    assert left == sorted(line for _, each in found[1::2] for line in each)


@pytest.mark.parametrize("direction", ["a DESC", "a DESC, b DESC", "a, b DESC"])
def test_descending_keys(db: MysqlDatabase, direction: str) -> None:
    db.execute(
        f"CREATE TABLE t (a VARCHAR(9), b INT, PRIMARY KEY ({direction if 'b' in direction else direction + ', b'}))"
    )
    db.execute("INSERT INTO t VALUES " + ", ".join(f"('{chr(97 + n % 5)}', {n})" for n in range(50)))
    route = route_of(db)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=7)) as snapshot:
        found = read(snapshot, route)
    assert sorted(int(line.split("\t")[1]) for _, each in found for line in each) == list(range(50))
    assert len(found) > 3


def test_a_range_is_read_by_its_index(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT, b INT, c INT, n INT, PRIMARY KEY (a, b, c))")
    db.execute(
        "INSERT INTO t WITH RECURSIVE s (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < 900)"
        " SELECT 1, n DIV 30, n MOD 30, n FROM s"
        if db.server.flavour == "mysql"
        else "INSERT INTO t SELECT 1, seq DIV 30, seq MOD 30, seq FROM seq_0_to_900"
    )
    db.execute("ANALYZE TABLE t")
    route = route_of(db)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=100)) as snapshot:
        chunks = snapshot.plan(route, [])
        assert len(chunks) > 8
        key = snapshot._keys[route.source.id]
        for chunk in chunks[1:-1]:
            piece = Piece.of(chunk)
            statement = selecting.statement(route, key.index, where(key, piece.low, piece.high))
            (explained,) = db.query(f"EXPLAIN FORMAT=TRADITIONAL {statement}")
            row = [str(value) for value in explained]
            assert "range" in row
            assert "PRIMARY" in row
            estimate = [int(value) for value in row[-4:] if value.isdigit()]
            assert estimate[0] < 300


def test_gaps_among_the_keys_make_no_chunks(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a BIGINT UNSIGNED PRIMARY KEY)")
    numbers = [*range(3000), *range(2**40, 2**40 + 3000), *range(2**64 - 3000, 2**64)]
    for start in range(0, len(numbers), 1000):
        db.execute("INSERT INTO t VALUES " + ", ".join(f"({n})" for n in numbers[start : start + 1000]))
    db.execute("ANALYZE TABLE t")
    route = route_of(db)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=1000)) as snapshot:
        found = read(snapshot, route)
    assert sorted(int(line) for _, each in found for line in each) == numbers
    assert 6 <= len(found) <= 40


def test_a_small_table_is_one_chunk(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES (1), (1000000), (-7)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        assert len(snapshot.plan(route_of(db), [])) == 1


def test_an_empty_table_is_one_chunk_without_rows(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a VARCHAR(20) PRIMARY KEY)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        assert [found for _, found in read(snapshot, route_of(db))] == [[]]


def test_a_unique_index_serves_where_there_is_no_primary_key(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (n INT, a INT NOT NULL, b INT, UNIQUE (b), UNIQUE u (a))")
    db.execute("INSERT INTO t VALUES (1, 5, NULL), (2, 6, NULL), (3, 7, 1)")
    route = route_of(db)
    assert route.key == ("a",)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=1)) as snapshot:
        found = read(snapshot, fresh(route, estimated_rows=100))
    assert sorted(line for _, each in found for line in each) == ["1	5	\\N", "2	6	\\N", "3	7	1"]
    assert len(found) > 1


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
KEY_SETS = st.one_of(
    st.tuples(st.just("INT"), st.sets(st.integers(-50, 50) | st.integers(-(2**31), 2**31 - 1), max_size=25)),
    st.tuples(st.just("BIGINT UNSIGNED"), st.sets(st.integers(0, 2**64 - 1), max_size=25)),
    st.tuples(st.just("VARCHAR(20)"), st.sets(TEXTS, max_size=25)),
    st.tuples(st.just("VARBINARY(20)"), st.sets(st.binary(max_size=4), max_size=25)),
)


@pytest.mark.parametrize("server", SERVERS[::2])
def test_any_done_chunks_and_the_rest_make_any_table_whole(
    server: str, fleet: Fleet, new_mysql_database: Callable[..., MysqlDatabase]
) -> None:
    flavour, _, version = server.partition("-")
    like = fleet.mysql(version, "source") if flavour == "mysql" else fleet.mariadb("source")
    db = new_mysql_database(like, "property")
    numbers = itertools.count()

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(KEY_SETS, st.integers(1, 7), st.integers(0, 2**30), st.booleans())
    def holds(keys: tuple[str, set[Any]], rows: int, seed: int, composite: bool) -> None:
        kind, values = keys
        chance = random.Random(seed)
        table = f"p{next(numbers)}"
        key = "b, a" if composite else "a"
        db.execute(f"CREATE TABLE {table} (a {kind}, b INT, n INT, PRIMARY KEY ({key}))")
        for number, value in enumerate(values):
            db.execute(f"INSERT IGNORE INTO {table} VALUES (%s, %s, %s)", [value, number % 3, number])
        expected = sorted(n for (n,) in db.query(f"SELECT n FROM {table}"))
        route = fresh(route_of(db, table), estimated_rows=10_000, bytes=1)
        done: list[DoneChunk] = []
        seen: list[int] = []
        with opened(db) as sessions:
            for attempt in range(4):
                step = rows if attempt < 2 else chance.randint(1, 9)
                with closing(MysqlSnapshot(sessions, chunk_rows=step)) as snapshot:
                    planned = snapshot.plan(route, done)
                    chosen = [chunk for chunk in planned if attempt == 3 or chance.random() < 0.5]
                    chance.shuffle(chosen)
                    for chunk in chosen:
                        # As the state gives it back: all that is remembered is text.
                        again = Chunk(chunk.table_id, chunk.number, chunk.low, chunk.high)
                        seen += [int(line.rsplit("\t", 1)[1]) for line in lines(snapshot, route, again)]
                        done.append(finished(snapshot, again))
            with closing(MysqlSnapshot(sessions)) as snapshot:
                assert snapshot.plan(route, done) == []
        assert sorted(seen) == expected
        assert len({each.chunk.number for each in done}) == len(done)
        db.execute(f"DROP TABLE {table}")

    holds()


def test_a_finished_chunk_under_another_key_starts_the_copy_over(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY, b INT NOT NULL)")
    db.execute("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
    route = fresh(route_of(db), estimated_rows=100)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=1)) as snapshot:
        first, *_ = snapshot.plan(route, [])
        db.execute("ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (b)")
        with pytest.raises(CopyRestart, match="starts over"):
            snapshot.plan(route_of(db), [finished(snapshot, first)])


# -- while others write


def test_position_and_upto_are_one_where_nothing_happened(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES (1)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        before = str(snapshot.position)
        read(snapshot, route)
        if str(snapshot.upto()) != before:  # another test's server may have been busy
            assert snapshot.upto().covers(snapshot.position)
        assert snapshot.position_of(route.source.id) == snapshot.position


def test_upto_covers_what_a_chunk_may_hold(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES (1)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        (chunk,) = snapshot.plan(route, [])
        db.execute("INSERT INTO t VALUES (2)")
        assert lines(snapshot, route, chunk) == ["1", "2"]
        assert snapshot.upto(route.source.id).covers(snapshot.position)
        assert not snapshot.position.covers(snapshot.upto(route.source.id))
        assert snapshot.upto() == snapshot.upto(route.source.id)


@contextmanager
def writing(db: MysqlDatabase, statements: Callable[[int], Sequence[str]]) -> Iterator[list[str]]:
    """Others write meanwhile: yields what went wrong there."""
    ended = threading.Event()
    wrong: list[str] = []

    def write(first: int) -> None:
        with closing(db.connect(autocommit=False)) as connection, connection.cursor() as cursor:
            for number in itertools.count(first, 3):
                if ended.is_set():
                    return
                try:
                    for statement in statements(number):
                        cursor.execute(statement)
                    connection.commit()
                except Exception as error:
                    wrong.append(str(error))
                    return

    threads = [threading.Thread(target=write, args=[first]) for first in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_a_table_without_a_key_is_as_of_its_own_position_exactly(db: MysqlDatabase) -> None:
    """Each transaction inserts one row; its place in the log is compared with the copy's."""
    db.execute("CREATE TABLE t (a INT)")
    assert route_of(db).key == ()
    start = log_end_of(db)
    found: list[tuple[Any, list[int]]] = []
    with writing(db, lambda number: [f"INSERT INTO t VALUES ({number})"]) as wrong, opened(db) as sessions:
        for _ in range(8):
            with closing(MysqlSnapshot(sessions)) as snapshot:
                route = route_of(db)
                ((_, rows),) = read(snapshot, route)
                assert snapshot.upto(route.source.id) == snapshot.position_of(route.source.id)
                assert snapshot.position_of(route.source.id).covers(snapshot.position)
                found.append((snapshot.position_of(route.source.id), [int(row) for row in rows]))
    assert wrong == []
    order = commits(db, "t", start)
    assert len(order) > 20
    for position, numbers in found:
        assert sorted(numbers) == sorted(number for number, end in order if position.covers(end))
    assert len({len(numbers) for _, numbers in found}) > 1


def log_end_of(db: MysqlDatabase) -> Any:
    with opened(db) as sessions, sessions.sql() as connection:
        return log_end.end_position(connection, sessions.flavour)


def commits(db: MysqlDatabase, table: str, start: Any) -> list[tuple[int, Any]]:
    """Return what each transaction inserted into a table of one integer, with where it ends in the log."""
    with opened(db) as sessions, sessions.sql() as connection:
        server = log_end.server_name(connection, sessions.flavour)
    place = address(db.url)
    settings_ = {"host": place.host, "port": place.port, "user": place.user, "password": place.password}
    reader = BinLogStreamReader(
        settings_, server_id=random.randint(10_000, 2**31), only_events=[XidEvent, WriteRowsEvent],
        log_file=start.file, log_pos=start.offset, resume_stream=True, blocking=False, is_mariadb=False,
    )  # fmt: skip
    found: list[tuple[int, Any]] = []
    pending: list[int] = []
    try:
        for event in reader:
            if isinstance(event, WriteRowsEvent):
                if (event.schema, event.table) == (db.name, table):
                    pending += [next(iter(row["values"].values())) for row in event.rows]
            else:
                found += [(number, Binlog(reader.log_file, reader.log_pos, None, server)) for number in pending]
                pending = []
    finally:
        reader.close()
    return found


def test_several_tables_without_a_key_each_have_their_own_position(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT)")
    db.execute("CREATE TABLE u (a INT)")
    db.execute("INSERT INTO t VALUES (1)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        one, two = route_of(db, "t"), route_of(db, "u")
        (first,) = snapshot.plan(one, [])
        db.execute("INSERT INTO t VALUES (2)")
        db.execute("INSERT INTO u VALUES (3)")
        (second,) = snapshot.plan(two, [])
        db.execute("INSERT INTO u VALUES (4)")
        assert lines(snapshot, one, first) == ["1"]
        assert lines(snapshot, two, second) == ["3"]
        assert not snapshot.position_of(one.source.id).covers(snapshot.position_of(two.source.id))


def test_a_table_without_key_and_transactions_is_locked_while_it_is_read(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT) ENGINE=MyISAM")
    db.execute("INSERT INTO t VALUES (1)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        (chunk,) = snapshot.plan(route, [])
        waiting = threading.Thread(target=db.execute, args=["INSERT INTO t VALUES (2)"])
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert lines(snapshot, route, chunk) == ["1"]
        waiting.join(10)
        assert not waiting.is_alive()


def test_a_view_of_a_table_without_a_key_is_read_once(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        (chunk,) = snapshot.plan(route, [])
        assert lines(snapshot, route, chunk) == []
        with pytest.raises(CopyRestart):
            lines(snapshot, route, chunk)


def test_finished_chunks_of_a_table_without_a_key_cannot_be_used(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        (chunk,) = snapshot.plan(route, [])
        with pytest.raises(CopyRestart):
            snapshot.plan(route, [finished(snapshot, chunk)])


def test_every_row_is_in_the_copy_or_behind_its_position(db: MysqlDatabase) -> None:
    """The log's end may be ahead of what can be seen: such a row must not be missed."""
    none_is_missed(db)


@pytest.fixture
def without_gtids(
    new_mysql_server: Callable[..., MysqlServer], new_mysql_database: Callable[..., MysqlDatabase]
) -> MysqlDatabase:
    off = {"gtid-mode": "OFF", "enforce-gtid-consistency": "OFF"}
    return new_mysql_database(new_mysql_server("mysql", "8.0", settings=off), "nogtid")


def test_no_row_is_missed_without_gtids_either(without_gtids: MysqlDatabase) -> None:
    none_is_missed(without_gtids)


def test_without_gtids_a_long_transaction_is_waited_for(
    without_gtids: MysqlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = without_gtids
    monkeypatch.setattr(views, "BETWEEN_LOCKS_SECONDS", 0.1)
    monkeypatch.setattr(views, "LOCK_ATTEMPTS", 2)
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    route = route_of(db)
    with closing(db.connect(autocommit=False)) as writer, opened(db) as sessions:
        with writer.cursor() as cursor:
            cursor.execute("INSERT INTO t VALUES (1)")
        with closing(MysqlSnapshot(sessions)) as snapshot:
            with pytest.raises(SourceUnavailable, match="locked"):
                snapshot.plan(route, [])
            writer.commit()
            assert [found for _, found in read(snapshot, route)] == [["1"]]


def test_a_user_who_may_not_lock_hears_what_to_grant(db: MysqlDatabase) -> None:
    if db.server.flavour != "mysql":
        pytest.skip("MariaDB tells where a view stands")
    db.execute("CREATE TABLE t (a INT)")
    url = db.server.create_user(  # type: ignore[attr-defined]
        f"r{random.randrange(10**9)}", "secret", [f"SELECT ON {db.name}.*", "REPLICATION CLIENT ON *.*"]
    )
    route = route_of(db)
    with (
        closing(Sessions(url)) as sessions,
        closing(MysqlSnapshot(sessions)) as snapshot,
        pytest.raises(AccessDenied) as caught,
    ):
        snapshot.plan(route, [])
    assert "LOCK TABLES" in caught.value.do


def none_is_missed(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    start = log_end_of(db)
    found: list[tuple[Any, Any, set[int]]] = []
    with writing(db, lambda number: [f"INSERT INTO t VALUES ({number})"]) as wrong, opened(db) as sessions:
        for _ in range(15):
            with closing(MysqlSnapshot(sessions)) as snapshot:
                route = route_of(db)
                rows = {int(line) for _, each in read(snapshot, route) for line in each}
                found.append((snapshot.position, snapshot.upto(route.source.id), rows))
    assert wrong == []
    order = commits(db, "t", start)
    for position, upto, rows in found:
        assert {number for number, end in order if position.covers(end)} <= rows
        assert rows <= {number for number, end in order if upto.covers(end)}


# -- while others alter


CHANGES = (
    "ALTER TABLE t ADD COLUMN c INT",
    "ALTER TABLE t MODIFY b BIGINT",
    "ALTER TABLE t MODIFY b VARCHAR(20)",
    "ALTER TABLE t DROP COLUMN b",
    "ALTER TABLE t RENAME COLUMN b TO c",
    "ALTER TABLE t DROP PRIMARY KEY",
    "RENAME TABLE t TO u",
    "DROP TABLE t",
)
WHEN = ("before the plan", "before the first chunk", "between chunks")


@pytest.mark.parametrize(
    ("change", "when"),
    [*((change, WHEN[2]) for change in CHANGES), *((CHANGES[n], when) for n in (1, 3, 7) for when in WHEN[:2])],
)
def test_a_table_altered_under_the_copy_starts_over(db: MysqlDatabase, change: str, when: str) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY, b INT)")
    db.execute("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 4)")
    route = fresh(route_of(db), estimated_rows=100)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=1)) as snapshot:
        if when == "before the plan":
            db.execute(change)
        chunks = snapshot.plan(route, [])
        if when == "before the first chunk":
            db.execute(change)
        if when == "between chunks":
            lines(snapshot, route, chunks[0])
            db.execute(change)
        with pytest.raises(CopyRestart):
            lines(snapshot, route, chunks[-1])


def test_a_table_without_a_key_altered_before_it_is_read_starts_over(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT)")
    route = route_of(db)
    db.execute("ALTER TABLE t ADD COLUMN b INT")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        (chunk,) = snapshot.plan(route, [])
        with pytest.raises(CopyRestart):
            lines(snapshot, route, chunk)
        db.execute("DROP TABLE t")
        (chunk,) = snapshot.plan(route, [])
        with pytest.raises(CopyRestart):
            lines(snapshot, route, chunk)


# -- failures


def test_a_killed_session_is_an_outage_and_the_chunk_can_be_read_again(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY, b LONGTEXT)")
    db.execute("INSERT INTO t VALUES " + ", ".join(f"({n}, REPEAT('x', 200000))" for n in range(200)))
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        chunk = snapshot.plan(route, [])[0]
        blocks = iter(snapshot.read(route, chunk))
        next(blocks)
        reading = "SELECT id FROM information_schema.processlist WHERE db = %s AND info LIKE 'SELECT `a`%%'"
        db.execute(f"KILL {db.value(reading, [db.name])}")
        with pytest.raises(SourceUnavailable):
            list(blocks)
        assert len(lines(snapshot, route, chunk)) == 200


def test_a_reader_that_stops_in_the_middle_leaves_nothing_behind(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY, b LONGTEXT)")
    db.execute("INSERT INTO t VALUES " + ", ".join(f"({n}, REPEAT('x', 200000))" for n in range(100)))
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        chunk = snapshot.plan(route, [])[0]
        blocks = snapshot.read(route, chunk)
        next(iter(blocks))
        blocks.close()  # type: ignore[attr-defined]
        assert len(lines(snapshot, route, chunk)) == 100
        db.execute("SET lock_wait_timeout = 5")
        db.execute("ALTER TABLE t ADD COLUMN c INT")


def test_it_is_over_when_it_is_closed(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    with opened(db) as sessions:
        snapshot = MysqlSnapshot(sessions)
        route = route_of(db)
        (chunk,) = snapshot.plan(route, [])
        snapshot.close()
        snapshot.close()
        with pytest.raises(SourceUnavailable):
            lines(snapshot, route, chunk)
