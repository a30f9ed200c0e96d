"""The Python values that the standard library has no type for, and the error of a value that cannot be read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

# CPython refuses to parse longer decimal integers in one go (CVE-2020-10735); Decimal has no such limit.
_INT_DIGITS: Final = 4000
# jsonb keeps numbers as numeric: 131,072 digits before the point. Past it, plain notation could fill memory.
_JSON_EXPONENT: Final = 131072


class BadValue(ValueError):  # noqa: N818 - named for what it says, as the tree in errors.py
    """A cell's text is not what its type prints, or a Python value does not fit its type.

    The message names the type and the reason, never the value.
    """

    def __init__(self, type_name: str, reason: str) -> None:
        super().__init__(f"not a {type_name} value: {reason}")
        self.type_name, self.reason = type_name, reason


@dataclass(frozen=True, slots=True)
class Beyond:
    """A value that PostgreSQL has and Python's own type has not, as canonical text.

    `infinity`, `0044-03-15 BC`, a year past 9999, `24:00:00`.
    """

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Interval:
    """A PostgreSQL interval. The parts are kept apart: a month has no fixed number of days, nor a day of hours."""

    months: int = 0
    days: int = 0
    microseconds: int = 0


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON document as the server printed it, parsed when asked.

    The text keeps what parsing loses (white space and repeated keys of `json`) and tells JSON null from NULL.
    """

    text: str

    @property
    def value(self) -> object:
        """The document as dict, list, str, bool, None, int, and Decimal for every number with a point or exponent.

        Raises:
            BadValue: it is not JSON, or is nested deeper than the parser goes.
        """
        try:
            return json.loads(self.text, parse_float=Decimal, parse_int=_whole, parse_constant=_no_constant)
        except RecursionError:
            raise BadValue("json", "nested too deeply") from None
        except BadValue:
            raise
        except ValueError:
            raise BadValue("json", "does not parse") from None

    @classmethod
    def of(cls, value: object) -> Json:
        """Return the document that holds `value`, spaced as jsonb prints it. Raises BadValue."""
        parts: list[str] = []
        try:
            _dump(value, parts)
        except RecursionError:
            raise BadValue("json", "nested too deeply") from None
        return cls("".join(parts))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Array:
    """An array whose lower bounds are not all 1. `lower` has one bound for each dimension of `items`."""

    items: list[object]
    lower: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A range. None as a bound is no bound; `empty` leaves the rest at its default."""

    lower: object = None
    upper: object = None
    lower_inclusive: bool = True
    upper_inclusive: bool = False
    empty: bool = False


def _whole(text: str) -> int | Decimal:
    return int(text) if len(text) <= _INT_DIGITS else Decimal(text)


def _no_constant(name: str) -> object:
    raise BadValue("json", f"{name} is not JSON")


def _dump(value: object, parts: list[str]) -> None:
    """Write `value` as jsonb prints it. A loop over containers; depth is bounded by the interpreter."""
    if value is None:
        parts.append("null")
    elif value is True:
        parts.append("true")
    elif value is False:
        parts.append("false")
    elif isinstance(value, str):
        # ensure_ascii off: as the server does; control characters and quotes are escaped the same way.
        parts.append(json.dumps(value, ensure_ascii=False))
    elif isinstance(value, int):
        parts.append(format(Decimal(value), "f"))
    elif isinstance(value, Decimal):
        if not value.is_finite():
            raise BadValue("json", "a number must be finite")
        if abs(value.adjusted()) > _JSON_EXPONENT:
            raise BadValue("json", "a number past what jsonb can hold")
        parts.append(format(value, "f"))
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise BadValue("json", "a number must be finite")
        parts.append(format(Decimal(repr(value)), "f"))
    elif isinstance(value, Json):
        parts.append(value.text)
    elif isinstance(value, dict):
        parts.append("{")
        for number, (name, member) in enumerate(value.items()):
            if not isinstance(name, str):
                raise BadValue("json", "an object's keys must be text")
            parts.append(", " if number else "")
            parts.append(json.dumps(name, ensure_ascii=False))
            parts.append(": ")
            _dump(member, parts)
        parts.append("}")
    elif isinstance(value, list | tuple):
        parts.append("[")
        for number, member in enumerate(value):
            parts.append(", " if number else "")
            _dump(member, parts)
        parts.append("]")
    else:
        raise BadValue("json", f"{type(value).__name__} has no JSON form")
