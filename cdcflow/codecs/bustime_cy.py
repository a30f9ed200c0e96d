"""Canonical text of dates, times and durations of hours to days and microseconds, as buses count them from 1970.

It is exact over the whole calendar of PostgreSQL, years BC too; what has no number (infinities, dates that no calendar
has) is told apart. `bustimetext_cy` is the other direction.
This file runs as it is and is compiled by Cython where a compiler is there; bustime_cy.pxd declares for other compiled
modules the functions over memory. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING

# No number.
NONE = -(1 << 63)
_NONE = cython.declare(cython.longlong, -(1 << 63))

_DAY_MICROS = cython.declare(cython.longlong, 86400000000)
# A day of which every microsecond fits into 64 bits, counted from 1970.
_LAST_WHOLE_DAY = cython.declare(cython.longlong, 106751990)
# Twenty cycles of the calendar of 400 years: added, no year of PostgreSQL's is negative.
_CYCLE_DAYS = cython.declare(cython.longlong, 146097)
_SHIFT_YEARS = cython.declare(cython.longlong, 8000)
_SHIFT_DAYS = cython.declare(cython.longlong, 2921940)
# 1970-01-01 counted from 0000-03-01.
_EPOCH_DAYS = cython.declare(cython.longlong, 719468)
# Of a duration.
_MOST_HOURS = cython.declare(cython.longlong, 1000000)
# The calendar of PostgreSQL begins in 4714 BC; its dates end with the year 5874897, its timestamps with 294276.
_LAST_YEAR = cython.declare(cython.longlong, 5874897)
_FIRST_YEAR = cython.declare(cython.longlong, -4713)


def date_days(cell: bytes) -> int:
    """Return the days since 1970-01-01 of a date's canonical text, or `NONE`."""
    if cython.compiled:
        return parse_date(cython.cast(cython.p_uchar, PyBytes_AS_STRING(cell)), 0, len(cell))
    return parse_date(cell, 0, len(cell))


def time_micros(cell: bytes) -> int:
    """Return the microseconds of a time of day (24:00:00 too), or `NONE`."""
    if cython.compiled:
        return parse_time(cython.cast(cython.p_uchar, PyBytes_AS_STRING(cell)), 0, len(cell))
    return parse_time(cell, 0, len(cell))


def timestamp_micros(cell: bytes) -> int:
    """Return the microseconds since 1970-01-01 of a timestamp without zone, or `NONE`."""
    if cython.compiled:
        return parse_timestamp(cython.cast(cython.p_uchar, PyBytes_AS_STRING(cell)), 0, len(cell))
    return parse_timestamp(cell, 0, len(cell))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def parse_date(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.longlong:
    """Return the days since 1970 of the date that stands from `at` to `end`, or the number for none."""
    if end - at > 12 and p[end - 1] == 67 and p[end - 2] == 66 and p[end - 3] == 32:  # " BC"
        return _days(p, at, end - 3, True)
    return _days(p, at, end, False)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def parse_timestamp(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.longlong:
    """Return the microseconds since 1970 of a timestamp, or the number for none."""
    bc: cython.bint = False
    space: cython.Py_ssize_t = at + 10
    days: cython.longlong
    micros: cython.longlong
    if end - at > 21 and p[end - 1] == 67 and p[end - 2] == 66 and p[end - 3] == 32:
        bc = True
        end -= 3
    if end - at < 19:
        return _NONE
    while space < end and space < at + 14 and p[space] != 32:
        space += 1
    if space >= end or p[space] != 32:
        return _NONE
    days = _days(p, at, space, bc)
    micros = parse_time(p, space + 1, end)
    if days == _NONE or micros == _NONE or micros == _DAY_MICROS or not -_LAST_WHOLE_DAY <= days <= _LAST_WHOLE_DAY:
        return _NONE
    return days * _DAY_MICROS + micros


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def parse_time(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.longlong:
    """Return the microseconds of a time of day, or the number for none."""
    micros: cython.longlong
    if end - at < 8 or p[at + 2] != 58:
        return _NONE
    micros = parse_clock(p, at, end)
    return micros if micros <= _DAY_MICROS else _NONE


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def parse_clock(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.longlong:
    """Return the microseconds of a time of day or of a duration of hours, which may be negative, or the number for
    none."""
    hours: cython.longlong = 0
    minutes: cython.int
    seconds: cython.int
    micros: cython.longlong
    unit: cython.longlong = 100000
    start: cython.Py_ssize_t
    negative: cython.bint = at < end and p[at] == 45
    if negative:
        at += 1
    start = at
    while at < end and 48 <= p[at] <= 57 and at - start < 7:
        hours = hours * 10 + (p[at] - 48)
        at += 1
    if at - start < 2 or (at - start > 2 and p[start] == 48) or hours > _MOST_HOURS:
        return _NONE
    if end - at < 6 or p[at] != 58 or p[at + 3] != 58:
        return _NONE
    minutes = _two(p, at + 1)
    seconds = _two(p, at + 4)
    if minutes < 0 or seconds < 0 or minutes > 59 or seconds > 59:
        return _NONE
    micros = ((hours * 60 + minutes) * 60 + seconds) * 1000000
    at += 6
    if at < end:
        if p[at] != 46 or end - at < 2 or end - at > 7 or p[end - 1] == 48:
            return _NONE
        at += 1
        while at < end:
            if not 48 <= p[at] <= 57:
                return _NONE
            micros += (p[at] - 48) * unit
            unit //= 10
            at += 1
    if not negative:
        return micros
    return -micros if micros else _NONE


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _days(p: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, bc: cython.bint) -> cython.longlong:
    year: cython.longlong = 0
    month: cython.int
    day: cython.int
    index: cython.Py_ssize_t
    if not 10 <= end - at <= 13 or p[end - 6] != 45 or p[end - 3] != 45 or (end - at > 10 and p[at] == 48):
        return _NONE
    for index in range(at, end - 6):
        if not 48 <= p[index] <= 57:
            return _NONE
        year = year * 10 + (p[index] - 48)
    month = _two(p, end - 5)
    day = _two(p, end - 2)
    if year < 1 or month < 1 or month > 12 or day < 1:
        return _NONE
    if bc:
        year = 1 - year
    if year < _FIRST_YEAR or year > _LAST_YEAR or day > _month_days(year + _SHIFT_YEARS, month):
        return _NONE
    return _civil(year + _SHIFT_YEARS, month, day) - _SHIFT_DAYS


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _civil(year: cython.longlong, month: cython.int, day: cython.int) -> cython.longlong:
    """Return the days from 1970 of a day in a year that is not negative."""
    # http://howardhinnant.github.io/date_algorithms.html: the year begins in March, so the leap day is its last.
    of_year: cython.longlong
    of_cycle: cython.longlong
    if month <= 2:
        year -= 1
        month += 12
    of_year = (153 * (month - 3) + 2) // 5 + day - 1
    of_cycle = year % 400 * 365 + year % 400 // 4 - year % 400 // 100 + of_year
    return year // 400 * _CYCLE_DAYS + of_cycle - _EPOCH_DAYS


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _month_days(year: cython.longlong, month: cython.int) -> cython.int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _two(p: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    """Return the number of two digits, -1 where they are none."""
    high: cython.int = p[at] - 48
    low: cython.int = p[at + 1] - 48
    if high < 0 or high > 9 or low < 0 or low > 9:
        return -1
    return high * 10 + low
