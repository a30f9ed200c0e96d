"""Binlog events to frames: the packets of a replication stream become rows grouped by table.

What happens with every row is done without Python: here packets, event headers and checksums, in `binloggroups_cy`
positions, GTIDs and the ends of transactions, in `binlogtables_cy` table maps that are known and row events. Every
other event is handed over, so that nothing is passed by that nobody understood.

Formats: https://dev.mysql.com/doc/dev/mysql-server/latest/classBinary__log__event.html and
https://mariadb.com/docs/server/reference/clientserver-protocol/replication-protocol (events 160 and above).

This file runs as it is and is compiled by Cython where a compiler is there. Nothing in it does I/O.
"""

from __future__ import annotations

import zlib

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.binloggroups_cy import Groups
    from cython.cimports.cdcflow.codecs.binlogtables_cy import Tables
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
    from cython.cimports.libc.string import memmove
else:
    from cdcflow.codecs import loading

    Groups = loading.plain("cdcflow.codecs.binloggroups_cy").Groups
    Tables = loading.plain("cdcflow.codecs.binlogtables_cy").Tables

from cdcflow.codecs.frames_cy import MessageError

__all__ = ["COMMIT", "PIECE", "Decoder", "MessageError"]

# What `Decoder.event` may give beside the log's own event types, which are single bytes.
PIECE = 0x100  # the rows of the open transaction passed `piece_bytes`
COMMIT = 0x101  # a transaction ended after `hold`
EOF = 0x102  # the server ends the stream
ERROR = 0x103  # the server refuses; the body is its error packet

_HEADER = cython.declare(cython.Py_ssize_t, 19)
_CHECKSUM = cython.declare(cython.Py_ssize_t, 4)
_LARGEST_PACKET = cython.declare(cython.Py_ssize_t, 0xFFFFFF)
_PIECE_BYTES = cython.declare(cython.Py_ssize_t, 1 << 20)


