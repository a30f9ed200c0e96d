"""What is decoded from a real server's log is what the same server says of the same value."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from cdcflow.codecs import mysqlcharsets
from cdcflow.codecs.binlogrow_cy import MissingValue, PartialValue, RowShape, UnrealDate
from cdcflow.codecs.mysqlforms import JSON
from cdcflow.model.frame import UNCHANGED, Cell, cells
from tests.integration.binlog_columns import BOTH, MARIADB, MYSQL, NEWER, Column, form
from tests.integration.binlog_events import RowsEvent, TableMap, log_end, row_events
from tests.servers.mysql_database import MysqlDatabase

DESCRIBED = (
    "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME FROM information_schema.COLUMNS"
    " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION"
)
SERVERS = ("mysql 9.7", "mysql 8.0", "mariadb 11.8")


@pytest.fixture(params=SERVERS)
def database(request: pytest.FixtureRequest, fleet: Any, new_mysql_database: Any) -> Iterator[MysqlDatabase]:
    """A database of each server whose log has full metadata."""
    flavour, _, version = request.param.partition(" ")
    server = fleet.mysql(version) if flavour == "mysql" else fleet.mariadb(version=version)
    made: MysqlDatabase = new_mysql_database(server, "oracle", charset="utf8mb4")
    before = made.value("SELECT @@global.binlog_row_metadata")
    made.execute("SET GLOBAL binlog_row_metadata = 'FULL'")
    yield made
    made.execute(f"SET GLOBAL binlog_row_metadata = '{before}'")


def is_mysql(database: MysqlDatabase) -> bool:
    return database.server.flavour == "mysql"


class Log:
    """What happened to a table since the log was opened."""

    def __init__(self, database: MysqlDatabase) -> None:
        self.database = database
        self.start = log_end(database.connect())

    def events(self, table: str) -> list[RowsEvent]:
        return row_events(self.database.connect(), self.start, table)

    def forms(self, found: TableMap, **changed: Any) -> list[Any]:
        described = self.database.query(DESCRIBED, (self.database.name, found.table))
        if changed.pop("skip_virtual", False):
            described = described[: len(found.types)]
        return [form(row, kind, **changed) for row, kind in zip(described, found.types, strict=True)]

    def images(self, table: str, fill: bool = False, **changed: Any) -> list[list[list[Cell]]]:
        """Return each row of each event as its images."""
        decoded = []
        for event in self.events(table):
            shape = RowShape(self.forms(event.map, **changed), table)
            at = 0
            while at < len(event.rows):
                row = []
                for present in event.present:
                    image, at = shape.decode(event.rows, at, present, fill)
                    row.append(cells(image, 0, shape.width))
                decoded.append(row)
            assert at == len(event.rows)
        return decoded


def asked(database: MysqlDatabase, table: str, columns: list[tuple[str, Column]]) -> list[list[Cell]]:
    """Return the rows as the server tells them, in the order of `id`."""
    questions = ", ".join(column.question.format(c=name) for name, column in columns)
    return [
        [None if value is None else column.text(str(value)) for (_, column), value in zip(columns, row, strict=True)]
        for row in database.query(f"SELECT {questions} FROM {table} ORDER BY id")
    ]


def test_every_type_is_decoded_as_the_server_prints_it(database: MysqlDatabase) -> None:
    log = Log(database)
    columns = (*BOTH, *(MYSQL if is_mysql(database) else MARIADB))
    if is_mysql(database) and database.version != "8.0":
        columns += NEWER
    for number, column in enumerate(columns):
        database.execute(f"CREATE TABLE t{number} (id INT PRIMARY KEY, v {column.type})")
        for id_, value in enumerate(column.values):
            database.execute(f"INSERT INTO t{number} VALUES ({id_}, {value})")
    wrong = {}
    everything = by_table(log)
    for number, column in enumerate(columns):
        told = [row[0] for row in asked(database, f"t{number}", [("v", column)])]
        found = []
        for event in everything[f"t{number}"]:
            shape = RowShape(log.forms(event.map), "t")
            image, at = shape.decode(event.rows, 0, event.present[0], False)
            assert at == len(event.rows)
            found.append(cells(image, 0, 2)[1])
        if found != told:
            wrong[column.type] = [(str(a)[:200], str(b)[:200]) for a, b in zip(found, told, strict=True) if a != b]
    assert wrong == {}


def by_table(log: Log) -> dict[str, list[RowsEvent]]:
    found: dict[str, list[RowsEvent]] = {}
    for event in row_events(log.database.connect(), log.start, ""):
        found.setdefault(event.map.table, []).append(event)
    return found


def test_partial_images_keep_their_columns_apart(database: MysqlDatabase) -> None:
    columns = ", ".join(f"c{n} INT DEFAULT {n}" for n in range(1, 20))
    database.execute(f"CREATE TABLE t (id INT PRIMARY KEY, {columns}, b BLOB)")
    log = Log(database)
    writer = database.connect()
    with writer.cursor() as cursor:
        cursor.execute("SET SESSION binlog_row_image = 'MINIMAL'")
        cursor.execute("INSERT INTO t (id, c9) VALUES (1, 90)")
        cursor.execute("UPDATE t SET c17 = NULL, c18 = 5, b = 'x' WHERE id = 1")
        cursor.execute("SET SESSION binlog_row_image = 'NOBLOB'")
        cursor.execute("UPDATE t SET c1 = 11 WHERE id = 1")
        cursor.execute("SET SESSION binlog_row_image = 'MINIMAL'")
        cursor.execute("DELETE FROM t WHERE id = 1")
    inserted, changed, kept, deleted = log.images("t")
    assert inserted == [[b"1", *[UNCHANGED] * 8, b"90", *[UNCHANGED] * 11]]
    assert changed[0] == [b"1", *[UNCHANGED] * 20]
    assert changed[1] == [*[UNCHANGED] * 17, None, b"5", UNCHANGED, b"x".hex().encode().join((b"\\x", b""))]
    assert kept[1][1] == b"11"
    assert kept[0][20] is kept[1][20] is UNCHANGED
    assert deleted == [[b"1", *[UNCHANGED] * 20]]


def test_a_minimal_insert_is_filled_with_the_sources_defaults(database: MysqlDatabase) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(10) DEFAULT 'dé', w INT)")
    log = Log(database)
    with database.connect().cursor() as cursor:
        cursor.execute("SET SESSION binlog_row_image = 'MINIMAL'")
        cursor.execute("INSERT INTO t (id) VALUES (1)")
    assert log.images("t", fill=True, default="dé".encode()) == [[[b"1", "dé".encode(), "dé".encode()]]]
    assert log.images("t", fill=True, default=None) == [[[b"1", None, None]]]
    with pytest.raises(MissingValue, match="column v of table t"):
        log.images("t", fill=True)


@pytest.mark.parametrize("database", SERVERS[:2], indirect=True)
def test_an_insert_that_is_logged_without_any_column_is_one_row(database: MysqlDatabase) -> None:
    database.execute("CREATE TABLE t (v INT DEFAULT 5, w INT)")
    log = Log(database)
    with database.connect().cursor() as cursor:
        cursor.execute("SET SESSION binlog_row_image = 'MINIMAL'")
        cursor.execute("INSERT INTO t VALUES ()")
    (event,) = log.events("t")
    assert (event.present, event.rows) == ((b"\0",), b"")
    image, images = RowShape(log.forms(event.map), "t").decode_all(event.rows, event.present)
    assert (cells(image, 0, 2), images) == ([UNCHANGED, UNCHANGED], 1)


def test_dates_that_no_calendar_has_follow_the_rules(database: MysqlDatabase) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, a DATE, b DATETIME(3), c TIMESTAMP NULL)")
    log = Log(database)
    with database.connect().cursor() as cursor:
        cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
        for id_, date in enumerate(
            ("0000-00-00", "2024-00-10", "2024-02-31", "2023-02-29", "0000-01-01", "1900-02-29")
        ):
            cursor.execute("INSERT INTO t VALUES (%s, %s, %s, '0000-00-00')", (id_, date, date + " 10:00:00"))
        cursor.execute("INSERT INTO t VALUES (7, '2000-02-29', '2000-02-29 10:00:00', '2000-02-29')")
    real = [b"7", b"2000-02-29", b"2000-02-29 10:00:00", b"2000-02-29 00:00:00+00"]
    epoch = [b"1970-01-01", b"1970-01-01 00:00:00", b"1970-01-01 00:00:00+00"]
    form_of = log.forms

    def images(policy: str) -> list[list[Cell]]:
        log.forms = lambda found, **_: [  # type: ignore[method-assign]
            type(one)(**{**fields(one), "zero_dates": policy}) for one in form_of(found)
        ]
        return [row[0] for row in log.images("t")]

    assert images("null") == [[b"%d" % n, None, None, None] for n in range(6)] + [real]
    assert images("epoch") == [[b"%d" % n, *epoch] for n in range(6)] + [real]
    with pytest.raises(UnrealDate, match="column a of table t"):
        images("fail")


def fields(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__slots__}


@pytest.mark.parametrize("database", SERVERS[:2], indirect=True)
def test_a_document_that_changes_by_parts_is_what_the_server_shows(database: MysqlDatabase) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, a JSON, v VARCHAR(20), b JSON)")
    start = '{"a": {"b": [1, 2, {"c": "x"}]}, "long": "%s", "n": null, "k k": 1, "é\\"": [1]}' % ("y" * 300)
    database.execute("INSERT INTO t VALUES (1, %s, 'v', %s), (2, '[1, 2, 3]', '', NULL)", (start, start))
    log = Log(database)
    changes = (
        "a = JSON_SET(a, '$.a.b[0]', 100, '$.long', 'short')",
        "a = JSON_REMOVE(a, '$.a.b[1]'), b = JSON_SET(b, '$.new', JSON_OBJECT('z', 1.5))",
        "a = JSON_REPLACE(a, '$.\"k k\"', CAST('2024-01-01' AS DATE)), v = 'w'",
        "v = 'x'",
        "a = JSON_SET(a, '$.a.b[last]', TRUE, '$.a.b[10]', 'end')",
        "b = JSON_REMOVE(b, '$.a'), a = JSON_SET(a, '$.aa', JSON_ARRAY(), '$.z', 1, '$.b', 70000)",
        'b = JSON_SET(b, \'$."new"."q\\\\"uote"\', \'é\')',
    )
    told = []
    writer = database.connect()
    with writer.cursor() as cursor:
        cursor.execute("SET SESSION binlog_row_value_options = 'PARTIAL_JSON'")
        for change in changes:
            cursor.execute(f"UPDATE t SET {change} WHERE id = 1")
            told.append(database.query("SELECT CAST(a AS CHAR), v, CAST(b AS CHAR) FROM t WHERE id = 1")[0])
        cursor.execute("UPDATE t SET a = JSON_SET(a, '$[1]', 'two', '$[5]', 6) WHERE id = 2")
        told.append(database.query("SELECT CAST(a AS CHAR), v, CAST(b AS CHAR) FROM t WHERE id = 2")[0])
    events = log.events("t")
    assert "P" in {event.kind for event in events}
    found = []
    for event in events:
        shape = RowShape(log.forms(event.map), "t")
        if event.kind == "P":
            _, after, at = shape.decode_partial(event.rows, *event.present)
        else:
            _, at = shape.decode(event.rows, 0, event.present[0], False)
            after, at = shape.decode(event.rows, at, event.present[1], False)
        assert at == len(event.rows)
        found.append(tuple(cell.decode() if isinstance(cell, bytes) else cell for cell in cells(after, 0, 4)[1:]))
    assert found == told


@pytest.mark.parametrize("database", SERVERS[:2], indirect=True)
def test_a_change_by_parts_without_the_old_document_is_told(database: MysqlDatabase) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, a JSON)")
    database.execute("INSERT INTO t VALUES (1, JSON_OBJECT('a', 1, 'b', REPEAT('x', 1000)))")
    log = Log(database)
    with database.connect().cursor() as cursor:
        cursor.execute("SET SESSION binlog_row_value_options = 'PARTIAL_JSON', SESSION binlog_row_image = 'MINIMAL'")
        cursor.execute("UPDATE t SET a = JSON_SET(a, '$.a', 2)")
    (event,) = log.events("t")
    with pytest.raises(PartialValue, match="column a of table t"):
        RowShape(log.forms(event.map), "t").decode_partial(event.rows, *event.present)


def test_text_of_every_character_set_is_what_the_server_converts(database: MysqlDatabase) -> None:
    charsets = [name for (name,) in database.query("SELECT character_set_name FROM information_schema.character_sets")]
    everything = "".join(chr(code) for code in range(1, 0x10000) if not 0xD800 <= code < 0xE000) + "😀🀄𠀀"
    log = Log(database)
    for charset in sorted({*charsets} - {"binary"}):
        database.execute(f"CREATE TABLE {charset} (id INT PRIMARY KEY, v LONGTEXT) CHARACTER SET {charset}")
        writer = database.connect()
        with writer.cursor() as cursor:
            cursor.execute("SET sql_mode = ''")
            cursor.execute(f"INSERT INTO {charset} VALUES (1, %s)", (everything,))
    wrong = {}
    for charset, (event,) in by_table(log).items():
        shape = RowShape(log.forms(event.map), charset)
        image, _ = shape.decode(event.rows, 0, event.present[0], False)
        (told,) = database.query(f"SELECT CONVERT(v USING utf8mb4) FROM {charset}")[0]
        found = cells(image, 0, 2)[1]
        assert isinstance(found, bytes)
        if found.decode() != told:
            pairs = zip(found.decode(), told, strict=False)
            wrong[charset] = (len(found.decode()), len(told), next(pair for pair in pairs if pair[0] != pair[1]))
        collation = event.map.metadata.collations[1]
        assert mysqlcharsets.charset_of(collation) == ("utf8mb3" if charset == "utf8" else charset)
    assert wrong == {}


def test_every_collation_has_its_character_set(database: MysqlDatabase) -> None:
    numbered = "SELECT id, character_set_name FROM information_schema.collation_character_set_applicability"
    if is_mysql(database):
        numbered = "SELECT id, character_set_name FROM information_schema.collations"
    wrong = [
        (id_, name)
        for id_, name in database.query(numbered)
        if mysqlcharsets.charset_of(id_) != ("utf8mb3" if name == "utf8" else name)
    ]
    assert wrong == []


def test_floating_point_numbers_read_back_the_same(database: MysqlDatabase) -> None:
    chance = random.Random("floats")
    doubles = [struct.unpack("<d", chance.randbytes(8))[0] for _ in range(300)]
    doubles = [d for d in doubles if d == d and abs(d) < 1e308] + [0.1, -0.0, 1e15, 1e-5, 123456.789, 5e-324, 1e22]
    log = Log(database)
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, d DOUBLE, f FLOAT)")
    for id_, number in enumerate(doubles):
        single = number if 1e-30 < abs(number) < 1e38 else id_ / 7
        database.execute(f"INSERT INTO t VALUES ({id_}, {number!r}, {single!r})")
    told = database.query("SELECT d, f + 0e0 FROM t ORDER BY id")
    found = [row[0][1:] for row in log.images("t")]
    for (double, single), cell in zip(told, found, strict=True):
        assert float(bytes(cell[0])) == double  # type: ignore[arg-type]
        assert repr(float(bytes(cell[0]))) == repr(double)  # type: ignore[arg-type]
        assert struct.pack("<f", float(bytes(cell[1]))) == struct.pack("<f", single)  # type: ignore[arg-type]
        assert len(bytes(cell[1]).lstrip(b"-").partition(b"e")[0].replace(b".", b"").strip(b"0")) <= 9  # type: ignore[arg-type]


@pytest.mark.parametrize("database", SERVERS[:2], indirect=True)
def test_numbers_in_documents_are_printed_as_the_server_does(database: MysqlDatabase) -> None:
    chance = random.Random("json")
    numbers = [struct.unpack("<d", chance.randbytes(8))[0] for _ in range(500)]
    numbers += [chance.uniform(-1, 1) * 10.0 ** chance.randint(-20, 20) for _ in range(1500)]
    numbers += [round(chance.uniform(-1, 1) * 10.0 ** chance.randint(10, 20)) * 1.0 for _ in range(500)]
    numbers = [number for number in numbers if number == number and abs(number) < 1e308]
    log = Log(database)
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v JSON)")
    database.execute("INSERT INTO t VALUES (1, %s)", ("[" + ",".join(map(repr, numbers)) + "]",))
    told = database.value("SELECT CAST(v AS CHAR) FROM t").split(", ")
    found = bytes(log.images("t")[0][0][1]).decode().split(", ")  # type: ignore[arg-type]
    assert [pair for pair in zip(found, told, strict=True) if pair[0] != pair[1]] == []
    assert log.events("t")[0].map.types[1][0] == JSON


METADATA = """
CREATE TABLE meta (
  a TINYINT UNSIGNED, y YEAR, b VARCHAR(10) CHARACTER SET latin1,
  c INT, d BLOB, e ENUM('x','yé') CHARACTER SET utf8mb4,
  f TEXT CHARACTER SET utf8mb4, g SET('s','t') CHARACTER SET latin1,
  h DECIMAL(5,2) UNSIGNED, i CHAR(3), j FLOAT UNSIGNED,
  k BINARY(4), p POINT, `näme` BIGINT UNSIGNED, u TIMESTAMP NULL, PRIMARY KEY (c, `näme`), bit1 BIT(3)
) CHARACTER SET utf8mb4
"""


def test_the_maps_metadata_is_what_the_schema_says(database: MysqlDatabase) -> None:
    log = Log(database)
    database.execute(METADATA)
    database.execute("INSERT INTO meta (c, `näme`) VALUES (1, 2)")
    (event,) = log.events("meta")
    told = database.query(
        "SELECT COLUMN_NAME, COLUMN_TYPE LIKE '%%unsigned%%' OR COLUMN_TYPE LIKE 'year%%', COLLATION_NAME, COLUMN_TYPE"
        " FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = 'meta' ORDER BY ORDINAL_POSITION",
        (database.name,),
    )
    found = event.map.metadata
    assert found.names == tuple(row[0] for row in told)
    assert found.unsigned == tuple(bool(row[1]) for row in told)
    numbered = "SELECT full_collation_name, id FROM information_schema.collation_character_set_applicability"
    if is_mysql(database):
        numbered = "SELECT collation_name, id FROM information_schema.collations"
    numbers = dict(database.query(numbered))
    expected = [numbers[row[2]] if row[2] else 0 for row in told]
    for place, column in enumerate(told):
        if column[3] in ("blob", "binary(4)") or (column[3] == "point" and not is_mysql(database)):
            expected[place] = 63
    assert list(found.collations) == expected
    assert found.labels[5] == (b"x", "yé".encode())
    assert found.labels[7] == (b"s", b"t")
    assert found.geometries[12] == 1
    assert found.key == ((3, 0), (13, 0))
    if found.visible:
        assert found.visible == (True,) * len(told)
