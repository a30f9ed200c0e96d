"""Sizes and durations as a person writes them: `64MB`, `1GiB`, `500ms`, `5s`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

SIZE_PATTERN: Final = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT][iI]?[bB]|[bB])?\s*$"
DURATION_PATTERN: Final = r"^\s*([0-9]+(\.[0-9]+)?\s*(us|ms|s|min|m|h|d)|0)\s*$"

_SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_DURATIONS = {
    "us": Decimal("0.000001"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_QUANTITY = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([a-zA-Z]*)\s*", re.ASCII)


def parse_size(value: object) -> int:
    """Return bytes. A number without a unit is bytes; `kB MB GB TB` are decimal, `KiB MiB GiB TiB` binary.

    Raises:
        ValueError: not a size.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    factor = _SIZES.get((found[2] or "b").lower()) if found else None
    if found is None or factor is None:
        raise ValueError("must be a size, like 64MB or 1GiB")
    return int(Decimal(found[1]) * factor)


def parse_duration(value: object) -> float:
    """Return seconds. The unit must be there, except behind 0.

    Raises:
        ValueError: not a duration.
    """
    if value == 0 and isinstance(value, int) and not isinstance(value, bool):
        return 0.0
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        amount = Decimal(found[1])
        if found[2] in _DURATIONS:
            return float(amount * _DURATIONS[found[2]])
        if not found[2] and amount == 0:
            return 0.0
    raise ValueError("must be a duration, like 500ms, 5s or 1h")
