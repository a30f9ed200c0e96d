"""A column's DEFAULT as the server keeps it, and what a row without the column holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation

from cdcflow.model.schema import Logical, NativeType
from cdcflow.sources.mysql import defaults, types
from cdcflow.sources.mysql.ddl_intents import Default, DefaultKind
from cdcflow.sources.mysql.ddl_tokens import Flavour

_INTEGERS = (Logical.INT2, Logical.INT4, Logical.INT8, Logical.UINT8)
_NUMERIC = (*_INTEGERS, Logical.DECIMAL, Logical.FLOAT4, Logical.FLOAT8)
# DECIMAL(65, 30) has more digits than Python's own context.
_CONTEXT = Context(prec=200)
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})$")
_MOMENT = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?$")
_TIME = re.compile(r"(-?)(\d{1,3}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?$")


@dataclass(frozen=True, slots=True)
class Kept:
    """`text` is the default's SQL, `missing` the canonical text of the value where it is a literal."""

    text: str | None = None
    missing: str | None = None
    doubt: str = ""


def default_of(default: Default | None, native: NativeType, flavour: Flavour) -> Kept:
    """Return what the server makes of `default` in a column of this type."""
    maria = flavour.engine == "mariadb"
    if default is None or default.kind is DefaultKind.NULL:
        return Kept()
    if default.kind is DefaultKind.NOW:
        digits = default.text.strip() if default.text.strip() != "0" else ""
        if maria:  # without digits it has those of the column
            return Kept(f"current_timestamp({digits or types.size(native.text) or ''})")
        return Kept(f"CURRENT_TIMESTAMP({digits})" if digits else "CURRENT_TIMESTAMP")
    if default.kind is DefaultKind.EXPRESSION:
        return Kept(default.text if maria else f"({default.text})")
    logical = types.logical(native)
    shown = _value(default, native, logical)
    if shown is None:
        return Kept(doubt="its default is not one that can be told without the server")
    if logical is Logical.BYTES:
        return Kept(shown, defaults.canonical(native, shown))
    if not maria:
        text, plain = defaults.sql(native, shown, generated=False, quoted=False)
    elif logical in _NUMERIC or logical is Logical.BIT:
        text, plain = shown, shown
    elif native.text.endswith(("text", "json")):  # kept as an expression, which is printed by another rule
        quoted = "'" + escaped(shown).replace("''", "\\'") + "'"
        text, plain = shown if default.kind is DefaultKind.NUMBER else quoted, shown
    else:
        text, plain = f"'{escaped(shown)}'", shown
    if logical is Logical.TIMESTAMPTZ and not shown.startswith("0000"):
        return Kept(text, doubt="its default is a moment in the session's time zone")
    return Kept(text, None if plain is None else defaults.canonical(native, plain))


def escaped(text: str) -> str:
    """Return a text as servers write it between quotes in a type or, MariaDB, a default."""
    escapes = (("\\", "\\\\"), ("\0", "\\0"), ("\n", "\\n"), ("\r", "\\r"), ("'", "''"))
    for plain, written in escapes:
        text = text.replace(plain, written)
    return text


def _value(default: Default, native: NativeType, logical: Logical) -> str | None:
    """Return a literal default as the server shows it, None where that is not certain."""
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
        return _bits(int(text)) if number and text.isdecimal() else None
    if logical is Logical.ENUM:
        return _label(text, number, native)
    if logical is Logical.SET:
        return _labels(text, native) if not number else None
    if logical is Logical.BYTES:
        return _bytes(text.encode(), native) if text.isascii() else None
    if logical is Logical.DATE:
        found = _DATE.match(text)
        return _day(found) if found else None
    if logical in (Logical.TIMESTAMP, Logical.TIMESTAMPTZ):
        return _moment(text, native)
    if logical is Logical.INTERVAL:
        return _time(text, native)
    if logical in (Logical.TEXT, Logical.JSON) and native.text.startswith(("inet", "uuid")):
        return None
    if logical in (Logical.TEXT, Logical.JSON):
        if number and "e" in text.lower():
            return None
        return text.rstrip(" ") if native.text.startswith("char(") else text
    return None


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


