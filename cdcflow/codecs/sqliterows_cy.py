"""COPY text and row images to tuples of Python values, as SQLite takes them: what a loader and an applier bind.

Each column has a kind, one byte: how its canonical text becomes a value.

    t  text: str
    i  integer: int where 64 bits hold it, else its digits as str
    f  number: float; NaN, which SQLite would turn into NULL, stays text
    b  boolean: 1 or 0
    x  bytes, from `\\x6162`: bytes

A text that does not have the form of its kind stays text. NULL is None.
COPY text: https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

import sys
from array import array

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.copylines_cy import unescape
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.cpython.ref import Py_INCREF
    from cython.cimports.cpython.tuple import PyTuple_New, PyTuple_SET_ITEM
    from cython.cimports.cpython.unicode import PyUnicode_DecodeUTF8
    from cython.cimports.libc.stdlib import free, malloc
    from cython.cimports.libc.string import memchr, memcpy

from cdcflow.codecs.copylines_cy import split

_ORDER = sys.byteorder

_NAN = "NaN"


class RowError(ValueError):
    """A line or a row image does not have the cells that its table has, or a text is not UTF-8."""


class AbsentError(RowError):
    """A cell that is needed is absent."""


def copy_rows(block: bytes, kinds: bytes) -> list:
    """Return the rows of a block of COPY text that holds whole lines, one tuple a line.

    Raises:
        RowError: a line has another number of columns than `kinds`, or ends inside an escape.
    """
    try:
        if cython.compiled:
            return _compiled_copy_rows(block, kinds)
        return _plain_copy_rows(block, kinds)
    except UnicodeDecodeError:
        raise RowError("a text is not valid UTF-8") from None


def image_rows(images: bytes, starts: bytes, width: int, places: tuple, kinds: bytes, absent) -> list:
    """Return the cells at `places` of row images, one tuple an image.

    Args:
        starts: native int64 an image: its offset in `images`.
        width: cells in each image.
        kinds: one for each of `places`.
        absent: stands for a cell that the image does not have; None where every cell must be there.

    Raises:
        AbsentError: a cell is absent that must be there.
        RowError: an image ends before its cells do.
    """
    if len(starts) % 8:
        raise RowError("the starts end inside one")
    try:
        if cython.compiled:
            return _compiled_image_rows(images, starts, width, places, kinds, absent)
        return _plain_image_rows(images, starts, width, places, kinds, absent)
    except UnicodeDecodeError:
        raise RowError("a text is not valid UTF-8") from None


def value_of(text: bytes, kind: int) -> object:
    """Return one value: what the two functions do for each cell."""
    if kind == 0x69:  # i
        return _integer(text)
    if kind == 0x66:  # f
        return _number(text)
    if kind == 0x62:  # b
        return 1 if text == b"t" else 0 if text == b"f" else text.decode()
    if kind == 0x78:  # x
        return _bytes(text)
    return text.decode()


class _Raw:
    """A large binary value as it is: see `model.frame`."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes):
        self.raw = raw

    def value(self, kind: int) -> object:
        """Return what the value's canonical text would become."""
        return self.raw if kind == 0x78 else value_of(b"\\x" + self.raw.hex().encode(), kind)


def _integer(text: bytes):
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit():
        return text.decode()
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 63 else text.decode()


def _number(text: bytes):
    try:
        number = float(text)
    except ValueError:
        return text.decode()
    return number if number == number else _NAN


def _bytes(text: bytes):
    if text[:2] == b"\\x":
        try:
            return bytes.fromhex(text[2:].decode())
        except ValueError:
            pass
    return text.decode()


def _plain_copy_rows(block: bytes, kinds: bytes) -> list:
    if not block:
        return []
    if not block.endswith(b"\n"):
        raise RowError("a block ends inside a line")
    rows = []
    for line in block.removesuffix(b"\n").split(b"\n"):
        try:
            cells = split(line, len(kinds))
        except ValueError as error:
            raise RowError(str(error)) from None
        if cells is None:
            raise RowError(f"a line has not the columns of its table, which has {len(kinds)}")
        pairs = zip(cells, kinds)  # noqa: B905 - as many
        rows.append(tuple([None if cell is None else value_of(cell, kind) for cell, kind in pairs]))
    return rows


