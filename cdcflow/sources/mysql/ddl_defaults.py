"""A column's DEFAULT as the server keeps it, and what a row without the column holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from cdcflow.engines.mysql.names import literal
from cdcflow.model.schema import Column, Logical, NativeType
from cdcflow.sources.mysql.ddl_intents import Default, DefaultKind
from cdcflow.sources.mysql.ddl_tokens import Flavour

_INTEGERS = (Logical.INT2, Logical.INT4, Logical.INT8, Logical.UINT8)
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})$")
_MOMENT = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?$")
_TIME = re.compile(r"(-?)(\d{1,3}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?$")


@dataclass(frozen=True, slots=True)
class Kept:
    """`text` is the default's SQL, `missing` the canonical text of the value where it is a literal."""

    text: str | None = None
    missing: str | None = None
    doubt: str = ""


def default_of(default: Default | None, native: NativeType, logical: Logical, flavour: Flavour) -> Kept:
    """Return what the server makes of `default` in a column of this type."""
    if default is None or default.kind is DefaultKind.NULL:
        return Kept()
    if default.kind is DefaultKind.NOW:
        digits = default.text.strip()
        return Kept(f"CURRENT_TIMESTAMP({digits})" if digits not in ("", "0") else "CURRENT_TIMESTAMP")
    if default.kind is DefaultKind.EXPRESSION:
        return Kept(f"({default.text})")
    value = _value(default, native, logical)
    if value is None:
        return Kept(doubt="its default is not one that can be told without the server")
    shown, missing = value
    quoted = shown if shown.startswith(("b'", "0x")) and logical in (Logical.BIT, Logical.BYTES) else literal(shown)
    if logical is Logical.TIMESTAMPTZ and not shown.startswith("0000"):
        return Kept(quoted, doubt="its default is a moment in the session's time zone")
    return Kept(quoted, missing)


def implicit_default(column: Column) -> str | None:
    """Return what the server puts into rows that are older than a NOT NULL column without a default.

    None for a column that it numbers or computes, and for types where this depends on its version or sql_mode.
    """
    native, logical = column.type, column.logical
    if column.identity or column.generated:
        return None
    if logical in _INTEGERS:
        return "0"
    if logical in (Logical.FLOAT4, Logical.FLOAT8):
        return "0"
    if logical is Logical.DECIMAL:
        scale = _size(native)[1]
        return "0" + ("." + "0" * scale if scale else "")
    if logical is Logical.BIT:
        return "0" * _size(native)[0]
    if logical is Logical.BYTES:
        return "\\x" + "00" * (_size(native)[0] if native.text.startswith("binary") else 0)
    if logical is Logical.ENUM:
        return native.labels[0]
    if logical is Logical.SET or (logical is Logical.TEXT and native.charset):
        return ""
    if logical is Logical.INTERVAL:
        return "00:00:00"
    return None


def _value(default: Default, native: NativeType, logical: Logical) -> tuple[str, str] | None:
    """Return a literal default as the server shows it and as canonical text, None where that is not certain."""
    text = default.text
    if default.kind is DefaultKind.BITS:
        return _of_bits(text, native, logical)
    number = default.kind is DefaultKind.NUMBER
    if logical in _INTEGERS:
        return _year(text, number) if native.text.startswith("year") else _integer(text, native)
    if logical is Logical.DECIMAL:
        return _decimal(text, native)
    if logical in (Logical.FLOAT4, Logical.FLOAT8):
        return _float(text, native, logical)
    if logical is Logical.BIT:
        return _bits(int(text), native) if number and text.isdigit() else None
    if logical is Logical.ENUM:
        return _label(text, number, native)
    if logical is Logical.SET:
        return _labels(text, native) if not number else None
    if logical is Logical.BYTES:
        return _bytes(text.encode(), native) if text.isascii() else None
    if logical is Logical.DATE:
        found = _DATE.match(text)
        return _same(_day(found)) if found else None
    if logical in (Logical.TIMESTAMP, Logical.TIMESTAMPTZ):
        return _moment(text, native)
    if logical is Logical.INTERVAL:
        return _time(text, native)
    if logical in (Logical.TEXT, Logical.JSON) and native.text.startswith(("inet", "uuid")):
        return None
    if logical in (Logical.TEXT, Logical.JSON):
        if number and "e" in text.lower():
            return None
        return _same(text.rstrip(" ") if native.text.startswith("char(") else text)
    return None


def _same(text: str) -> tuple[str, str]:
    return text, text


def _size(native: NativeType) -> list[int]:
    """Return the numbers in the type's parentheses."""
    found = re.search(r"\(([\d,]+)\)", native.text)
    return [int(part) for part in found.group(1).split(",")] if found else []


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _integer(text: str, native: NativeType) -> tuple[str, str] | None:
    number = _number(text)
    if number is None:
        return None
    digits = str(int(number.quantize(Decimal(1), ROUND_HALF_UP)))
    return (digits.zfill(_size(native)[0]) if "zerofill" in native.text else digits), digits


