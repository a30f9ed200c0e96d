"""JSON documents of MySQL together with the SQL types of their values, which their text does not tell.

A value inside of a document may be a DECIMAL, a date or time, or bytes: `1.50` prints as a DOUBLE might, and
`"2024-01-31"` as a string. A source that is asked to puts behind the text of such a document what these values are:

    {"a": 1.50, "b": ["2024-01-31"]} MARK p2:1n,3d; END

A section names an order in which the values of the document are counted, how many of them it lists, and each by its
number and a letter. Orders: `p` all values, a container before what is in it, from 0 on (as they stand in the log);
`o` the members of objects and `a` the elements of arrays, container by container, from 1 on (as JSON_TABLE finds them);
`r` the document as a whole, number 0. Letters: `n` DECIMAL, `d` DATE, `t` TIME, `m` DATETIME, `s` TIMESTAMP, `b` bytes.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

# A document's text has no control characters: they stand in it as escapes.
MARK: Final = b"\x1f\x1etypes:"
END: Final = b"\x1f"

# By the type's number in the log. All others are bytes.
# https://dev.mysql.com/doc/dev/mysql-server/latest/field__types_8h.html
LETTERS: Final = {246: "n", 10: "d", 11: "t", 12: "m", 7: "s"}

_SECTIONS: Final = re.compile(rb"(?:[poar]\d+:\d+[ndtmsb](?:,\d+[ndtmsb])*;)+")
_SECTION: Final = re.compile(r"([poar])(\d+):([^;]*);")
_DECIMAL: Final = re.compile(r"-?0*([0-9]+)(?:\.([0-9]+))?")
_BYTES: Final = re.compile(r"base64:type(\d{1,3}):([A-Za-z0-9+/=\n]*)")

_TIMES: Final = {"d": b"DATE", "t": b"TIME(6)", "m": b"DATETIME(6)"}

# Bytes by the type of the column, or of the function, that they came from. A hexadecimal literal is a VARBINARY.
_VARBINARY: Final = 15
_BIT: Final = 16
_BINARY: Final = 254
_BLOBS: Final = {249: b"TINYBLOB", 250: b"MEDIUMBLOB", 251: b"LONGBLOB", 252: b"BLOB"}


class DocumentError(ValueError):
    """A document and the list of its types do not fit, or MySQL has no literal for a value of its type."""


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def marks(found: Iterable[tuple[int, int]]) -> bytes:
    """Return what follows a document's text: of pairs of a value's number in the order `p` and its type in the log."""
    items = [f"{number}{LETTERS.get(kind, 'b')}" for number, kind in found]
    return MARK + f"p{len(items)}:{','.join(items)};".encode() + END


def untyped(cell: bytes) -> bytes:
    """Return the document's text alone."""
    return cell[: cell.rfind(MARK)] if cell[-1:] == END else cell


def expression(cell: bytes, quoted: Callable[[bytes], bytes]) -> bytes:
    """Return the SQL expression that makes the document; `quoted` makes a string literal.

    Raises:
        DocumentError: see there.
    """
    text = untyped(cell)
    if len(text) == len(cell):
        return quoted(text)
    root, types = _parsed(text), cell[len(text) + len(MARK) : -1]
    if not _SECTIONS.fullmatch(types):
        raise DocumentError("a document's list of types is malformed")
    parts = [quoted(text)]
    for order, count, items in _SECTION.findall(types.decode()):
        wanted = {int(item[:-1]): item[-1] for item in items.split(",")}
        if len(wanted) != int(count):
            raise DocumentError("a document's list of types is not whole")
        for number, (path, value) in enumerate(_ORDERS[order](root), start=0 if order in "pr" else 1):
            letter = wanted.pop(number, "")
            if not letter:
                continue
            made = _value(letter, value, quoted)
            if not path:
                return b"CAST(" + made + b" AS JSON)"
            parts += [quoted(("$" + path).encode()), made]
        if wanted:
            raise DocumentError("a document has fewer values than the list of its types")
    return b"JSON_REPLACE(" + b",".join(parts) + b")"


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text, parse_float=_Number, parse_int=_Number)
    except (ValueError, RecursionError):
        raise DocumentError("a document does not parse") from None


def _all(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with its path, a container before what is in it."""
    yield path, value
    for leg, inner in _inside(value):
        yield from _all(inner, path + leg)


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield "." + json.dumps(key, ensure_ascii=False), inner
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield f"[{index}]", inner


def _within(kind: type) -> Callable[[Any], Iterator[tuple[str, Any]]]:
    def values(root: Any) -> Iterator[tuple[str, Any]]:
        for path, value in _all(root):
            if isinstance(value, kind):
                for leg, inner in _inside(value):
                    yield path + leg, inner

    return values


_ORDERS: Final[dict[str, Callable[[Any], Iterator[tuple[str, Any]]]]] = {
    "p": _all,
    "o": _within(dict),
    "a": _within(list),
    "r": lambda root: iter([("", root)]),
}


def _value(letter: str, value: Any, quoted: Callable[[bytes], bytes]) -> bytes:
    """Return the SQL expression of one value."""
    if not isinstance(value, str) or isinstance(value, _Number) != (letter == "n"):
        raise DocumentError("a document has a value of another kind than the list of its types")
    if letter == "n":
        digits = _DECIMAL.fullmatch(value)
        if digits is None:
            raise DocumentError("a document has a decimal that is none")
        scale = len(digits[2] or "")
        precision = max(len(digits[1]) + scale, 1)
        return b"CAST(%s AS DECIMAL(%d,%d))" % (quoted(value.encode()), precision, scale)
    if letter in _TIMES:
        return b"CAST(%s AS %s)" % (quoted(value.encode()), _TIMES[letter])
    if letter == "s":
        return _column(b"JSON_ARRAY(%s)" % quoted(value.encode()), b"TIMESTAMP(6)")
    found = _BYTES.fullmatch(value)
    if found is None:
        raise DocumentError("a document has bytes that are none")
    return _bytes(int(found[1]), b64decode(found[2]))


def _bytes(kind: int, value: bytes) -> bytes:
    literal = b"X'" + value.hex().encode() + b"'"
    if kind == _VARBINARY:
        return literal
    if kind == _BIT and 1 <= len(value) <= 8:
        return _column(b"'[%d]'" % int.from_bytes(value, "big"), b"BIT(%d)" % (8 * len(value)))
    if kind == _BINARY and len(value) <= 255:
        return _column(b"JSON_ARRAY(%s)" % literal, b"BINARY(%d)" % len(value))
    if kind in _BLOBS:
        return _column(b"JSON_ARRAY(%s)" % literal, _BLOBS[kind])
    raise DocumentError(f"a document holds bytes of a type ({kind}) that MySQL has no expression for")


def _column(array: bytes, kind: bytes) -> bytes:
    """Return an expression of a type that CAST does not know: of a column of JSON_TABLE."""
    return b"(SELECT x FROM JSON_TABLE(%s, '$[*]' COLUMNS (x %s PATH '$' ERROR ON ERROR)) AS t)" % (array, kind)
