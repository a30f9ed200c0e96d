"""JSON values as canonical text for the kinds that need no speed, and for forms that only others write.

Debezium's handling modes: https://debezium.io/documentation/reference/stable/connectors/postgresql.html
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from decimal import Decimal, InvalidOperation
from typing import Final

from cdcflow.codecs import buscells, bustime_cy, bustimetext_cy
from cdcflow.codecs.buskinds import Kind
from cdcflow.codecs.jsontext_cy import ScanError
from cdcflow.codecs.values_kinds import BadValue, Interval
from cdcflow.codecs.values_time import encode_interval

# Kinds that only others write, beside those of `buskinds.Kind`.
CONNECT_DECIMAL: Final = 40  # base64 of the unscaled number, big-endian; the scale is the schema's
VARIABLE_DECIMAL: Final = 41  # {"scale": n, "value": base64}

# A numeric has at most so many digits before the point.
_LARGEST_EXPONENT: Final = 131072

_MOMENT: Final = re.compile(
    rb"([+-]?\d{4,9}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:[.,](\d{1,9}))?"
    rb"(?:[Zz]|([+-])(\d\d)(?::?(\d\d)(?::?(\d\d))?)?)?"
)
_CLOCK: Final = re.compile(rb"(\d\d:\d\d)(:\d\d)?(?:[.,](\d{1,9}))?[Zz]?")
_DAY: Final = re.compile(rb"([+-]?\d{4,9}-\d\d-\d\d)(?:[Zz]|[+-]\d\d:?\d\d)?")
# What PostgreSQL and MySQL print and ISO 8601 does not have: it goes over as it is, and the target reads it.
_CANONICAL: Final = re.compile(rb"-?infinity|\d{4,7}-\d\d-\d\d(?: [\d:.]+(?:\+00)?)?(?: BC)?|-?[\d:.]{8,20}")


def text_cell(kind: int, length: int, scale: int, text: bytes) -> bytes:
    """Return the canonical text of a value that came as a string.

    Raises:
        ScanError: it is none of the kind.
    """
    try:
        if kind == Kind.TIMESTAMPTZ:
            return _moment(text, zoned=True)
        if kind == Kind.TIMESTAMP:
            return _moment(text, zoned=False)
        if kind == Kind.DATE:
            return _day(text)
        if kind == Kind.TIME:
            return _clock(text)
        if kind == Kind.INTERVAL:
            return text if _CANONICAL.fullmatch(text) else buscells.interval_text(text)
        if kind == Kind.TIMETZ:
            return buscells.timetz_text(text)
        if kind == Kind.BITS:
            return buscells.bits_text(b64decode(text, validate=True), length)
        if kind == CONNECT_DECIMAL:
            return _scaled(b64decode(text, validate=True), scale)
    except (BadValue, binascii.Error) as error:
        raise ScanError(str(error) if isinstance(error, BadValue) else "not base64") from None
    raise ScanError("a string where none can be")


def number_cell(kind: int, micros: int) -> bytes:
    """Return the canonical text of a span of time in microseconds.

    Raises:
        ScanError: there is none.
    """
    if kind != Kind.INTERVAL:
        raise ScanError("a number where none can be")
    try:
        return encode_interval(Interval(0, 0, micros))
    except BadValue as error:
        raise ScanError(str(error)) from None


def object_cell(kind: int, raw: bytes) -> bytes:
    """Return the canonical text of a value that came as an object.

    Raises:
        ScanError: it is none of the kind.
    """
    try:
        found = json.loads(raw)
        if kind == VARIABLE_DECIMAL:
            return _scaled(b64decode(found["value"], validate=True), int(found.get("scale") or 0))
        if kind == Kind.GEOMETRY:
            srid = found.get("srid")
            return buscells.geometry_text(b64decode(found["wkb"], validate=True), None if srid is None else int(srid))
    except BadValue as error:
        raise ScanError(str(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ScanError("an object that is not as its kind is written") from None
    raise ScanError("an object where none can be")


def plain_decimal(text: bytes) -> bytes:
    """Return a decimal number without an exponent.

    Raises:
        ScanError: it is larger than any that a database holds.
    """
    try:
        number = Decimal(text.decode("ascii"))
    except InvalidOperation:
        raise ScanError("a number that is too large") from None
    exponent = number.as_tuple().exponent
    if abs(number.adjusted()) > _LARGEST_EXPONENT or not isinstance(exponent, int) or abs(exponent) > _LARGEST_EXPONENT:
        raise ScanError("a number that is too large")
    return format(number, "f").encode("ascii")


def _scaled(raw: bytes, scale: int) -> bytes:
    if abs(scale) > _LARGEST_EXPONENT or len(raw) > _LARGEST_EXPONENT // 2:
        raise ScanError("a number that is too large")
    number = Decimal(int.from_bytes(raw, "big", signed=True))
    sign, digits, _ = number.as_tuple()
    return format(Decimal((sign, digits, -scale)), "f").encode("ascii")


# What Debezium writes for PostgreSQL's infinities where timestamps are texts.
INFINITIES: Final = {b"+294247-01-10T04:00:25.2Z": b"infinity", b"-290308-12-21T19:59:27.6Z": b"-infinity"}


def _micros(fraction: bytes | None) -> bytes:
    digits = (fraction or b"").rstrip(b"0")
    if len(digits) > 6:
        raise ScanError("finer than microseconds")
    return b"." + digits if digits else b""


def _moment(text: bytes, *, zoned: bool) -> bytes:
    if text in INFINITIES:
        return INFINITIES[text]
    zone = b"+00" if zoned else b""
    found = _MOMENT.fullmatch(text)
    if found is None or b" " in text:
        if _CANONICAL.fullmatch(text) is None:
            raise ScanError("neither ISO 8601 nor a database's own text")
        return text
    day, clock, seconds, fraction, sign, hours, minutes, offset_seconds = found.groups()
    cell = _year(day, b" " + clock + (seconds or b":00") + _micros(fraction))
    micros = bustime_cy.timestamp_micros(cell)
    if micros == bustime_cy.NONE:
        raise ScanError("no such moment")
    if zoned and sign:
        shift = (int(hours) * 3600 + int(minutes or 0) * 60 + int(offset_seconds or 0)) * 1_000_000
        try:
            cell = bustimetext_cy.micros_timestamp(micros + shift if sign == b"-" else micros - shift)
        except ValueError:
            raise ScanError("no such moment") from None
    return cell[:-3] + zone + b" BC" if cell.endswith(b" BC") else cell + zone


def _year(day: bytes, rest: bytes) -> bytes:
    """Return an ISO 8601 day, whose year may have a sign, with what follows it, as PostgreSQL writes years."""
    year, month = int(day[:-6]), day[-6:]
    if year < 1:
        return b"%04d" % (1 - year) + month + rest + b" BC"
    return b"%04d" % year + month + rest


def _day(text: bytes) -> bytes:
    found = _DAY.fullmatch(text)
    if found is not None:
        cell = _year(found[1], b"")
        if bustime_cy.date_days(cell) != bustime_cy.NONE:
            return cell
    if _CANONICAL.fullmatch(text) is None:
        raise ScanError("neither ISO 8601 nor a database's own text")
    return text


def _clock(text: bytes) -> bytes:
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise ScanError("no time of day")
    cell = found[1] + (found[2] or b":00") + _micros(found[3])
    if bustime_cy.time_micros(cell) == bustime_cy.NONE:
        raise ScanError("no time of day")
    return cell
