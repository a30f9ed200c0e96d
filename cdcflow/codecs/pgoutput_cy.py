"""pgoutput messages to frames: the bytes of a logical replication stream become rows grouped by table.

Protocol: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html (version 1) inside
https://www.postgresql.org/docs/current/protocol-replication.html (XLogData, primary keepalive).

This file runs as it is and is compiled by Cython where a compiler is there. Nothing in it does I/O.
"""

from __future__ import annotations

import sys

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.frames_cy import Arena, Frame
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memcpy
else:
    from cdcflow.codecs.frames_cy import Arena, Frame

from cdcflow.codecs.frames_cy import MessageError

__all__ = ["Decoder", "MessageError"]

# Microseconds between PostgreSQL's epoch (2000-01-01) and the Unix epoch.
_EPOCH_US = cython.declare(cython.longlong, 946_684_800_000_000)

# A hundred and forty thousand years from 2000, either way: beyond, the difference of two times would not fit.
_FAR_US = cython.declare(cython.ulonglong, 1 << 62)
_FAR_AGO_US = cython.declare(cython.ulonglong, (1 << 64) - (1 << 62))

_ORDER = sys.byteorder


@cython.final
@cython.cclass
class Decoder:
    """Turns length-prefixed CopyData payloads into frames.

    The caller feeds a buffer until all of it is used; `feed` stops early where Python has to look, and `event`
    says why: a message that is handed over (`R`, `T`, `M`), a row whose relation has no settled shape yet
    (`S`, body: its oid; the row is decoded by the next feed), a commit after `hold` (`C`), or the rows of an
    open transaction passing `piece_bytes` (`P`).
    """

    frames: dict  # oid -> Frame
    listed: list  # frames with rows, in order of first touch
    open_frames: list  # frames with rows of the open transaction
    last_oid: cython.uint
    last_frame: Frame
    order: Arena
    marks: Arena
    whole_order: cython.Py_ssize_t
    piece_bytes: cython.Py_ssize_t
    open_bytes: cython.Py_ssize_t
    next_number: cython.int
    stop_at_commit: cython.bint
    in_transaction: cython.bint
    reply_requested: cython.bint
    final_lsn: cython.ulonglong
    end_lsn: cython.ulonglong
    heartbeat_lsn: cython.ulonglong
    commit_us: cython.longlong
    first_commit_us: cython.longlong
    last_commit_us: cython.longlong
    sent_us: cython.longlong
    lag_us: cython.longlong
    xid: cython.uint
    transactions: cython.Py_ssize_t
    open_rows: cython.Py_ssize_t
    whole_bytes: cython.Py_ssize_t
    event_type: cython.int
    event_body: bytes

    def __init__(self, piece_bytes: int):
        self.frames = {}
        self.listed = []
        self.open_frames = []
        self.last_oid = 0
        self.last_frame = None
        self.order = Arena()
        self.marks = Arena()
        self.whole_order = 0
        self.piece_bytes = piece_bytes
        self.open_bytes = 0
        self.next_number = 0
        self.stop_at_commit = False
        self.in_transaction = False
        self.reply_requested = False
        self.final_lsn = 0
        self.end_lsn = 0
        self.heartbeat_lsn = 0
        self.commit_us = 0
        self.first_commit_us = 0
        self.last_commit_us = 0
        self.sent_us = 0
        self.lag_us = 0
        self.xid = 0
        self.transactions = 0
        self.open_rows = 0
        self.whole_bytes = 0
        self.event_type = 0
        self.event_body = b""

    # What the stream reads and sets between two feeds.

    def follow(self, oid: int, width: int, skip_until: int, idempotent_until: int) -> int:
        """Start a new frame for relation `oid` and return its number; what it held before is kept to be taken.

        A width of -1 says that the shape is not settled: the first row that is not skipped stops `feed`.
        """
        frame = Frame(self.next_number, width, skip_until, idempotent_until)
        self.next_number += 1
        self.frames[oid] = frame
        self.last_oid = 0
        self.last_frame = None
        return frame.number

    def forget(self, oid: int) -> None:
        """Drop the rows of relation `oid` from now on."""
        self.frames.pop(oid, None)
        self.last_oid = 0
        self.last_frame = None

    def status(self) -> tuple:
        """Return (in_transaction, whole rows, open rows, transactions, end_lsn, heartbeat_lsn, final_lsn)."""
        return (
            bool(self.in_transaction),
            self.whole_order // 4,
            self.open_rows,
            self.transactions,
            self.end_lsn,
            self.heartbeat_lsn,
            self.final_lsn,
        )

    def clock(self) -> tuple:
        """Return (sent, lag, commit time of the open transaction) in microseconds, the source's clock."""
        return self.sent_us, self.lag_us, self.commit_us

    def wants_reply(self) -> bool:
        """Return whether a keepalive asked for an answer since the last call."""
        wanted: cython.bint = self.reply_requested
        self.reply_requested = False
        return bool(wanted)

    def event(self) -> tuple:
        """Return and clear what stopped `feed`: (its letter's code or 0, body)."""
        found: tuple = (self.event_type, self.event_body)
        self.event_type = 0
        self.event_body = b""
        return found

    def hold(self, stop_at_commit: bool) -> None:
        """Make `feed` stop behind each commit message (or no longer)."""
        self.stop_at_commit = stop_at_commit

    def take(self, everything: bool) -> tuple:
        """Remove and return rows: up to the last commit, or with `everything` those of the open transaction too.

        Returns:
            (frames, order, marks, transactions, first_commit_us, last_commit_us, nbytes); a frame is
            (number, ops, after, after_sizes, before, before_sizes, idempotent).
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
        found: tuple = (
            taken,
            self.order.take(self.whole_order),
            self.marks.take(self.marks.size),
            self.transactions,
            self.first_commit_us,
            self.last_commit_us,
            self.whole_bytes,
        )
        self.whole_order = 0
        self.transactions = 0
        self.first_commit_us = 0
        self.last_commit_us = 0
        self.whole_bytes = 0
        return found

    @cython.cfunc
    def _settle(self):
        frame: Frame
        for frame in self.open_frames:
            frame.settle()
            frame.touched = False
        self.open_frames.clear()
        self.whole_order = self.order.size
        self.whole_bytes += self.open_bytes

    def feed(self, buffer: bytes, start: cython.Py_ssize_t) -> int:
        """Decode `buffer` (native uint32 length + payload, repeated) from `start`; return where it stopped.

        Raises:
            MessageError: a length, type or order that the protocol does not have.
        """
        p: cython.p_uchar
        at: cython.Py_ssize_t = start
        size: cython.Py_ssize_t = len(buffer)
        length: cython.Py_ssize_t
        end: cython.Py_ssize_t
        kind: cython.int
        stop: cython.int
        count32: cython.uint = 0
        if cython.compiled:
            p = cython.cast(cython.p_uchar, PyBytes_AS_STRING(buffer))
        else:
            p = buffer
        while at < size:
            if at + 5 > size:
                raise MessageError("buffer ends inside a message length")
            if cython.compiled:
                memcpy(cython.address(count32), p + at, 4)
                length = count32
            else:
                length = int.from_bytes(p[at : at + 4], _ORDER)
            at += 4
            end = at + length
            if length < 1 or end > size:
                raise MessageError("buffer ends inside a message")
            kind = p[at]
            if kind == 0x77:  # w: XLogData: start, end, send time, message
                if length < 26:
                    raise MessageError("XLogData message is too short")
                self.sent_us = _time(p, at + 17)
                stop = self._message(p, at + 25, end)
                if stop == 1:
                    return end
                if stop == 2:
                    return at - 4
            elif kind == 0x6B:  # k: keepalive: end, send time, reply requested
                if length < 18:
                    raise MessageError("keepalive message is too short")
                self.sent_us = _time(p, at + 9)
                if not self.in_transaction:
                    self.heartbeat_lsn = _be64(p, at + 1)
                    self.lag_us = 0
                if p[at + 17]:
                    self.reply_requested = True
            else:
                raise MessageError(f"unknown replication message type {kind}")
            at = end
        return at

    @cython.cfunc
    @cython.exceptval(-1)
    def _message(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Decode one pgoutput message; return 1 where `feed` has to stop behind it, 2 before it."""
        kind: cython.int = p[at]
        at += 1
        if kind == 0x49 or kind == 0x55 or kind == 0x44:  # I U D
            return self._row(kind, p, at, end)
        if kind == 0x42:  # B: final lsn, commit time, xid
            if end - at < 20:
                raise MessageError("Begin message is too short")
            if self.in_transaction:
                raise MessageError("Begin inside a transaction")
            self.in_transaction = True
            self.final_lsn = _be64(p, at)
            self.commit_us = _time(p, at + 8)
            self.xid = _be32(p, at + 16)
            self.lag_us = self.sent_us - self.commit_us
            return 0
        if kind == 0x43:  # C: flags, commit lsn, end lsn, commit time
            if end - at < 25:
                raise MessageError("Commit message is too short")
            if not self.in_transaction:
                raise MessageError("Commit outside a transaction")
            self._commit(_be64(p, at + 9))
            if self.stop_at_commit:
                self.event_type = 0x43
                return 1
            return 0
        if kind == 0x52 or kind == 0x54 or kind == 0x4D:  # R T M: for Python
            self.event_type = kind
            self.event_body = p[at:end]
            return 1
        if kind == 0x59 or kind == 0x4F:  # Y O: a type's name, a transaction's origin: nothing to keep
            return 0
        raise MessageError(f"unknown pgoutput message type {kind}")

    @cython.cfunc
    def _commit(self, end_lsn: cython.ulonglong):
        self.in_transaction = False
        self._settle()
        self.end_lsn = end_lsn
        if end_lsn > self.heartbeat_lsn:
            self.heartbeat_lsn = end_lsn
        if self.transactions == 0:
            self.first_commit_us = self.commit_us
        self.last_commit_us = self.commit_us
        self.transactions += 1
        self.marks.reserve(32)
        self.marks.int64(self.open_rows)
        self.marks.int64(cython.cast(cython.longlong, end_lsn))
        self.marks.int64(self.commit_us)
        self.marks.int64(self.xid)
        self.open_rows = 0
        self.open_bytes = 0

    @cython.cfunc
    @cython.exceptval(-1)
    def _row(self, kind: cython.int, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        frame: Frame
        oid: cython.uint
        grown: cython.Py_ssize_t
        if not self.in_transaction:
            raise MessageError("row outside a transaction")
        if end - at < 5:
            raise MessageError("row message is too short")
        oid = _be32(p, at)
        at += 4
        if oid == self.last_oid:
            frame = self.last_frame
        else:
            frame = self.frames.get(oid)
            self.last_oid = oid
            self.last_frame = frame
        if frame is None or frame.skip_until > self.final_lsn:
            return 0
        if frame.width < 0:
            self.event_type = 0x53
            self.event_body = int(oid).to_bytes(4, "big")
            return 2
        if not frame.touched:
            frame.touched = True
            self.open_frames.append(frame)
            if frame.ops.size == 0:
                self.listed.append(frame)
        grown = frame.row(kind, p, at, end, self.order)
        if frame.idempotent_until > self.final_lsn:
            frame.idempotent = True
        self.open_rows += 1
        self.open_bytes += grown
        if self.open_bytes > self.piece_bytes:
            self.event_type = 0x50
            return 1
        return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _be32(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.uint:
    value: cython.uint = p[at]
    value = (value << 8) | p[at + 1]
    value = (value << 8) | p[at + 2]
    return (value << 8) | p[at + 3]


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _be64(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.ulonglong:
    value: cython.ulonglong = _be32(p, at)
    return (value << 32) | _be32(p, at + 4)


@cython.cfunc
@cython.inline
@cython.exceptval(-1)
def _time(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.longlong:
    """Return the time at `at`, microseconds since 2000, as microseconds since 1970."""
    since: cython.ulonglong = _be64(p, at)
    if since >= _FAR_US and since < _FAR_AGO_US:
        raise MessageError("a time that no clock shows")
    if not cython.compiled and since >= _FAR_AGO_US:
        return since - (1 << 64) + _EPOCH_US
    return cython.cast(cython.longlong, since) + _EPOCH_US
