"""A column's default: as SQL, and as the canonical text of the value that a row without the column holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Final

from cdcflow.codecs.floattext_cy import float4, float8
from cdcflow.engines.mysql.names import literal
from cdcflow.model.schema import Logical, NativeType
from cdcflow.sources.mysql import types

_QUOTED: Final = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_NUMBER: Final = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_BITS: Final = re.compile(r"b'([01]*)'")
_HEX: Final = re.compile(r"(?:0x([0-9A-Fa-f]*)|[xX]'([0-9A-Fa-f]*)')")
# A FLOAT default prints with six digits; one that needs fewer is printed whole.
_FLOAT_DIGITS: Final = 6

_NUMERIC: Final = frozenset({Logical.INT2, Logical.INT4, Logical.INT8, Logical.UINT8, Logical.DECIMAL})
_ZERO: Final = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year", "float", "double"), "0"),
    "date": "0000-00-00",
    "datetime": "0000-00-00 00:00:00",
    "timestamp": "0000-00-00 00:00:00+00",
    "time": "00:00:00",
    "set": "",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "inet4": "0.0.0.0",  # noqa: S104 - a value, not an address to listen on
    "inet6": "::",
    **dict.fromkeys(types.TEXTS, ""),
}


def sql(of: NativeType, text: str | None, *, generated: bool, quoted: bool) -> tuple[str | None, str | None]:
    """Return a default as SQL, and the plain text of a literal one (None for an expression or none at all).

    Args:
        text: COLUMN_DEFAULT.
        generated: it is an expression (MySQL: EXTRA has DEFAULT_GENERATED).
        quoted: the server writes literals as SQL, and NULL where there is no default (MariaDB).
    """
    if text is None or (quoted and text == "NULL"):
        return None, None
    if generated:
        expression = unescape_expression(text)
        # MySQL takes no other expression without parentheses, and writes those of a function call without.
        bare = expression.startswith(("(", "CURRENT_TIMESTAMP"))
        return expression if bare else f"({expression})", None
    if not quoted:
        plain = types.base(of.text) == "bit" or types.logical(of) is Logical.BYTES
        return (text if plain or _numeric(of, text) else literal(text)), text
    if found := _QUOTED.fullmatch(text):
        return text, types.unescape(found[1])
    if _NUMBER.fullmatch(text) or _BITS.fullmatch(text) or _HEX.fullmatch(text):
        return text, text
    return text, None


def doubtful(of: NativeType, text: str | None, *, quoted: bool) -> bool:
    """Return whether a literal default's text (see `sql`) may not be the value, so that the server must be asked.

    Bytes end at a zero or become question marks, as do characters beyond U+FFFF; FLOAT has six digits; and MySQL
    prints TIMESTAMP in the time zone of whoever made the table.
    """
    if text is None:
        return False
    name = types.base(of.text)
    if name == "float":
        digits = text.lower().split("e")[0].lstrip("-+0.").replace(".", "")
        return len(digits) >= _FLOAT_DIGITS or "(" in of.text
    if name == "timestamp":
        return not quoted and not text.startswith("0000")
    kind = types.logical(of)
    return kind is Logical.BYTES or (kind in (Logical.TEXT, Logical.ENUM, Logical.SET) and "?" in text)


def question(of: NativeType, column: str) -> str:
    """Return the SQL expression that answers for a doubtful default; `column` is quoted."""
    name = types.base(of.text)
    if name == "float":
        return f"DEFAULT({column}) + 0e0"
    if types.logical(of) is not Logical.BYTES:
        return f"CAST(DEFAULT({column}) AS CHAR)"
    return f"CONCAT('0x', HEX(DEFAULT({column})))"


def canonical(of: NativeType, text: str) -> str | None:
    """Return the canonical text of a literal default given its plain text; None where it has none.

    A zero or partial date stays as it is: the route says what becomes of it.
    """
    kind = types.logical(of)
    try:
        return _FORMS.get(kind, _same)(of, text)
    except (ValueError, InvalidOperation, OverflowError):
        return None


def implicit(of: NativeType) -> str | None:
    """Return what a NOT NULL column without a default holds in a row that was made without it (ADD COLUMN, or an
    INSERT in a session that is not strict); None where there is nothing that could."""
    name = types.base(of.text)
    if name == "decimal":
        return _decimal(of, "0")
    if name == "enum":
        return of.labels[0] if of.labels else None
    if name == "bit":
        return "0" * types.size(of.text)
    if name in types.BINARIES:
        return "\\x" + "00" * (types.size(of.text) if name == "binary" else 0)
    return _ZERO.get(name)


def unescape_expression(text: str) -> str:
    """Return an expression as SQL. MySQL's information_schema puts a backslash before each quote and each backslash
    of it: `concat(_utf8mb4\\'a\\',`b`)`."""
    if "\\'" not in text or re.search(r"(?<!\\)'", text):
        return text
    return re.sub(r"\\(.)", lambda found: found[1] if found[1] in "\\'" else found[0], text, flags=re.DOTALL)


def _numeric(of: NativeType, text: str) -> bool:
    kind = types.logical(of)
    return (kind in _NUMERIC or kind in (Logical.FLOAT4, Logical.FLOAT8)) and _NUMBER.fullmatch(text) is not None


def _same(of: NativeType, text: str) -> str | None:
    return text


def _none(of: NativeType, text: str) -> str | None:
    return None


def _integer(of: NativeType, text: str) -> str:
    return str(int(text))


def _decimal(of: NativeType, text: str) -> str:
    """Return the number with as many digits behind the point as the column has."""
    found = re.match(r"decimal\(\d+,(\d+)\)", of.text)
    value = Decimal(text)
    return f"{value:.{int(found[1]) if found else 0}f}"


def _float4(of: NativeType, text: str) -> str:
    return float4(float(text)).decode()


def _float8(of: NativeType, text: str) -> str:
    return float8(float(text)).decode()


def _bytes(of: NativeType, text: str) -> str:
    found = _HEX.fullmatch(text)
    digits = (found[1] or found[2] or "").lower() if found else text.encode().hex()
    if types.base(of.text) == "binary":
        digits = digits.ljust(2 * types.size(of.text), "0")
    return "\\x" + digits


def _bits(of: NativeType, text: str) -> str | None:
    found = _BITS.fullmatch(text)
    return found[1].zfill(types.size(of.text)) if found else None


def _moment(of: NativeType, text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _instant(of: NativeType, text: str) -> str:
    return _moment(of, text) + "+00"


_FORMS: Final[dict[Logical, Callable[[NativeType, str], str | None]]] = {
    Logical.INT2: _integer,
    Logical.INT4: _integer,
    Logical.INT8: _integer,
    Logical.UINT8: _integer,
    Logical.DECIMAL: _decimal,
    Logical.FLOAT4: _float4,
    Logical.FLOAT8: _float8,
    Logical.BYTES: _bytes,
    Logical.BIT: _bits,
    Logical.TIMESTAMP: _moment,
    Logical.TIMESTAMPTZ: _instant,
    Logical.INTERVAL: _moment,
    Logical.GEOMETRY: _none,
    Logical.ARRAY: _none,
    Logical.OTHER: _none,
}
