"""Binlog events to frames: the packets of a replication stream become rows grouped by table.

What happens with every row is done here: packets, event headers, checksums, positions, GTIDs, table maps that are
known, row events and the ends of transactions. Every other event is handed over, so that nothing is passed by that
nobody understood.

Formats: https://dev.mysql.com/doc/dev/mysql-server/latest/classBinary__log__event.html and
https://mariadb.com/docs/server/reference/clientserver-protocol/replication-protocol (events 160 and above).

This file runs as it is and is compiled by Cython where a compiler is there. Nothing in it does I/O.
"""

from __future__ import annotations

import sys
import zlib

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.binlogrow_cy import RowShape
    from cython.cimports.cdcflow.codecs.frames_cy import Arena, Frame
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memcpy
else:
    from cdcflow.codecs.binlogrow_cy import RowShape
    from cdcflow.codecs.frames_cy import Arena, Frame

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

# What one compressed row event may unpack to. Row events hold about 8 KB of rows, or one row, of at most 1 GB.
_MOST_UNPACKED = cython.declare(cython.Py_ssize_t, 1_100_000_000)

# The high part of a serial number is the log file's number, the low part the place in it.
_OFFSET_BITS = cython.declare(cython.int, 40)


@cython.final
@cython.cclass
class TableMap:
    """What row events with one table number are about."""

    body: bytes
    frame: Frame  # None: rows that nobody wants
    shape: RowShape
    until: cython.ulonglong  # without a frame: from this serial number on the table has to be looked at again

    def __init__(self, body: bytes, frame: object, shape: object, until: int):
        self.body = body
        self.frame = frame
        self.shape = shape
        self.until = until


