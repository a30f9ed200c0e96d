"""The initial copy of MySQL and MariaDB tables: every type, large values, names and columns of every kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import pytest

from cdcflow.codecs import floattext_cy
from cdcflow.errors import RowRejected
from cdcflow.model.route import ZeroDates
from cdcflow.sources.mysql.snapshot import MysqlSnapshot
from tests.integration.mysql_copies import SERVERS, database, lines, opened, route_of, whole
from tests.servers.fleet import Fleet
from tests.servers.mysql_database import MysqlDatabase

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


@pytest.fixture(params=SERVERS)
def db(request: pytest.FixtureRequest, fleet: Fleet, new_mysql_database: Callable[..., MysqlDatabase]) -> MysqlDatabase:
    return database(request.param, fleet, new_mysql_database)


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
