"""Rows in the order of their keys: an index and a table that are walked in order are touched page by page.

This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

import sys
from array import array

from cdcflow.codecs.copytext_cy import ImageError

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import free, malloc
    from cython.cimports.libc.string import memcpy, memset

_ORDER = sys.byteorder

# The longest integer whose every value fits into 63 bits.
_DIGITS = cython.declare(cython.int, 18)

_SIGN = cython.declare(cython.ulonglong, 1 << 63)


def by_key(after: bytes, merged: bytes, references: bytes, place: int) -> bytes:
    """Return the references in the order of one cell: as integers where all are, else by the first eight bytes.

    It is a hint and no promise: a collation orders texts in another way. Equal ones keep their order.

    Args:
        after, merged, references: as `copytext_cy.copy_text` takes them.
        place: the cell, by position.

    Raises:
        ImageError: an image is not what it says.
    """
    count: cython.Py_ssize_t = len(references) // 8
    if len(references) % 8:
        raise ImageError("the references end inside one")
    if count < 2:
        return references
    if cython.compiled:
        return _compiled_by_key(after, merged, references, place, count)
    numbers = array("q", references)
    cells = [_cell(after, merged, reference, place) for reference in numbers]
    if False in [_is_integer(cell) for cell in cells]:
        marks: list = [cell[:8].ljust(8, b"\0") for cell in cells]
    else:
        marks = [int(cell) for cell in cells]
    order = sorted(range(count), key=marks.__getitem__)
    return array("q", [numbers[row] for row in order]).tobytes()


def _cell(after: bytes, merged: bytes, reference: int, place: int) -> bytes:
    buffer, at = (after, reference) if reference >= 0 else (merged, -1 - reference)
    for index in range(place + 1):
        if at + 4 > len(buffer):
            raise ImageError("a row image ends before its key")
        length = int.from_bytes(buffer[at : at + 4], _ORDER, signed=True)
        length = max(length, 0 if length >= -2 else -3 - length)
        at += 4
        if at + length > len(buffer):
            raise ImageError("a row image ends inside a cell")
        if index == place:
            return buffer[at : at + length]
        at += length
    return b""


def _is_integer(cell: bytes) -> bool:
    digits = cell[1:] if cell[:1] == b"-" else cell
    return 0 < len(digits) <= 18 and not digits.strip(b"0123456789")


@cython.cfunc
def _compiled_by_key(
    after: bytes, merged: bytes, references: bytes, place: cython.int, count: cython.Py_ssize_t
) -> object:
    if cython.compiled:
        # Four columns of `count`: references and their marks, and room to sort them into.
        room: cython.pointer[cython.ulonglong] = cython.cast(cython.pointer[cython.ulonglong], malloc(4 * count * 8))
        a: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(after))
        m: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(merged))
        row: cython.Py_ssize_t
        reference: cython.longlong
        integers: cython.int = 1
        try:
            if room == cython.NULL:
                raise MemoryError
            memcpy(room, PyBytes_AS_STRING(references), count * 8)
            for row in range(count):
                reference = cython.cast(cython.longlong, room[row])
                if reference >= 0:
                    integers = _mark(a, reference, len(after), place, integers, room + count + row)
                else:
                    integers = _mark(m, -1 - reference, len(merged), place, integers, room + count + row)
                if integers < 0:
                    raise ImageError("a row image ends before its key does")
            if not integers:  # those before the first that is none were read as integers
                for row in range(count):
                    reference = cython.cast(cython.longlong, room[row])
                    if reference >= 0:
                        _mark(a, reference, len(after), place, 0, room + count + row)
                    else:
                        _mark(m, -1 - reference, len(merged), place, 0, room + count + row)
            row = _sort(room, count)
            return PyBytes_FromStringAndSize(cython.cast(cython.p_char, room + row), count * 8)
        finally:
            free(room)
    return b""


@cython.cfunc
@cython.exceptval(check=False)
def _mark(
    base: cython.p_uchar,
    at: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
    place: cython.int,
    integer: cython.int,
    mark: cython.pointer[cython.ulonglong],
) -> cython.int:
    """Write the mark of the cell at `place`; return whether it is an integer's, -1 where there is no such cell.

    Without `integer` it is the cell's first bytes. Compiled only.
    """
    index: cython.int
    length: cython.int = 0
    value: cython.ulonglong = 0
    byte: cython.uchar
    negative: cython.int
    for index in range(place + 1):
        if limit - at < 4:  # a reference may be any number: `at + 4` would overflow
            return -1
        memcpy(cython.address(length), base + at, 4)
        at += 4
        if length < 0:
            length = 0 if length >= -2 else -3 - length
        if length > limit - at:
            return -1
        if index < place:
            at += length
    if integer:
        negative = 1 if length and base[at] == 45 else 0
        if length == negative or length - negative > _DIGITS:
            return 0
        for index in range(negative, length):
            byte = base[at + index]
            if byte < 48 or byte > 57:
                return 0
            value = value * 10 + (byte - 48)
        mark[0] = _SIGN - value if negative else _SIGN + value
        return 1
    for index in range(8):
        value = (value << 8) | (base[at + index] if index < length else 0)
    mark[0] = value
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _sort(room: cython.pointer[cython.ulonglong], count: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Sort by the marks, byte by byte from the last one; return where the references are then. Compiled only."""
    if cython.compiled:
        values: cython.pointer[cython.ulonglong] = room
        marks: cython.pointer[cython.ulonglong] = room + count
        values_to: cython.pointer[cython.ulonglong] = room + 2 * count
        marks_to: cython.pointer[cython.ulonglong] = room + 3 * count
        swap: cython.pointer[cython.ulonglong]
        counts: cython.Py_ssize_t[256]
        shift: cython.int
        row: cython.Py_ssize_t
        total: cython.Py_ssize_t
        each: cython.Py_ssize_t
        index: cython.int
        for shift in range(0, 64, 8):
            memset(counts, 0, sizeof_counts)
            for row in range(count):
                counts[(marks[row] >> shift) & 255] += 1
            if counts[(marks[0] >> shift) & 255] == count:
                continue
            total = 0
            for index in range(256):
                each = counts[index]
                counts[index] = total
                total += each
            for row in range(count):
                index = (marks[row] >> shift) & 255
                values_to[counts[index]] = values[row]
                marks_to[counts[index]] = marks[row]
                counts[index] += 1
            swap = values
            values = values_to
            values_to = swap
            swap = marks
            marks = marks_to
            marks_to = swap
        return values - room
    return 0


sizeof_counts = cython.declare(cython.int, 256 * 8)
