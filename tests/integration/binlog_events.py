"""Row events as a server sends them: for tests that compare what is in them with what the server says."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection

from cdcflow.codecs.mysqlforms import TableMetadata, optional_metadata, parse_types
from tests.servers.mysql_session import rows

_COM_BINLOG_DUMP = 0x12
_ONCE = 1  # BINLOG_DUMP_NON_BLOCK: end where the log does
_TABLE_MAP = 19
_WRITE, _UPDATE, _DELETE, _PARTIAL = 30, 31, 32, 39
_OLD = {23: _WRITE, 24: _UPDATE, 25: _DELETE}  # MariaDB writes these


@dataclass(frozen=True, slots=True)
class TableMap:
    """A table map's own words."""

    schema: str
    table: str
    types: list[tuple[int, int]]
    metadata: TableMetadata
    raw: tuple[bytes, bytes, bytes]  # types, their metadata, optional metadata


@dataclass(frozen=True, slots=True)
class RowsEvent:
    """A rows event: `kind` is `I`, `U`, `D` or `P` (a partial update); `rows` are the bytes behind the bitmaps."""

    kind: str
    map: TableMap
    present: tuple[bytes, ...]
    rows: bytes


def log_end(connection: Connection[Any]) -> tuple[str, int]:
    """Return the file and offset where the log ends."""
    for statement in ("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"):
        try:
            found = rows(connection, statement)
        except Exception:
            continue
        return found[0][0], found[0][1]
    raise AssertionError("no binary log")


def row_events(connection: Connection[Any], start: tuple[str, int], table: str) -> list[RowsEvent]:
    """Return the row events of a table ('': of all) from a position on; the connection is of no use afterwards."""
    with connection.cursor() as cursor:
        for name in ("master", "source"):
            cursor.execute(f"SET @{name}_binlog_checksum = @@global.binlog_checksum")
        cursor.execute("SET @mariadb_slave_capability = 4")
    file, offset = start
    checksum = 4 if rows(connection, "SELECT @@global.binlog_checksum")[0][0] == "CRC32" else 0
    connection._execute_command(_COM_BINLOG_DUMP, struct.pack("<IHI", offset, _ONCE, 77) + file.encode())
    engine = "mariadb" if "MariaDB" in connection.get_server_info() else "mysql"
    maps: dict[int, TableMap] = {}
    events: list[RowsEvent] = []
    while True:
        packet = connection._read_packet().get_all_data()
        if packet[0] == 0xFE:
            return events
        kind, body = packet[5], packet[20 : len(packet) - checksum]
        if kind == _TABLE_MAP:
            number, found = _table_map(body, engine)
            maps[number] = found
            continue
        kind = _OLD.get(kind, kind)
        if kind not in (_WRITE, _UPDATE, _DELETE, _PARTIAL):
            continue
        event = _rows(kind, packet[5] != kind, body, maps)
        if not table or event.map.table == table:
            events.append(event)


def _number(body: bytes, at: int) -> tuple[int, int]:
    first = body[at]
    size = {252: 2, 253: 3, 254: 8}.get(first, 0)
    return (int.from_bytes(body[at + 1 : at + 1 + size], "little") if size else first), at + 1 + size


def _table_map(body: bytes, engine: str) -> tuple[int, TableMap]:
    number = int.from_bytes(body[:6], "little")
    at = 8
    names = []
    for _ in range(2):
        names.append(body[at + 1 : at + 1 + body[at]].decode())
        at += body[at] + 2
    count, at = _number(body, at)
    types, at = body[at : at + count], at + count
    size, at = _number(body, at)
    metadata, at = body[at : at + size], at + size + (count + 7) // 8
    parsed = parse_types(types, metadata)
    return number, TableMap(
        names[0], names[1], parsed, optional_metadata(body[at:], parsed, engine), (types, metadata, body[at:])
    )


def _rows(kind: int, old: bool, body: bytes, maps: dict[int, TableMap]) -> RowsEvent:
    at = 8
    if not old:
        at += int.from_bytes(body[at : at + 2], "little")
    count, at = _number(body, at)
    size = (count + 7) // 8
    bitmaps = 2 if kind in (_UPDATE, _PARTIAL) else 1
    present = tuple(body[at + i * size : at + (i + 1) * size] for i in range(bitmaps))
    letter = {_WRITE: "I", _UPDATE: "U", _DELETE: "D", _PARTIAL: "P"}[kind]
    return RowsEvent(letter, maps[int.from_bytes(body[:6], "little")], present, body[at + bitmaps * size :])
