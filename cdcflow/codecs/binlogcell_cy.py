"""One value of a binlog row image as a cell of canonical text.

Which way a column's values go is planned in `binlogkinds`; what they are made of stands in `binlognumbers_cy`,
`binlogtext_cy`, `binlogtime_cy` and `mysqljson_cy`.

This file runs as it is and is compiled by Cython where a compiler is there; binlogcell_cy.pxd declares for other
compiled modules what is here. It does no I/O.
"""

from __future__ import annotations

import sys

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs import binlogtime_cy as moments
    from cython.cimports.cdcflow.codecs.binlognumbers_cy import bits, decimal, digits, float4, float8, integer, little
    from cython.cimports.cdcflow.codecs.binlogtext_cy import copied, hexed, is_utf8, mapped, zeros
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
    from cython.cimports.cdcflow.codecs.mysqljson_cy import JsonText
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memcpy
else:
    from cdcflow.codecs import loading

    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena
    JsonText = loading.plain("cdcflow.codecs.mysqljson_cy").JsonText
    moments = loading.plain("cdcflow.codecs.binlogtime_cy")
    _numbers = loading.plain("cdcflow.codecs.binlognumbers_cy")
    _text = loading.plain("cdcflow.codecs.binlogtext_cy")
    bits, decimal, digits, float4 = _numbers.bits, _numbers.decimal, _numbers.digits, _numbers.float4
    float8, integer, little = _numbers.float8, _numbers.integer, _numbers.little
    copied, hexed, is_utf8, mapped, zeros = _text.copied, _text.hexed, _text.is_utf8, _text.mapped, _text.zeros

from cdcflow.codecs.binlogkinds import inflated
from cdcflow.codecs.frames_cy import MessageError

_ORDER = sys.byteorder
_NULL = cython.declare(cython.int, -1)
_UNREAL = cython.declare(cython.Py_ssize_t, -2)

# From this size on a binary value goes into its frame raw, in half the room that its hex digits take.
RAW_BYTES = cython.declare(cython.Py_ssize_t, 1048576)

_LONGEST_CELL = cython.declare(cython.Py_ssize_t, 0x7FFFFFFF)


class UnrealDate(MessageError):
    """A date that no calendar has, where the rules say that its row is rejected."""


@cython.cfunc
@cython.exceptval(-1)
def cell(
    arena: Arena,
    json: JsonText,
    kind: cython.int,
    detail: cython.int,
    policy: cython.int,
    thing: object,
    p: cython.p_uchar,
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
) -> cython.int:
    """Append one cell: the value of which the bytes stand from `start` on.

    The numbers and the object are those of the column's `binlogkinds.Plan`; `json` may be any, to be used again.
    """
    if kind < 16:
        return _scalar(arena, kind, detail, p, start, count)
    if kind < 23:
        return _moment(arena, kind, policy, thing, p, start, count)
    if kind < 25:
        return _choice(arena, kind, thing, p, start, count)
    return _string(arena, json, kind, detail, thing, p, start, count)


@cython.cfunc
@cython.exceptval(-1)
def _scalar(
    arena: Arena,
    kind: cython.int,
    detail: cython.int,
    p: cython.p_uchar,
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
) -> cython.int:
    out: cython.p_uchar
    begun: cython.Py_ssize_t = arena.size
    at: cython.Py_ssize_t = begun + 4
    _room(arena, 120)
    if cython.compiled:
        out = arena.data
    else:
        out = arena.plain
    if kind <= 2:  # an integer, signed or unsigned
        at = integer(out, at, p, start, count, kind == 2)
    elif kind == 11:
        at = float4(out, at, p, start)
    elif kind == 12:
        at = float8(out, at, p, start)
    elif kind == 13:
        at = decimal(out, at, p, start, detail & 0xFF, detail >> 8)
    elif kind == 14:  # YEAR, of which zero is one
        at = digits(out, at, 1900 + p[start] if p[start] else 0)
    else:  # 15, BIT
        at = bits(out, at, p, start, count, detail)
    return _close(arena, begun, at)


@cython.cfunc
@cython.exceptval(-1)
def _moment(
    arena: Arena,
    kind: cython.int,
    policy: cython.int,
    thing: object,
    p: cython.p_uchar,
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
) -> cython.int:
    out: cython.p_uchar
    epoch: bytes
    begun: cython.Py_ssize_t = arena.size
    at: cython.Py_ssize_t = begun + 4
    _room(arena, 64)
    if cython.compiled:
        out = arena.data
    else:
        out = arena.plain
    if kind == 16:
        at = moments.date(out, at, p, start)
    elif kind == 17:
        at = moments.time(out, at, p, start, count)
    elif kind == 18:
        at = moments.datetime(out, at, p, start, count)
    elif kind == 19:
        at = moments.timestamp(out, at, p, start, count)
    elif kind == 20:
        at = moments.old_time(out, at, p, start)
    elif kind == 21:
        at = moments.old_datetime(out, at, p, start)
    else:
        at = moments.old_timestamp(out, at, p, start)
    if at != _UNREAL:
        return _close(arena, begun, at)
    arena.cut(begun)
    if policy == 2:
        raise UnrealDate("a date that no calendar has, and the rules say zero_dates: fail")
    if policy == 0:
        arena.int32(_NULL)
        return 0
    epoch = thing
    return text_cell(arena, epoch)


