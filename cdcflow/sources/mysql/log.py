"""The connection that a binlog comes through: how it is asked for, and its bytes as they arrive.

Protocol: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication.html and
https://mariadb.com/docs/server/reference/clientserver-protocol/replication-protocol
"""

from __future__ import annotations

import re
import select
import ssl
import struct
import time
import uuid
from contextlib import suppress
from typing import Any, Final

import pymysql

from cdcflow.engines.mysql.connect import connect, flavour, safe_url
from cdcflow.engines.mysql.errors import translate
from cdcflow.engines.mysql.names import literal
from cdcflow.engines.mysql.rowfaults import code
from cdcflow.errors import AccessDenied, OperatorError, PositionLost, SourceUnavailable
from cdcflow.sources.mysql.gtids import MariadbGtids, MysqlGtids
from cdcflow.sources.mysql.log_end import log_files
from cdcflow.sources.mysql.position import Binlog

_REGISTER_REPLICA: Final = 0x15
_BINLOG_DUMP: Final = 0x12
_BINLOG_DUMP_GTID: Final = 0x1E
_THROUGH_GTID: Final = 0x04

_ACCESS_DENIED: Final = 1045

# What one `recv` takes at most.
_READ_BYTES: Final = 1 << 20

# What one `receive` collects while there is more.
_ENOUGH_BYTES: Final = 1 << 19

# The server says that it lives this often when the log is quiet, and is given up when it has said nothing for long.
HEARTBEAT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 60.0

# A namespace for the uuid under which a pipeline reads: with the same one, a server ends what is left of a connection
# that was lost on our side only.
_NAMESPACE: Final = uuid.UUID("7d1d5c0e-6f0b-4d3a-9d5c-9b5f1e0c6a11")

# Beyond, the position does not fit into the older command; a file's first event stands behind four bytes.
_OFFSET_LIMIT: Final = 1 << 32
_HEAD: Final = 4