@cython.final
@cython.cclass
class Decoder:
    """Turns packets, or bare events, into frames.

    The caller feeds bytes until all whole packets are used; `feed` stops early where Python has to look, and `event`
    says at what: a type of the log's own (the event is handed over whole and counts as read), PIECE or COMMIT.

    A table map that is not known, or not the same as before under its number, is handed over; `define` says what
    becomes of its rows.
    """

    maps: dict  # table number -> TableMap
    listed: list  # frames with rows, in order of first touch
    open_frames: list  # frames with rows of the open transaction
    order: Arena
    marks: Arena
    whole_order: cython.Py_ssize_t
    piece_bytes: cython.Py_ssize_t
    open_bytes: cython.Py_ssize_t
    whole_bytes: cython.Py_ssize_t
    open_rows: cython.Py_ssize_t
    next_number: cython.int
    stop_at_commit: cython.bint
    checksums: cython.bint
    in_group: cython.bint
    kept: cython.bint  # the rows of the open transaction are decoded whatever would be skipped
    begun: cython.bint  # the open transaction has said BEGIN: a statement in it does not end it
    packed: cython.bint  # events of an unpacked transaction: they have neither checksum nor position
    file: cython.ulonglong
    offset: cython.ulonglong
    unplaced: cython.ulonglong  # bytes of events behind `offset` that did not say where they end
    resumed: cython.ulonglong  # transactions before this offset do not come; 0: they are not skipped
    event_start: cython.ulonglong
    group_start: cython.ulonglong
    end_offset: cython.ulonglong
    group_us: cython.longlong
    event_us: cython.longlong
    event_server: cython.uint
    first_commit_us: cython.longlong
    last_commit_us: cython.longlong
    group_source: bytes
    group_number: cython.longlong
    gtids: list  # runs of (source, first, last) that ended since the last `take`
    run_source: bytes
    run_first: cython.longlong
    run_last: cython.longlong
    transactions: cython.Py_ssize_t
    event_type: cython.int
    event_flags: cython.int
    event_body: bytes

    def __init__(self, piece_bytes: int):
        self.maps = {}
        self.listed = []
        self.open_frames = []
        self.order = Arena()
        self.marks = Arena()
        self.whole_order = 0
        self.piece_bytes = piece_bytes
        self.open_bytes = 0
        self.whole_bytes = 0
        self.open_rows = 0
        self.next_number = 0
        self.stop_at_commit = False
        self.checksums = False
        self.in_group = False
        self.kept = False
        self.begun = False
        self.packed = False
        self.file = 0
        self.offset = 0
        self.unplaced = 0
        self.resumed = 0
        self.event_start = 0
        self.group_start = 0
        self.end_offset = 0
        self.group_us = 0
        self.event_us = 0
        self.event_server = 0
        self.first_commit_us = 0
        self.last_commit_us = 0
        self.group_source = b""
        self.group_number = 0
        self.gtids = []
        self.run_source = b""
        self.run_first = 0
        self.run_last = 0
        self.transactions = 0
        self.event_type = 0
        self.event_flags = 0
        self.event_body = b""

    # What the stream reads and sets between two feeds.

    def place(self, file: int, offset: int) -> None:
        """Say that the next event stands at `offset` of log file number `file`."""
        self.file = file
        self.offset = offset
        self.unplaced = 0
        self.resumed = 0
        if not self.in_group:
            self.end_offset = offset

    def resume(self, file: int, offset: int) -> None:
        """As `place`, where the server goes through the file from its head and leaves out what ends at `offset` or
        before: what it sends of the head has no place of its own, and the next transaction begins behind `offset`."""
        self.place(file, offset)
        self.resumed = offset

    def checked(self, checksums: bool) -> None:
        """Say whether every event ends in a CRC-32 of it."""
        self.checksums = checksums

    def frame(self, width: int, skip_until: int, idempotent_until: int) -> tuple:
        """Return (number, frame) of a new frame of `width` cells a row. The serial numbers say what `Follow` says."""
        made = Frame(self.next_number, width, skip_until, idempotent_until)
        self.next_number += 1
        return self.next_number - 1, made

    def define(self, number: int, body: bytes, frame: object, shape: object, until: int) -> None:
        """Say what becomes of rows under table `number`, as long as its table map is `body`.

        frame, shape: where they go and how they are decoded; None for rows that nobody wants. With `until`, a serial
        number, the map is handed over again from there on.
        """
        self.maps[number] = TableMap(body, frame, shape, until)

    def forget(self) -> None:
        """Forget every table map: shapes have changed, or numbers mean something else now."""
        self.maps.clear()

    def hold(self, stop_at_commit: bool) -> None:
        """Make `feed` stop behind each transaction's end (or no longer)."""
        self.stop_at_commit = stop_at_commit

    def event(self) -> tuple:
        """Return and clear what stopped `feed`: (its type or 0, flags, body without checksum)."""
        found: tuple = (self.event_type, self.event_flags, self.event_body)
        self.event_type = 0
        self.event_body = b""
        return found

    def status(self) -> tuple:
        """Return (whether a transaction is open, whether it said BEGIN, rows up to the last end of one, rows of the
        open one, transactions that ended since the last `take`)."""
        return bool(self.in_group), bool(self.begun), self.whole_order // 4, self.open_rows, self.transactions

    def where(self) -> tuple:
        """Return (file number, offset behind the last event, offset behind the last transaction)."""
        return self.file, self.offset, self.end_offset

    def serial(self) -> int:
        """Return the serial number of the place where the open transaction begins, or the next one will."""
        if self.in_group:
            return self.group_start
        return (self.file << _OFFSET_BITS) | self.offset

    def clock(self) -> tuple:
        """Return (time of the last event, commit time of the open transaction), microseconds, the source's clock."""
        return self.event_us, self.group_us

    def server(self) -> int:
        """Return the id of the server that the last event comes from first."""
        return self.event_server

    def begin(self, source: bytes, number: int, commit_us: int) -> None:
        """Begin a transaction whose GTID was handed over. `commit_us` 0: as the last event's header says."""
        self._begin(source, number, commit_us if commit_us else self.event_us)

    def go_on(self) -> None:
        """Say that the open transaction goes on behind the statement that was handed over."""
        self.begun = True

    def keep(self) -> None:
        """Decode every row of the open transaction, also those that would be skipped: it is not committed yet."""
        self.kept = True

    def commit(self) -> None:
        """End the open transaction here."""
        self._commit()
        self.event_type = 0

    def discard(self) -> None:
        """Drop the rows of the open transaction and end it: it was rolled back."""
        frame: Frame
        for frame in self.open_frames:
            frame.ops.cut(frame.whole_rows)
            frame.after.cut(frame.whole_after)
            frame.after_sizes.cut(4 * frame.whole_rows)
            frame.before.cut(frame.whole_before)
            frame.before_sizes.cut(4 * frame.whole_rows)
            frame.touched = False
        self.open_frames.clear()
        self.order.cut(self.whole_order)
        self.open_rows = 0
        self.open_bytes = 0
        self._commit()

    def take(self, everything: bool) -> tuple:
        """Remove and return rows: up to the last transaction's end, or with `everything` the open one's too.

        Returns:
            (frames, order, marks, transactions, first_commit_us, last_commit_us, gtids); a frame is (number, ops,
            after, after_sizes, before, before_sizes, idempotent), `gtids` the runs (source, first, last) of the
            transactions that ended.
        """
        frame: Frame
        taken: list = []
        left: list = []
        if everything:
            self._settle()
            self.open_rows = 0
            self.open_bytes = 0
        for frame in self.listed:
            if frame.whole_rows > 0:
                taken.append(frame.take())
            if frame.ops.size > 0:
                left.append(frame)
        self.listed = left
        self._end_run()
        found: tuple = (
            taken,
            self.order.take(self.whole_order),
            self.marks.take(self.marks.size),
            self.transactions,
            self.first_commit_us,
            self.last_commit_us,
            self.gtids,
        )
        self.gtids = []
        self.whole_order = 0
        self.transactions = 0
        self.first_commit_us = 0
        self.last_commit_us = 0
        self.whole_bytes = 0
        return found

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
        """Decode an event that fills several packets: plain Python, because it is rare."""
        parts: list = []
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
        while length == _LARGEST_PACKET:
            length = int.from_bytes(buffer[at : at + 3], "little")
            parts.append(bytes(buffer[at + 4 : at + 4 + length]))
            at += 4 + length
        joined = bytearray(b"".join(parts))
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(joined))
        else:
            p = joined
        self._event(joined, p, 1, len(joined))
        return at

    @cython.cfunc
    @cython.exceptval(check=True)
    def _event(
        self, buffer: bytearray, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.bint:
        """Decode the event from `at` to `end`; return whether Python has to look."""
        kind: cython.int
        position: cython.ulonglong
        floor: cython.ulonglong
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
            position = _le32(p, at + 13)
            # Artificial events have no place in the file, and say so with a flag or with 0. A format description
            # that is sent first has the place that it had at the head of the file.
            if p[at + 17] & 0x20 or kind == 15 or kind == 27 or kind == 41:
                pass
            elif self.resumed and not (kind == 33 or kind == 34 or kind == 42 or kind == 162):
                pass
            elif position == 0:  # MariaDB says only at a transaction's end where it is
                self.unplaced += size
            else:
                # Only the low 32 bits are sent: it is the first such place behind what came before. Of what has no
                # place the sizes are taken for a little less than they are, should the file have them otherwise.
                floor = self.offset
                if self.unplaced > 0x7FFFFFFF:
                    floor += self.unplaced - 0x7FFFFFFF
                position |= floor & 0xFFFFFFFF00000000
                if position < floor:
                    position += 1 << 32
                self.event_start = self.offset
                self.offset = position
                self.unplaced = 0
                self.resumed = 0
        self.event_flags = p[at + 17] | (p[at + 18] << 8)
        at += _HEADER
        if kind == 19:
            if self._is_known(p, at, end):
                return False
        elif 23 <= kind <= 25 or 30 <= kind <= 32 or kind == 39 or 166 <= kind <= 171:
            return self._rows(kind, p, at, end)
        elif kind == 16:
            return self._commit()
        elif kind == 33 or kind == 34:
            if end - at < 25:
                raise MessageError("a GTID event is too short")
            self._gtid(kind, p, at, end)
            return False
        elif kind == 2 and _is_begin(p, at, end):
            if not self.in_group:  # a server without GTIDs begins a transaction like this
                self._begin(b"", 0, self.event_us)
            self.begun = True
            return False
        self.event_type = kind
        self.event_body = bytes(buffer[at:end])
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
        self._begin(source, number, commit_us)

    @cython.cfunc
    def _begin(self, source: bytes, number: cython.longlong, commit_us: cython.longlong):
        if self.in_group:
            raise MessageError("a transaction begins within another one")
        self.in_group = True
        # Behind what the server wrote for itself since the last one: a copy may have been taken behind that too.
        self.group_start = (self.file << _OFFSET_BITS) | self.event_start
        self.group_source = source
        self.group_number = number
        self.group_us = commit_us

    @cython.cfunc
    def _settle(self):
        frame: Frame
        for frame in self.open_frames:
            frame.settle()
            frame.touched = False
        self.open_frames.clear()
        self.whole_order = self.order.size
        self.whole_bytes += self.open_bytes

    @cython.cfunc
    def _end_run(self):
        if self.run_last:
            self.gtids.append((self.run_source, self.run_first, self.run_last))
        self.run_last = 0

    @cython.cfunc
    @cython.exceptval(check=True)
    def _commit(self) -> cython.bint:
        if not self.in_group:
            raise MessageError("a transaction ends that never began")
        self.in_group = False
        self.kept = False
        self.begun = False
        self._settle()
        self.end_offset = self.offset
        if self.group_number:
            if self.run_last and self.group_number == self.run_last + 1 and self.group_source == self.run_source:
                self.run_last = self.group_number
            else:
                self._end_run()
                self.run_source = self.group_source
                self.run_first = self.run_last = self.group_number
        if self.transactions == 0:
            self.first_commit_us = self.group_us
        self.last_commit_us = self.group_us
        self.transactions += 1
        self.marks.reserve(32)
        self.marks.int64(self.open_rows)
        self.marks.int64(cython.cast(cython.longlong, (self.file << _OFFSET_BITS) | self.end_offset))
        self.marks.int64(self.group_us)
        self.marks.int64(self.group_number)
        self.open_rows = 0
        self.open_bytes = 0
        if self.stop_at_commit:
            self.event_type = COMMIT
            return True
        return False

    # Tables and rows.

    @cython.cfunc
    @cython.exceptval(check=True)
    def _is_known(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        """Whether the table map from `at` to `end` is what stands under its number already."""
        known: TableMap
        length: cython.Py_ssize_t
        index: cython.Py_ssize_t
        q: cython.p_uchar
        if end - at < 8:
            raise MessageError("a table map is too short")
        if _le48(p, at) not in self.maps:
            return False
        known = self.maps[_le48(p, at)]
        length = len(known.body)
        if length != end - at:
            return False
        if cython.compiled:
            q = cython.cast(cython.p_uchar, PyBytes_AS_STRING(known.body))
            for index in range(length):
                if q[index] != p[at + index]:
                    return False
        elif known.body != p[at:end]:
            return False
        return known.until == 0 or (known.until > self.serial() and not self.kept)

    @cython.cfunc
    @cython.exceptval(check=True)
    def _rows(self, kind: cython.int, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        known: TableMap
        width: cython.Py_ssize_t
        present: cython.Py_ssize_t
        operation: cython.int
        number: cython.longlong
        plain: bytes
        if end - at < 10:
            raise MessageError("a row event is too short")
        if not self.in_group:
            raise MessageError("row outside a transaction")
        number = _le48(p, at)
        at += 8
        if kind == 166 or kind == 167 or kind == 168:
            operation = kind - 166
        elif kind >= 169:
            operation = kind - 169
        elif kind == 39:
            operation = 1
        elif kind >= 30:
            operation = kind - 30
        else:
            operation = kind - 23
        if 30 <= kind <= 39 or kind >= 169:  # version 2: extra data, its length included
            width = p[at] | (p[at + 1] << 8)
            if width < 2 or width > end - at:
                raise MessageError("a row event ends inside its extra data")
            at += width
        if number not in self.maps:
            if number == 0xFFFFFF:  # says only that a statement has ended
                return False
            raise MessageError(f"a row of table {number}, which was not described")
        known = self.maps[number]
        if known.frame is None or (known.frame.skip_until > self.group_start and not self.kept):
            return False
        if at >= end:
            raise MessageError("a row event ends before its columns")
        width = p[at]
        at += 1
        if width >= 251:
            if width != 252 or end - at < 2:
                raise MessageError("a row event has an impossible number of columns")
            width = p[at] | (p[at + 1] << 8)
            at += 2
        if width != known.shape.columns:
            raise MessageError(f"a row has {width} columns, its table {known.shape.columns}")
        present = at
        at += (width + 7) // 8 * (2 if operation == 1 else 1)
        if at > end:
            raise MessageError("a row event ends inside its columns")
        if kind >= 166:
            plain = _unpacked(_piece(p, present, at), _piece(p, at, end))
            if cython.compiled:
                return self._images(
                    kind,
                    operation,
                    known,
                    cython.cast(cython.p_uchar, PyBytes_AS_STRING(plain)),
                    0,
                    at - present,
                    len(plain),
                    width,
                )
            return self._images(kind, operation, known, plain, 0, at - present, len(plain), width)
        return self._images(kind, operation, known, p, present, at, end, width)

    @cython.cfunc
    @cython.exceptval(check=True)
    def _images(
        self,
        kind: cython.int,
        operation: cython.int,
        known: TableMap,
        p: cython.p_uchar,
        present: cython.Py_ssize_t,
        at: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        width: cython.Py_ssize_t,
    ) -> cython.bint:
        """Decode every row from `at` to `end`; the bitmaps of their columns stand at `present`."""
        frame: Frame = known.frame
        shape: RowShape = known.shape
        new_present: cython.Py_ssize_t = present + (width + 7) // 8
        before_start: cython.Py_ssize_t
        after_start: cython.Py_ssize_t
        start: cython.Py_ssize_t
        lacking: cython.bint = operation == 1 and not _is_full(p, new_present, width)
        # MySQL logs no byte of a row that was inserted without any column, where its row image is minimal.
        bare: cython.bint = at == end and operation == 0
        if at >= end and not bare:
            raise MessageError("a row event without rows")
        if not frame.touched:
            frame.touched = True
            self.open_frames.append(frame)
            if frame.ops.size == 0:
                self.listed.append(frame)
        if frame.idempotent_until > self.group_start:
            frame.idempotent = True
        while at < end or bare:
            start = at
            before_start = frame.before.size
            after_start = frame.after.size
            frame.ops.reserve(1)
            if operation == 0:
                at = shape.image(frame.after, p, at, end, present, True)
                frame.ops.byte(0x49)
            elif operation == 2:
                at = shape.image(frame.before, p, at, end, present, False)
                frame.ops.byte(0x44)
            else:
                if kind == 39:
                    at = shape.partial(frame.before, frame.after, p, at, end, present, new_present)
                else:
                    at = shape.image(frame.before, p, at, end, present, False)
                    at = shape.image(frame.after, p, at, end, new_present, False)
                if lacking:
                    _fill(frame.after, after_start, frame.before.piece(before_start, frame.before.size), frame.width)
                frame.ops.byte(0x55)
            if at <= start and not bare:
                raise MessageError("a row without any column")
            bare = False
            frame.after_sizes.reserve(4)
            frame.after_sizes.int32(cython.cast(cython.int, frame.after.size - after_start))
            frame.before_sizes.reserve(4)
            frame.before_sizes.int32(cython.cast(cython.int, frame.before.size - before_start))
            self.order.reserve(4)
            self.order.int32(frame.number)
            self.open_rows += 1
            self.open_bytes += frame.after.size - after_start + frame.before.size - before_start + 13
        if self.open_bytes > self.piece_bytes:
            self.event_type = PIECE
            return True
        return False


@cython.cfunc
@cython.exceptval(check=True)
def _fill(arena: Arena, start: cython.Py_ssize_t, before: bytes, width: cython.int) -> cython.bint:
    """Put the old row's cells where the new row has none: under a row image that is not full, the key among them."""
    after: bytes = arena.piece(start, arena.size)
    p: cython.p_uchar
    q: cython.p_uchar
    at: cython.Py_ssize_t = 0
    old: cython.Py_ssize_t = 0
    size: cython.Py_ssize_t
    old_size: cython.Py_ssize_t
    length: cython.int
    old_length: cython.int
    index: cython.int
    arena.cut(start)
    arena.reserve(len(after) + len(before))
    if cython.compiled:
        p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(after))
        q = cython.cast(cython.p_uchar, PyBytes_AS_STRING(before))
    else:
        p, q = after, before
    for index in range(width):
        length = _int32(p, at)
        old_length = _int32(q, old)
        size = 4 + length if length > 0 else 4
        old_size = 4 + old_length if old_length > 0 else 4
        if length == -2:
            arena.copy(q, old, old_size)
        else:
            arena.copy(p, at, size)
        at += size
        old += old_size
    return False


@cython.cfunc
@cython.exceptval(check=False)
def _is_full(p: cython.p_uchar, at: cython.Py_ssize_t, width: cython.Py_ssize_t) -> cython.bint:
    """Whether a bitmap has every column."""
    index: cython.Py_ssize_t
    for index in range(width // 8):
        if p[at + index] != 0xFF:
            return False
    return width % 8 == 0 or (p[at + width // 8] | (0xFF << (width % 8)) & 0xFF) == 0xFF


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _int32(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    """Return the native int32 at `at`."""
    value: cython.int = 0
    if cython.compiled:
        memcpy(cython.address(value), p + at, 4)
        return value
    return int.from_bytes(p[at : at + 4], sys.byteorder, signed=True)


def _unpacked(bitmaps: bytes, packed: bytes) -> bytes:
    """Return the bitmaps and, behind them, the rows of a row event that MariaDB compressed.

    The first byte has 0x80, the algorithm (0 is zlib) in bits 4 to 6 and the number of length bytes, which follow,
    big-endian, before the compressed rows.
    """
    if not packed or not packed[0] & 0x80 or packed[0] & 0x70:
        raise MessageError("a compressed row event of an unknown kind")
    count = packed[0] & 0x07
    size = int.from_bytes(packed[1 : 1 + count], "big")
    if not 0 < count <= 4 or size > _MOST_UNPACKED:
        raise MessageError("a compressed row event with an impossible size")
    unpacker = zlib.decompressobj()
    try:
        rows = unpacker.decompress(packed[1 + count :], size + 1)
    except zlib.error as error:
        raise MessageError(f"a compressed row event cannot be unpacked: {error}") from None
    if len(rows) != size or not unpacker.eof:
        raise MessageError("a compressed row event has another size than it says")
    return bitmaps + rows


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
    return bytes(p[start:end])


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
def _le48(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.longlong:
    value: cython.longlong = p[at + 4] | (p[at + 5] << 8)
    return (value << 32) | _le32(p, at)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _le64(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.longlong:
    value: cython.longlong = _le32(p, at + 4)
    return (value << 32) | _le32(p, at)
