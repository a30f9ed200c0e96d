"""Days and microseconds, as buses count them from 1970, to canonical text of dates, times and durations of hours.

It is exact over the whole calendar of PostgreSQL, years BC too. `bustime_cy` is the other direction.
This file runs as it is and is compiled by Cython where a compiler is there; bustimetext_cy.pxd declares for other
compiled modules the functions over memory. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize

_DAY_MICROS = cython.declare(cython.longlong, 86400000000)
_HOUR_MICROS = cython.declare(cython.longlong, 3600000000)
# Twenty cycles of the calendar of 400 years: added, no year of PostgreSQL's is negative.
_CYCLE_DAYS = cython.declare(cython.longlong, 146097)
_SHIFT_YEARS = cython.declare(cython.longlong, 8000)
_SHIFT_DAYS = cython.declare(cython.longlong, 2921940)
# 1970-01-01 counted from 0000-03-01.
_EPOCH_DAYS = cython.declare(cython.longlong, 719468)
# Of a duration.
_MOST_DAYS = cython.declare(cython.longlong, 1000000)
# The calendar of PostgreSQL begins in 4714 BC; its dates end with the year 5874897, its timestamps with 294276.
_LAST_YEAR = cython.declare(cython.longlong, 5874897)
_FIRST_YEAR = cython.declare(cython.longlong, -4713)


def days_date(days: int) -> bytes:
    """Return a date's canonical text.

    Raises:
        ValueError: PostgreSQL has no such date.
    """
    return _written(0, days)


def micros_time(micros: int) -> bytes:
    """Return a time's canonical text.

    Raises:
        ValueError: no day has such a time.
    """
    return _written(1, micros)


def micros_timestamp(micros: int) -> bytes:
    """Return a timestamp's canonical text.

    Raises:
        ValueError: PostgreSQL has no such moment.
    """
    return _written(2, micros)


def _written(what: int, number: int) -> bytes:
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError("outside 64 bits")
    size: cython.int = 0
    found: bytes
    if cython.compiled:
        out: cython.uchar[48]
        if what == 0:
            size = write_date(number, out, 0)
        elif what == 1:
            size = write_time(number, out, 0)
        else:
            size = write_timestamp(number, out, 0)
        found = PyBytes_FromStringAndSize(cython.cast(cython.p_char, out), size)
    else:
        room = bytearray(48)
        size = (write_date, write_time, write_timestamp)[what](number, room, 0)
        found = bytes(room[:size])
    if not size:
        raise ValueError("no such date or time")
    return found


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_date(days: cython.longlong, out: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    """Write a date at `out[at]`; return how many bytes (at most 16), 0 where PostgreSQL has no such date."""
    start: cython.Py_ssize_t = at
    year: cython.longlong = _write_day(days, out, at)
    if year < _FIRST_YEAR or year > _LAST_YEAR:
        return 0
    at += _day_size(year)
    if year < 1:
        at = _write_bc(out, at)
    return cython.cast(cython.int, at - start)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_timestamp(micros: cython.longlong, out: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    """Write a timestamp at `out[at]`; return how many bytes (at most 32), 0 where PostgreSQL has no such moment."""
    start: cython.Py_ssize_t = at
    # The division rounds down in both forms: what is divided is not negative.
    shifted: cython.longlong = micros // _DAY_MICROS if micros >= 0 else -((-(micros + 1)) // _DAY_MICROS) - 1
    rest: cython.longlong = micros - shifted * _DAY_MICROS
    year: cython.longlong = _write_day(shifted, out, at)
    if year < _FIRST_YEAR or year > _LAST_YEAR:
        return 0
    at += _day_size(year)
    out[at] = 32
    at += 1
    at += write_time(rest, out, at)
    if year < 1:
        at = _write_bc(out, at)
    return cython.cast(cython.int, at - start)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_time(micros: cython.longlong, out: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    """Write a time of day at `out[at]`; return how many bytes (at most 15), 0 where no day has such a time."""
    return write_clock(micros, out, at) if 0 <= micros <= _DAY_MICROS else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_clock(micros: cython.longlong, out: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    """Write a time of day or a duration of hours, which may be negative, at `out[at]`; return how many bytes (at most
    22), 0 where it is longer than a million days."""
    start: cython.Py_ssize_t = at
    hours: cython.longlong
    seconds: cython.int
    fraction: cython.int
    divisor: cython.int = 100000
    if micros < -_MOST_DAYS * _DAY_MICROS or micros > _MOST_DAYS * _DAY_MICROS:
        return 0
    if micros < 0:
        out[at] = 45
        at += 1
        micros = -micros
    hours = micros // _HOUR_MICROS
    micros -= hours * _HOUR_MICROS
    seconds = cython.cast(cython.int, micros // 1000000)
    fraction = cython.cast(cython.int, micros % 1000000)
    if hours < 100:
        _write_two(out, at, cython.cast(cython.int, hours))
        at += 2
    else:
        at = _write_hours(out, at, hours)
    out[at] = 58
    _write_two(out, at + 1, seconds // 60)
    out[at + 3] = 58
    _write_two(out, at + 4, seconds % 60)
    at += 6
    if fraction:
        out[at] = 46
        at += 1
        while fraction:
            out[at] = 48 + fraction // divisor
            fraction %= divisor
            divisor //= 10
            at += 1
    return cython.cast(cython.int, at - start)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _write_hours(out: cython.p_uchar, at: cython.Py_ssize_t, hours: cython.longlong) -> cython.Py_ssize_t:
    """Write a number that is not zero; return where it ends."""
    unit: cython.longlong = 1
    while hours // unit >= 10:
        unit *= 10
    while unit:
        out[at] = 48 + cython.cast(cython.int, hours // unit % 10)
        unit //= 10
        at += 1
    return at


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _write_day(days: cython.longlong, out: cython.p_uchar, at: cython.Py_ssize_t) -> cython.longlong:
    """Write year, month and day (not the BC behind it); return the year, which is past the last one where no such
    day is."""
    z: cython.longlong
    of_cycle: cython.longlong
    year_of_cycle: cython.longlong
    of_year: cython.longlong
    year: cython.longlong
    shown: cython.longlong
    month: cython.int
    digits: cython.int
    index: cython.int
    if not -_SHIFT_DAYS <= days <= 2147483647:
        return _LAST_YEAR + 1
    z = days + _EPOCH_DAYS + _SHIFT_DAYS
    of_cycle = z % _CYCLE_DAYS
    year_of_cycle = (of_cycle - of_cycle // 1460 + of_cycle // 36524 - of_cycle // 146096) // 365
    of_year = of_cycle - (365 * year_of_cycle + year_of_cycle // 4 - year_of_cycle // 100)
    month = cython.cast(cython.int, (5 * of_year + 2) // 153)
    year = year_of_cycle + z // _CYCLE_DAYS * 400 - _SHIFT_YEARS
    if month >= 10:
        year += 1
    shown = year if year > 0 else 1 - year
    digits = cython.cast(cython.int, _day_size(year) - 6)
    for index in range(digits):
        out[at + digits - 1 - index] = 48 + cython.cast(cython.int, shown % 10)
        shown //= 10
    at += digits
    out[at] = 45
    _write_two(out, at + 1, month + 3 if month < 10 else month - 9)
    out[at + 3] = 45
    _write_two(out, at + 4, cython.cast(cython.int, of_year) - (153 * month + 2) // 5 + 1)
    return year


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _day_size(year: cython.longlong) -> cython.Py_ssize_t:
    """Return how many bytes year, month and day take."""
    if year < 10000:
        return 10
    if year < 100000:
        return 11
    return 12 if year < 1000000 else 13


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _write_bc(out: cython.p_uchar, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    out[at] = 32
    out[at + 1] = 66
    out[at + 2] = 67
    return at + 3


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _write_two(out: cython.p_uchar, at: cython.Py_ssize_t, number: cython.int) -> cython.int:
    out[at] = 48 + number // 10
    out[at + 1] = 48 + number % 10
    return 2