def _rounded(number: Decimal, scale: int) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, _CONTEXT)


def _integer(text: str, native: NativeType) -> str | None:
    number = _number(text)
    if number is None:
        return None
    digits = str(int(_rounded(number, 0)))
    return digits.zfill(_size(native)[0]) if "zerofill" in native.text else digits


def _year(text: str, number: bool) -> str | None:
    if not text.isdecimal() or len(text) not in (1, 2, 4):
        return None
    year = int(text)
    if year >= 1901:
        return text
    if year == 0 and (number or len(text) == 4):
        return "0000"
    return str(year + (2000 if year < 70 else 1900)) if year < 100 else None


def _decimal(text: str, native: NativeType) -> str | None:
    number = _number(text)
    if number is None or "zerofill" in native.text:
        return None
    scale = _size(native)[1]
    return format(_rounded(number, scale), "f")


def _float(text: str, native: NativeType, logical: Logical) -> str | None:
    number = _number(text)
    if number is None or "zerofill" in native.text:
        return None
    # From six digits on the catalog asks the server what a FLOAT really holds.
    digits = 5 if logical is Logical.FLOAT4 else 15
    if len(number.as_tuple().digits) > digits or (number and not -5 < number.adjusted() < digits):
        return None
    plain = format(number, "f")
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    size = _size(native)
    if len(size) == 2:
        return format(_rounded(number, size[1]), "f") if digits > 6 else None
    return plain


def _bits(value: int) -> str:
    return f"b'{value:b}'"


def _of_bits(text: str, native: NativeType, logical: Logical) -> str | None:
    """Read b'101', 0b101, x'41' or 0x41."""
    binary = text[1] in "bB" if text[0] == "0" else text[0] in "bB"
    digits = text[2:].strip("'")
    if not digits:
        return None
    value = int(digits, 2 if binary else 16)
    data = value.to_bytes((len(digits) + 7) // 8 if binary else (len(digits) + 1) // 2, "big")
    if logical is Logical.BIT:
        return _bits(value)
    if logical is Logical.BYTES:
        return _bytes(data, native)
    if logical in _INTEGERS and not native.text.startswith("year") and "zerofill" not in native.text:
        return str(value)
    if (
        logical is Logical.TEXT
        and data.isascii()
        and native.charset in ("latin1", "utf8mb4", "utf8mb3", "utf8", "ascii")
    ):
        return data.decode()
    return None


def _bytes(data: bytes, native: NativeType) -> str:
    whole = data.ljust(_size(native)[0], b"\0") if native.text.startswith("binary") else data
    return "0x" + whole.hex().upper()


def _label(text: str, number: bool, native: NativeType) -> str | None:
    if number:
        return native.labels[int(text) - 1] if text.isdecimal() and 0 < int(text) <= len(native.labels) else None
    if text.rstrip(" ") in native.labels:
        return text.rstrip(" ")
    like = [label for label in native.labels if label.lower() == text.rstrip(" ").lower()]
    return like[0] if len(like) == 1 and like[0].isascii() else None


def _labels(text: str, native: NativeType) -> str | None:
    wanted = text.split(",") if text else []
    if not set(wanted) <= set(native.labels):
        return None
    return ",".join(label for label in native.labels if label in wanted)


def _day(found: re.Match[str]) -> str:
    return f"{found.group(1)}-{int(found.group(2)):02}-{int(found.group(3)):02}"


def _fraction(digits: str | None, native: NativeType) -> str | None:
    """Return a second's fraction with its point, None where it would be rounded."""
    size = (_size(native) or [0])[0]
    given = (digits or "").rstrip("0")
    if len(given) > size:
        return None
    return "." + given.ljust(size, "0") if size else ""


def _moment(text: str, native: NativeType) -> str | None:
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
    return f"{date} {clock}{fraction}"


def _time(text: str, native: NativeType) -> str | None:
    found = _TIME.match(text)
    fraction = _fraction(found.group(5), native) if found else None
    if not found or fraction is None:
        return None
    clock = f"{found.group(1)}{int(found.group(2)):02}:{int(found.group(3)):02}:{int(found.group(4) or 0):02}"
    return clock + fraction