@cython.cfunc
@cython.exceptval(-1)
def text_cell(arena: Arena, text: bytes) -> cython.int:
    """Append a cell of text that is there already."""
    size: cython.Py_ssize_t = len(text)
    if size > _LONGEST_CELL:
        raise MessageError("a value of more than two gigabytes")
    arena.reserve(size + 4)
    arena.int32(cython.cast(cython.int, size))
    if cython.compiled:
        arena.copy(cython.cast(cython.p_uchar, PyBytes_AS_STRING(text)), 0, size)
    else:
        arena.copy(text, 0, size)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def _choice(
    arena: Arena,
    kind: cython.int,
    thing: object,
    p: cython.p_uchar,
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
) -> cython.int:
    """Append an ENUM (23): a number from one on, zero for '', or a SET (24): a bit for each label."""
    labels: list = thing
    label: bytes
    chosen: cython.ulonglong = little(p, start, count)
    if kind == 23:
        if chosen > cython.cast(cython.ulonglong, len(labels)):
            raise MessageError("a label that the column does not have")
        label = b"" if chosen == 0 else labels[cython.cast(cython.Py_ssize_t, chosen) - 1]
        return text_cell(arena, label)
    if len(labels) < 64 and chosen >> len(labels):
        raise MessageError("a label that the column does not have")
    return text_cell(arena, b",".join([labels[place] for place in range(len(labels)) if (chosen >> place) & 1]))


@cython.cfunc
@cython.exceptval(-1)
def _string(
    arena: Arena,
    json: JsonText,
    kind: cython.int,
    detail: cython.Py_ssize_t,
    thing: object,
    p: cython.p_uchar,
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
) -> cython.int:
    """Append a value of text or bytes. Inside of a kind above 63 there is one that the server compressed."""
    out: cython.p_uchar
    table: bytes
    begun: cython.Py_ssize_t = arena.size
    at: cython.Py_ssize_t = begun + 4
    word: cython.Py_ssize_t
    if kind >= 64:
        table = inflated(p[start : start + count])
        if cython.compiled:
            return _string(
                arena,
                json,
                kind - 64,
                detail,
                thing,
                cython.cast(cython.p_uchar, PyBytes_AS_STRING(table)),
                0,
                len(table),
            )
        return _string(arena, json, kind - 64, detail, thing, table, 0, len(table))
    if kind == 25:  # UTF-8
        if not is_utf8(p, start, count):
            raise MessageError("text that is not UTF-8")
        _room(arena, count + 4)
        if cython.compiled:
            at = copied(arena.data, at, p, start, count)
        else:
            at = copied(arena.plain, at, p, start, count)
    elif kind == 26:  # one byte a character
        table = thing
        _room(arena, 3 * count + 4)
        if cython.compiled:
            at = mapped(arena.data, at, p, start, count, cython.cast(cython.p_uchar, PyBytes_AS_STRING(table)))
        else:
            at = mapped(arena.plain, at, p, start, count, table)
    elif kind == 28 and count >= RAW_BYTES:  # a raw cell
        if count > 0x7FFFFFF0:
            raise MessageError("a value of more than two gigabytes")
        arena.reserve(count + 4)
        arena.int32(cython.cast(cython.int, -3 - count))
        arena.copy(p, start, count)
        return 0
    elif kind == 28:  # bytes; the zeros that the log leaves out at the end of a BINARY are put back
        _room(arena, 2 * (count if count > detail else detail) + 6)
        if cython.compiled:
            out = arena.data
        else:
            out = arena.plain
        out[at] = 92  # \
        out[at + 1] = 120  # x
        at = hexed(out, at + 2, p, start, count, False)
        if count < detail:
            at = zeros(out, at, 2 * (detail - count))
    elif kind == 29:
        _room(arena, 4)
        arena.size = at
        json.write(arena, p, start, count)
        at = arena.size
    elif kind == 30:
        # SRID and well-known binary; as EWKB, which says with a bit in the type that the SRID follows it.
        if count < 9 or p[start + 4] != 1 or p[start + 8]:
            raise MessageError("a geometry that is none")
        _room(arena, 2 * count + 4)
        if cython.compiled:
            out = arena.data
        else:
            out = arena.plain
        at = hexed(out, at, p, start + 4, 5, True)
        if little(p, start, 4):
            out[at - 2] = 50  # 0x20 in the highest byte of the type
            at = hexed(out, at, p, start, 4, True)
        at = hexed(out, at, p, start + 9, count - 9, True)
    elif kind == 31:  # single precision numbers
        if count & 3:
            raise MessageError("a vector that ends inside a number")
        _room(arena, 6 * count + 64)
        if cython.compiled:
            out = arena.data
        else:
            out = arena.plain
        out[at] = 123  # {
        at += 1
        for word in range(count // 4):
            if word > 0:
                out[at] = 44
                at += 1
            at = float4(out, at, p, start + 4 * word)
        out[at] = 125
        at += 1
    else:  # 27: what Python functions make of the bytes
        return text_cell(arena, thing(p[start : start + count]))
    if at - begun > _LONGEST_CELL:
        raise MessageError("a value of more than two gigabytes")
    return _close(arena, begun, at)


@cython.cfunc
@cython.inline
@cython.exceptval(-1)
def _room(arena: Arena, more: cython.Py_ssize_t) -> cython.int:
    """Make room at the arena's end for functions that write there themselves."""
    if cython.compiled:
        if arena.size + more > arena.capacity:
            arena.reserve(more)
    else:
        arena.plain += bytes(more)
    return 0


@cython.cfunc
@cython.inline
@cython.exceptval(-1)
def _close(arena: Arena, begun: cython.Py_ssize_t, at: cython.Py_ssize_t) -> cython.int:
    """End the cell that begins at `begun` with its length and was written up to `at`."""
    if cython.compiled:
        size: cython.int = cython.cast(cython.int, at - begun - 4)
        memcpy(arena.data + begun, cython.address(size), 4)
    else:
        del arena.plain[at:]
        arena.plain[begun : begun + 4] = (at - begun - 4).to_bytes(4, _ORDER)
    arena.size = at
    return 0
