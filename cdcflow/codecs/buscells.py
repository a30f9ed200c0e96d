"""Canonical cell text <-> what stands for it on a bus, for the kinds that need no speed.

Each pair is exact: what the first function of it returns, the second turns into the same text again. Where a value has
no such form (an infinity, an array with bounds of its own) the first raises BadValue, and the text itself travels in
the `cdcflow.exact` header.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from cdcflow.codecs.values_kinds import Array, BadValue, Beyond, Interval
from cdcflow.codecs.values_nested import decode_array, encode_array
from cdcflow.codecs.values_time import decode_interval, encode_interval

_ISO_INTERVAL: Final = re.compile(
    rb"P(?:([+-]?\d{1,10})Y)?(?:([+-]?\d{1,10})M)?(?:([+-]?\d{1,10})W)?(?:([+-]?\d{1,10})D)?"
    rb"(?:T(?:([+-]?\d{1,10})H)?(?:([+-]?\d{1,13})M)?(?:([+-]?)(\d{1,15})(?:\.(\d{1,9}))?S)?)?"
)
_TIMETZ: Final = re.compile(rb"(\d\d:\d\d:\d\d(?:\.\d{1,6})?)([+-]\d\d)((?::\d\d){0,2})")
_ISO_TIMETZ: Final = re.compile(rb"(\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))?(?:[Zz]|([+-]\d\d)(?::?(\d\d)(?::?(\d\d))?)?)")
_TIMESTAMPTZ: Final = re.compile(rb"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,6})?)\+00")
_BITS: Final = re.compile(rb"[01]+")

# The flags of EWKB in a geometry's type: https://libgeos.org/specifications/wkb/#extended-wkb
_HAS_SRID: Final = 0x20000000
_WKB_HEADER_BYTES: Final = 5


def interval_iso(cell: bytes) -> bytes:
    """Return an interval as ISO 8601 in the form of Debezium's `interval.handling.mode=string`: `P1Y2M3DT4H5M6.7S`.

    Every part is there, each with its own sign.

    Raises:
        BadValue: it is infinite, or no interval.
    """
    value = decode_interval(cell)
    if isinstance(value, Beyond):
        raise BadValue("interval", "infinite")
    years, months = _split(value.months, 12)
    minutes, micros = _split(value.microseconds, 60_000_000)
    hours, minutes = _split(minutes, 60)
    seconds, micros_left = divmod(abs(micros), 1_000_000)
    sign = "-" if micros < 0 else ""
    fraction = f".{micros_left:06d}".rstrip("0") if micros_left else ""
    text = f"P{years}Y{months}M{value.days}DT{hours}H{minutes}M{sign}{seconds}{fraction}S".encode()
    if interval_text(text) != cell:
        raise BadValue("interval", "not as PostgreSQL prints it")
    return text


def interval_text(iso: bytes) -> bytes:
    """Return the canonical text of an ISO 8601 duration. Parts may be missing, and weeks are read.

    Raises:
        BadValue: it is none, or finer than microseconds.
    """
    found = _ISO_INTERVAL.fullmatch(iso)
    if found is None or iso[-1:] in b"PT":
        raise BadValue("interval", "not an ISO 8601 duration")
    years, months, weeks, days, hours, minutes = (int(part or 0) for part in found.groups()[:6])
    fraction = (found[9] or b"").ljust(9, b"0")
    if fraction[6:].strip(b"0"):
        raise BadValue("interval", "finer than microseconds")
    seconds = int(found[8] or 0) * 1_000_000 + int(fraction[:6])
    micros = (hours * 3600 + minutes * 60) * 1_000_000 + (-seconds if found[7] == b"-" else seconds)
    return encode_interval(Interval(years * 12 + months, weeks * 7 + days, micros))


def timetz_iso(cell: bytes) -> bytes:
    """Return a time with zone as ISO 8601: `04:05:06.5+02:00`, with `Z` for UTC.

    Raises:
        BadValue: it is none.
    """
    found = _TIMETZ.fullmatch(cell)
    if found is None:
        raise BadValue("timetz", "not HH:MM:SS+ZZ")
    clock, hours, rest = found.groups()
    text: bytes = clock + (b"Z" if hours == b"+00" and not rest else hours + (rest or b":00"))
    if timetz_text(text) != cell:
        raise BadValue("timetz", "not as PostgreSQL prints it")
    return text


def timetz_text(iso: bytes) -> bytes:
    """Return the canonical text of an ISO 8601 time with an offset.

    Raises:
        BadValue: it is none, or finer than microseconds.
    """
    found = _ISO_TIMETZ.fullmatch(iso)
    if found is None:
        raise BadValue("timetz", "not an ISO 8601 time with an offset")
    clock, seconds, fraction, hours, minutes, offset_seconds = found.groups()
    digits = (fraction or b"").rstrip(b"0")
    if len(digits) > 6:
        raise BadValue("timetz", "finer than microseconds")
    text: bytes = clock + (seconds or b":00") + (b"." + digits if digits else b"") + (hours or b"+00")
    if minutes and (minutes != b"00" or (offset_seconds or b"00") != b"00"):
        text += b":" + minutes
    if offset_seconds and offset_seconds != b"00":
        text += b":" + offset_seconds
    return text.replace(b"-00", b"+00") if text.endswith(b"-00") and hours == b"-00" else text


def timestamptz_iso(cell: bytes) -> bytes:
    """Return a moment as ISO 8601 in UTC: `2024-01-02T03:04:05.678Z`.

    Raises:
        BadValue: it is none of the years 0001 to 9999, or not in UTC.
    """
    found = _TIMESTAMPTZ.fullmatch(cell)
    if found is None or cell[:4] == b"0000":
        raise BadValue("timestamptz", "not of a year with four digits in UTC")
    return found[1] + b"T" + found[2] + b"Z"


def array_cells(cell: bytes, delimiter: bytes = b",") -> list[bytes | None]:
    """Return the cells of an array of one dimension, None for NULL.

    Raises:
        BadValue: it has more dimensions, or bounds of its own.
    """
    items = decode_array(cell, _same, delimiter)
    if isinstance(items, Array) or any(isinstance(item, list) for item in items):
        raise BadValue("array", "more than a list")
    found = [None if item is None else _as_bytes(item) for item in items]
    if array_text(found, delimiter) != cell:
        raise BadValue("array", "not as PostgreSQL prints it")
    return found


def array_text(cells: list[bytes | None], delimiter: bytes = b",") -> bytes:
    """Return the canonical text of an array of one dimension."""
    return encode_array(cells, _as_bytes, delimiter)


def bits_bytes(cell: bytes) -> bytes:
    """Return bits (`10110`, the first one the highest) as little-endian bytes.

    Raises:
        BadValue: something else than 0 and 1 is in it.
    """
    if _BITS.fullmatch(cell) is None:
        raise BadValue("bit", "not zeros and ones")
    return int(cell, 2).to_bytes((len(cell) + 7) // 8, "little")


def bits_text(raw: bytes, length: int) -> bytes:
    """Return `length` bits as text, from little-endian bytes.

    Raises:
        BadValue: more bits are set than that.
    """
    text = format(int.from_bytes(raw, "little"), f"0{length}b")
    if len(text) != length:
        raise BadValue("bit", "longer than its column")
    return text.encode("ascii")


def geometry_parts(cell: bytes) -> tuple[bytes, int | None]:
    """Return the WKB and the SRID (None without one) of a geometry, whose canonical text is EWKB in upper-case hex.

    Raises:
        BadValue: it is no such text.
    """
    try:
        raw = bytes.fromhex(cell.decode("ascii"))
    except (UnicodeDecodeError, ValueError):
        raise BadValue("geometry", "not pairs of hexadecimal digits") from None
    order = _byte_order(raw)
    (form,) = struct.unpack_from(order + "I", raw, 1)
    srid = None
    wkb = raw
    if form & _HAS_SRID:
        if len(raw) < _WKB_HEADER_BYTES + 4:
            raise BadValue("geometry", "ends inside its SRID")
        (srid,) = struct.unpack_from(order + "i", raw, _WKB_HEADER_BYTES)
        wkb = raw[:1] + struct.pack(order + "I", form ^ _HAS_SRID) + raw[_WKB_HEADER_BYTES + 4 :]
    if geometry_text(wkb, srid) != cell:
        raise BadValue("geometry", "not as its server prints it")
    return wkb, srid


def geometry_text(wkb: bytes, srid: int | None) -> bytes:
    """Return the canonical text of a geometry. `wkb` may be EWKB already, as Debezium writes PostGIS's.

    Raises:
        BadValue: it is no WKB.
    """
    order = _byte_order(wkb)
    (form,) = struct.unpack_from(order + "I", wkb, 1)
    if srid and not form & _HAS_SRID:
        if not -(1 << 31) <= srid < 1 << 31:
            raise BadValue("geometry", "an SRID outside 32 bits")
        wkb = wkb[:1] + struct.pack(order + "Ii", form | _HAS_SRID, srid) + wkb[_WKB_HEADER_BYTES:]
    return wkb.hex().upper().encode("ascii")


def _byte_order(raw: bytes) -> str:
    if len(raw) < _WKB_HEADER_BYTES or raw[0] > 1:
        raise BadValue("geometry", "does not begin as WKB")
    return "<" if raw[0] else ">"


def _split(value: int, by: int) -> tuple[int, int]:
    """Divide towards zero, so that both parts have the sign."""
    whole, rest = divmod(abs(value), by)
    return (-whole, -rest) if value < 0 else (whole, rest)


def _same(cell: bytes) -> object:
    return cell


def _as_bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value
