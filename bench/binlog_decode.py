"""Rows of a MySQL binlog to frames, beside mysql-replication: `python -m bench.binlog_decode [--rows N] [--url URL]`.

Both decode the same packets of a real server's log from memory: ten columns of mixed types, a thousand rows an event
group. What is timed is the decoding alone, with packets, checksums and table maps: no socket, no target.
"""

from __future__ import annotations

import struct
import time
from typing import Any

from pymysql.protocol import MysqlPacket
from pymysqlreplication.packet import BinLogPacketWrapper
from pymysqlreplication.row_event import TableMapEvent, UpdateRowsEvent, WriteRowsEvent

from bench.pair import arguments, keep, median, table
from cdcflow.codecs import loaded
from cdcflow.codecs.binlog_cy import PIECE, Decoder
from cdcflow.codecs.binlogrow_cy import RowShape
from cdcflow.sources.mysql import logevents, tablemap
from cdcflow.sources.mysql.source import LARGEST_PIECE_BYTES as PIECE_BYTES
from tests.integration.binlog_columns import form
from tests.integration.binlog_events import log_end, row_events
from tests.servers.mysql_session import connect_to, rows

OURS, THEIRS = "cdcflow", "mysql-replication"

# What was asked for, and what was aimed at: times the library's own rate.
LEAST, AIM = 15, 30

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


def ours(stream: bytearray, shape: RowShape, width: int, *, checksums: bool) -> int:
    """Decode with cdcflow, as its stream does; return the number of rows."""
    decoder = Decoder(PIECE_BYTES)
    decoder.checked(checksums)
    decoder.place(1, 4)
    _, frame = decoder.frame(width, 0, 0)
    count = at = 0
    while at < len(stream):
        at = decoder.feed(stream, at)
        kind, _, body = decoder.event()
        if kind == logevents.TABLE_MAP:
            decoder.define(tablemap.parse(body, "mysql").number, body, frame, shape, 0)
        elif kind == PIECE:
            count += taken(decoder)
    return count + taken(decoder)


def taken(decoder: Decoder) -> int:
    """Take what was decoded and return its rows."""
    frames, *_ = decoder.take(True)
    return sum(len(ops) for _, ops, *_ in frames)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--url", help="a MySQL 8.0 or newer of which bench_decode may be dropped")
    args = parser.parse_args()
    if args.url:
        result = measure(args.url, args.rows, args.runs)
    else:
        from tests.servers.fleet import Fleet

        fleet = Fleet()
        try:
            result = measure(fleet.mysql("9.7").url(), args.rows, args.runs)
        finally:
            fleet.end()
    args.url = ""  # it may hold a password
    keep("binlog_decode", result, args)


def measure(url: str, count: int, runs: int) -> dict[str, object]:
    """Time both in turn, print and return what was found."""
    start, described = record(url, count)
    events = row_events(connect_to(url), start, "item")
    found = packets(url, start)
    forms = [form(row, kind) for row, kind in zip(described, events[0].map.types, strict=True)]
    shape = RowShape(forms, "item")
    stream = bytearray(b"".join(len(data).to_bytes(3, "little") + b"\0" + data for data in found))
    checksums = rows(connect_to(url), "SELECT @@global.binlog_checksum") == [("CRC32",)]
    control: Any = connect_to(url)
    control._get_dbms = lambda: "mysql"  # what the library's own reader adds to its connection
    decoded = 0
    speeds: dict[str, list[float]] = {OURS: [], THEIRS: []}
    for _ in range(runs):
        begun = time.perf_counter()
        decoded = ours(stream, shape, len(forms), checksums=checksums)
        speeds[OURS].append(decoded / (time.perf_counter() - begun))
        begun = time.perf_counter()
        if theirs(found, control) != decoded:
            raise SystemExit("the two did not find the same number of rows")
        speeds[THEIRS].append(decoded / (time.perf_counter() - begun))
    codecs = loaded()["cdcflow.codecs.binlogrow_cy"]
    of_pairs = [one / other for one, other in zip(speeds[OURS], speeds[THEIRS], strict=True)]
    print(f"codecs: {codecs}; {decoded} rows of {len(forms)} columns, an update is one")
    table(["decoder", "rows/s"], [[name, f"{median(measured):,.0f}"] for name, measured in speeds.items()])
    print(f"\n{OURS} / {THEIRS}: {median(of_pairs):.1f} (asked: {LEAST}, aimed at: {AIM})")
    return {
        "codecs": codecs,
        "row_changes": decoded,
        "columns": len(forms),
        "runs": [
            {"contender": name, "round": number, "rows_per_second": rate}
            for name, measured in speeds.items()
            for number, rate in enumerate(measured)
        ],
        "median_rows_per_second": {name: median(measured) for name, measured in speeds.items()},
        "ratios": {f"{OURS} / {THEIRS}": {"median": median(of_pairs), "of_pairs": of_pairs}},
        "asked": LEAST,
        "aimed_at": AIM,
    }


if __name__ == "__main__":
    main()
