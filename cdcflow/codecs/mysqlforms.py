"""What a binlog's TABLE_MAP event says of a table's columns: types, their metadata, and what it may say besides.

https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Table__map__event.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

from cdcflow.codecs.frames_cy import MessageError

# Type numbers of the protocol and the log (enum_field_types); 140 and 141 are MariaDB's.
DECIMAL: Final = 0
TINY: Final = 1
SHORT: Final = 2
LONG: Final = 3
FLOAT: Final = 4
DOUBLE: Final = 5
NULL: Final = 6
TIMESTAMP: Final = 7
LONGLONG: Final = 8
INT24: Final = 9
DATE: Final = 10
TIME: Final = 11
DATETIME: Final = 12
YEAR: Final = 13
NEWDATE: Final = 14
VARCHAR: Final = 15
BIT: Final = 16
TIMESTAMP2: Final = 17
DATETIME2: Final = 18
TIME2: Final = 19
BLOB_COMPRESSED: Final = 140
VARCHAR_COMPRESSED: Final = 141
VECTOR: Final = 242
JSON: Final = 245
NEWDECIMAL: Final = 246
ENUM: Final = 247
SET: Final = 248
TINY_BLOB: Final = 249
MEDIUM_BLOB: Final = 250
LONG_BLOB: Final = 251
BLOB: Final = 252
VAR_STRING: Final = 253
STRING: Final = 254
GEOMETRY: Final = 255

# How many bytes of metadata a type has in the map; a type that is not here has none.
_METADATA_BYTES: Final = {
    FLOAT: 1, DOUBLE: 1, TIMESTAMP2: 1, DATETIME2: 1, TIME2: 1, BLOB_COMPRESSED: 1, VECTOR: 1, JSON: 1, BLOB: 1,
    TINY_BLOB: 1, MEDIUM_BLOB: 1, LONG_BLOB: 1, GEOMETRY: 1,
    VARCHAR: 2, BIT: 2, VARCHAR_COMPRESSED: 2, NEWDECIMAL: 2, ENUM: 2, SET: 2, VAR_STRING: 2, STRING: 2,
}  # fmt: skip
_BARE: Final = frozenset({TINY, SHORT, LONG, NULL, TIMESTAMP, LONGLONG, INT24, DATE, TIME, DATETIME, YEAR, NEWDATE})

_NUMBERS: Final = frozenset({TINY, SHORT, INT24, LONG, LONGLONG, NEWDECIMAL, FLOAT, DOUBLE})
# What is counted as text when collations are written. A vector of MySQL is (seen on 9.7); MariaDB's is a VARCHAR.
_TEXTS: Final = frozenset({STRING, VAR_STRING, VARCHAR, BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, VECTOR})
_MARIADB_TEXTS: Final = (_TEXTS - {VECTOR}) | {GEOMETRY, BLOB_COMPRESSED, VARCHAR_COMPRESSED}

_T = TypeVar("_T")


class Missing(Enum):
    """The type of `NO_DEFAULT`."""

    NO_DEFAULT = "no default"


NO_DEFAULT: Final = Missing.NO_DEFAULT


@dataclass(frozen=True, slots=True)
class ColumnForm:
    """How one column stands in row images.

    Args:
        type: the type's number; an ENUM or SET is itself and not the STRING that the map calls it.
        meta: of CHAR, BINARY, VARCHAR and VARBINARY the most bytes, of blobs, JSON, geometries and vectors the size
            of the length, of BIT the bits, of DECIMAL precision | scale << 8, of times the decimal places, of ENUM
            and SET the bytes.
        charset: the character set's name; `binary` and '' say that there is none.
        labels: of an ENUM or SET, in their order.
        native: the type's name in DDL, in lower case, where that says more than the number: `uuid`, `inet4`, `inet6`.
        length: how long a BINARY is; 0 takes it from `meta`.
        zero_dates: `null`, `epoch` or `fail`, for dates that no calendar has.
        default: canonical text of what an insert without the column holds; None is NULL.
        keep: the column is one of the frame's.
        typed: behind a JSON document stands what its values are (see `mysqldocuments`).
    """

    type: int
    meta: int
    unsigned: bool = False
    charset: str = ""
    labels: tuple[str, ...] = ()
    native: str = ""
    length: int = 0
    zero_dates: str = "null"
    default: bytes | Missing | None = NO_DEFAULT
    keep: bool = True
    name: str = ""
    typed: bool = False


@dataclass(frozen=True, slots=True)
class TableMetadata:
    """What a map says of its columns when the server's `binlog_row_metadata` tells it to: one entry a column.

    What the server did not write is empty. `collations` are numbers (0: none), `labels` as bytes in the column's
    character set, `key` pairs of a column's place and the length of its prefix (0: whole).
    """

    unsigned: tuple[bool, ...] = ()
    collations: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    labels: tuple[tuple[bytes, ...], ...] = ()
    geometries: tuple[int, ...] = ()
    key: tuple[tuple[int, int], ...] = ()
    visible: tuple[bool, ...] = ()
    dimensions: tuple[int, ...] = ()


def parse_types(types: bytes, metadata: bytes) -> list[tuple[int, int]]:
    """Return type and metadata of each column, as `ColumnForm` has them.

    Raises:
        MessageError: a type that is not known, or metadata of another size than the types say.
    """
    found: list[tuple[int, int]] = []
    at = 0
    for kind in types:
        size = _METADATA_BYTES.get(kind, 0)
        if not size and kind not in _BARE:
            raise MessageError(f"a table map has a column of the unknown type {kind}")
        if at + size > len(metadata):
            raise MessageError("a table map ends inside the metadata of its columns")
        found.append(_resolved(kind, metadata[at : at + size]))
        at += size
    if at != len(metadata):
        raise MessageError("a table map has more metadata than columns")
    return found


def _resolved(kind: int, meta: bytes) -> tuple[int, int]:
    match kind:
        case 254:  # STRING: the real type, of which two bits may belong to the length
            real, length = meta[0], meta[1]
            if real & 0x30 != 0x30:
                length |= ((real & 0x30) ^ 0x30) << 4
                real |= 0x30
            if real not in (STRING, ENUM, SET):
                raise MessageError(f"a table map has a string column of the unknown type {real}")
            return real, length
        case 247 | 248:  # ENUM, SET: the same with the type in front
            return kind, meta[1]
        case 16:  # BIT: bits above whole bytes, whole bytes
            return kind, meta[0] + 8 * meta[1]
    return kind, int.from_bytes(meta, "little")


class _Reader:
    """A field's bytes, read from the front."""

    def __init__(self, field: bytes) -> None:
        self.field = field
        self.at = 0

    def __bool__(self) -> bool:
        return self.at < len(self.field)

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.field):
            raise MessageError("a field of a table map ends inside a value")
        self.at += count
        return self.field[self.at - count : self.at]

    def number(self) -> int:
        """A length-encoded integer."""
        first = self.take(1)[0]
        if first < 251:
            return first
        sizes = {252: 2, 253: 3, 254: 8}
        if first not in sizes:
            raise MessageError("a field of a table map has a number of an unknown size")
        return int.from_bytes(self.take(sizes[first]), "little")

    def numbers(self) -> list[int]:
        found = []
        while self:
            found.append(self.number())
        return found

    def text(self) -> bytes:
        return self.take(self.number())