def _plain_image_rows(images: bytes, starts: bytes, width: int, places: tuple, kinds: bytes, absent) -> list:
    rows = []
    cells: list = [None] * width
    for start in array("q", starts):
        at = start
        for index in range(width):
            if at < 0 or at + 4 > len(images):
                raise RowError("a row image ends before its cells")
            length = int.from_bytes(images[at : at + 4], _ORDER, signed=True)
            at += 4
            if length >= 0:
                if at + length > len(images):
                    raise RowError("a row image ends inside a cell")
                cells[index] = images[at : at + length]
                at += length
            elif length == -1:
                cells[index] = None
            elif length < -2:
                if at - 3 - length > len(images):
                    raise RowError("a row image ends inside a cell")
                cells[index] = _Raw(images[at : at - 3 - length])
                at += -3 - length
            elif absent is None and index in places:
                raise AbsentError("an absent cell was asked for")
            else:
                cells[index] = absent
        rows.append(
            tuple(
                [
                    value_of(cells[place], kind)
                    if isinstance(cells[place], bytes)
                    else cells[place].value(kind)
                    if isinstance(cells[place], _Raw)
                    else cells[place]
                    for place, kind in zip(places, kinds)  # noqa: B905 - as many
                ]
            )
        )
    return rows


@cython.cfunc
def _value(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, kind: cython.int) -> object:
    """Return the value of the text from `at` to `end`."""
    if cython.compiled:
        number: cython.ulonglong = 0
        index: cython.Py_ssize_t
        negative: cython.bint
        byte: cython.int
        if kind == 0x74:  # t
            return PyUnicode_DecodeUTF8(cython.cast(cython.p_char, p + at), end - at, cython.NULL)
        if kind == 0x69:  # i
            index = at
            negative = index < end and p[index] == 45
            if negative:
                index += 1
            # Eighteen digits are below 2**63 whatever they are.
            if 0 < end - index <= 18:
                while index < end:
                    byte = p[index] - 48
                    if byte < 0 or byte > 9:
                        break
                    number = number * 10 + cython.cast(cython.ulonglong, byte)
                    index += 1
                if index == end:
                    return -cython.cast(cython.longlong, number) if negative else cython.cast(cython.longlong, number)
        elif kind == 0x62 and end - at == 1:  # b
            if p[at] == 0x74:
                return 1
            if p[at] == 0x66:
                return 0
        elif kind == 0x78 and end - at >= 2 and p[at] == 0x5C and p[at + 1] == 0x78:  # x
            return _hex(p, at + 2, end)
        return value_of(PyBytes_FromStringAndSize(cython.cast(cython.p_char, p + at), end - at), kind)
    return None


@cython.cfunc
def _hex(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> object:
    if cython.compiled:
        size: cython.Py_ssize_t = (end - at) // 2
        out: cython.p_uchar
        index: cython.Py_ssize_t
        high: cython.int
        low: cython.int
        made: bytes
        if (end - at) % 2:
            return PyUnicode_DecodeUTF8(cython.cast(cython.p_char, p + at - 2), end - at + 2, cython.NULL)
        made = PyBytes_FromStringAndSize(cython.NULL, size)
        out = cython.cast(cython.p_uchar, PyBytes_AS_STRING(made))
        for index in range(size):
            high = _digit(p[at + 2 * index])
            low = _digit(p[at + 2 * index + 1])
            if high < 0 or low < 0:
                return PyUnicode_DecodeUTF8(cython.cast(cython.p_char, p + at - 2), end - at + 2, cython.NULL)
            out[index] = cython.cast(cython.uchar, high * 16 + low)
        return made
    return None


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _digit(byte: cython.int) -> cython.int:
    if 48 <= byte <= 57:
        return byte - 48
    if 97 <= byte <= 102:
        return byte - 87
    if 65 <= byte <= 70:
        return byte - 55
    return -1


@cython.cfunc
def _compiled_copy_rows(block: bytes, kinds: bytes) -> list:
    rows: list = []
    if cython.compiled:
        size: cython.Py_ssize_t = len(block)
        width: cython.Py_ssize_t = len(kinds)
        p: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(block))
        k: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(kinds))
        plain: cython.p_uchar = cython.NULL
        at: cython.Py_ssize_t = 0
        end: cython.Py_ssize_t
        stop: cython.Py_ssize_t
        length: cython.Py_ssize_t
        column: cython.Py_ssize_t
        escaped: cython.bint
        found: cython.p_void
        value: object
        row: tuple
        if size and p[size - 1] != 10:
            raise RowError("a block ends inside a line")
        plain = cython.cast(cython.p_uchar, malloc(size + 1))
        if plain == cython.NULL:
            raise MemoryError
        try:
            while at < size:
                found = memchr(p + at, 10, size - at)
                stop = cython.cast(cython.p_uchar, found) - p
                row = PyTuple_New(width)
                for column in range(width):
                    end = at
                    escaped = False
                    while end < stop and p[end] != 9:
                        if p[end] == 92:
                            escaped = True
                        end += 1
                    if end < stop and column == width - 1:
                        raise RowError("a line has more columns than its table")
                    if end == stop and column < width - 1:
                        raise RowError("a line has fewer columns than its table")
                    if not escaped:
                        value = _value(p, at, end, k[column])
                    elif end - at == 2 and p[at + 1] == 78:
                        value = None
                    else:
                        length = unescape(p, at, end, plain, 0)
                        if length < 0:
                            raise RowError("a line ends inside an escape")
                        value = _value(plain, 0, length, k[column])
                    Py_INCREF(value)
                    PyTuple_SET_ITEM(row, column, value)
                    at = end + 1
                if width == 0:
                    if stop > at:
                        raise RowError("a line has more columns than its table")
                    at = stop + 1
                rows.append(row)
        finally:
            free(plain)
    return rows


