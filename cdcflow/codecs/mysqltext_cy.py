"""Rows of a MySQL or MariaDB text resultset, from the socket's bytes to lines of PostgreSQL COPY text.

Packets: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset.html
The values come out as canonical text, the same bytes that the binlog's decoder gives for the same value.
This file runs as it is and is compiled by Cython where a compiler is there: then no Python object is made for a
value, and the interpreter's lock is not held while rows are encoded. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.mysqlcells_cy import write_value
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import free, realloc
    from cython.cimports.libc.string import memcpy, memmove

from cdcflow.codecs import mysqlcells_cy, mysqlpackets
from cdcflow.codecs.frames_cy import MessageError

# What `feed` has come to.
MORE = 0  # all of it is used, the result goes on
HEADER = 1  # the definitions of the columns are there; rows follow when `feed` is called again
DONE = 2  # the result is whole
FAILED = 3  # the server broke it off: see `error`

_GOOD = cython.declare(cython.int, 0)
_SHORT = cython.declare(cython.int, 1)
_LONG = cython.declare(cython.int, 2)
_SEQUENCE = cython.declare(cython.int, 3)
_MEMORY = cython.declare(cython.int, 4)
_FORM = cython.declare(cython.int, 5)
_NO_DATE = cython.declare(cython.int, 6)

_WORDS = {
    1: "a row ends inside a value",
    2: "a row is longer than its columns",
    3: "packets are out of order",
    5: "a value is not of its column's form",
}

_FULL = cython.declare(cython.Py_ssize_t, 0xFFFFFF)  # a packet of this size goes on in the next one


class NoDateError(ValueError):
    """A date that no calendar has, where the route says that the row is rejected. `column` is its name."""

    def __init__(self, column: str) -> None:
        super().__init__(f"column {column} holds a date that no calendar has")
        self.column = column


@cython.final
@cython.cclass
class _Buffer:
    """Bytes that grow at the end."""

    data: cython.p_uchar
    size: cython.Py_ssize_t
    capacity: cython.Py_ssize_t
    plain: bytearray

    def __cinit__(self):
        if cython.compiled:
            self.data = cython.NULL
        self.size = 0
        self.capacity = 0

    def __init__(self):
        self.plain = bytearray()
        if not cython.compiled:
            self.size = 0

    def __dealloc__(self):
        if cython.compiled:
            free(self.data)

    @cython.cfunc
    @cython.inline
    @cython.nogil
    @cython.exceptval(check=False)
    def reserve(self, more: cython.Py_ssize_t) -> cython.int:
        """Make room for `more` bytes; return 0 where there is no memory."""
        if cython.compiled:
            capacity: cython.Py_ssize_t
            grown: cython.p_uchar
            if self.size + more > self.capacity:
                capacity = self.capacity + self.capacity // 2 + more + 4096
                grown = cython.cast(cython.p_uchar, realloc(self.data, capacity))
                if grown == cython.NULL:
                    return 0
                self.data = grown
                self.capacity = capacity
        return 1

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def add(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Append a piece; return 0 where there is no memory."""
        if cython.compiled:
            if not self.reserve(end - at):
                return 0
            memcpy(self.data + self.size, p + at, end - at)
        else:
            self.plain += p[at:end]
        self.size += end - at
        return 1

    @cython.cfunc
    def drop(self, count: cython.Py_ssize_t):
        """Remove the first bytes. A value of many megabytes came by: its room is not kept for ever."""
        if cython.compiled:
            if count < self.size:
                memmove(self.data, self.data + count, self.size - count)
            self.size -= count
            if self.capacity > 33554432 and self.size == 0:
                free(self.data)
                self.data = cython.NULL
                self.capacity = 0
        else:
            del self.plain[:count]
            self.size -= count

    @cython.cfunc
    def taken(self) -> bytes:
        """Remove and return everything."""
        found: bytes
        if cython.compiled:
            found = PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.data), self.size)
        else:
            found = bytes(self.plain)
        self.drop(self.size)
        return found


