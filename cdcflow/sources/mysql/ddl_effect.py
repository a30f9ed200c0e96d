"""Whether a target can follow a change of shape by itself, or must have the rows again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cdcflow.model.schema import Column, Logical, NativeType, Table
from cdcflow.sources.mysql import types
from cdcflow.sources.mysql.ddl_intents import Change, NotUnderstood, RowsChange

# sql_mode bits: a statement that would change a value fails instead.
STRICT_TRANS_TABLES, STRICT_ALL_TABLES = 1 << 21, 1 << 22
_INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_TEXTS = {"tinytext": 255, "text": 65_535, "mediumtext": 16_777_215, "longtext": 4_294_967_295}
_BLOBS = {"tinyblob": 255, "blob": 65_535, "mediumblob": 16_777_215, "longblob": 4_294_967_295}
_UNICODE = ("utf8mb4", "utf16", "utf16le", "utf32")
# Charsets of which every character is in Unicode and read the same by everyone.
_WHOLLY_IN_UNICODE = (*_UNICODE, "utf8mb3", "utf8", "ucs2", "ascii", "latin1")


@dataclass(frozen=True, slots=True)
class Effect:
    """`recopy`: the rows behind the change are not what a target makes of its own by the same change of shape."""

    recopy: bool
    why: str = ""


SAME = Effect(False)


def effect(old: Table, new: Table, changes: Sequence[Change] = (), sql_mode: int = 0) -> Effect:
    """Say whether the rows of `new` follow from those of `old` by dropping, adding, renaming and widening columns.

    Columns are paired by number. A column that is added may have a literal default, NULL, or (`Column.missing`)
    what NOT NULL gives it. What is not sure is a recopy.
    """
    for change in changes:
        if isinstance(change, RowsChange):
            return Effect(True, f"{change.what} changed rows without row events")
        if isinstance(change, NotUnderstood):
            return Effect(True, "ALTER TABLE with a clause that is not understood")
    strict = bool(sql_mode & (STRICT_TRANS_TABLES | STRICT_ALL_TABLES))
    known = {column.number: column for column in old.columns}
    for column in new.columns:
        before = known.get(column.number)
        why = _of_added(column) if before is None else _of_kept(before, column, strict)
        if why:
            return Effect(True, f"column {column.name} {why}")
    return SAME


def _of_added(column: Column) -> str:
    if column.identity:
        return "was added and numbered by the server"
    if column.generated:
        return "was added and computed by the server"
    if column.default is not None and column.missing is None:
        return "was added with a default that the server computed"
    if column.missing is None and not column.nullable:
        return "was added as NOT NULL without a default"
    return ""


def _of_kept(old: Column, new: Column, strict: bool) -> str:
    if old.generated != new.generated:
        return "became, or is no longer, computed by the server"
    if new.generated and old.type != new.type:
        return "is computed by the server in another type"
    if new.identity and not old.identity:
        return "is now numbered by the server"
    if old.nullable and not new.nullable and not strict:
        return "was made NOT NULL outside strict mode: NULL became another value"
    if not same_values(old.type, new.type, old.logical, new.logical, strict=strict):
        return f"was converted from {old.type.text} to {new.type.text}"
    return ""


def same_values(old: NativeType, new: NativeType, was: Logical, now: Logical, *, strict: bool = False) -> bool:
    """Whether every value reads the same in the new type, or the server would have refused to convert it."""
    one, other = types.base(old.text), types.base(new.text)
    if one in _INTEGERS and other in _INTEGERS:
        return strict or _fits(old, new)
    if was != now:
        return False
    text, wanted = _plain(old), _plain(new)
    if one in ("char", "varchar", *_TEXTS) and other in ("char", "varchar", *_TEXTS):
        return _same_charset(old, new) and _text_grows(one, other, old, new)
    if one in ("enum", "set") and one == other:
        return _same_charset(old, new) and _labels_stay(one, old.labels, new.labels)
    if text == wanted:
        return True
    sizes, wider = _sizes(text), _sizes(wanted)
    if one == other == "decimal":
        return _decimal_grows(sizes, wider, old, new, strict)
    if one == other and one in ("datetime", "timestamp", "time"):
        return (sizes or [0])[0] <= (wider or [0])[0]
    if one in ("varbinary", *_BLOBS) and other in ("varbinary", *_BLOBS):
        return _bytes_hold(one, sizes, _BLOBS) <= _bytes_hold(other, wider, _BLOBS)
    if was is Logical.GEOMETRY:
        return one == other or other == "geometry"
    return one == other == "vector" and sizes <= wider


def _plain(native: NativeType) -> str:
    """Return the type without what does not change values."""
    return native.text.partition(" /*")[0].replace(" zerofill", "")


def _sizes(text: str) -> list[int]:
    found = re.search(r"\(([\d,]+)\)", text)
    return [int(part) for part in found.group(1).split(",")] if found else []


def _fits(old: NativeType, new: NativeType) -> bool:
    bits, wider = _INTEGERS[types.base(old.text)], _INTEGERS[types.base(new.text)]
    if old.unsigned == new.unsigned:
        return bits <= wider
    return old.unsigned and bits < wider


def _same_charset(old: NativeType, new: NativeType) -> bool:
    if old.charset == new.charset:
        return True
    if old.charset == "ascii":
        return True
    if {old.charset, new.charset} == {"utf8", "utf8mb3"}:
        return True
    if old.charset in ("utf8", "utf8mb3", "ucs2", "latin1"):
        return new.charset in _UNICODE or (old.charset != "ucs2" and new.charset in ("utf8", "utf8mb3"))
    return old.charset in _WHOLLY_IN_UNICODE and new.charset in _UNICODE


def _text_grows(one: str, other: str, old: NativeType, new: NativeType) -> bool:
    """Whether the new type holds every text of the old one; CHAR has no spaces at its end, and loses them."""
    if other == "char":
        return one == "char" and _sizes(old.text) <= _sizes(new.text)
    if other == "varchar":
        return one in ("char", "varchar") and _sizes(old.text) <= _sizes(new.text)
    # TEXT is measured in bytes, the others in characters of up to four.
    if one in ("char", "varchar"):
        return _sizes(old.text)[0] * 4 <= _TEXTS[other] or (old.charset == new.charset and other != "tinytext")
    if old.charset == new.charset:
        return _TEXTS[one] <= _TEXTS[other]
    # Conversion makes the type larger where it must.
    return _TEXTS[one] < _TEXTS[other] or old.charset == "ascii"


def _labels_stay(base: str, old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    if not set(old) <= set(new):
        return False
    # A set's text lists its members in their order.
    return base == "enum" or [label for label in new if label in old] == list(old)


def _decimal_grows(sizes: list[int], wider: list[int], old: NativeType, new: NativeType, strict: bool) -> bool:
    (digits, scale), (more, finer) = sizes, wider
    if finer < scale:
        return False
    return strict or (digits - scale <= more - finer and (old.unsigned or not new.unsigned))


def _bytes_hold(base: str, sizes: list[int], blobs: dict[str, int]) -> int:
    return blobs[base] if base in blobs else sizes[0]
