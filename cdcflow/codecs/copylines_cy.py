"""Cells of COPY text lines: how a line falls into them, and what their escapes stand for.

COPY text: https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
This file runs as it is and is compiled by Cython where a compiler is there; copylines_cy.pxd declares for other
compiled modules the functions over memory. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def meant(byte: cython.int) -> cython.int:
    """Return what a letter behind a backslash stands for."""
    if byte == 110:
        return 10
    if byte == 116:
        return 9
    if byte == 114:
        return 13
    if byte == 98:
        return 8
    if byte == 102:
        return 12
    if byte == 118:
        return 11
    return byte


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def unescape(
    p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_uchar, to: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a cell without its escapes at `out[to]`, where as many bytes are as the cell has.

    Returns:
        Where it ends there; -1 for a cell that ends inside an escape.
    """
    byte: cython.int
    while at < end:
        byte = p[at]
        at += 1
        if byte == 92:
            if at == end:
                return -1
            byte = meant(p[at])
            at += 1
        out[to] = cython.cast(cython.uchar, byte)
        to += 1
    return to


def split(line: bytes, width: int) -> list | None:
    """Return a line's cells, None where they are not `width`. NULL is None, any other cell without its escapes.

    Raises:
        ValueError: a cell ends inside an escape.
    """
    found = line.split(b"\t") if width or line else []
    if len(found) != width:
        return None
    return [None if cell == b"\\N" else _unescaped(cell) if b"\\" in cell else cell for cell in found]


def _unescaped(cell: bytes) -> bytes:
    room = bytearray(len(cell))
    size: cython.Py_ssize_t
    if cython.compiled:
        size = unescape(
            cython.cast(cython.p_uchar, PyBytes_AS_STRING(cell)),
            0,
            len(cell),
            cython.cast(cython.p_uchar, PyByteArray_AS_STRING(room)),
            0,
        )
    else:
        size = unescape(cell, 0, len(cell), room, 0)
    if size < 0:
        raise ValueError("a line ends inside an escape")
    return bytes(room[:size])
