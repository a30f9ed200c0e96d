"""Dates, times and intervals: canonical text to Python value and back."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Final

from cdcflow.codecs.values_kinds import BadValue, Beyond, Interval

_DATE: Final = re.compile(rb"([0-9]{4,7})-([0-9]{2})-([0-9]{2})( BC)?")
_TIME: Final = re.compile(rb"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?")
_TIMETZ: Final = re.compile(_TIME.pattern + rb"([+-])([0-9]{2})(?::([0-9]{2}))?(?::([0-9]{2}))?")
_STAMP: Final = re.compile(rb"([0-9]{4,7}-[0-9]{2}-[0-9]{2}) (" + _TIME.pattern + rb")(\+00)?( BC)?")
_INTERVAL: Final = re.compile(
    rb"(?:([+-]?[0-9]{1,9}) years?)?(?: ?([+-]?[0-9]{1,10}) mons?)?(?: ?([+-]?[0-9]{1,10}) days?)?"
    rb"(?: ?([+-]?)([0-9]{2,10}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?)?"
)
_DURATION: Final = re.compile(rb"(-?)([0-9]{2,3}):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{1,6}))?")
_INFINITE: Final = (b"infinity", b"-infinity")


def decode_date(cell: bytes) -> date | Beyond:
    if cell in _INFINITE:
        return Beyond(cell.decode("ascii"))
    match = _DATE.fullmatch(cell)
    if match is None:
        raise BadValue("date", "not YYYY-MM-DD")
    if match[4] or len(match[1]) > 4:
        return Beyond(cell.decode("ascii"))
    try:
        return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        raise BadValue("date", "no such day") from None


def encode_date(value: object) -> bytes:
    if isinstance(value, Beyond):
        return _beyond(value, "date", decode_date)
    if not isinstance(value, date) or isinstance(value, datetime):
        raise BadValue("date", f"{type(value).__name__} is not date")
    return value.isoformat().encode("ascii")


def decode_time(cell: bytes) -> time | Beyond:
    match = _TIME.fullmatch(cell)
    if match is None:
        raise BadValue("time", "not HH:MM:SS")
    if match[1] == b"24" and int(match[2]) == int(match[3]) == int(match[4] or 0) == 0:
        return Beyond(cell.decode("ascii"))
    return _clock(match, "time")


def encode_time(value: object) -> bytes:
    if isinstance(value, Beyond):
        return _beyond(value, "time", decode_time)
    if not isinstance(value, time) or value.tzinfo is not None:
        raise BadValue("time", f"{type(value).__name__} is not a time without zone")
    return _clock_text(value)


def decode_timetz(cell: bytes) -> time | Beyond:
    match = _TIMETZ.fullmatch(cell)
    if match is None:
        raise BadValue("timetz", "not HH:MM:SS+ZZ")
    offset = timedelta(hours=int(match[6]), minutes=int(match[7] or 0), seconds=int(match[8] or 0))
    if offset >= timedelta(hours=16):  # the server's own limit is 15:59:59
        raise BadValue("timetz", "offset of 16 hours or more")
    if match[1] == b"24" and int(match[2]) == int(match[3]) == int(match[4] or 0) == 0:
        return Beyond(cell.decode("ascii"))
    zone = UTC if not offset else timezone(-offset if match[5] == b"-" else offset)
    return _clock(match, "timetz").replace(tzinfo=zone)


def encode_timetz(value: object) -> bytes:
    if isinstance(value, Beyond):
        return _beyond(value, "timetz", decode_timetz)
    offset = value.utcoffset() if isinstance(value, time) else None
    if not isinstance(value, time) or offset is None:
        raise BadValue("timetz", f"{type(value).__name__} is not a time with a zone of fixed offset")
    seconds = int(offset.total_seconds())
    if abs(seconds) >= 16 * 3600:
        raise BadValue("timetz", "offset of 16 hours or more")
    hours, rest = divmod(abs(seconds), 3600)
    minutes, seconds_left = divmod(rest, 60)
    zone = f"{'-' if seconds < 0 else '+'}{hours:02d}"
    if minutes or seconds_left:
        zone += f":{minutes:02d}"
    if seconds_left:
        zone += f":{seconds_left:02d}"
    return _clock_text(value) + zone.encode("ascii")


def decode_timestamp(cell: bytes) -> datetime | Beyond:
    return _stamp(cell, "timestamp", b"")


def encode_timestamp(value: object) -> bytes:
    if isinstance(value, Beyond):
        return _beyond(value, "timestamp", decode_timestamp)
    if not isinstance(value, datetime) or value.tzinfo is not None:
        raise BadValue("timestamp", f"{type(value).__name__} is not a datetime without zone")
    return _stamp_text(value)


def decode_timestamptz(cell: bytes) -> datetime | Beyond:
    return _stamp(cell, "timestamptz", b"+00")


def encode_timestamptz(value: object) -> bytes:
    if isinstance(value, Beyond):
        return _beyond(value, "timestamptz", decode_timestamptz)
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise BadValue("timestamptz", f"{type(value).__name__} is not a datetime with a zone")
    try:
        return _stamp_text(value.astimezone(UTC)) + b"+00"
    except OverflowError:
        raise BadValue("timestamptz", "outside year 1 to 9999 in UTC") from None


def decode_interval(cell: bytes) -> Interval | Beyond:
    if cell in _INFINITE:
        return Beyond(cell.decode("ascii"))
    match = _INTERVAL.fullmatch(cell)
    if match is None or not cell:
        raise BadValue("interval", "not years, months, days and HH:MM:SS")
    years, months, days, sign, hours, minutes, seconds, fraction = match.groups()
    total = (int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)) * 1_000_000 + _micros(fraction)
    found = Interval(int(years or 0) * 12 + int(months or 0), int(days or 0), -total if sign == b"-" else total)
    _check_interval(found)
    return found


def encode_interval(value: object) -> bytes:
    """Write as EncodeInterval does under IntervalStyle=postgres: a plus sign follows a negative part."""
    if isinstance(value, Beyond):
        return _beyond(value, "interval", decode_interval)
    if isinstance(value, timedelta):
        value = Interval(0, value.days, value.seconds * 1_000_000 + value.microseconds)
    if not isinstance(value, Interval):
        raise BadValue("interval", f"{type(value).__name__} is neither Interval nor timedelta")
    _check_interval(value)
    parts: list[str] = []
    after_negative = False
    years, months = divmod(abs(value.months), 12)
    if value.months < 0:
        years, months = -years, -months
    for number, unit in ((years, "year"), (months, "mon"), (value.days, "day")):
        if number:
            plus = "+" if after_negative and number > 0 else ""
            parts.append(f"{plus}{number} {unit}{'' if number == 1 else 's'}")
            after_negative = number < 0
    if value.microseconds or not parts:
        seconds, micros = divmod(abs(value.microseconds), 1_000_000)
        sign = "-" if value.microseconds < 0 else "+" if after_negative else ""
        clock = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        parts.append(clock + _fraction(micros))
    return " ".join(parts).encode("ascii")


def decode_duration(cell: bytes) -> timedelta:
    """Decode a TIME of MySQL's, which goes up to 838:59:59.999999 and below zero."""
    match = _DURATION.fullmatch(cell)
    if match is None:
        raise BadValue("time", "not [-]HH:MM:SS")
    found = timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=int(match[4]), microseconds=_micros(match[5]))
    return -found if match[1] else found


