"""Canonical text to the numbers that binary formats hold: of whole numbers, dates, times and moments.

Text that comes back would be the same is the rule: taken is only what the writer of that number (`bustext_cy`) prints;
everything else travels as text.

This file runs as it is and is compiled by Cython where a compiler is there; busnumber_cy.pxd declares for other
compiled modules what the class holds. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.bustime_cy import parse_clock, parse_date, parse_timestamp
else:
    from cdcflow.codecs import loading

    _time = loading.plain("cdcflow.codecs.bustime_cy")
    parse_clock, parse_date, parse_timestamp = _time.parse_clock, _time.parse_date, _time.parse_timestamp

_NONE = cython.declare(cython.longlong, -(1 << 63))
# Named, because a literal beyond 31 bits is a Python object to the compiler.
_TENTH_OF_UNSIGNED = cython.declare(cython.ulonglong, 1844674407370955161)
_MOST_SIGNED = cython.declare(cython.ulonglong, 9223372036854775807)


@cython.final
@cython.cclass
class Number:
    """A number read from text: each method returns whether the text is one, and leaves it in `value`."""

    def __init__(self):
        self.value = 0
        self.magnitude = 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def unsigned_integer(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        """Digits of up to 64 bits, in `magnitude`."""
        found: cython.ulonglong = 0
        digit: cython.ulonglong
        if end - at < 1 or end - at > 20 or (p[at] == 48 and end - at > 1):
            return False
        while at < end:
            if p[at] < 48 or p[at] > 57:
                return False
            digit = p[at] - 48
            if found > _TENTH_OF_UNSIGNED or (found == _TENTH_OF_UNSIGNED and digit > 5):
                return False
            found = found * 10 + digit
            at += 1
        self.magnitude = found
        return True

    @cython.cfunc
    @cython.exceptval(check=False)
    def integer(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        """Digits with a sign."""
        negative: cython.bint = at < end and p[at] == 45
        if not self.unsigned_integer(p, at + 1 if negative else at, end):
            return False
        if self.magnitude > _MOST_SIGNED:
            if not negative or self.magnitude > _MOST_SIGNED + 1:
                return False
            self.value = -9223372036854775807
            self.value -= 1
            return True
        self.value = cython.cast(cython.longlong, self.magnitude)
        if negative:
            if self.value == 0:
                return False
            self.value = -self.value
        return True

    @cython.cfunc
    @cython.exceptval(check=False)
    def days(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        """A date, as days since 1970-01-01."""
        self.value = parse_date(p, at, end)
        return self.value != _NONE

    @cython.cfunc
    @cython.exceptval(check=False)
    def clock(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        """A time of day or a duration of hours, as microseconds."""
        self.value = parse_clock(p, at, end)
        return self.value != _NONE

    @cython.cfunc
    @cython.exceptval(check=False)
    def moment(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        """A timestamp without zone, as microseconds since 1970."""
        self.value = parse_timestamp(p, at, end)
        return self.value != _NONE

    @cython.cfunc
    @cython.exceptval(check=False)
    def zoned(self, p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        """Whether a moment is `2024-01-02 03:04:05.678+00`: of four digits' years, in UTC."""
        if end - at < 22 or p[end - 3] != 43 or p[end - 2] != 48 or p[end - 1] != 48 or p[at + 4] != 45:
            return False
        return self.moment(p, at, end - 3)
