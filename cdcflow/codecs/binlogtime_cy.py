"""Dates and times of a binlog row image as canonical text, in UTC.

Storage formats: https://dev.mysql.com/doc/dev/mysql-server/latest/field__types_8h.html and the comments in the server's
mysys/my_time.cc (my_datetime_packed_to_binary and its like). Every function writes at `out[at]`, where its caller has
made room, and returns where it stopped, or -2 where the date is one that no calendar has.

This file runs as it is and is compiled by Cython where a compiler is there; binlogtime_cy.pxd declares for other
compiled modules what is here. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.binlognumbers_cy import big, digits, little, padded
else:
    from cdcflow.codecs import loading

    _numbers = loading.plain("cdcflow.codecs.binlognumbers_cy")
    big, digits, little, padded = _numbers.big, _numbers.digits, _numbers.little, _numbers.padded

from cdcflow.codecs.frames_cy import MessageError

_UNREAL = cython.declare(cython.Py_ssize_t, -2)

# Days from 0000-03-01 to 1970-01-01.
_EPOCH_DAYS = cython.declare(cython.int, 719468)


@cython.cfunc
@cython.exceptval(-1)
def date(out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, start: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Write a DATE: three bytes, of which five bits are the day and four the month."""
    value: cython.int = cython.cast(cython.int, little(p, start, 3))
    return _day(out, at, value >> 9, (value >> 5) & 15, value & 31)


