"""A MySQL or MariaDB text resultset, from the socket's bytes to lines of PostgreSQL COPY text.

Packets: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset.html
This file runs as it is and is compiled by Cython where a compiler is there: then no Python object is made for a
value, and the interpreter's lock is not held while rows are encoded. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.mysqltextrow_cy import Buffer, TextRow
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
    from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
else:
    from cdcflow.codecs import loading

    _row = loading.plain("cdcflow.codecs.mysqltextrow_cy")
    Buffer, TextRow = _row.Buffer, _row.TextRow

from cdcflow.codecs import mysqlpackets
from cdcflow.codecs.frames_cy import MessageError

# What `feed` has come to.
MORE = 0  # all of it is used, the result goes on
HEADER = 1  # the definitions of the columns are there; rows follow when `feed` is called again
DONE = 2  # the result is whole
FAILED = 3  # the server broke it off: see `error`

# What ended the reading of rows.
_GOOD = cython.declare(cython.int, 0)
_SEQUENCE = cython.declare(cython.int, 3)
_MEMORY = cython.declare(cython.int, 4)
_NO_DATE = cython.declare(cython.int, 6)

_WORDS = {
    1: "a row ends inside a value",
    2: "a row is longer than its columns",
    3: "packets are out of order",
    5: "a value is not of its column's form",
}

_FULL = cython.declare(cython.Py_ssize_t, 0xFFFFFF)  # a packet of this size goes on in the next one

# A row packet of this size is read as it comes, not when it is whole.
_LARGE = cython.declare(cython.Py_ssize_t, 1048576)


class NoDateError(ValueError):
    """A date that no calendar has, where the route says that the row is rejected. `column` is its name."""

    def __init__(self, column: str) -> None:
        super().__init__(f"column {column} holds a date that no calendar has")
        self.column = column


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
    phase: cython.int  # 0 column count, 1 definitions, 2 EOF behind them, 3 rows, 4 over
    sequence: cython.int
    left: cython.int  # definitions to come
    joining: cython.bint  # the row goes on in the next packet
    packet_left: cython.Py_ssize_t  # of a large row's packet, what has not come yet
    count: cython.Py_ssize_t
    row: TextRow
    held: Buffer  # an unfinished packet
    long: Buffer  # of a large row, what has come and could not be used yet
    out: Buffer
    names: tuple
    table: str
    found: list
    failure: tuple

    def __init__(self, columns: tuple, names: tuple, zero_dates: int, table: str):
        self.width = len(columns)
        self.names = names
        self.row = TextRow(columns, zero_dates)
        self.table = table
        self.held = Buffer()
        self.long = Buffer()
        self.out = Buffer()
        self.found = []
        self.failure = ()
        self.phase = 0
        self.sequence = 1
        self.left = 0
        self.joining = False
        self.packet_left = 0
        self.count = 0

    def pending(self) -> int:
        """Return the bytes that `take` would return."""
        return self.out.size

    def rows(self) -> int:
        """Return how many rows were read."""
        return self.count

    def take(self) -> bytes:
        """Remove and return the COPY text so far: whole lines, or, of a large row, up to somewhere inside a value, but
        never inside an escape or between two hex digits of a byte."""
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
        row: TextRow = self.row
        out: Buffer = self.out
        long: Buffer = self.long
        while True:
            if self.phase == 3:
                with cython.nogil:
                    at = self._rows(p, at, size, row, out, long)
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
        name = self.names[self.row.failed_at] if self.row.failed_at < self.width else ""
        if code == _NO_DATE:
            raise NoDateError(name)
        raise MessageError(f"{_WORDS[code]}: column {name} of {self.table}" if name else _WORDS[code])

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _rows(
        self,
        p: cython.p_uchar,
        at: cython.Py_ssize_t,
        size: cython.Py_ssize_t,
        row: TextRow,
        out: Buffer,
        long: Buffer,
    ) -> cython.Py_ssize_t:
        """Encode the whole row packets from `at` on; return where they end.

        Leaves `phase` at 3 where more are to come, 4 before a packet that is no row, 16 and a code for a problem.
        """
        length: cython.Py_ssize_t
        code: cython.int
        while size - at >= 4 or self.packet_left:
            if self.packet_left:
                length = self.packet_left if self.packet_left < size - at else size - at
                if not long.add(p, at, at + length):
                    self.phase = 16 + _MEMORY
                    break
                at += length
                self.packet_left -= length
                code = row.more(out, long, not self.packet_left and not self.joining)
                if code != _GOOD:
                    self.phase = 16 + code
                    break
                if self.packet_left:
                    break
                if not self.joining:
                    self.count += 1
                continue
            length = p[at] | (p[at + 1] << 8) | (p[at + 2] << 16)
            if size - at - 4 < length and (length < _LARGE or size - at < 5):
                break
            if not self.joining and length > 0 and (p[at + 4] == 0xFF or (p[at + 4] == 0xFE and length < 9)):
                self.phase = 4
                break
            if p[at + 3] != self.sequence & 0xFF:
                row.failed_at = self.width
                self.phase = 16 + _SEQUENCE
                break
            self.sequence += 1
            at += 4
            if size - at < length or length == _FULL or self.joining:
                self.joining = length == _FULL
                self.packet_left = length
                if length:
                    continue
                code = row.more(out, long, not self.packet_left and not self.joining)
            else:
                code = row.row(p, at, at + length, out)
                at += length
            if code != _GOOD:
                self.phase = 16 + code
                break
            self.count += 1
        return at
