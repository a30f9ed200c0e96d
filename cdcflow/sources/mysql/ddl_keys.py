"""A table's indexes through DDL: which columns find one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cdcflow.engines.mysql.names import ident
from cdcflow.model.schema import Column, Index, Table
from cdcflow.sources.mysql.ddl_intents import AddKey, DropKey, KeyPart, RenameKey

PRIMARY = "PRIMARY"


@dataclass(slots=True)
class _Key:
    name: str
    parts: tuple[KeyPart, ...]
    unique: bool
    definition: str = ""  # the server's, while it still holds


class Keys:
    """The indexes of a table during one ALTER TABLE."""

    def __init__(self, table: Table) -> None:
        self.doubts: list[str] = []
        self._dropped: set[str] = set()
        self._added: list[AddKey] = []
        self._kept = [_of(index) for index in table.indexes]
        if table.primary_key and not any(key.name == PRIMARY for key in self._kept):
            self._kept.insert(0, _Key(PRIMARY, tuple(KeyPart(name) for name in table.primary_key), True))
        elif table.key and not table.primary_key and not any(key.unique for key in self._kept):
            self.doubts.append("the name of its unique index is not known")

    def add(self, change: AddKey) -> None:
        self._added.append(change)

    def drop(self, change: DropKey) -> None:
        self._dropped.add(change.name.lower())

    def rename(self, change: RenameKey) -> None:
        for key in self._kept:
            if key.name.lower() == change.old.lower():
                key.name, key.definition = change.new, ""

    def drop_column(self, name: str) -> None:
        """Take the column out of every index, as the server does."""
        for key in self._kept:
            parts = tuple(part for part in key.parts if part.column.lower() != name.lower())
            if parts != key.parts:
                key.parts, key.definition = parts, ""

    def rename_columns(self, names: Mapping[str, str]) -> None:
        """Give the parts of kept indexes their columns' new names (old name to new)."""
        new = {old.lower(): now for old, now in names.items()}
        for key in self._kept:
            parts = tuple(replace(part, column=new.get(part.column.lower(), part.column)) for part in key.parts)
            if parts != key.parts:
                key.parts, key.definition = parts, ""

    def settle(self) -> None:
        """Drop, then add."""
        self._kept = [key for key in self._kept if key.name.lower() not in self._dropped and key.parts]
        for change in self._added:
            taken = {key.name.lower() for key in self._kept}
            name = PRIMARY if change.primary else change.name
            if name and name.lower() in taken and (change.if_not_exists or change.replaces):
                if change.if_not_exists:
                    continue
                self._kept = [key for key in self._kept if key.name.lower() != name.lower()]
            if not name:
                name = _free(change.parts[0].column or "functional_index", taken)
            self._kept.append(_Key(name, change.parts, change.unique))

    def primary(self) -> tuple[str, ...]:
        """Return the primary key's columns."""
        return next((tuple(part.column for part in key.parts) for key in self._kept if key.name == PRIMARY), ())

    def found(self, columns: tuple[Column, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the columns that find one row, and the primary key's."""
        by_name = {column.name.lower(): column for column in columns}
        primary = tuple(by_name[name.lower()].name for name in self.primary() if name.lower() in by_name)
        if primary:
            return primary, primary
        for key in self._sorted(by_name):
            if not key.unique or not all(part.whole for part in key.parts):
                continue
            parts = [by_name.get(part.column.lower()) for part in key.parts]
            if all(part is not None and not part.nullable for part in parts):
                return tuple(part.name for part in parts if part is not None), ()
        return (), ()

    def indexes(self, by_name: Mapping[str, Column]) -> tuple[Index, ...]:
        """Return them in the server's order."""
        return tuple(_index(key) for key in self._sorted(by_name))

    def _sorted(self, by_name: Mapping[str, Column]) -> list[_Key]:
        """Sort as MySQL does (`sort_keys` in sql_table.cc): primary, unique without NULL, unique, others."""

        def rank(key: _Key) -> tuple[int, bool]:
            if key.name == PRIMARY:
                return 0, False
            if not key.unique:
                return 3, False
            columns = [by_name.get(part.column.lower()) for part in key.parts]
            nullable = any(column is None or column.nullable for column in columns)
            return (2 if nullable else 1), not all(part.whole for part in key.parts)

        return sorted(self._kept, key=rank)


def _free(column: str, taken: set[str]) -> str:
    if column.lower() not in taken and column.lower() != "primary":
        return column
    return next(name for at in range(2, 1000) if (name := f"{column}_{at}").lower() not in taken)


def _of(index: Index) -> _Key:
    parts = tuple(KeyPart(column, whole=_is_whole(index, column)) for column in index.columns)
    return _Key(index.name, parts, index.unique, index.definition)


def _is_whole(index: Index, column: str) -> bool:
    return f"{ident(column)}(" not in index.definition


def _index(key: _Key) -> Index:
    columns = tuple(part.column for part in key.parts)
    if key.definition:
        return Index(key.name, columns, key.unique, key.definition)
    listed = ", ".join(ident(part.column) + ("" if part.whole else "(1)") for part in key.parts if part.column)
    word = "PRIMARY KEY" if key.name == PRIMARY else f"{'UNIQUE ' if key.unique else ''}KEY {ident(key.name)}"
    return Index(key.name, columns, key.unique, f"{word} ({listed})")