@cython.final
@cython.cclass
class Result:
    """Reads one text resultset, fed with what the socket brings.

    Args:
        columns: a pair for each column: its kind (`TEXT`, ...) and its width (digits of a BIT, 0 for others).
        names: the columns' names, for messages.
        zero_dates: `ZERO_NULL`, `ZERO_EPOCH` or `ZERO_FAIL`.
        table: the table's name, for messages.
    """

    width: cython.int
    zero_dates: cython.int
    phase: cython.int  # 0 column count, 1 definitions, 2 EOF behind them, 3 rows, 4 over
    sequence: cython.int
    left: cython.int  # definitions to come
    failed_at: cython.int  # the column of a value that is not as it should be
    joining: cython.bint  # inside a row of several packets
    count: cython.Py_ssize_t
    kinds: cython.p_uchar
    widths: cython.p_uchar
    growth: cython.p_uchar
    kept: tuple
    held: _Buffer  # an unfinished packet
    long: _Buffer  # an unfinished row of several packets
    out: _Buffer
    names: tuple
    table: str
    found: list
    failure: tuple

    def __cinit__(self, *_args):
        if cython.compiled:
            self.kinds = self.widths = self.growth = cython.NULL

    def __init__(self, columns: tuple, names: tuple, zero_dates: int, table: str):
        kinds = bytes([kind for kind, _ in columns])
        widths = bytes([width for _, width in columns])
        growth = bytes([mysqlcells_cy.GROWTH[kind] for kind, _ in columns])
        self.kept = (kinds, widths, growth)  # the pointers below lead into these
        self.width = len(columns)
        self.names = names
        self.zero_dates = zero_dates
        self.table = table
        self.held = _Buffer()
        self.long = _Buffer()
        self.out = _Buffer()
        self.found = []
        self.failure = ()
        self.phase = 0
        self.sequence = 1
        self.left = self.failed_at = 0
        self.joining = False
        self.count = 0
        if cython.compiled:
            self.kinds = cython.cast(cython.p_uchar, PyBytes_AS_STRING(kinds))
            self.widths = cython.cast(cython.p_uchar, PyBytes_AS_STRING(widths))
            self.growth = cython.cast(cython.p_uchar, PyBytes_AS_STRING(growth))

    def pending(self) -> int:
        """Return the bytes that `take` would return."""
        return self.out.size

    def rows(self) -> int:
        """Return how many rows were read."""
        return self.count

    def take(self) -> bytes:
        """Remove and return the COPY text so far: whole lines."""
        return self.out.taken()

    def definitions(self) -> list:
        """Return a tuple for each column: name, type byte, character set number, flags, decimals."""
        return self.found

    def error(self) -> tuple:
        """Return the server's error number and message, () if there was none."""
        return self.failure

    def feed(self, data: bytearray, size: cython.Py_ssize_t) -> int:
        """Use the first `size` bytes of `data`; return MORE, HEADER, DONE or FAILED.

        Behind HEADER call it again, with nothing, to use what came with the definitions.

        Raises:
            MessageError: not what the protocol says.
            NoDateError: a date that no calendar has, and the route rejects its row.
        """
        used: cython.Py_ssize_t
        state: cython.int
        p: cython.p_uchar
        if self.held.size:
            if cython.compiled:
                p = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(data))
            else:
                p = data
            if not self.held.add(p, 0, size):
                raise MemoryError
            if cython.compiled:
                p = self.held.data
            else:
                p = bytes(self.held.plain)
            used, state = self._use(p, self.held.size)
            self.held.drop(used)
        else:
            if cython.compiled:
                p = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(data))
            else:
                p = bytes(data[:size])
            used, state = self._use(p, size)
            if used < size and not self.held.add(p, used, size):
                raise MemoryError
        if state == DONE and self.held.size:
            raise MessageError("something follows the end of a result")
        return state

    @cython.cfunc
    def _use(self, p: cython.p_uchar, size: cython.Py_ssize_t) -> tuple:
        """Return how many bytes were used, and the state."""
        at: cython.Py_ssize_t = 0
        end: cython.Py_ssize_t
        code: cython.int
        out: _Buffer = self.out
        long: _Buffer = self.long
        while True:
            if self.phase == 3:
                with cython.nogil:
                    at = self._rows(p, at, size, out, long)
                code = self._problem()
                if code != _GOOD:
                    self._raise(code)
                if self.phase == 3:
                    return at, MORE
            if size - at < 4:
                return at, MORE
            end = at + 4 + (p[at] | (p[at + 1] << 8) | (p[at + 2] << 16))
            if end > size:
                return at, MORE
            if end - at - 4 == _FULL:
                raise MessageError("a packet that describes a result is too long")
            if p[at + 3] != self.sequence & 0xFF:
                raise MessageError(_WORDS[3])
            self.sequence += 1
            if cython.compiled:
                packet = PyBytes_FromStringAndSize(cython.cast(cython.p_char, p + at + 4), end - at - 4)
            else:
                packet = p[at + 4 : end]
            at = end
            state = self._step(packet)
            if state != MORE:
                return at, state

    @cython.cfunc
    def _step(self, packet: bytes) -> object:
        """Take a packet that is no row."""
        if packet[:1] == b"\xff":
            self.failure = mysqlpackets.error(packet)
            self.phase = 5
            return FAILED
        if self.phase == 0:
            columns, at = mysqlpackets.length_at(packet, 0)
            if at != len(packet) or columns != self.width:
                raise MessageError(f"the answer has not the {self.width} columns that were asked for")
            self.left = self.width
            self.phase = 1
        elif self.phase == 1:
            self.found.append(mysqlpackets.definition(packet))
            self.left -= 1
            if self.left == 0:
                self.phase = 2
        else:
            if packet[:1] != b"\xfe" or len(packet) >= 9:
                raise MessageError("an end of a result was due")
            if self.phase == 2:
                self.phase = 3
                return HEADER
            if self.phase == 5:
                raise MessageError("the result is over")
            self.phase = 5
            return DONE
        return MORE

    @cython.cfunc
    @cython.inline
    def _problem(self) -> cython.int:
        """Return what ended `_rows`, and put the phase right."""
        code: cython.int = _GOOD
        if self.phase >= 16:
            code = self.phase - 16
            self.phase = 5
        return code

    @cython.cfunc
    def _raise(self, code: cython.int):
        if code == _MEMORY:
            raise MemoryError
        name = self.names[self.failed_at] if self.failed_at < self.width else ""
        if code == _NO_DATE:
            raise NoDateError(name)
        raise MessageError(f"{_WORDS[code]}: column {name} of {self.table}" if name else _WORDS[code])

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _rows(
        self, p: cython.p_uchar, at: cython.Py_ssize_t, size: cython.Py_ssize_t, out: _Buffer, long: _Buffer
    ) -> cython.Py_ssize_t:
        """Encode the whole row packets from `at` on; return where they end.

        Leaves `phase` at 3 where more are to come, 4 before a packet that is no row, 16 and a code for a problem.
        """
        length: cython.Py_ssize_t
        code: cython.int
        while size - at >= 4:
            length = p[at] | (p[at + 1] << 8) | (p[at + 2] << 16)
            if size - at - 4 < length:
                break
            if not self.joining and length > 0 and (p[at + 4] == 0xFF or (p[at + 4] == 0xFE and length < 9)):
                self.phase = 4
                break
            if p[at + 3] != self.sequence & 0xFF:
                self.failed_at = self.width
                self.phase = 16 + _SEQUENCE
                break
            self.sequence += 1
            at += 4
            if length == _FULL or self.joining:
                if not long.add(p, at, at + length):
                    self.phase = 16 + _MEMORY
                    break
                self.joining = length == _FULL
                at += length
                if self.joining:
                    continue
                if cython.compiled:
                    code = self._row(long.data, 0, long.size, out)
                else:
                    code = self._row(bytes(long.plain), 0, long.size, out)
                    long.plain.clear()
                long.size = 0
            else:
                code = self._row(p, at, at + length, out)
                at += length
            if code != _GOOD:
                self.phase = 16 + code
                break
            self.count += 1
        return at

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _row(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: _Buffer) -> cython.int:
        """Encode one row; return `_GOOD` or what is wrong with it."""
        if cython.compiled:
            index: cython.int
            first: cython.int
            more: cython.int
            length: cython.Py_ssize_t
            written: cython.Py_ssize_t
            for index in range(self.width):
                self.failed_at = index
                if at >= end:
                    return _SHORT
                first = p[at]
                at += 1
                length = first
                if first >= 0xFB:
                    if first == 0xFB:
                        if not out.reserve(4):
                            return _MEMORY
                        if index:
                            out.data[out.size] = 9
                            out.size += 1
                        out.data[out.size] = 92
                        out.data[out.size + 1] = 78
                        out.size += 2
                        continue
                    if first == 0xFF:
                        return _FORM
                    more = 2 if first == 0xFC else 3 if first == 0xFD else 8
                    if end - at < more or (more == 8 and p[at + 7] > 0x7F):
                        return _SHORT
                    length = 0
                    at += more
                    for first in range(1, more + 1):
                        length = (length << 8) | p[at - first]
                if length > end - at:
                    return _SHORT
                if not out.reserve(length * self.growth[index] + 80):
                    return _MEMORY
                if index:
                    out.data[out.size] = 9
                    out.size += 1
                written = write_value(
                    p, at, at + length, self.kinds[index], self.widths[index], self.zero_dates, out.data + out.size
                )
                if written < 0:
                    return _FORM if written == -1 else _NO_DATE
                out.size += written
                at += length
            if at != end:
                self.failed_at = self.width
                return _LONG
            if not out.reserve(1):
                return _MEMORY
            out.data[out.size] = 10
            out.size += 1
            return _GOOD
        return self._plain_row(p[at:end], out)

    @cython.cfunc
    def _plain_row(self, row: bytes, out: _Buffer) -> object:
        """As `_row`, in plain Python."""
        at = 0
        cells: list = []
        for index in range(self.width):
            self.failed_at = index
            if at >= len(row):
                return _SHORT
            if row[at] == 0xFB:
                cells.append(b"\\N")
                at += 1
                continue
            try:
                length, at = mysqlpackets.length_at(row, at)
            except MessageError:
                return _FORM if row[at] == 0xFF else _SHORT
            if length > len(row) - at:
                return _SHORT
            cell = mysqlcells_cy.plain_value(
                row[at : at + length], self.kept[0][index], self.kept[1][index], self.zero_dates
            )
            at += length
            if isinstance(cell, int):
                return _FORM if cell == -1 else _NO_DATE
            cells.append(cell)
        if at != len(row):
            self.failed_at = self.width
            return _LONG
        if not cython.compiled:
            line = b"\t".join(cells) + b"\n"
            out.plain += line
            out.size += len(line)
        return _GOOD
