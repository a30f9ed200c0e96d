"""Rows of a MySQL binlog to frames, beside mysql-replication: `python -m bench.binlog_decode [--rows N] [--url URL]`.

Both decode the same packets of a real server's log from memory: ten columns of mixed types, a thousand rows an event
group. What is timed is the decoding alone: no socket, no target.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import time
from typing import Any

from pymysql.protocol import MysqlPacket
from pymysqlreplication.packet import BinLogPacketWrapper
from pymysqlreplication.row_event import TableMapEvent, UpdateRowsEvent, WriteRowsEvent

from cdcflow.codecs import loaded
from cdcflow.codecs.binlogrow_cy import RowShape
from tests.integration.binlog_columns import form
from tests.integration.binlog_events import log_end, row_events
from tests.servers.mysql_session import connect_to, rows

TABLE = """
CREATE TABLE item (
  id BIGINT UNSIGNED PRIMARY KEY, customer INT, name VARCHAR(60), price DECIMAL(12,2), weight DOUBLE, code CHAR(3),
  state ENUM('new', 'paid', 'sent'), digest BINARY(16), placed DATETIME(3), changed TIMESTAMP NULL
) CHARACTER SET utf8mb4
"""
FILL = """
INSERT INTO item WITH RECURSIVE n (i) AS (SELECT {low} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {high})
SELECT i, i * 7, CONCAT('customer number ', i, IF(i % 10 = 0, ' é', '')), i / 7,
 i / 8, SUBSTR('abcdefgh', 1 + i % 5, 3), 1 + i % 3, LEFT(UNHEX(SHA2(i, 224)), 16),
 '2024-01-01 00:00:00' + INTERVAL i SECOND, '2024-01-01 00:00:00' + INTERVAL i MINUTE
FROM n
"""
DESCRIBED = (
    "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME FROM information_schema.COLUMNS"
    " WHERE TABLE_SCHEMA = 'bench_decode' AND TABLE_NAME = 'item' ORDER BY ORDINAL_POSITION"
)


def record(url: str, count: int) -> tuple[tuple[str, int], list[Any]]:
    """Make the rows; return where they start in the log and how the table's columns look."""
    connection = connect_to(url, init_command="SET sql_mode = ''")
    rows(connection, "SET GLOBAL binlog_row_metadata = 'FULL'")
    rows(connection, "DROP DATABASE IF EXISTS bench_decode; CREATE DATABASE bench_decode; USE bench_decode;" + TABLE)
    rows(connection, "SET SESSION cte_max_recursion_depth = 1000000")
    start = log_end(connection)
    for low in range(0, count, 1000):
        rows(connection, FILL.format(low=low, high=low + 1000))
    rows(connection, "UPDATE item SET price = price + 1")
    return start, rows(connection, DESCRIBED)


def packets(url: str, start: tuple[str, int]) -> list[bytes]:
    """Return the packets of the log from `start` on, as the server sends them."""
    connection = connect_to(url)
    for name in ("master", "source"):
        rows(connection, f"SET @{name}_binlog_checksum = @@global.binlog_checksum")
    connection._execute_command(0x12, struct.pack("<IHI", start[1], 1, 78) + start[0].encode())
    found = []
    while True:
        data = connection._read_packet().get_all_data()
        if data[0] == 0xFE:
            return found
        found.append(bytes(data))


def theirs(found: list[bytes], control: Any) -> int:
    """Decode with mysql-replication; return the number of rows."""
    maps: dict[int, Any] = {}
    count = 0
    allowed = frozenset((TableMapEvent, WriteRowsEvent, UpdateRowsEvent))
    for data in found:
        if data[5] not in (19, 30, 31):
            continue
        event = BinLogPacketWrapper(
            MysqlPacket(data, "utf8"), maps, control, (9, 7, 0), True, allowed,
            None, None, None, None, False, False, False, True, False,
        ).event  # fmt: skip
        if isinstance(event, TableMapEvent):
            maps[event.table_id] = event.get_table()
        elif event is not None:
            count += len(event.rows)
    return count


def ours(events: list[Any], shape: RowShape) -> int:
    """Decode with cdcflow; return the number of rows."""
    count = 0
    for event in events:
        _, images = shape.decode_all(event.rows, event.present)
        count += images // len(event.present)
    return count


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--url", help="a MySQL 8.0 or newer of which bench_decode may be dropped")
    chosen = arguments.parse_args()
    if chosen.url:
        measure(chosen.url, chosen.rows, chosen.runs)
        return
    from tests.servers.fleet import Fleet

    fleet = Fleet()
    try:
        measure(fleet.mysql("9.7").url(), chosen.rows, chosen.runs)
    finally:
        fleet.end()


def measure(url: str, count: int, runs: int) -> None:
    """Time both and print a line for each."""
    start, described = record(url, count)
    events = row_events(connect_to(url), start, "item")
    found = packets(url, start)
    forms = [form(row, kind) for row, kind in zip(described, events[0].map.types, strict=True)]
    shape = RowShape(forms, "item")
    control: Any = connect_to(url)
    control._get_dbms = lambda: "mysql"  # what the library's own reader adds to its connection
    speeds: dict[str, list[float]] = {"cdcflow": [], "mysql-replication": []}
    for _ in range(runs):
        begun = time.perf_counter()
        decoded = ours(events, shape)
        speeds["cdcflow"].append(decoded / (time.perf_counter() - begun))
        begun = time.perf_counter()
        if theirs(found, control) != decoded:
            raise SystemExit("the two did not find the same number of rows")
        speeds["mysql-replication"].append(decoded / (time.perf_counter() - begun))
    print(
        f"codecs: {loaded()['cdcflow.codecs.binlogrow_cy']}; {decoded} rows of {len(forms)} columns, an update is one"
    )
    for name, measured in speeds.items():
        print(f"{name:18} {statistics.median(measured):12,.0f} rows/s")
    print(f"ratio {statistics.median(speeds['cdcflow']) / statistics.median(speeds['mysql-replication']):.0f}")


if __name__ == "__main__":
    main()