def encode_duration(value: object) -> bytes:
    if not isinstance(value, timedelta):
        raise BadValue("time", f"{type(value).__name__} is not timedelta")
    total = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    seconds, micros = divmod(abs(total), 1_000_000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{_fraction(micros)}"
    return f"{'-' if total < 0 else ''}{clock}".encode("ascii")


def _check_interval(value: Interval) -> None:
    if not (-(1 << 31) <= value.months < 1 << 31 and -(1 << 31) <= value.days < 1 << 31):
        raise BadValue("interval", "months or days outside 32 bits")
    if not -(1 << 63) <= value.microseconds < 1 << 63:
        raise BadValue("interval", "microseconds outside 64 bits")


def _stamp(cell: bytes, type_name: str, zone: bytes) -> datetime | Beyond:
    if cell in _INFINITE:
        return Beyond(cell.decode("ascii"))
    match = _STAMP.fullmatch(cell)
    if match is None or (match[7] or b"") != zone:
        raise BadValue(type_name, f"not YYYY-MM-DD HH:MM:SS{zone.decode()}")
    year = match[1][:-6]
    if match[8] or len(year) > 4:
        return Beyond(cell.decode("ascii"))
    try:
        return datetime(
            int(year),
            int(match[1][-5:-3]),
            int(match[1][-2:]),
            int(match[3]),
            int(match[4]),
            int(match[5]),
            _micros(match[6]),
            UTC if zone else None,
        )
    except ValueError:
        raise BadValue(type_name, "no such moment") from None


def _stamp_text(value: datetime) -> bytes:
    day = f"{value.year:04d}-{value.month:02d}-{value.day:02d}"
    clock = f"{value.hour:02d}:{value.minute:02d}:{value.second:02d}{_fraction(value.microsecond)}"
    return f"{day} {clock}".encode("ascii")


def _clock(match: re.Match[bytes], type_name: str) -> time:
    try:
        return time(int(match[1]), int(match[2]), int(match[3]), _micros(match[4]))
    except ValueError:
        raise BadValue(type_name, "no such time of day") from None


def _clock_text(value: time) -> bytes:
    text = f"{value.hour:02d}:{value.minute:02d}:{value.second:02d}{_fraction(value.microsecond)}"
    return text.encode("ascii")


def _micros(fraction: bytes | None) -> int:
    return int(fraction.ljust(6, b"0")) if fraction else 0


def _fraction(micros: int) -> str:
    return f".{micros:06d}".rstrip("0") if micros else ""


def _beyond(value: Beyond, type_name: str, decode: object) -> bytes:
    """Let a Beyond through only if it is one of this type's own."""
    assert callable(decode)
    try:
        cell = value.text.encode("ascii")
    except UnicodeEncodeError:
        raise BadValue(type_name, "not ASCII") from None
    if not isinstance(decode(cell), Beyond):
        raise BadValue(type_name, "Python's own type can hold it")
    return cell
