"""Groups of a binlog, which are its transactions: where each begins and ends, when it was committed, its GTID.

The log's reader says what it meets; how far the log was read stands here too, as a transaction's ends are places in it.

This file runs as it is and is compiled by Cython where a compiler is there; binloggroups_cy.pxd declares for other
compiled modules what is here. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
else:
    from cdcflow.codecs import loading

    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena

from cdcflow.codecs.frames_cy import MessageError

# The high part of a serial number is the log file's number, the low part the place in it.
_OFFSET_BITS = cython.declare(cython.int, 40)


@cython.final
@cython.cclass
class Groups:
    """The open transaction, and those that ended since the last `take`."""

    def __init__(self):
        self.marks = Arena()
        self.open = False
        self.kept = False
        self.begun = False
        self.file = 0
        self.offset = 0
        self.unplaced = 0
        self.resumed = 0
        self.event_start = 0
        self.start = 0
        self.end_offset = 0
        self.commit_us = 0
        self.source = b""
        self.number = 0
        self.first_commit_us = 0
        self.last_commit_us = 0
        self.runs = []
        self.run_source = b""
        self.run_first = 0
        self.run_last = 0
        self.ended = 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def place(self, file: cython.ulonglong, offset: cython.ulonglong, resumed: cython.ulonglong) -> cython.void:
        """Note that the next event stands at `offset` of log file number `file`."""
        self.file = file
        self.offset = offset
        self.unplaced = 0
        self.resumed = resumed
        if not self.open:
            self.end_offset = offset

    @cython.cfunc
    @cython.exceptval(check=False)
    def move(self, position: cython.ulonglong, size: cython.Py_ssize_t) -> cython.void:
        """Note an event of `size` bytes that says that it ends at `position`."""
        floor: cython.ulonglong
        if position == 0:  # MariaDB says only at a transaction's end where it is
            self.unplaced += size
            return
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

    @cython.cfunc
    @cython.exceptval(check=False)
    def serial(self) -> cython.ulonglong:
        """Return the serial number of the place where the open transaction begins, or the next one will."""
        if self.open:
            return self.start
        return (self.file << _OFFSET_BITS) | self.offset

    @cython.cfunc
    @cython.exceptval(-1)
    def begin(self, source: bytes, number: cython.longlong, commit_us: cython.longlong) -> cython.int:
        """Begin a transaction with this GTID; `number` 0: it has none."""
        if self.open:
            raise MessageError("a transaction begins within another one")
        self.open = True
        # Behind what the server wrote for itself since the last one: a copy may have been taken behind that too.
        self.start = (self.file << _OFFSET_BITS) | self.event_start
        self.source = source
        self.number = number
        self.commit_us = commit_us
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def commit(self, rows: cython.Py_ssize_t) -> cython.int:
        """End the open transaction, which has this many rows that were not taken yet, behind the last event."""
        if not self.open:
            raise MessageError("a transaction ends that never began")
        self.open = False
        self.kept = False
        self.begun = False
        self.end_offset = self.offset
        if self.number:
            if self.run_last and self.number == self.run_last + 1 and self.source == self.run_source:
                self.run_last = self.number
            else:
                self._end_run()
                self.run_source = self.source
                self.run_first = self.run_last = self.number
        if self.ended == 0:
            self.first_commit_us = self.commit_us
        self.last_commit_us = self.commit_us
        self.ended += 1
        self.marks.reserve(32)
        self.marks.int64(rows)
        self.marks.int64(cython.cast(cython.longlong, (self.file << _OFFSET_BITS) | self.end_offset))
        self.marks.int64(self.commit_us)
        self.marks.int64(self.number)
        return 0

    @cython.cfunc
    def take(self) -> tuple:
        """Remove and return (marks, how many ended, first_commit_us, last_commit_us, runs of GTIDs)."""
        self._end_run()
        found: tuple = (
            self.marks.take(self.marks.size),
            self.ended,
            self.first_commit_us,
            self.last_commit_us,
            self.runs,
        )
        self.runs = []
        self.ended = 0
        self.first_commit_us = 0
        self.last_commit_us = 0
        return found

    @cython.cfunc
    @cython.exceptval(-1)
    def _end_run(self) -> cython.int:
        if self.run_last:
            self.runs.append((self.run_source, self.run_first, self.run_last))
        self.run_last = 0
        return 0
