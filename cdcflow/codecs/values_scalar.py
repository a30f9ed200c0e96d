"""Numbers, text, bytes, uuid and JSON: canonical text to Python value and back."""

from __future__ import annotations

import math
import re
import struct
import uuid
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Final

from cdcflow.codecs.values_kinds import BadValue, Json

# A numeric has at most 131,072 digits before the point and 16,383 behind it (PostgreSQL manual, 8.1.2).
_NUMERIC_BYTES: Final = 131072 + 16383 + 2
_NUMERIC: Final = re.compile(rb"-?[0-9]+(\.[0-9]+)?|NaN|-?Infinity")
_FLOAT: Final = re.compile(rb"-?[0-9]+(\.[0-9]+)?(e[+-][0-9]+)?|NaN|-?Infinity")
_INTEGER: Final = re.compile(rb"-?[0-9]{1,20}")
_UUID: Final = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

# In this span two neighbouring float8 can have a decimal of 17 digits exactly between them. Below it the
# middle has too many digits, above it the middle cannot be divided by the power of ten.
_HALFWAY_FROM, _HALFWAY_TO = 2.0**51, 1e42


def decode_bool(cell: bytes) -> bool:
    if cell == b"t":
        return True
    if cell == b"f":
        return False
    raise BadValue("bool", "neither t nor f")


def encode_bool(value: object) -> bytes:
    if value is True:
        return b"t"
    if value is False:
        return b"f"
    raise BadValue("bool", f"{type(value).__name__} is not bool")


def decode_int(cell: bytes) -> int:
    if _INTEGER.fullmatch(cell) is None:
        raise BadValue("integer", "not a whole number of at most 20 digits")
    return int(cell)


def encode_int(value: object) -> bytes:
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadValue("integer", f"{type(value).__name__} is not int")
    if not -(1 << 63) <= value < (1 << 64):
        raise BadValue("integer", "outside 64 bits")
    return b"%d" % value


def decode_decimal(cell: bytes) -> Decimal:
    if len(cell) > _NUMERIC_BYTES or _NUMERIC.fullmatch(cell) is None:
        raise BadValue("numeric", "not a decimal number")
    return Decimal(cell.decode("ascii"))


def encode_decimal(value: object) -> bytes:
    if isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    if not isinstance(value, Decimal):
        raise BadValue("numeric", f"{type(value).__name__} is neither Decimal nor int")
    if value.is_nan():
        return b"NaN"
    if value.is_infinite():
        return b"-Infinity" if value < 0 else b"Infinity"
    if value.adjusted() >= 131072:
        raise BadValue("numeric", "more than 131,072 digits before the point")
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent < -16383:
        raise BadValue("numeric", "more than 16,383 digits behind the point")
    text = format(value, "f")
    return text.encode("ascii") if value else text.lstrip("-").encode("ascii")  # numeric has no negative zero


def decode_float(cell: bytes) -> float:
    if len(cell) > 32 or _FLOAT.fullmatch(cell) is None:
        raise BadValue("float", "not a floating-point number")
    return float(cell)


def encode_float8(value: object) -> bytes:
    number = _as_float(value, "float8")
    special = _special(number)
    if special:
        return special
    digits, exponent = _digits(repr(number))
    if _HALFWAY_FROM <= abs(number) < _HALFWAY_TO and _is_halfway(number):
        # repr may stop exactly half-way to the neighbour, because reading rounds to even; the server's
        # printing (d2s.c, bounds not accepted) goes on to the next digit.
        precision = len(digits)
        while _is_halfway(number, (digits, exponent)):
            digits, exponent = _digits(f"{number:.{precision}e}")
            precision += 1
    return _layout(math.copysign(1, number) < 0, digits, exponent, 15)


def encode_float4(value: object) -> bytes:
    number = _as_float(value, "float4")
    special = _special(number)
    if special:
        return special
    single = _single(number)
    if single is None:
        raise BadValue("float4", "out of range")
    digits, exponent = _digits(repr(number))
    if len(digits) > 9:
        for precision in range(9):
            text = f"{struct.unpack('=f', single)[0]:.{precision}e}"
            if _single(float(text)) == single:
                digits, exponent = _digits(text)
                break
    return _layout(math.copysign(1, number) < 0, digits, exponent, 6)


def decode_text(cell: bytes) -> str:
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise BadValue("text", f"byte {problem.start} is not UTF-8") from None


