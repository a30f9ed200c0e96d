"""Record the corpus of the binlog's decoders: `python -m tests.fuzz.record_mysql mysql://root@host mysql://root@maria`.

Makes the tables of `decoders.SHAPES` in a database `fuzz` of both servers, changes rows of them, and keeps what their
logs say of it: row images, the JSON documents in them, table maps. The databases are dropped at the end.
"""

from __future__ import annotations

import sys

from tests.fuzz.exercise import CORPUS
from tests.fuzz.packed import Input, pack
from tests.integration.binlog_events import RowsEvent, log_end, row_events
from tests.servers.mysql_session import connect_to, rows

TABLES = [
    "CREATE TABLE numbers (id INT PRIMARY KEY, a TINYINT UNSIGNED, b DECIMAL(12,4), c FLOAT, d DOUBLE, e YEAR,"
    " f BIT(10), g DATE, h TIME(3), i DATETIME(6), j TIMESTAMP(1) NULL, k ENUM('a','b'), l SET('x','y','z'))",
    "CREATE TABLE texts (id INT PRIMARY KEY, a VARCHAR(30) CHARACTER SET utf8mb4, b CHAR(10) CHARACTER SET latin1,"
    " c TEXT CHARACTER SET gbk, d TEXT CHARACTER SET ujis, e BINARY(16), f BLOB, g GEOMETRY, h JSON, i JSON)",
    "CREATE TABLE marias (id INT PRIMARY KEY, a UUID, b INET6, c INET4, d TEXT COMPRESSED CHARACTER SET utf8mb4,"
    " e VARBINARY(399) COMPRESSED)",
]
START = '{"a": [1, -70000, 1.5, 18446744073709551615, null, true], "text": "%s", "deep": {"er": [[], {}]}}' % (
    "y" * 200
)
CHANGES = {
    0: [
        "INSERT INTO numbers VALUES (1, 255, -1234.5678, 0.1, 1e-7, 2024, 513, '2024-02-29', '-12:34:56.789',"
        " '1999-12-31 23:59:59.000001', '2024-01-01 00:00:00.5', 'b', 'x,z'), (2, 0, 0, 0, 0, 0, 0, '0000-00-00',"
        " '838:59:59', '2024-00-10', NULL, NULL, '')",
        "UPDATE numbers SET a = 7, d = 12345.678 WHERE id = 1",
        "SET SESSION binlog_row_image = 'MINIMAL'; UPDATE numbers SET b = NULL, g = NULL; DELETE FROM numbers",
    ],
    1: [
        "INSERT INTO texts VALUES (1, 'é€😀', 'äöü', '中文', '日本', x'0102', x'5C00FF',"
        f" ST_GeomFromText('LINESTRING(0 0,1 1)', 4326), '{START}', JSON_ARRAY(CAST('2024-01-01' AS DATE),"
        " CAST('-1:2:3' AS TIME), CAST(1.50 AS DECIMAL(5,2)), x'61'))",
        "SET SESSION binlog_row_value_options = 'PARTIAL_JSON'; UPDATE texts SET h = JSON_SET(h, '$.a[0]', 'one'),"
        " i = JSON_REMOVE(i, '$[1]'); UPDATE texts SET h = JSON_SET(h, '$.new', 1, '$.deep.er[1].k', '2')",
        "DELETE FROM texts",
    ],
    2: [
        "INSERT INTO marias VALUES (1, '123e4567-e89b-12d3-a456-426614174000', '::ffff:1.2.3.4', '10.0.0.0', 'short',"
        " REPEAT('ab', 150)), (2, NULL, '1:2:3::', '0.0.0.0', REPEAT('long ', 30), '')",
        "UPDATE marias SET d = ''; DELETE FROM marias",
    ],
    3: [
        f"INSERT INTO documents VALUES (1, '{START}')",
        "SET SESSION binlog_row_value_options = 'PARTIAL_JSON';"
        "UPDATE documents SET doc = JSON_SET(doc, '$.a[0]', 'one')",
        "UPDATE documents SET doc = JSON_SET(JSON_REMOVE(doc, '$.a[1]'), '$.new', CAST('2024-01-01' AS DATE))",
        "UPDATE documents SET doc = JSON_SET(doc, '$.deep.\"q k\"', 1.5)",
    ],
}


def keep(target: str, name: str, found: Input) -> None:
    """Write one file of the corpus."""
    (CORPUS / target).mkdir(exist_ok=True)
    (CORPUS / target / f"real-{name}.bin").write_bytes(pack(found))


def recorded(url: str, table: str, shape: int) -> list[RowsEvent]:
    """Make a table and its changes; return its events."""
    connection = connect_to(url, init_command="SET sql_mode = '', NAMES utf8mb4")
    rows(connection, "DROP DATABASE IF EXISTS fuzz; CREATE DATABASE fuzz; USE fuzz;" + table)
    rows(connection, "SET GLOBAL binlog_row_metadata = 'FULL'")
    start = log_end(connection)
    for change in CHANGES[shape]:
        rows(connection, change)
    rows(connection, "DROP DATABASE fuzz")
    return row_events(connect_to(url), start, "")


def main(mysql: str, mariadb: str) -> None:
    """Record everything."""
    for shape, table in enumerate(TABLES):
        server = mariadb if shape == 2 else mysql
        for number, event in enumerate(recorded(server, table, shape)):
            partial = event.kind == "P"
            found = Input(bytes([shape, partial]), (event.rows, *event.present))
            keep("binlogrow", f"{shape}-{number}-{event.kind}", found)
            keep("tablemap", f"{shape}", Input(bytes([shape == 2]), event.map.raw))
    inserted, *changed = recorded(mysql, "CREATE TABLE documents (id INT, doc JSON)", 3)
    # Behind the bits that say NULL, the key and the length stands the document; between it and its changes eleven
    # bytes of the second image.
    keep("mysqljson", "whole", Input(b"\0", (inserted.rows[9:],)))
    for number, event in enumerate(changed):
        end = 9 + int.from_bytes(event.rows[5:9], "little")
        keep("mysqljson", f"changed-{number}", Input(b"\0", (event.rows[9:end], event.rows[end + 11 :])))


if __name__ == "__main__":
    main(*sys.argv[1:])