def optional_metadata(data: bytes, types: Sequence[tuple[int, int]], engine: str = "") -> TableMetadata:
    """Read what follows the null bits in a table map.

    Args:
        types: those of `parse_types`.
        engine: `mysql` or `mariadb`, which count different types as text; '' leaves the collations out of a map that
            could be read in both ways.

    Raises:
        MessageError: a field that ends early or does not fit the columns.
    """
    fields: dict[int, bytes] = {}
    reader = _Reader(data)
    while reader:
        kind = reader.take(1)[0]
        fields[kind] = reader.text()
    kinds = [kind for kind, _ in types]
    labels: list[tuple[bytes, ...]] = [()] * len(kinds)
    _label(labels, _places(kinds, frozenset({SET})), fields.get(5))
    _label(labels, _places(kinds, frozenset({ENUM})), fields.get(6))
    key = [(place, 0) for place in _Reader(fields.get(8, b"")).numbers()]
    if 9 in fields:
        pairs = _Reader(fields[9]).numbers()
        if len(pairs) % 2:
            raise MessageError("a table map has half a pair for a key")
        key = list(zip(pairs[::2], pairs[1::2], strict=True))
    if any(place >= len(kinds) for place, _ in key):
        raise MessageError("a table map has a key on a column that it does not have")
    return TableMetadata(
        unsigned=_unsigned(fields.get(1), kinds),
        collations=_collations(fields, kinds, engine) if fields.keys() & {2, 3, 10, 11} else (),
        names=_names(fields.get(4), len(kinds)),
        labels=tuple(labels) if fields.keys() & {5, 6} else (),
        geometries=_listed(fields.get(7), _places(kinds, frozenset({GEOMETRY})), len(kinds)),
        key=tuple(key),
        visible=tuple(_bits(fields[12], len(kinds))) if 12 in fields else (),
        dimensions=_listed(fields.get(13), _places(kinds, frozenset({VECTOR})), len(kinds)),
    )