def encode_text(value: object) -> bytes:
    if not isinstance(value, str):
        raise BadValue("text", f"{type(value).__name__} is not str")
    if "\0" in value:
        raise BadValue("text", "PostgreSQL cannot store U+0000")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadValue("text", "a lone surrogate has no UTF-8 form") from None


def decode_set(cell: bytes) -> tuple[str, ...]:
    """Decode a SET of MySQL's: its labels hold no comma."""
    return tuple(decode_text(cell).split(",")) if cell else ()


def encode_set(value: object) -> bytes:
    if not isinstance(value, tuple | list) or not all(isinstance(label, str) for label in value):
        raise BadValue("set", f"{type(value).__name__} is not a tuple of str")
    if any("," in label for label in value):
        raise BadValue("set", "a label holds a comma")
    return encode_text(",".join(value))


def decode_bytes(cell: bytes) -> bytes:
    if cell[:2] != b"\\x":
        raise BadValue("bytea", "does not begin with \\x")
    digits = cell[2:]
    # bytes.fromhex would skip white space between the pairs.
    if len(digits) % 2 or (digits and not digits.isalnum()):
        raise BadValue("bytea", "not pairs of hexadecimal digits")
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        raise BadValue("bytea", "not pairs of hexadecimal digits") from None


def encode_bytes(value: object) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise BadValue("bytea", f"{type(value).__name__} is not bytes")
    return b"\\x" + value.hex().encode("ascii")


def decode_uuid(cell: bytes) -> uuid.UUID:
    if _UUID.fullmatch(cell) is None:
        raise BadValue("uuid", "not 8-4-4-4-12 hexadecimal digits")
    return uuid.UUID(cell.decode("ascii"))


def encode_uuid(value: object) -> bytes:
    if not isinstance(value, uuid.UUID):
        raise BadValue("uuid", f"{type(value).__name__} is not UUID")
    return str(value).encode("ascii")


def decode_json(cell: bytes) -> Json:
    return Json(decode_text(cell))


def encode_json(value: object) -> bytes:
    """Encode a `Json`, or any value that JSON can hold; None is then JSON null, not NULL."""
    document = value if isinstance(value, Json) else Json.of(value)
    return encode_text(document.text)


def _as_float(value: object, type_name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise BadValue(type_name, f"{type(value).__name__} is not float")
    try:
        return float(value)
    except OverflowError:
        raise BadValue(type_name, "out of range") from None


def _single(number: float) -> bytes | None:
    try:
        return struct.pack("=f", number)
    except OverflowError:
        return None


def _special(number: float) -> bytes:
    if math.isfinite(number):
        return b""
    if math.isnan(number):
        return b"NaN"
    return b"Infinity" if number > 0 else b"-Infinity"


def _digits(text: str) -> tuple[str, int]:
    """Return the significant digits of a printed float and the power of ten of the first one."""
    try:
        _, digits, exponent = Decimal(text).as_tuple()
    except InvalidOperation:  # pragma: no cover - only printed floats come here
        raise BadValue("float", "not a number") from None
    assert isinstance(exponent, int)
    whole = "".join(map(str, digits)).lstrip("0")
    if not whole:
        return "0", 0
    return whole.rstrip("0"), exponent + len(whole) - 1


def _is_halfway(number: float, printed: tuple[str, int] | None = None) -> bool:
    digits, exponent = printed or _digits(repr(number))
    value = Fraction(int(digits)) * Fraction(10) ** (exponent - len(digits) + 1)
    magnitude = abs(number)
    gap = Fraction(magnitude) - value
    neighbour = math.nextafter(magnitude, 0.0 if gap > 0 else math.inf)
    return 2 * abs(gap) == abs(Fraction(neighbour) - Fraction(magnitude))


def _layout(negative: bool, digits: str, exponent: int, fixed_below: int) -> bytes:
    """Write digits as the server does: plain from 1e-4 up to `fixed_below` digits, else with an exponent."""
    if -4 <= exponent < fixed_below:
        if exponent < 0:
            text = "0." + "0" * (-exponent - 1) + digits
        elif exponent + 1 >= len(digits):
            text = digits + "0" * (exponent + 1 - len(digits))
        else:
            text = f"{digits[: exponent + 1]}.{digits[exponent + 1 :]}"
    else:
        point = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{point}e{exponent:+03d}"
    return f"{'-' if negative else ''}{text}".encode("ascii")
