"""Values of binary messages that become canonical text by hand: those that are made of several, or are rare."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from cdcflow.bus.formats import UNAVAILABLE
from cdcflow.codecs.buscells import bits_text, geometry_text
from cdcflow.codecs.values_kinds import BadValue, Interval
from cdcflow.codecs.values_scalar import encode_decimal
from cdcflow.codecs.values_time import encode_interval

_MOST_SCALE = 20000


def of_text(convert: Callable[[bytes], bytes]) -> Callable[[str], bytes | None]:
    """Return the function from a text. What stands for a value that was not logged is NULL until headers are read."""
    return lambda value: None if value == UNAVAILABLE else convert(value.encode())


def json_text(value: Any) -> bytes:
    """Return what has no form in a column as JSON; bytes in it as base64."""
    return json.dumps(value, ensure_ascii=False, default=_plain).encode()


def bits_text_of(length: int) -> Callable[[bytes], bytes]:
    """Return the function from little-endian bytes to that many bits."""
    return lambda raw: bits_text(raw, length)


def geometry_of(value: dict[str, Any]) -> bytes:
    """Return the canonical text of Debezium's geometry record."""
    wkb, srid = value.get("wkb"), value.get("srid")
    if not isinstance(wkb, bytes):
        raise BadValue("geometry", "no WKB")
    return geometry_text(wkb, srid if isinstance(srid, int) else None)


def variable_decimal(value: dict[str, Any]) -> bytes:
    """Return the text of a decimal that brings its scale along."""
    raw, scale = value.get("value"), value.get("scale")
    if not isinstance(raw, bytes) or not isinstance(scale, int) or not -_MOST_SCALE <= scale <= _MOST_SCALE:
        raise BadValue("decimal", "no value and scale")
    number = int.from_bytes(raw, "big", signed=True)
    digits = Decimal(abs(number)).as_tuple().digits  # `str` has a limit
    return encode_decimal(Decimal((number < 0, digits, -scale)))


def duration_text(micros: int) -> bytes:
    """Return a number of microseconds as an interval."""
    return encode_interval(Interval(0, 0, micros))


def _plain(value: object) -> str:
    return b64encode(value).decode() if isinstance(value, bytes) else str(value)