@cython.cfunc
@cython.exceptval(-1)
def time(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, start: cython.Py_ssize_t, count: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a TIME of three bytes and the fraction's: sign, ten bits of hours, six of minutes, six of seconds."""
    shift: cython.int = cython.cast(cython.int, 8 * (count - 3))
    value: cython.longlong = cython.cast(cython.longlong, big(p, start, count)) - (
        cython.cast(cython.longlong, 0x800000) << shift
    )
    clock: cython.int
    if value < 0:
        value = -value
        out[at] = 45  # -
        at += 1
    clock = cython.cast(cython.int, value >> shift)
    at = _clock(out, at, (clock >> 12) & 0x7FF, (clock >> 6) & 63, clock & 63)
    return _fraction(out, at, _micros(value & ((cython.cast(cython.longlong, 1) << shift) - 1), count - 3))


@cython.cfunc
@cython.exceptval(-1)
def datetime(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, start: cython.Py_ssize_t, count: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a DATETIME of five bytes and the fraction's: year * 13 + month, five bits of days, then as a TIME."""
    value: cython.longlong = cython.cast(cython.longlong, big(p, start, 5)) - 0x8000000000
    months: cython.int
    clock: cython.int
    if value < 0:
        raise MessageError("a date before all dates")
    months = cython.cast(cython.int, value >> 22)
    clock = cython.cast(cython.int, value & 0x1FFFF)
    if clock >> 12 > 23:
        raise MessageError("a time that no clock shows")
    at = _day(out, at, months // 13, months % 13, cython.cast(cython.int, (value >> 17) & 31))
    if at == _UNREAL:
        return at
    out[at] = 32
    at = _clock(out, at + 1, clock >> 12, (clock >> 6) & 63, clock & 63)
    return _fraction(out, at, _micros(cython.cast(cython.longlong, big(p, start + 5, count - 5)), count - 5))


@cython.cfunc
@cython.exceptval(-1)
def timestamp(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, start: cython.Py_ssize_t, count: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a TIMESTAMP of four bytes, seconds since 1970, and the fraction's."""
    micros: cython.int = _micros(cython.cast(cython.longlong, big(p, start + 4, count - 4)), count - 4)
    return _moment(out, at, cython.cast(cython.longlong, big(p, start, 4)), micros)


@cython.cfunc
@cython.exceptval(-1)
def old_time(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, start: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a TIME from before MySQL 5.6: the decimal digits HHHMMSS in three signed bytes."""
    value: cython.int = cython.cast(cython.int, little(p, start, 3))
    if value >= 0x800000:
        value = 0x1000000 - value
        out[at] = 45
        at += 1
    return _clock(out, at, value // 10000, value // 100 % 100, value % 100)


@cython.cfunc
@cython.exceptval(-1)
def old_datetime(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, start: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a DATETIME from before MySQL 5.6: the decimal digits YYYYMMDDHHMMSS in eight bytes."""
    value: cython.ulonglong = little(p, start, 8)
    day: cython.int
    clock: cython.int
    if value > 99999999999999:
        raise MessageError("a date behind all dates")
    day = cython.cast(cython.int, value // 1000000)
    clock = cython.cast(cython.int, value % 1000000)
    if clock >= 240000:
        raise MessageError("a time that no clock shows")
    at = _day(out, at, day // 10000, day // 100 % 100, day % 100)
    if at == _UNREAL:
        return at
    out[at] = 32
    return _clock(out, at + 1, clock // 10000, clock // 100 % 100, clock % 100)


@cython.cfunc
@cython.exceptval(-1)
def old_timestamp(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, start: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a TIMESTAMP from before MySQL 5.6: seconds since 1970 in four bytes, the lowest first."""
    return _moment(out, at, cython.cast(cython.longlong, little(p, start, 4)), 0)


@cython.cfunc
@cython.exceptval(-1)
def packed(
    out: cython.p_uchar, at: cython.Py_ssize_t, p: cython.p_uchar, start: cython.Py_ssize_t, type_: cython.int
) -> cython.Py_ssize_t:
    """Write a DATE (10), TIME (11), DATETIME (12) or TIMESTAMP (7) that stands inside of a JSON document.

    Eight bytes, the lowest first: 24 bits of microseconds below the integer of a DATETIME or a TIME. All six places
    of the fraction are written, and no calendar is asked, as the server does both.
    """
    value: cython.longlong = cython.cast(cython.longlong, little(p, start, 8))
    months: cython.int
    clock: cython.int
    if not cython.compiled and value >= 1 << 63:
        value -= 1 << 64
    if value < 0:
        if value < -(cython.cast(cython.longlong, 1) << 62):
            raise MessageError("a time beyond all times")
        value = -value
        out[at] = 45
        at += 1
    clock = cython.cast(cython.int, (value >> 24) & 0x1FFFF)
    if type_ == 11:
        clock = cython.cast(cython.int, (value >> 24) & 0x3FFFFF)
    else:
        months = cython.cast(cython.int, (value >> 46) & 0x3FFFF)
        at = _calendar(out, at, months // 13, months % 13, cython.cast(cython.int, (value >> 41) & 31))
        if type_ == 10:
            return at
        out[at] = 32
        at += 1
    at = _clock(out, at, clock >> 12, (clock >> 6) & 63, clock & 63)
    out[at] = 46
    value &= 0xFFFFFF
    if value > 999999:
        raise MessageError("a fraction of a second that is more than one")
    return padded(out, at + 1, value, 6)


@cython.cfunc
@cython.exceptval(-1)
def _moment(
    out: cython.p_uchar, at: cython.Py_ssize_t, seconds: cython.longlong, micros: cython.int
) -> cython.Py_ssize_t:
    """Write a moment, seconds since 1970, of which zero is the server's zero date.

    The calendar's arithmetic is Howard Hinnant's `civil_from_days`: years that begin in March, eras of 400 of them.
    """
    days: cython.int
    era: cython.int
    year: cython.int
    day: cython.int
    month: cython.int
    rest: cython.int
    if seconds == 0:
        return _UNREAL
    rest = cython.cast(cython.int, seconds % 86400)
    days = cython.cast(cython.int, seconds // 86400) + _EPOCH_DAYS
    era = days // 146097
    days -= era * 146097
    year = (days - days // 1460 + days // 36524 - days // 146096) // 365
    day = days - (365 * year + year // 4 - year // 100)
    month = (5 * day + 2) // 153
    day = day - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year += era * 400 + (1 if month <= 2 else 0)
    out[_calendar(out, at, year, month, day)] = 32
    at = _clock(out, at + 11, rest // 3600, rest // 60 % 60, rest % 60)
    at = _fraction(out, at, micros)
    out[at] = 43  # +
    out[at + 1] = 48
    out[at + 2] = 48
    return at + 3


@cython.cfunc
@cython.exceptval(-1)
def _day(
    out: cython.p_uchar, at: cython.Py_ssize_t, year: cython.int, month: cython.int, day: cython.int
) -> cython.Py_ssize_t:
    """Write a date that the calendar has; return -2 for any other."""
    if year < 1 or month < 1 or month > 12 or day < 1:
        return _UNREAL
    if day > 28:
        if month == 2:
            if day > 29 or year % 4 != 0 or (year % 100 == 0 and year % 400 != 0):
                return _UNREAL
        elif day > 31 or (day == 31 and (month == 4 or month == 6 or month == 9 or month == 11)):
            return _UNREAL
    return _calendar(out, at, year, month, day)


@cython.cfunc
@cython.exceptval(-1)
def _calendar(
    out: cython.p_uchar, at: cython.Py_ssize_t, year: cython.int, month: cython.int, day: cython.int
) -> cython.Py_ssize_t:
    if year > 9999:
        raise MessageError("a date behind all dates")
    at = padded(out, at, year, 4)
    out[at] = 45
    at = _two(out, at + 1, month)
    out[at] = 45
    return _two(out, at + 1, day)


@cython.cfunc
@cython.exceptval(-1)
def _clock(
    out: cython.p_uchar, at: cython.Py_ssize_t, hours: cython.int, minutes: cython.int, seconds: cython.int
) -> cython.Py_ssize_t:
    if minutes > 59 or seconds > 59:
        raise MessageError("a time that no clock shows")
    at = _two(out, at, hours) if hours < 100 else digits(out, at, hours)
    out[at] = 58  # :
    at = _two(out, at + 1, minutes)
    out[at] = 58
    return _two(out, at + 1, seconds)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _two(out: cython.p_uchar, at: cython.Py_ssize_t, value: cython.int) -> cython.Py_ssize_t:
    out[at] = cython.cast(cython.uchar, 48 + value // 10)
    out[at + 1] = cython.cast(cython.uchar, 48 + value % 10)
    return at + 2


@cython.cfunc
@cython.inline
@cython.exceptval(-1)
def _micros(value: cython.longlong, count: cython.Py_ssize_t) -> cython.int:
    """Return the microseconds of a fraction of `count` bytes, two decimal places each."""
    if count == 1:
        value *= 10000
    elif count == 2:
        value *= 100
    if value > 999999:
        raise MessageError("a fraction of a second that is more than one")
    return cython.cast(cython.int, value)


@cython.cfunc
@cython.exceptval(check=False)
def _fraction(out: cython.p_uchar, at: cython.Py_ssize_t, micros: cython.int) -> cython.Py_ssize_t:
    """Write the fraction of a second without trailing zeros; nothing where there is none."""
    width: cython.int = 6
    if micros == 0:
        return at
    while micros % 10 == 0:
        micros //= 10
        width -= 1
    out[at] = 46
    return padded(out, at + 1, micros, width)