def _year(text: str, number: bool) -> tuple[str, str] | None:
    if not text.isdigit() or len(text) not in (1, 2, 4):
        return None
    year = int(text)
    if year >= 1901:
        return _same(text)
    if year == 0 and (number or len(text) == 4):
        return "0000", "0"
    return _same(str(year + (2000 if year < 70 else 1900))) if year < 100 else None


def _decimal(text: str, native: NativeType) -> tuple[str, str] | None:
    number = _number(text)
    if number is None or "zerofill" in native.text:
        return None
    scale = _size(native)[1]
    return _same(format(number.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP), "f"))


def _float(text: str, native: NativeType, logical: Logical) -> tuple[str, str] | None:
    number = _number(text)
    if number is None or "zerofill" in native.text:
        return None
    digits = 6 if logical is Logical.FLOAT4 else 15
    if len(number.as_tuple().digits) > digits or (number and not -5 < number.adjusted() < digits):
        return None
    plain = format(number, "f")
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    size = _size(native)
    if len(size) == 2:
        return format(number.quantize(Decimal(1).scaleb(-size[1]), ROUND_HALF_UP), "f"), plain
    return _same(plain)


def _bits(value: int, native: NativeType) -> tuple[str, str]:
    return f"b'{value:b}'", f"{value:b}".zfill(_size(native)[0])


def _of_bits(text: str, native: NativeType, logical: Logical) -> tuple[str, str] | None:
    """Read b'101', 0b101, x'41' or 0x41."""
    binary = text[1] in "bB" if text[0] == "0" else text[0] in "bB"
    digits = text[2:].strip("'")
    if not digits:
        return None
    value = int(digits, 2 if binary else 16)
    data = value.to_bytes((len(digits) + 7) // 8 if binary else (len(digits) + 1) // 2, "big")
    if logical is Logical.BIT:
        return _bits(value, native)
    if logical is Logical.BYTES:
        return _bytes(data, native)
    if logical in _INTEGERS and not native.text.startswith("year") and "zerofill" not in native.text:
        return _same(str(value))
    if (
        logical is Logical.TEXT
        and data.isascii()
        and native.charset in ("latin1", "utf8mb4", "utf8mb3", "utf8", "ascii")
    ):
        return _same(data.decode())
    return None


def _bytes(data: bytes, native: NativeType) -> tuple[str, str] | None:
    whole = data.ljust(_size(native)[0], b"\0") if native.text.startswith("binary") else data
    return ("0x" + data.hex().upper() if data else ""), "\\x" + whole.hex()


def _label(text: str, number: bool, native: NativeType) -> tuple[str, str] | None:
    if number:
        return _same(native.labels[int(text) - 1]) if text.isdigit() and 0 < int(text) <= len(native.labels) else None
    if text.rstrip(" ") in native.labels:
        return _same(text.rstrip(" "))
    like = [label for label in native.labels if label.lower() == text.rstrip(" ").lower()]
    return _same(like[0]) if len(like) == 1 and like[0].isascii() else None


def _labels(text: str, native: NativeType) -> tuple[str, str] | None:
    wanted = text.split(",") if text else []
    if not set(wanted) <= set(native.labels):
        return None
    return _same(",".join(label for label in native.labels if label in wanted))


def _day(found: re.Match[str]) -> str:
    return f"{found.group(1)}-{int(found.group(2)):02}-{int(found.group(3)):02}"


def _fraction(digits: str | None, native: NativeType) -> tuple[str, str] | None:
    """Return a second's fraction as shown and as canonical text, None where it would be rounded."""
    size = (_size(native) or [0])[0]
    given = (digits or "").rstrip("0")
    if len(given) > size:
        return None
    return ("." + given.ljust(size, "0") if size else ""), ("." + given if given else "")


def _moment(text: str, native: NativeType) -> tuple[str, str] | None:
    day = _DATE.match(text)
    found = _MOMENT.match(text)
    if day:
        clock, digits, date = "00:00:00", None, _day(day)
    elif found:
        clock = f"{int(found.group(4)):02}:{int(found.group(5)):02}:{int(found.group(6) or 0):02}"
        digits, date = found.group(7), _day(found)
    else:
        return None
    fraction = _fraction(digits, native)
    if fraction is None:
        return None
    return f"{date} {clock}{fraction[0]}", f"{date} {clock}{fraction[1]}"


def _time(text: str, native: NativeType) -> tuple[str, str] | None:
    found = _TIME.match(text)
    fraction = _fraction(found.group(5), native) if found else None
    if not found or fraction is None:
        return None
    clock = f"{found.group(1)}{int(found.group(2)):02}:{int(found.group(3)):02}:{int(found.group(4) or 0):02}"
    return clock + fraction[0], clock + fraction[1]