@cython.final
@cython.cclass
class Decoder:
    """Turns packets, or bare events, into frames.

    The caller feeds bytes until all whole packets are used; `feed` stops early where Python has to look, and `event`
    says at what: a type of the log's own (the event is handed over whole and counts as read), PIECE or COMMIT.

    A table map that is not known, or not the same as before under its number, is handed over; `define` says what
    becomes of its rows.
    """

    groups: Groups
    tables: Tables
    stop_at_commit: cython.bint
    checksums: cython.bint
    packed: cython.bint  # events of an unpacked transaction: they have neither checksum nor position
    event_us: cython.longlong
    event_server: cython.uint
    event_type: cython.int
    event_flags: cython.int
    event_body: object

    def __init__(self, piece_bytes: int):
        self.groups = Groups()
        self.tables = Tables(self.groups, piece_bytes)
        self.stop_at_commit = False
        self.checksums = False
        self.packed = False
        self.event_us = 0
        self.event_server = 0
        self.event_type = 0
        self.event_flags = 0
        self.event_body = b""

    # What the stream reads and sets between two feeds.

    def place(self, file: int, offset: int) -> None:
        """Say that the next event stands at `offset` of log file number `file`."""
        self.groups.place(file, offset, 0)

    def resume(self, file: int, offset: int) -> None:
        """As `place`, where the server goes through the file from its head and leaves out what ends at `offset` or
        before: what it sends of the head has no place of its own, and the next transaction begins behind `offset`."""
        self.groups.place(file, offset, offset)

    def checked(self, checksums: bool) -> None:
        """Say whether every event ends in a CRC-32 of it."""
        self.checksums = checksums

    def frame(self, width: int, skip_until: int, idempotent_until: int) -> tuple:
        """Return (number, frame) of a new frame of `width` cells a row. The serial numbers say what `Follow` says."""
        return self.tables.frame(width, skip_until, idempotent_until)

    def define(self, number: int, body: bytes, frame: object, shape: object, until: int) -> None:
        """Say what becomes of rows under table `number`, as long as its table map is `body`.

        frame, shape: where they go and how they are decoded; None for rows that nobody wants. With `until`, a serial
        number, the map is handed over again from there on.
        """
        self.tables.define(number, body, frame, shape, until)

    def forget(self) -> None:
        """Forget every table map: shapes have changed, or numbers mean something else now."""
        self.tables.maps.clear()

    def hold(self, stop_at_commit: bool) -> None:
        """Make `feed` stop behind each transaction's end (or no longer)."""
        self.stop_at_commit = stop_at_commit

    def event(self) -> tuple:
        """Return and clear what stopped `feed`: (its type or 0, flags, body without checksum).

        The body of a compressed transaction (type 40) is a list of pieces, so that what was unpacked can be let go.
        """
        found: tuple = (self.event_type, self.event_flags, self.event_body)
        self.event_type = 0
        self.event_body = b""
        return found

    def status(self) -> tuple:
        """Return (whether a transaction is open, whether it said BEGIN, rows up to the last end of one, rows of the
        open one, transactions that ended since the last `take`)."""
        return (
            bool(self.groups.open),
            bool(self.groups.begun),
            self.tables.whole_order // 4,
            self.tables.open_rows,
            self.groups.ended,
        )

    def where(self) -> tuple:
        """Return (file number, offset behind the last event, offset behind the last transaction)."""
        return self.groups.file, self.groups.offset, self.groups.end_offset

    def serial(self) -> int:
        """Return the serial number of the place where the open transaction begins, or the next one will."""
        return self.groups.serial()

    def clock(self) -> tuple:
        """Return (time of the last event, commit time of the open transaction), microseconds, the source's clock."""
        return self.event_us, self.groups.commit_us

    def server(self) -> int:
        """Return the id of the server that the last event comes from first."""
        return self.event_server

    def begin(self, source: bytes, number: int, commit_us: int) -> None:
        """Begin a transaction whose GTID was handed over. `commit_us` 0: as the last event's header says."""
        self.groups.begin(source, number, commit_us if commit_us else self.event_us)

    def go_on(self) -> None:
        """Say that the open transaction goes on behind the statement that was handed over."""
        self.groups.begun = True

    def keep(self) -> None:
        """Decode every row of the open transaction, also those that would be skipped: it is not committed yet."""
        self.groups.kept = True

    def commit(self) -> None:
        """End the open transaction here."""
        self._commit()
        self.event_type = 0

    def discard(self) -> None:
        """Drop the rows of the open transaction and end it: it was rolled back."""
        self.tables.discard()
        self._commit()

    def take(self, everything: bool) -> tuple:
        """Remove and return rows: up to the last transaction's end, or with `everything` the open one's too.

        Returns:
            (frames, order, marks, transactions, first_commit_us, last_commit_us, gtids); a frame is (number, ops,
            after, after_sizes, before, before_sizes, idempotent), `gtids` the runs (source, first, last) of the
            transactions that ended.
        """
        if everything:
            self.tables.settle()
        return *self.tables.take(), *self.groups.take()

    # Bytes.

    def feed(self, buffer: bytearray, start: cython.Py_ssize_t) -> int:
        """Decode whole packets from `start`; return where it stopped: behind an event, or before a packet of which
        not all bytes are there.

        Raises:
            MessageError: a length, type or order that the protocol does not have.
        """
        p: cython.p_uchar
        at: cython.Py_ssize_t = start
        size: cython.Py_ssize_t = len(buffer)
        length: cython.Py_ssize_t
        stop: cython.bint
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(buffer))
        else:
            p = buffer
        while size - at >= 4:
            length = p[at] | (p[at + 1] << 8) | (p[at + 2] << 16)
            if size - at - 4 < length:
                break
            if length < 1:
                raise MessageError("an empty packet")
            if p[at + 4] != 0:
                self.event_body = bytes(buffer[at + 4 : at + 4 + length])
                self.event_type = EOF if p[at + 4] == 0xFE else ERROR
                return at + 4 + length
            if length == _LARGEST_PACKET:
                return self._joined(buffer, at)
            stop = self._event(buffer, p, at + 5, at + 4 + length)
            at += 4 + length
            if stop:
                break
        return at

    def feed_events(self, buffer: bytearray, start: cython.Py_ssize_t) -> int:
        """As `feed`, for events one behind the other out of an unpacked transaction: no packets, no checksums."""
        p: cython.p_uchar
        at: cython.Py_ssize_t = start
        size: cython.Py_ssize_t = len(buffer)
        length: cython.Py_ssize_t
        stop: cython.bint
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(buffer))
        else:
            p = buffer
        self.packed = True
        try:
            while size - at >= _HEADER:
                length = _le32(p, at + 9)
                if length < _HEADER:
                    raise MessageError("an event is shorter than its header")
                if size - at < length:
                    break
                stop = self._event(buffer, p, at, at + length)
                at += length
                if stop:
                    break
        finally:
            self.packed = False
        return at

    @cython.cfunc
    def _joined(self, buffer: bytearray, start: cython.Py_ssize_t) -> object:
        """Decode an event that fills several packets."""
        parts: list = []
        whole: cython.Py_ssize_t
        at: cython.Py_ssize_t = start
        p: cython.p_uchar
        joined: bytearray
        length: cython.Py_ssize_t = _LARGEST_PACKET
        while length == _LARGEST_PACKET:  # not taken apart before it is whole, or each piece would be copied often
            if len(buffer) - at < 4:
                return start
            length = int.from_bytes(buffer[at : at + 3], "little")
            at += 4 + length
        if len(buffer) < at:
            return start
        at = start
        length = _LARGEST_PACKET
        if cython.compiled:
            # Where it is: a copy of a value of many megabytes is what there is no room for.
            p = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(buffer))
            whole = start + 4
            while length == _LARGEST_PACKET:
                length = p[at] | (p[at + 1] << 8) | (p[at + 2] << 16)
                memmove(p + whole, p + at + 4, length)
                whole += length
                at += 4 + length
            self._event(buffer, p, start + 5, whole)
            return at
        while length == _LARGEST_PACKET:
            length = int.from_bytes(buffer[at : at + 3], "little")
            parts.append(bytes(buffer[at + 4 : at + 4 + length]))
            at += 4 + length
        joined = bytearray(b"".join(parts))
        self._event(joined, joined, 1, len(joined))
        return at

    @cython.cfunc
    @cython.exceptval(check=True)
    def _event(
        self, buffer: bytearray, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.bint:
        """Decode the event from `at` to `end`; return whether Python has to look."""
        kind: cython.int
        size: cython.Py_ssize_t = end - at
        if size < _HEADER:
            raise MessageError("an event is shorter than its header")
        if _le32(p, at + 9) != size:
            raise MessageError("an event's size is not its packet's")
        kind = p[at + 4]
        if self.checksums and not self.packed and kind != 15:
            if end - at < _HEADER + _CHECKSUM:
                raise MessageError("an event is too short for its checksum")
            end -= _CHECKSUM
            if zlib.crc32(memoryview(buffer)[at:end]) != _le32(p, end):
                raise MessageError("an event's checksum is wrong: the log is damaged, or was on its way here")
        if not self.packed:
            self.event_us = cython.cast(cython.longlong, _le32(p, at)) * 1_000_000
            self.event_server = _le32(p, at + 5)
            # Artificial events have no place in the file, and say so with a flag or with 0. A format description
            # that is sent first has the place that it had at the head of the file.
            if p[at + 17] & 0x20 or kind == 15 or kind == 27 or kind == 41:
                pass
            elif self.groups.resumed and not (kind == 33 or kind == 34 or kind == 42 or kind == 162):
                pass
            else:
                self.groups.move(_le32(p, at + 13), size)
        self.event_flags = p[at + 17] | (p[at + 18] << 8)
        at += _HEADER
        if kind == 19:
            if self.tables.is_known(p, at, end):
                return False
        elif 23 <= kind <= 25 or 30 <= kind <= 32 or kind == 39 or 166 <= kind <= 171:
            if not self.tables.rows(kind, p, at, end):
                return False
            self.event_type = PIECE
            return True
        elif kind == 16:
            return self._commit()
        elif kind == 33 or kind == 34:
            if end - at < 25:
                raise MessageError("a GTID event is too short")
            self._gtid(kind, p, at, end)
            return False
        elif kind == 2 and _is_begin(p, at, end):
            if not self.groups.open:  # a server without GTIDs begins a transaction like this
                self.groups.begin(b"", 0, self.event_us)
            self.groups.begun = True
            return False
        self.event_type = kind
        self.event_body = _pieces(p, at, end) if kind == 40 else _piece(p, at, end)
        return True

    @cython.cfunc
    def _gtid(self, kind: cython.int, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t):
        """flags, source's uuid, number, kind of clock, two logical clocks, commit time (since 8.0.1)."""
        commit_us: cython.longlong = self.event_us
        index: cython.int
        source: bytes = b""
        number: cython.longlong = 0
        if end - at >= 49 and p[at + 25] == 2:
            commit_us = 0
            for index in range(7):
                commit_us |= cython.cast(cython.longlong, p[at + 42 + index]) << (8 * index)
            commit_us &= 0x7FFFFFFFFFFFFF  # the highest bit says that the original commit time follows
        if kind == 33:
            source = _piece(p, at + 1, at + 17)
            number = _le64(p, at + 17)
        self.groups.begin(source, number, commit_us)

    @cython.cfunc
    @cython.exceptval(check=True)
    def _commit(self) -> cython.bint:
        self.groups.commit(self.tables.open_rows)
        self.tables.settle()
        if self.stop_at_commit:
            self.event_type = COMMIT
            return True
        return False


@cython.cfunc
@cython.exceptval(check=True)
def _is_begin(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
    """Whether a query event is a plain BEGIN, the last of its bytes."""
    if end - at < 13 + 6 or p[end - 6] != 0:
        return False
    if p[end - 5] != 0x42 or p[end - 4] != 0x45:
        return False
    return p[end - 3] == 0x47 and p[end - 2] == 0x49 and p[end - 1] == 0x4E


@cython.cfunc
def _piece(p: cython.p_uchar, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> bytes:
    if cython.compiled:
        return cython.cast(cython.p_char, p)[start:end]
    return bytes(memoryview(p)[start:end])


@cython.cfunc
def _pieces(p: cython.p_uchar, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> list:
    at: cython.Py_ssize_t
    found: list = []
    for at in range(start, end, _PIECE_BYTES):
        found.append(_piece(p, at, min(at + _PIECE_BYTES, end)))
    return found


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _le32(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.uint:
    value: cython.uint = p[at + 3]
    value = (value << 8) | p[at + 2]
    value = (value << 8) | p[at + 1]
    return (value << 8) | p[at]


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _le64(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.longlong:
    value: cython.longlong = _le32(p, at + 4)
    return (value << 32) | _le32(p, at)
