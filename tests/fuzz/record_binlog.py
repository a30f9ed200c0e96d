"""Record the corpus of the binlog's events: `python -m tests.fuzz.record_binlog mysql://root@host mariadb://root@host`.

Runs statements that bring every event type that a server writes, and keeps each group of them as its packets, without
checksums: a changed one would be refused for that alone. The database `fuzz_events` is dropped at the end.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

from tests.fuzz.exercise import CORPUS
from tests.fuzz.packed import Input, pack
from tests.servers.mysql_session import connect_to, rows

TABLES = (
    "CREATE TABLE item (id INT PRIMARY KEY, name VARCHAR(40), price DECIMAL(10,2), at DATETIME(3), data BLOB);"
    "CREATE TABLE big (id INT PRIMARY KEY, text MEDIUMTEXT)"
)
BOTH = {
    "rows": "INSERT INTO item VALUES (1, 'one', 1.5, NOW(3), x'00ff'), (2, NULL, NULL, NULL, NULL);"
    "BEGIN; UPDATE item SET name = 'two'; DELETE FROM item WHERE id = 1; COMMIT",
    "ddl": "ALTER TABLE item ADD COLUMN more INT; INSERT INTO item (id, more) VALUES (7, 1);"
    "TRUNCATE TABLE big; FLUSH BINARY LOGS; INSERT INTO item (id) VALUES (8)",
    "pieces": "BEGIN; INSERT INTO big VALUES (1, REPEAT('x', 3000)), (2, REPEAT('y', 3000));"
    "INSERT INTO big VALUES (3, REPEAT('z', 3000)); COMMIT",
    "xa": "XA START 'a','b',7; INSERT INTO item (id) VALUES (20); XA END 'a','b',7; XA PREPARE 'a','b',7;"
    "XA COMMIT 'a','b',7; XA START 'c'; INSERT INTO item (id) VALUES (21); XA END 'c'; XA COMMIT 'c' ONE PHASE",
}
OF_ENGINE = {
    "mysql": {
        "packed": "SET SESSION binlog_transaction_compression = ON; INSERT INTO big VALUES (10, REPEAT('ab', 2000));"
        "SET SESSION binlog_transaction_compression = OFF",
        "tagged": "SET gtid_next = 'AUTOMATIC:fuzz'; INSERT INTO item (id) VALUES (30); SET gtid_next = 'AUTOMATIC'",
        "partial": "SET SESSION binlog_row_image = 'MINIMAL'; UPDATE item SET name = 'm'; DELETE FROM item;"
        "SET SESSION binlog_row_image = 'FULL'",
    },
    "mariadb": {
        "packed": "SET GLOBAL log_bin_compress = ON; INSERT INTO big VALUES (10, REPEAT('ab', 2000));"
        "UPDATE big SET text = REPEAT('cd', 2000) WHERE id = 10; SET GLOBAL log_bin_compress = OFF",
    },
}
DUMP = 0x12


def packets(url: str, file: str, offset: int, end: tuple[str, int]) -> list[bytes]:
    """Return the packets of the log from one place to another."""
    connection: Any = connect_to(url, ssl_disabled=True)
    rows(connection, "SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32'")
    summed = rows(connection, "SELECT @@global.binlog_checksum") == [("CRC32",)]
    rows(connection, "SET @mariadb_slave_capability = 4, @master_heartbeat_period = 1000000000")
    connection._execute_command(DUMP, struct.pack("<IHI", offset, 0, 4_000_000_001) + file.encode())
    line: socket.socket = connection._sock
    line.settimeout(10)
    found: list[bytes] = []
    current = file

    def read(size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            got += line.recv(size - len(got))
        return bytes(got)

    while True:
        packet = bytearray(read(int.from_bytes(read(4)[:3], "little")))[1:]
        if summed and packet[4] != 15:
            del packet[-4:]
            packet[9:13] = len(packet).to_bytes(4, "little")
        found.append(bytes(packet))
        if packet[4] == 4:  # rotate
            current = packet[27:].decode()
        elif current == end[0] and int.from_bytes(packet[13:17], "little") >= end[1]:
            connection._force_close()
            return found


def log_end(connection: Any, engine: str) -> tuple[str, int]:
    """Return the file and the offset where the log ends."""
    for statement in ("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"):
        try:
            ((file, offset, *_),) = rows(connection, statement)
            return str(file), int(offset)
        except Exception:  # the one of the two that the server does not know
            continue
    raise RuntimeError(engine)


def record(url: str, engine: str) -> None:
    """Run every group of statements and keep what the log says of it."""
    connection = connect_to(url)
    rows(connection, "DROP DATABASE IF EXISTS fuzz_events; CREATE DATABASE fuzz_events; USE fuzz_events;" + TABLES)
    (CORPUS / "binlog").mkdir(exist_ok=True)
    for name, statements in {**BOTH, **OF_ENGINE[engine]}.items():
        file, offset = log_end(connection, engine)
        rows(connection, statements)
        kept = packets(url, file, offset, log_end(connection, engine))
        found = Input(bytes([engine == "mariadb"]), tuple(kept))
        (CORPUS / "binlog" / f"real-{engine}-{name}.bin").write_bytes(pack(found))
    rows(connection, "DROP DATABASE fuzz_events")


if __name__ == "__main__":
    for given, engine in zip(sys.argv[1:], ("mysql", "mariadb"), strict=True):
        record(given, engine)
