"""What the readers of Avro and of Protobuf share: values as cells of a row image, and a table's columns as arrays.

This file runs as it is and is compiled by Cython where a compiler is there; scancells_cy.pxd declares for other
compiled modules the functions. It does no I/O. Forms are numbers of `scanforms.Form`.
"""

from __future__ import annotations

import struct
from array import array

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.arraytext_cy import write_element
    from cython.cimports.cdcflow.codecs.busmoment_cy import put_zoned
    from cython.cimports.cdcflow.codecs.bustext_cy import is_unavailable, put_cell_size, put_hex
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memcpy
else:
    from cdcflow.codecs import loading

    _text = loading.plain("cdcflow.codecs.bustext_cy")
    is_unavailable, put_cell_size, put_hex = _text.is_unavailable, _text.put_cell_size, _text.put_hex
    write_element = loading.plain("cdcflow.codecs.arraytext_cy").write_element
    put_zoned = loading.plain("cdcflow.codecs.busmoment_cy").put_zoned
    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena

from cdcflow.codecs.frames_cy import MessageError

_ABSENT = cython.declare(cython.int, -2)
_NO_VALUE = cython.declare(cython.int, -1)


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_bool(out: Arena, value: cython.bint, form: cython.int) -> cython.int:
    """Append a truth value, as a bit where the form is BIT."""
    out.reserve(1)
    if value:
        out.byte(49 if form == 4 else 116)
    else:
        out.byte(48 if form == 4 else 102)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_piece(
    out: Arena,
    p: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    form: cython.int,
    hides: cython.bint,
) -> cython.int:
    """Append the text, or the bytes, from `at` to `end`; return 1 where it stands for a value that was not logged.

    hides: any text may stand for that, not only a moment's.
    """
    if (hides or form == 18) and is_unavailable(p, at, end):
        return 1
    if form == 7:  # HEX
        put_hex(out, p, at, end)
    elif form == 18:  # ZONED
        put_zoned(out, p, at, end)
    else:
        out.reserve(end - at)
        out.copy(p, at, end - at)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_item(out: Arena, element: Arena, good: cython.bint, first: cython.bint, delimiter: cython.int) -> cython.int:
    """Append the text in `element` as an element of an array; NULL where it is not good."""
    size: cython.Py_ssize_t
    if cython.compiled:
        out.reserve(2 * element.size + 7)
        if not first:
            out.data[out.size] = delimiter
            out.size += 1
        if good:
            out.size = write_element(element.data, 0, element.size, delimiter, out.data, out.size)
        else:
            out.data[out.size] = 78
            out.data[out.size + 1] = 85
            out.data[out.size + 2] = out.data[out.size + 3] = 76
            out.size += 4
        return 0
    room = bytearray(2 * element.size + 2)
    size = write_element(element.plain, 0, element.size, delimiter, room, 0)
    out.plain += (b"" if first else bytes((delimiter,))) + (room[:size] if good else b"NULL")
    out.size = len(out.plain)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def end_cell(
    out: Arena, start: cython.Py_ssize_t, good: cython.bint, absent: cython.bint, hides: cython.bint
) -> cython.int:
    """End the cell that began with four bytes at `start`: it is NULL where it is not good, or was not logged.

    hides: its whole text may stand for a value that was not logged.
    """
    if good and hides and not absent:
        absent = is_unavailable(out.data if cython.compiled else out.plain, start + 4, out.size)
    if good and not absent:
        return put_cell_size(out, start)
    out.cut(start)
    out.int32(_ABSENT if good else _NO_VALUE)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def floating(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, size: cython.int) -> cython.double:
    """Return the number that stands at `at` in eight or in four bytes, little-endian."""
    double: cython.double = 0
    single: cython.float = 0
    if end - at < size:
        raise MessageError("a message ends inside a value")
    if not cython.compiled:
        return struct.unpack_from("<d" if size == 8 else "<f", p, at)[0]
    if size == 8:
        memcpy(cython.address(double), p + at, 8)
        return double
    memcpy(cython.address(single), p + at, 4)
    return single


@cython.cfunc
def utf8(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> str:
    """Return the text from `at` to `end`."""
    piece: bytes = p[at:end]
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        raise MessageError("a text is not UTF-8") from None


@cython.cfunc
def ints(kept: list, column: list) -> cython.p_int:
    """Return small numbers as an array that is there as long as `kept`."""
    if cython.compiled:
        packed: bytes = array("i", column or [0]).tobytes()
        kept.append(packed)
        return cython.cast(cython.p_int, PyBytes_AS_STRING(packed))
    return column


@cython.cfunc
def offsets(kept: list, count: cython.Py_ssize_t) -> cython.p_longlong:
    """Return an array of so many places in a message, which is there as long as `kept`."""
    if cython.compiled:
        packed: bytes = bytes(8 * max(count, 1))
        kept.append(packed)
        return cython.cast(cython.p_longlong, PyBytes_AS_STRING(packed))
    return [0] * count
