"""Arrays, composites, ranges, multiranges and hstore: values made of values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from cdcflow.codecs.values_kinds import Array, BadValue, Range
from cdcflow.codecs.values_scalar import decode_text, encode_text

Decode = Callable[[bytes], object]
Encode = Callable[[object], bytes]

_MAX_DIMENSIONS: Final = 6  # MAXDIM of utils/array.h
_SPACE: Final = b" \t\n\r\v\f"
_BOUNDS: Final = re.compile(rb"((?:\[-?[0-9]{1,10}:-?[0-9]{1,10}\]){1,6})=")
_BOUND: Final = re.compile(rb"\[(-?[0-9]{1,10}):(-?[0-9]{1,10})\]")
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED_OR_DOUBLED: Final = re.compile(rb'\\(.)|"(")', re.DOTALL)
_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_QUOTED_OR_DOUBLED: Final = re.compile(rb'"((?:[^"\\]|\\.|"")*+)"', re.DOTALL)
_ARRAY_BARE: Final = {b",": re.compile(rb'[^",{}\\]+'), b";": re.compile(rb'[^";{}\\]+')}
_FIELD_BARE: Final = re.compile(rb'[^",()\\]+')
_BOUND_BARE: Final = re.compile(rb'[^",()\[\]\\]+')
_PAIR: Final = re.compile(rb'"((?:[^"\\]|\\.)*+)"=>(?:(NULL)|"((?:[^"\\]|\\.)*+)")', re.DOTALL)
_ESCAPE: Final = re.compile(rb'(["\\])')


def decode_array(cell: bytes, element: Decode, delimiter: bytes = b",") -> list[object] | Array:
    """Decode an array: nested lists, None for NULL; an `Array` where a lower bound is not 1."""
    lower: tuple[int, ...] = ()
    at = 0
    bounds = _BOUNDS.match(cell)
    if bounds is not None:
        lower = tuple(int(low) for low, _ in _BOUND.findall(bounds[1]))
        at = bounds.end()
    items, at, depth = _items(cell, at, element, delimiter, 1)
    if at != len(cell):
        raise BadValue("array", f"text after the end at byte {at}")
    if lower and len(lower) != depth:
        raise BadValue("array", "bounds and dimensions differ")
    return Array(items, lower) if any(bound != 1 for bound in lower) else items


def encode_array(value: object, element: Encode, delimiter: bytes = b",") -> bytes:
    """Encode nested lists (or an `Array`). Raises BadValue for ragged ones, as the server would."""
    lower: tuple[int, ...] = ()
    items: object = value
    if isinstance(value, Array):
        items, lower = value.items, value.lower
    if not isinstance(items, list):
        raise BadValue("array", f"{type(value).__name__} is not list")
    shape: list[int] = []
    probe: object = items
    while isinstance(probe, list):
        if len(shape) == _MAX_DIMENSIONS:
            raise BadValue("array", "more than six dimensions")
        shape.append(len(probe))
        probe = probe[0] if probe else None
    if 0 in shape:
        if len(shape) > 1:
            raise BadValue("array", "an empty dimension")
        return b"{}"
    parts: list[bytes] = []
    if lower:
        if len(lower) != len(shape):
            raise BadValue("array", "bounds and dimensions differ")
        parts += [b"[%d:%d]" % (low, low + size - 1) for low, size in zip(lower, shape, strict=True)]
        parts.append(b"=")
    _write_items(items, shape, 0, element, delimiter, parts)
    return b"".join(parts)


def decode_record(cell: bytes, fields: Sequence[Decode]) -> tuple[object, ...]:
    """Decode a composite whose attributes are read by `fields`, in order."""
    if cell[:1] != b"(" or cell[-1:] != b")" or len(cell) < 2:
        raise BadValue("composite", "not in parentheses")
    found: list[object] = []
    at, end = 1, len(cell) - 1
    while True:
        raw, at = _run(cell, at, end, _FIELD_BARE)
        if len(found) < len(fields):
            found.append(None if raw is None else fields[len(found)](raw))
        else:
            raise BadValue("composite", "more fields than the type has")
        if at == end:
            break
        if cell[at : at + 1] != b",":
            raise BadValue("composite", f"no comma at byte {at}")
        at += 1
    if len(found) != len(fields):
        raise BadValue("composite", "fewer fields than the type has")
    return tuple(found)


def encode_record(value: object, fields: Sequence[Encode]) -> bytes:
    if not isinstance(value, tuple):
        raise BadValue("composite", f"{type(value).__name__} is not tuple")
    if len(fields) != len(value):
        raise BadValue("composite", "another number of fields than the type has")
    cells = [
        b"" if member is None else _doubled(encode(member), b'"\\(),')
        for member, encode in zip(value, fields, strict=True)
    ]
    return b"(" + b",".join(cells) + b")"


def decode_range(cell: bytes, element: Decode) -> Range:
    found, at = _range(cell, 0, element)
    if at != len(cell):
        raise BadValue("range", f"text after the end at byte {at}")
    return found


def encode_range(value: object, element: Encode) -> bytes:
    if not isinstance(value, Range):
        raise BadValue("range", f"{type(value).__name__} is not Range")
    if value.empty:
        return b"empty"
    # As the server does: an absent bound is never inclusive.
    opening = b"[" if value.lower_inclusive and value.lower is not None else b"("
    closing = b"]" if value.upper_inclusive and value.upper is not None else b")"
    low = b"" if value.lower is None else _doubled(element(value.lower), b'"\\()[],')
    high = b"" if value.upper is None else _doubled(element(value.upper), b'"\\()[],')
    return opening + low + b"," + high + closing


def decode_multirange(cell: bytes, element: Decode) -> tuple[Range, ...]:
    if cell[:1] != b"{" or cell[-1:] != b"}" or len(cell) < 2:
        raise BadValue("multirange", "not in braces")
    found: list[Range] = []
    at, end = 1, len(cell) - 1
    while at < end:
        if found:
            if cell[at : at + 1] != b",":
                raise BadValue("multirange", f"no comma at byte {at}")
            at += 1
        member, at = _range(cell, at, element)
        found.append(member)
    if at != end:
        raise BadValue("multirange", "ends inside a range")
    return tuple(found)


def encode_multirange(value: object, element: Encode) -> bytes:
    if not isinstance(value, tuple):
        raise BadValue("multirange", f"{type(value).__name__} is not a tuple of Range")
    return b"{" + b",".join(encode_range(member, element) for member in value) + b"}"


def decode_hstore(cell: bytes) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    at = 0
    while at < len(cell):
        if found:
            if cell[at : at + 2] != b", ":
                raise BadValue("hstore", f"no comma at byte {at}")
            at += 2
        pair = _PAIR.match(cell, at)
        if pair is None:
            raise BadValue("hstore", f'not "key"=>"value" at byte {at}')
        key = decode_text(_ESCAPED.sub(rb"\1", pair[1]))
        found[key] = None if pair[2] else decode_text(_ESCAPED.sub(rb"\1", pair[3]))
        at = pair.end()
    return found


def encode_hstore(value: object) -> bytes:
    if not isinstance(value, dict):
        raise BadValue("hstore", f"{type(value).__name__} is not dict")
    # The server keeps pairs by the key's length, then bytes.
    pairs = sorted(((encode_text(key), member) for key, member in value.items()), key=lambda p: (len(p[0]), p[0]))
    return b", ".join(
        b'"%s"=>%s'
        % (_ESCAPE.sub(rb"\\\1", key), b"NULL" if text is None else b'"%s"' % _ESCAPE.sub(rb"\\\1", encode_text(text)))
        for key, text in pairs
    )


def _items(cell: bytes, at: int, element: Decode, delimiter: bytes, depth: int) -> tuple[list[object], int, int]:
    """Read one brace level from `at`. Returns the items, the place behind it and how many dimensions it has."""
    if cell[at : at + 1] != b"{":
        raise BadValue("array", f"no opening brace at byte {at}")
    if depth > _MAX_DIMENSIONS:
        raise BadValue("array", "more than six dimensions")
    at += 1
    items: list[object] = []
    if cell[at : at + 1] == b"}":
        if depth > 1:
            raise BadValue("array", "an empty dimension")
        return items, at + 1, 1
    bare = _ARRAY_BARE[delimiter]
    deepest = 0
    while True:
        mark = cell[at : at + 1]
        if mark == b"{":
            inner, at, below = _items(cell, at, element, delimiter, depth + 1)
            if items and (deepest != below + 1 or len(inner) != len(items[0])):  # type: ignore[arg-type]
                raise BadValue("array", "sub-arrays of different sizes")
            deepest = below + 1
            items.append(inner)
        else:
            if deepest > 1:
                raise BadValue("array", f"a value among sub-arrays at byte {at}")
            deepest = 1
            if mark == b'"':
                match = _QUOTED.match(cell, at)
                if match is None:
                    raise BadValue("array", "a quoted element does not end")
                raw = match[1]
                items.append(element(_ESCAPED.sub(rb"\1", raw) if b"\\" in raw else raw))
            else:
                match = bare.match(cell, at)
                if match is None:
                    raise BadValue("array", f"no element at byte {at}")
                raw = match[0]
                items.append(None if raw == b"NULL" else element(raw))
            at = match.end()
        mark = cell[at : at + 1]
        at += 1
        if mark == b"}":
            return items, at, deepest
        if mark != delimiter:
            raise BadValue("array", f"neither delimiter nor closing brace at byte {at - 1}")


def _write_items(
    items: list[object], shape: list[int], depth: int, element: Encode, delimiter: bytes, parts: list[bytes]
) -> None:
    if len(items) != shape[depth]:
        raise BadValue("array", "sub-arrays of different sizes")
    parts.append(b"{")
    innermost = depth == len(shape) - 1
    for number, item in enumerate(items):
        if number:
            parts.append(delimiter)
        if not innermost:
            if not isinstance(item, list):
                raise BadValue("array", "a value among sub-arrays")
            _write_items(item, shape, depth + 1, element, delimiter, parts)
        elif item is None:
            parts.append(b"NULL")
        elif isinstance(item, list):
            raise BadValue("array", "a sub-array among values")
        else:
            cell = element(item)
            if not cell or cell.upper() == b"NULL" or any(byte in cell for byte in b'"\\{}' + delimiter + _SPACE):
                cell = b'"' + _ESCAPE.sub(rb"\\\1", cell) + b'"'
            parts.append(cell)
    parts.append(b"}")


def _range(cell: bytes, at: int, element: Decode) -> tuple[Range, int]:
    if cell.startswith(b"empty", at):
        return Range(empty=True), at + 5
    opening = cell[at : at + 1]
    if opening not in (b"[", b"("):
        raise BadValue("range", f"no opening bracket at byte {at}")
    low, at = _run(cell, at + 1, len(cell), _BOUND_BARE)
    if cell[at : at + 1] != b",":
        raise BadValue("range", f"no comma at byte {at}")
    high, at = _run(cell, at + 1, len(cell), _BOUND_BARE)
    closing = cell[at : at + 1]
    if closing not in (b"]", b")"):
        raise BadValue("range", f"no closing bracket at byte {at}")
    lower = None if low is None else element(low)
    upper = None if high is None else element(high)
    return Range(lower, upper, opening == b"[", closing == b"]"), at + 1


def _run(cell: bytes, at: int, end: int, bare: re.Pattern[bytes]) -> tuple[bytes | None, int]:
    """Read one bound or field, quoted or bare, from `at`; None where there is nothing."""
    if cell[at : at + 1] == b'"':
        match = _QUOTED_OR_DOUBLED.match(cell, at, end)
        if match is None:
            raise BadValue("composite or range", "a quoted part does not end")
        raw = match[1]
        if b"\\" in raw or b'"' in raw:
            raw = _ESCAPED_OR_DOUBLED.sub(lambda found: found[1] or found[2], raw)
        return raw, match.end()
    match = bare.match(cell, at, end)
    return (None, at) if match is None else (match[0], match.end())


def _doubled(cell: bytes, special: bytes) -> bytes:
    """Quote a part as record_out and range_out do: quotes and backslashes are doubled."""
    if cell and not any(byte in cell for byte in special + _SPACE):
        return cell
    return b'"' + cell.replace(b"\\", b"\\\\").replace(b'"', b'""') + b'"'
