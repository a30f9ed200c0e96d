"""Which transaction each row of a batch belongs to, and its number in it: what `bus.formats.Stamps` holds.

This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

from array import array

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import calloc, free
    from cython.cimports.libc.string import memcpy

# Frame numbers are given one by one, so those of one step lie together; further apart, they are counted one by one.
_MOST_FRAMES = cython.declare(cython.uint, 1 << 18)
_LARGEST = cython.declare(cython.uint, 0xFFFFFFFF)


class Passed:
    """How far the numbering of a stream's rows is. One for each stream; `spread` moves it on.

    transaction: which mark of the batch the next row is counted under. here: rows of that transaction in this batch
    so far. rows: its rows so far, those of earlier pieces of it too. frames: of those, the rows of each frame.
    """

    __slots__ = ("frames", "here", "rows", "transaction")

    def __init__(self) -> None:
        self.frames: dict = {}
        self.reset()

    def batch(self) -> None:
        """A new batch begins: its marks are numbered from 0, and its first rows go on with the open transaction, if
        the last batch ended inside one."""
        self.transaction = 0
        self.here = 0

    def reset(self) -> None:
        """Nothing is open: the stream begins anew."""
        self.transaction = 0
        self.here = 0
        self.rows = 0
        self.frames = {}


def spread(order: bytes, marks: bytes, passed: Passed | None = None) -> dict:
    """Return for each frame number its rows' (of_row, order, table_order), as `bus.formats.Stamps` has them.

    Args:
        order: of one `Rows` step: native uint32 a row, the number of the frame that it is in.
        marks: of its batch: four native int64 a transaction, the first of them its rows in the batch. Rows beyond the
            marks belong to a transaction that is still open: their index is the number of marks.
        passed: what came before in this batch, and of the transaction that it began inside of; None where there was
            nothing. Call its `batch` before a batch's first step. A batch's last step should be given with what it
            left, or the next batch would number the rows of an open transaction from 1 again.

    Raises:
        ValueError: order or marks end inside a number.
    """
    if len(order) % 4 or len(marks) % 32:
        raise ValueError("the order or the marks of a batch end inside one")
    if passed is None:
        passed = Passed()
    if cython.compiled:
        spread_out = _compiled_spread(order, marks, passed)
        if spread_out is not None:
            return spread_out
    sizes = array("q", marks)[::4]
    found: dict = {}
    for number in array("I", order):
        _settle(passed, sizes)
        if number not in found:
            found[number] = (array("I"), array("I"), array("I"))
        passed.here += 1
        passed.rows += 1
        count = passed.frames[number] = passed.frames.get(number, 0) + 1
        of_row, rows, table_rows = found[number]
        of_row.append(passed.transaction)
        rows.append(passed.rows & 0xFFFFFFFF)
        table_rows.append(count & 0xFFFFFFFF)
    _settle(passed, sizes)
    return {number: tuple([column.tobytes() for column in columns]) for number, columns in found.items()}


def _settle(passed: Passed, sizes) -> None:
    """Go on to the transaction that the next row belongs to: those that are full are closed."""
    while passed.transaction < len(sizes) and passed.here >= sizes[passed.transaction]:
        passed.transaction += 1
        passed.here = 0
        passed.rows = 0
        passed.frames = {}


@cython.cfunc
def _compiled_spread(order: bytes, marks: bytes, passed) -> object:
    if cython.compiled:
        count: cython.Py_ssize_t = len(order) // 4
        transactions: cython.Py_ssize_t = len(marks) // 32
        transaction: cython.Py_ssize_t = passed.transaction
        here: cython.longlong = passed.here
        rows: cython.ulonglong = passed.rows
        row: cython.Py_ssize_t
        number: cython.uint = 0
        frames: cython.uint = 0
        low: cython.uint = _LARGEST
        high: cython.uint = 0
        size: cython.longlong = 0
        value: cython.uint
        at: cython.Py_ssize_t
        o: cython.p_char = PyBytes_AS_STRING(order)
        m: cython.p_char = PyBytes_AS_STRING(marks)
        # For each frame: rows in this step; rows written; its rows in the open transaction, and which one that is.
        totals: cython.pointer[cython.Py_ssize_t] = cython.NULL
        filled: cython.pointer[cython.Py_ssize_t] = cython.NULL
        counts: cython.pointer[cython.uint] = cython.NULL
        during: cython.pointer[cython.Py_ssize_t] = cython.NULL
        outs: cython.pointer[cython.p_char] = cython.NULL
        found: dict = {}
        open_frames: dict = {}
        for known in passed.frames:
            number = known
            low = number if number < low else low
            high = number if number > high else high
        for row in range(count):
            memcpy(cython.address(number), o + row * 4, 4)
            if number < low:
                low = number
            if number > high:
                high = number
        if high >= low:
            if high - low >= _MOST_FRAMES:
                return None
            frames = high - low + 1
        try:
            totals = cython.cast(cython.pointer[cython.Py_ssize_t], calloc(frames + 1, 8))
            filled = cython.cast(cython.pointer[cython.Py_ssize_t], calloc(frames + 1, 8))
            counts = cython.cast(cython.pointer[cython.uint], calloc(frames + 1, 4))
            during = cython.cast(cython.pointer[cython.Py_ssize_t], calloc(frames + 1, 8))
            outs = cython.cast(cython.pointer[cython.p_char], calloc(3 * (frames + 1), 8))
            if (
                totals == cython.NULL
                or filled == cython.NULL
                or counts == cython.NULL
                or during == cython.NULL
                or outs == cython.NULL
            ):
                raise MemoryError
            for number in range(frames):
                during[number] = -1
            for known, so_far in passed.frames.items():
                number = known
                counts[number - low] = so_far
                during[number - low] = transaction
            for row in range(count):
                memcpy(cython.address(number), o + row * 4, 4)
                totals[number - low] += 1
            for number in range(frames):
                if totals[number]:
                    of_row = PyBytes_FromStringAndSize(cython.NULL, totals[number] * 4)
                    orders = PyBytes_FromStringAndSize(cython.NULL, totals[number] * 4)
                    table_orders = PyBytes_FromStringAndSize(cython.NULL, totals[number] * 4)
                    found[number + low] = (of_row, orders, table_orders)
                    outs[3 * number] = PyBytes_AS_STRING(of_row)
                    outs[3 * number + 1] = PyBytes_AS_STRING(orders)
                    outs[3 * number + 2] = PyBytes_AS_STRING(table_orders)
            for row in range(count + 1):
                while transaction < transactions:
                    memcpy(cython.address(size), m + transaction * 32, 8)
                    if here < size:
                        break
                    transaction += 1
                    here = 0
                    rows = 0
                if row == count:
                    break
                memcpy(cython.address(number), o + row * 4, 4)
                number -= low
                if during[number] != transaction:
                    during[number] = transaction
                    counts[number] = 0
                here += 1
                rows += 1
                counts[number] += 1
                at = filled[number] * 4
                filled[number] += 1
                value = cython.cast(cython.uint, transaction)
                memcpy(outs[3 * number] + at, cython.address(value), 4)
                value = cython.cast(cython.uint, rows & 0xFFFFFFFF)
                memcpy(outs[3 * number + 1] + at, cython.address(value), 4)
                memcpy(outs[3 * number + 2] + at, cython.address(counts[number]), 4)
            for number in range(frames):
                if during[number] == transaction and counts[number]:
                    open_frames[number + low] = counts[number]
            passed.transaction = transaction
            passed.here = here
            passed.rows = rows
            passed.frames = open_frames
        finally:
            free(totals)
            free(filled)
            free(counts)
            free(during)
            free(outs)
        return found
    return {}
