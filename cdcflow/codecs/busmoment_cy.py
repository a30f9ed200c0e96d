"""Moments in ISO 8601 (`2024-01-02T03:04:05.678Z`, with any offset) to canonical text in UTC.

This file runs as it is and is compiled by Cython where a compiler is there; busmoment_cy.pxd declares for other
compiled modules what they use. It does no I/O.
"""

from __future__ import annotations

import re

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.bustext_cy import put_bytes, put_moment
    from cython.cimports.cdcflow.codecs.frames_cy import Arena
else:
    from cdcflow.codecs import loading

    _text = loading.plain("cdcflow.codecs.bustext_cy")
    put_bytes, put_moment = _text.put_bytes, _text.put_moment
    Arena = loading.plain("cdcflow.codecs.frames_cy").Arena

from cdcflow.codecs import bustime_cy
from cdcflow.codecs.frames_cy import MessageError
from cdcflow.codecs.jsonforeign import INFINITIES

_ISO_MOMENT = re.compile(
    rb"([+-]?\d{4,7}-\d\d-\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?"
    rb"(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?(?::?(\d\d))?)(?:\[[^\]]*\])?"
)


def zoned_text(iso: bytes) -> bytes:
    """Return a moment in ISO 8601, with any offset, as canonical text. More digits than six are rounded.

    Raises:
        MessageError: it is none.
    """
    if iso in INFINITIES:
        return INFINITIES[iso]
    found = _ISO_MOMENT.fullmatch(iso)
    if found is None:
        raise MessageError("a moment is not ISO 8601")
    year = found[1].lstrip(b"+")
    if year.startswith(b"-"):
        before = 1 + int(year[1:].split(b"-")[0])
        year = b"%04d%b BC" % (before, year[len(year) - 6 :])
    elif year.startswith(b"0000"):
        year = b"0001" + year[4:] + b" BC"
    days = bustime_cy.date_days(year)
    if days == bustime_cy.NONE:
        raise MessageError("a moment has no such day")
    hours, minutes, seconds = int(found[2]), int(found[3]), int(found[4] or 0)
    if hours > 24 or minutes > 59 or seconds > 60:
        raise MessageError("a moment has no such time")
    nanos = int((found[5] or b"").ljust(9, b"0"))
    offset = int(found[8] or 0) * 3600 + int(found[9] or 0) * 60 + int(found[10] or 0)
    offset = -offset if found[7] == b"-" else offset
    micros = (hours * 3600 + minutes * 60 + seconds - offset) * 1_000_000 + (nanos + 500) // 1000
    micros += days * 86_400_000_000
    if not -(1 << 63) <= micros < 1 << 63:
        raise MessageError("a moment is out of range")
    out: Arena = Arena()
    put_moment(out, micros, True)
    return out.take(out.size)


@cython.cfunc
@cython.exceptval(check=False)
def _plain_moment(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
    """Return whether a moment has the form `2024-01-02T03:04:05.678Z`, and needs no calendar to be believed."""
    size: cython.Py_ssize_t = end - at
    place: cython.Py_ssize_t
    byte: cython.int
    if (size != 20 and not 22 <= size <= 27) or p[end - 1] != 90:
        return False
    for place in range(size - 1):
        byte = p[at + place]
        if place == 4 or place == 7:
            if byte != 45:
                return False
        elif place == 10:
            if byte != 84:
                return False
        elif place == 13 or place == 16:
            if byte != 58:
                return False
        elif place == 19:
            if byte != 46:
                return False
        elif byte < 48 or byte > 57:
            return False
    return (
        1 <= _pair(p, at + 5) <= 12
        and 1 <= _pair(p, at + 8) <= 28
        and _pair(p, at + 11) < 24
        and p[at + 14] < 54
        and p[at + 17] < 54
        and (_pair(p, at) != 0 or _pair(p, at + 2) != 0)
    )


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _pair(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    return (p[at] - 48) * 10 + (p[at + 1] - 48)


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_zoned(out: Arena, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
    """Append a moment in ISO 8601 (`2024-01-02T03:04:05.678Z`) as canonical text."""
    last: cython.Py_ssize_t
    if _plain_moment(p, at, end):
        last = end - 1
        if last > at + 19:
            while p[last - 1] == 48:
                last -= 1
            if p[last - 1] == 46:
                last -= 1
        out.reserve(end - at + 3)
        out.copy(p, at, 10)
        out.byte(32)
        out.copy(p, at + 11, last - at - 11)
        out.byte(43)
        out.byte(48)
        out.byte(48)
        return 0
    if end - at > 64:
        raise MessageError("a moment is not ISO 8601")
    text: bytes = p[at:end]
    put_bytes(out, zoned_text(text))
    return 0
