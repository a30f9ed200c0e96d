"""COPY text to row images: what a loader that publishes hands to a writer of messages.

COPY text: https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS; images: `model.frame`.
This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

import struct

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.copylines_cy import unescape
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.string import memchr, memcpy

from cdcflow.codecs.copylines_cy import split

_INT32 = struct.Struct("=i")


class CopyTextError(ValueError):
    """A line does not have the cells that its table has, or ends inside an escape."""


def copy_images(block: bytes, width: int) -> tuple:
    """Return the row images of a block of COPY text that holds whole lines, and their sizes as native int32.

    Args:
        width: columns in each line.

    Raises:
        CopyTextError: a line has another number of columns, or ends inside an escape, or the block inside a line.
    """
    if block and not block.endswith(b"\n"):
        raise CopyTextError("a block ends inside a line")
    if cython.compiled:
        return _compiled_images(block, width)
    images: list = []
    sizes: list = []
    for line in block.split(b"\n")[:-1]:
        try:
            cells = split(line, width)
        except ValueError as error:
            raise CopyTextError(str(error)) from None
        if cells is None:
            raise CopyTextError(f"a line has not the columns of its table, which has {width}")
        size = 0
        for cell in cells:
            if cell is None:
                images.append(_INT32.pack(-1))
                size += 4
            else:
                images.append(_INT32.pack(len(cell)))
                images.append(cell)
                size += 4 + len(cell)
        sizes.append(_INT32.pack(size))
    return b"".join(images), b"".join(sizes)


@cython.cfunc
def _compiled_images(block: bytes, width: cython.Py_ssize_t) -> object:
    if cython.compiled:
        size: cython.Py_ssize_t = len(block)
        rows: cython.Py_ssize_t = block.count(b"\n")
        p: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(block))
        # A text never grows when its escapes are taken out, and each cell has its length before it.
        images: bytes = PyBytes_FromStringAndSize(cython.NULL, size + 4 * rows * width)
        sizes: bytes = PyBytes_FromStringAndSize(cython.NULL, 4 * rows)
        out: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(images))
        per_row: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(sizes))
        at: cython.Py_ssize_t = 0
        to: cython.Py_ssize_t = 0
        row: cython.Py_ssize_t
        column: cython.Py_ssize_t
        start: cython.Py_ssize_t
        stop: cython.Py_ssize_t
        end: cython.Py_ssize_t
        head: cython.Py_ssize_t
        length: cython.int
        escaped: cython.bint
        for row in range(rows):
            start = to
            stop = cython.cast(cython.p_uchar, memchr(p + at, 10, size - at)) - p
            for column in range(width):
                end = at
                escaped = False
                while end < stop and p[end] != 9:
                    if p[end] == 92:
                        escaped = True
                    end += 1
                if end < stop and column == width - 1:
                    raise CopyTextError(f"a line has more columns than its table, which has {width}")
                if end == stop and column < width - 1:
                    raise CopyTextError(f"a line has {column + 1} columns, its table has {width}")
                head = to
                to += 4
                if not escaped:
                    memcpy(out + to, p + at, end - at)
                    to += end - at
                    length = cython.cast(cython.int, end - at)
                elif end - at == 2 and p[at + 1] == 78:
                    length = -1
                else:
                    to = unescape(p, at, end, out, to)
                    if to < 0:
                        raise CopyTextError("a line ends inside an escape")
                    length = cython.cast(cython.int, to - head - 4)
                memcpy(out + head, cython.address(length), 4)
                at = end + 1
            if width == 0:
                if stop > at:
                    raise CopyTextError("a line has more columns than its table, which has 0")
                at = stop + 1
            length = cython.cast(cython.int, to - start)
            memcpy(per_row + 4 * row, cython.address(length), 4)
        return images[:to], sizes
    return b"", b""