class BinlogConnection:
    """One replication connection, open at `start`. `buffer` holds what arrived and was not taken off it yet."""

    def __init__(self, url: str, pipeline: str, server_id: int, start: Binlog, server: str) -> None:
        """Connect and ask for the log behind `start`.

        server: the identity of the server that is there, as `Binlog.server`: with another one than `start` has, only
            GTIDs say where to go on.

        Raises:
            SourceUnavailable, AccessDenied, OperatorError: the log cannot be had.
        """
        self.address = safe_url(url)
        self.buffer = bytearray()
        self._heard = time.monotonic()
        self._closed = False
        self._connection: Any = None
        self._connection = connect(url, side="source", application=f"cdcflow {pipeline} log")
        try:
            self.flavour = flavour(self._connection)
            self.checksums = self._prepare(pipeline, server_id)
            self.begin, by_gtid = self._place(start, server)
            self.exact = not (by_gtid and isinstance(start.gtids, MariadbGtids) and len(start.gtids.domains) > 1)
            self._ask(server_id, start, by_gtid=by_gtid)
        except (pymysql.Error, OSError) as error:
            self.close()
            if code(error) == _ACCESS_DENIED:  # MariaDB's word for who may log in and not read the log
                raise self._may_not_read(error) from None
            raise translate(error, side="source", at=self.address) from None
        except BaseException:
            self.close()
            raise
        self._socket = self._connection._sock
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def receive(self, wait: float) -> bool:
        """Add to `buffer` what has arrived, waiting up to `wait` seconds for something; return whether it grew.

        Raises:
            SourceUnavailable: the connection is gone, or has been silent for too long.
        """
        try:
            if not self._pending() and not self._poll.poll(max(0, int(wait * 1000))):
                self._expect_life()
                return False
            grown = 0
            # Through TLS each call gives 16 KB at most.
            while grown < _ENOUGH_BYTES:
                try:
                    piece = self._socket.recv(_READ_BYTES)
                except (ssl.SSLWantReadError, BlockingIOError):
                    break
                if not piece:
                    self._closed = True
                    break
                grown += len(piece)
                self.buffer += piece
                if not self._pending() and not self._poll.poll(0):
                    break
        except OSError as error:
            raise translate(error, side="source", at=self.address) from None
        if self._closed and not grown:
            raise SourceUnavailable(
                "the source closed the connection", at=self.address, why="it is stopping, or ended our session"
            )
        self._heard = time.monotonic()
        return grown > 0

    def more(self) -> bool:
        """Return whether something has arrived already that was not received yet: we are behind."""
        try:
            return self._pending() or bool(self._poll.poll(0))
        except OSError:
            return False

    def close(self) -> None:
        """Disconnect. Safe to call twice."""
        if self._connection is not None:
            with suppress(pymysql.Error, OSError):
                self._connection._force_close()
            self._connection = None

    def _may_not_read(self, error: Exception) -> AccessDenied:
        found = re.search(r"'([^']*)'@'([^']*)'", str(error))
        account = f"{literal(found[1])}@{literal(found[2])}" if found else "..."
        return AccessDenied(
            "the user lacks the privilege REPLICATION SLAVE at the source",
            at=self.address,
            why="the source does not let the user read its binary log",
            do=f"GRANT REPLICATION SLAVE ON *.* TO {account}",
        )

    # -- asking

    def _prepare(self, pipeline: str, server_id: int) -> bool:
        """Set what the dump will look like; return whether its events carry checksums."""
        mariadb = self.flavour.engine == "mariadb"
        heartbeat = int(HEARTBEAT_SECONDS * 1e9)
        ours = uuid.uuid5(_NAMESPACE, f"{pipeline} {server_id}")
        with self._connection.cursor() as cursor:
            for statement in (
                f"SET @master_heartbeat_period = {heartbeat}, @source_heartbeat_period = {heartbeat}",
                "SET @master_binlog_checksum = @@global.binlog_checksum,"
                " @source_binlog_checksum = @@global.binlog_checksum",
                f"SET @slave_uuid = '{ours}', @replica_uuid = '{ours}'",
                # We read when there is room, which may be hours from now.
                "SET net_write_timeout = 31536000",
            ):
                cursor.execute(statement)
            if mariadb:
                cursor.execute("SET @mariadb_slave_capability = 4")  # GTID events as they are
            cursor.execute("SELECT @@global.binlog_checksum")
            row = cursor.fetchone()
        return bool(row) and str(row[0]).upper() == "CRC32"

    def _place(self, start: Binlog, server: str) -> tuple[tuple[str, int], bool]:
        """Return where to read from, and whether that is found by the GTIDs: on another server, and where the file was
        purged of which all was read.

        A place that cannot be asked for, and that GTIDs do not say, is reached from the head of its file.
        """
        own, begin = (start.file, start.offset), start.begin
        there = start.server == server
        files = log_files(self._connection) if there and start.gtids is not None else None
        if start.prepared is None and (not there or (files is not None and begin[0] not in files)):
            begin = own  # what is there only perhaps stops nobody
        by_gtid = not there or (files is not None and begin[0] not in files)
        if not by_gtid and begin[1] >= _OFFSET_LIMIT and (start.gtids is None or begin != own):
            begin = (begin[0], _HEAD)
        return begin, by_gtid

    def _ask(self, server_id: int, start: Binlog, *, by_gtid: bool) -> None:
        name = b"cdcflow"
        # server id, then length-prefixed host, user and password, port, rank, source id
        body = struct.pack("<I", server_id) + bytes([len(name)]) + name + b"\0\0" + struct.pack("<HII", 0, 0, 0)
        self._connection._execute_command(_REGISTER_REPLICA, body)
        self._connection._read_ok_packet()
        file, offset = self.begin
        if by_gtid and start.prepared is not None:
            raise PositionLost(
                "XA transactions were open when the pipeline stopped, and their rows cannot be read any more",
                at=self.address,
                why=f"they stand in the log of server {start.server}, from {file}:{offset} on; it was purged, or the"
                " source is another server now",
                do="cdcflow resync --all",
            )
        if not by_gtid and offset < _OFFSET_LIMIT:
            request = struct.pack("<IHI", offset, 0, server_id) + file.encode()
            self._connection._execute_command(_BINLOG_DUMP, request)
        elif isinstance(start.gtids, MysqlGtids):
            gtids = start.gtids.encode()
            request = struct.pack("<HIIQI", _THROUGH_GTID, server_id, 0, _HEAD, len(gtids)) + gtids
            self._connection._execute_command(_BINLOG_DUMP_GTID, request)
        elif start.gtids is not None:
            with self._connection.cursor() as cursor:
                cursor.execute("SET @slave_connect_state = %s", [str(start.gtids)])
                cursor.execute("SET @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0")
            self._connection._execute_command(_BINLOG_DUMP, struct.pack("<IHI", _HEAD, 0, server_id))
        else:
            raise OperatorError(
                "the log of this server cannot be gone on with",
                at=self.address,
                why=f"the position {start} is another server's and has no GTIDs",
                do="cdcflow resync --all",
            )

    # -- hearing

    def _pending(self) -> bool:
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def _expect_life(self) -> None:
        if time.monotonic() - self._heard > SILENCE_SECONDS:
            raise SourceUnavailable(
                "the source has been silent for too long",
                at=self.address,
                why=f"it should say that it lives every {HEARTBEAT_SECONDS:.0f} s",
            )

    def heard(self) -> None:
        """Count the time in which nothing was read, because there was no room, as if the server had spoken."""
        self._heard = time.monotonic()