def _places(kinds: list[int], wanted: frozenset[int]) -> list[int]:
    return [place for place, kind in enumerate(kinds) if kind in wanted]


def _spread(values: Sequence[_T], places: list[int], width: int, otherwise: _T) -> tuple[_T, ...]:
    """Return one value a column: those given at their places."""
    if len(values) != len(places):
        raise MessageError("a field of a table map does not fit the columns")
    found = [otherwise] * width
    for place, value in zip(places, values, strict=True):
        found[place] = value
    return tuple(found)


def _bits(field: bytes, count: int) -> list[bool]:
    """The highest bit first; bits that are not there are off."""
    return [bool(field[i // 8] >> (7 - i % 8) & 1) if i // 8 < len(field) else False for i in range(count)]


def _unsigned(field: bytes | None, kinds: list[int]) -> tuple[bool, ...]:
    """Return which columns are unsigned; nothing where the field can be read in two ways.

    MySQL 8.0 began to count YEAR, which is unsigned, as a number after it had begun to write the field.
    """
    if field is None:
        return ()
    readings = set()
    for counted in (_NUMBERS | {YEAR}, _NUMBERS):
        places = _places(kinds, counted)
        bits = _bits(field, 8 * len(field))
        if len(field) != (len(places) + 7) // 8 or any(bits[len(places) :]):
            continue
        found = _spread(bits[: len(places)], places, len(kinds), False)
        if YEAR not in counted or all(found[place] for place in _places(kinds, frozenset({YEAR}))):
            readings.add(tuple(unsigned or kind == YEAR for unsigned, kind in zip(found, kinds, strict=True)))
    return readings.pop() if len(readings) == 1 else ()


def _listed(field: bytes | None, places: list[int], width: int) -> tuple[int, ...]:
    return () if field is None else _spread(_Reader(field).numbers(), places, width, 0)


def _names(field: bytes | None, width: int) -> tuple[str, ...]:
    if field is None:
        return ()
    reader = _Reader(field)
    names = []
    while reader:
        names.append(reader.text())
    if len(names) != width:
        raise MessageError("a table map does not have one name for each column")
    try:
        return tuple(name.decode() for name in names)
    except UnicodeDecodeError:
        raise MessageError("a table map has a name that is not UTF-8") from None


def _collations(fields: dict[int, bytes], kinds: list[int], engine: str) -> tuple[int, ...]:
    readings = set()
    for name, counted in (("mysql", _TEXTS), ("mariadb", _MARIADB_TEXTS)):
        if engine not in ("", name):
            continue
        found = [0] * len(kinds)
        try:
            _collate(found, _places(kinds, counted), fields.get(2), fields.get(3))
        except MessageError:
            if engine:
                raise
            continue
        _collate(found, _places(kinds, frozenset({ENUM, SET})), fields.get(10), fields.get(11))
        readings.add(tuple(found))
    if not readings:
        raise MessageError("a table map does not have one collation for each column of text")
    return readings.pop() if len(readings) == 1 else ()


def _collate(collations: list[int], places: list[int], default: bytes | None, each: bytes | None) -> None:
    if each is not None:
        numbers = _Reader(each).numbers()
        if len(numbers) != len(places):
            raise MessageError("a table map does not have one collation for each column of text")
        for place, number in zip(places, numbers, strict=True):
            collations[place] = number
    elif default is not None:
        first, *pairs = _Reader(default).numbers() or [0]
        for place in places:
            collations[place] = first
        for index, number in zip(pairs[::2], pairs[1::2], strict=False):
            if index >= len(places):
                raise MessageError("a table map has a collation for a column that it does not have")
            collations[places[index]] = number


def _label(labels: list[tuple[bytes, ...]], places: list[int], field: bytes | None) -> None:
    if field is None:
        return
    reader = _Reader(field)
    for place in places:
        count = reader.number()
        if count > len(field):
            raise MessageError("a table map has more labels than bytes")
        labels[place] = tuple(reader.text() for _ in range(count))