@cython.cfunc
def _compiled_image_rows(
    images: bytes, starts: bytes, width: cython.int, places: tuple, kinds: bytes, absent: object
) -> list:
    rows: list = []
    if cython.compiled:
        count: cython.Py_ssize_t = len(starts) // 8
        chosen: cython.Py_ssize_t = len(places)
        limit: cython.Py_ssize_t = len(images)
        p: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(images))
        r: cython.p_char = PyBytes_AS_STRING(starts)
        k: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(kinds))
        cells: cython.pointer[cython.longlong] = cython.cast(cython.pointer[cython.longlong], malloc((width + 1) * 8))
        lengths: cython.pointer[cython.int] = cython.cast(cython.pointer[cython.int], malloc((width + 1) * 4))
        wanted: cython.pointer[cython.int] = cython.cast(cython.pointer[cython.int], malloc((chosen + 1) * 4))
        at: cython.Py_ssize_t
        number: cython.Py_ssize_t
        index: cython.int
        length: cython.int
        column: cython.Py_ssize_t
        start: cython.longlong = 0
        value: object
        row: tuple
        try:
            if cells == cython.NULL or lengths == cython.NULL or wanted == cython.NULL:
                raise MemoryError
            if len(kinds) != chosen:
                raise RowError("there is not one kind for each column")
            for column in range(chosen):
                wanted[column] = places[column]
                if wanted[column] < 0 or wanted[column] >= width:
                    raise RowError("a column is outside of the row image")
            for number in range(count):
                memcpy(cython.address(start), r + number * 8, 8)
                if start < 0 or start > limit:
                    raise RowError("a row image ends before its cells")
                at = start
                for index in range(width):
                    if limit - at < 4:
                        raise RowError("a row image ends before its cells")
                    memcpy(cython.address(length), p + at, 4)
                    at += 4
                    lengths[index] = length
                    cells[index] = at
                    if length > 0:
                        if length > limit - at:
                            raise RowError("a row image ends inside a cell")
                        at += length
                    elif length < -2:
                        if -3 - cython.cast(cython.Py_ssize_t, length) > limit - at:
                            raise RowError("a row image ends inside a cell")
                        at += -3 - cython.cast(cython.Py_ssize_t, length)
                row = PyTuple_New(chosen)
                for column in range(chosen):
                    length = lengths[wanted[column]]
                    if length >= 0:
                        at = cells[wanted[column]]
                        value = _value(p, at, at + length, k[column])
                    elif length == -1:
                        value = None
                    elif length < -2:
                        at = cells[wanted[column]]
                        raw = PyBytes_FromStringAndSize(
                            cython.cast(cython.p_char, p + at), -3 - cython.cast(cython.Py_ssize_t, length)
                        )
                        value = _Raw(raw).value(k[column])
                    elif absent is None:
                        raise AbsentError("an absent cell was asked for")
                    else:
                        value = absent
                    Py_INCREF(value)
                    PyTuple_SET_ITEM(row, column, value)
                rows.append(row)
        finally:
            free(cells)
            free(lengths)
            free(wanted)
    return rows
