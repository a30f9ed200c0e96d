"""Frames to COPY text, keys to array literals: the two forms in which a batch reaches PostgreSQL.

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
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import free, malloc
    from cython.cimports.libc.string import memcpy

_ORDER = sys.byteorder

# A block handed to `write` has at most about this many bytes, however large a value is.
_BLOCK = cython.declare(cython.Py_ssize_t, 262144)


class ImageError(ValueError):
    """A row image ends before its cells do, or has an absent cell where a value is needed."""


def copy_text(
    after: bytes,
    merged: bytes,
    references: bytes,
    width: int,
    columns: tuple,
    write,
) -> int:
    """Encode row images as COPY text lines and pass them on in blocks; return the number of rows.

    Args:
        references: native int64 a row: an offset into `after`, or, where negative, -1 - offset into `merged`.
        width: cells in each image.
        columns: which cells go out, by position, in this order.
        write: called with each block (bytes, whole lines or parts of one).

    Raises:
        ImageError: an image is not what it says, or an asked cell is absent.
    """
    count: cython.Py_ssize_t = len(references) // 8
    if len(references) % 8:
        raise ImageError("the references end inside one")
    if cython.compiled:
        return _compiled_copy_text(after, merged, references, width, columns, write, count)
    cells: list = [b""] * width
    out: list = []
    size = 0
    for reference in array("q", references):
        buffer, at = (after, reference) if reference >= 0 else (merged, -1 - reference)
        for index in range(width):
            if at + 4 > len(buffer):
                raise ImageError("a row image ends before its cells")
            length = int.from_bytes(buffer[at : at + 4], _ORDER, signed=True)
            at += 4
            if length >= 0:
                if at + length > len(buffer):
                    raise ImageError("a row image ends inside a cell")
                cells[index] = _escaped(buffer[at : at + length])
                at += length
            elif length < -2:
                if at - 3 - length > len(buffer):
                    raise ImageError("a row image ends inside a cell")
                cells[index] = b"\\\\x" + buffer[at : at - 3 - length].hex().encode()
                at += -3 - length
            else:
                cells[index] = b"\\N" if length == -1 else None
        try:
            line = b"\t".join([cells[index] for index in columns]) + b"\n"
        except TypeError:
            raise ImageError("an absent cell was asked for") from None
        out.append(line)
        size += len(line)
        if size >= _BLOCK:
            write(b"".join(out))
            out.clear()
            size = 0
    if out:
        write(b"".join(out))
    return count


def _escaped(text: bytes) -> bytes:
    if b"\\" in text:
        text = text.replace(b"\\", b"\\\\")
    if b"\n" in text:
        text = text.replace(b"\n", b"\\n")
    if b"\r" in text:
        text = text.replace(b"\r", b"\\r")
    if b"\t" in text:
        text = text.replace(b"\t", b"\\t")
    return text


@cython.cfunc
def _compiled_copy_text(
    after: bytes,
    merged: bytes,
    references: bytes,
    width: cython.int,
    columns: tuple,
    write: object,
    count: cython.Py_ssize_t,
) -> object:
    if cython.compiled:
        chosen: cython.int = len(columns)
        room: cython.Py_ssize_t = _BLOCK + 4096
        out: cython.p_uchar = cython.cast(cython.p_uchar, malloc(room))
        cells: cython.pointer[cython.Py_ssize_t] = cython.cast(
            cython.pointer[cython.Py_ssize_t], malloc((width + 1) * sizeof_ssize)
        )
        lengths: cython.pointer[cython.int] = cython.cast(cython.pointer[cython.int], malloc((width + 1) * 4))
        wanted: cython.pointer[cython.int] = cython.cast(cython.pointer[cython.int], malloc((chosen + 1) * 4))
        size: cython.Py_ssize_t = 0
        row: cython.Py_ssize_t
        at: cython.Py_ssize_t
        end: cython.Py_ssize_t
        limit: cython.Py_ssize_t
        index: cython.int
        length: cython.int
        byte: cython.uchar
        reference: cython.longlong = 0
        base: cython.p_uchar
        a: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(after))
        m: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(merged))
        r: cython.p_char = PyBytes_AS_STRING(references)
        try:
            if out == cython.NULL or cells == cython.NULL or lengths == cython.NULL or wanted == cython.NULL:
                raise MemoryError
            for index in range(chosen):
                wanted[index] = columns[index]
            for row in range(count):
                memcpy(cython.address(reference), r + row * 8, 8)
                if reference >= 0:
                    base = a
                    at = reference
                    limit = len(after)
                else:
                    base = m
                    at = -1 - reference
                    limit = len(merged)
                if at > limit:  # a reference may be any number: `at + 4` would overflow
                    raise ImageError("a reference is past any image")
                for index in range(width):
                    if at + 4 > limit:
                        raise ImageError("a row image ends before its cells")
                    memcpy(cython.address(length), base + at, 4)
                    at += 4
                    lengths[index] = length
                    cells[index] = at
                    if length > 0:
                        if length > limit - at:
                            raise ImageError("a row image ends inside a cell")
                        at += length
                    elif length < -2:
                        if -3 - cython.cast(cython.Py_ssize_t, length) > limit - at:
                            raise ImageError("a row image ends inside a cell")
                        at += -3 - cython.cast(cython.Py_ssize_t, length)
                for index in range(chosen):
                    if size >= _BLOCK:
                        write(PyBytes_FromStringAndSize(cython.cast(cython.p_char, out), size))
                        size = 0
                    if index:
                        out[size] = 9
                        size += 1
                    length = lengths[wanted[index]]
                    if length < 0:
                        if length == -2:
                            raise ImageError("an absent cell was asked for")
                        out[size] = 92
                        out[size + 1] = 78
                        size += 2
                        if length == -1:
                            continue
                        out[size - 1] = 92  # in COPY text a backslash is doubled
                        out[size] = 120
                        size += 1
                        at = cells[wanted[index]]
                        end = at - 3 - length
                        while at < end:
                            limit = at + (room - size - 8) // 2
                            if limit > end:
                                limit = end
                            while at < limit:
                                byte = base[at] >> 4
                                out[size] = 48 + byte if byte < 10 else 87 + byte
                                byte = base[at] & 15
                                out[size + 1] = 48 + byte if byte < 10 else 87 + byte
                                size += 2
                                at += 1
                            if size >= _BLOCK:
                                write(PyBytes_FromStringAndSize(cython.cast(cython.p_char, out), size))
                                size = 0
                        continue
                    at = cells[wanted[index]]
                    end = at + length
                    while at < end:
                        # A byte takes two at the most, so what fits is known before.
                        limit = at + (room - size - 8) // 2
                        if limit > end:
                            limit = end
                        while at < limit:
                            byte = base[at]
                            at += 1
                            if byte > 13 and byte != 92:
                                out[size] = byte
                                size += 1
                            elif byte == 92:
                                out[size] = 92
                                out[size + 1] = 92
                                size += 2
                            elif byte == 10:
                                out[size] = 92
                                out[size + 1] = 110
                                size += 2
                            elif byte == 13:
                                out[size] = 92
                                out[size + 1] = 114
                                size += 2
                            elif byte == 9:
                                out[size] = 92
                                out[size + 1] = 116
                                size += 2
                            else:
                                out[size] = byte
                                size += 1
                        if size >= _BLOCK:
                            write(PyBytes_FromStringAndSize(cython.cast(cython.p_char, out), size))
                            size = 0
                out[size] = 10
                size += 1
            if size:
                write(PyBytes_FromStringAndSize(cython.cast(cython.p_char, out), size))
        finally:
            free(out)
            free(cells)
            free(lengths)
            free(wanted)
    return count


sizeof_ssize = cython.declare(cython.int, 8)


def key_arrays(keys: bytes, spans: bytes, width: int) -> list:
    """Return one array literal for each of the `width` key columns: `{"1","2"}`.

    Args:
        keys: key cells, one behind the other.
        spans: native int64 pairs (start, size) into `keys`, one pair a key.

    Raises:
        ImageError: a key is shorter than its cells, or holds NULL.
    """
    if len(spans) % 16:
        raise ImageError("the spans end inside one")
    numbers = array("q", spans)
    columns: list = [[] for _ in range(width)]
    position: cython.Py_ssize_t
    column: cython.int
    at: cython.Py_ssize_t
    length: cython.Py_ssize_t
    for position in range(0, len(numbers), 2):
        at = numbers[position]
        for column in range(width):
            if at < 0 or len(keys) - at < 4:
                raise ImageError("a key ends before its cells")
            length = int.from_bytes(keys[at : at + 4], _ORDER, signed=True)
            at += 4
            if length < 0 or length > len(keys) - at:
                raise ImageError("a key ends inside a cell, or holds NULL")
            columns[column].append(array_element(keys[at : at + length]))
            at += length
    return [b"{" + b",".join(elements) + b"}" for elements in columns]


def array_element(text: bytes) -> bytes:
    """Return a value as an element of an array literal: quoted, backslash and quote escaped."""
    if b"\\" in text:
        text = text.replace(b"\\", b"\\\\")
    if b'"' in text:
        text = text.replace(b'"', b'\\"')
    return b'"' + text + b'"'


def offsets(sizes: bytes) -> bytes:
    """Return the start of each image (native int64) from the images' sizes (native int32).

    Raises:
        ImageError: the sizes end inside one, or one is negative.
    """
    if len(sizes) % 4:
        raise ImageError("the sizes end inside one")
    total: cython.longlong = 0
    starts = array("q", bytes(2 * len(sizes)))
    index: cython.Py_ssize_t = 0
    for size in array("i", sizes):
        if size < 0:
            raise ImageError("a row image has a negative size")
        starts[index] = total
        total += size
        index += 1
    return starts.tobytes()
