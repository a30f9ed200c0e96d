"""A table's indexes through DDL: which columns find one row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cdcflow.engines.mysql.names import ident, qualified
from cdcflow.model.schema import Column, Index, Table, TableName
from cdcflow.sources.mysql.ddl_intents import AddKey, DropKey, KeyPart, RenameKey

PRIMARY = "PRIMARY"


@dataclass(slots=True)
class _Key:
    name: str
    parts: tuple[KeyPart, ...]
    unique: bool
    kind: str = ""
    definition: str = ""  # the server's, while it still holds
    new: bool = False


class Keys:
    """The indexes of a table during one ALTER TABLE.

    The server takes the first unique index without NULLs for a table without a primary key, in the order in which
    they were made. `Table.indexes` are in the order of their names: what was made first is known only of the one
    that was taken before.
    """

    def __init__(self, table: Table) -> None:
        self.doubts: list[str] = []
        self._name = table.name
        self._key = table.key
        self._dropped: set[str] = set()
        self._added: list[AddKey] = []
        self._kept = [_of(index) for index in table.indexes if index.name != PRIMARY]
        if table.primary_key:
            self._kept.insert(0, _Key(PRIMARY, tuple(KeyPart(name) for name in table.primary_key), True))
        elif table.key and not any(key.unique for key in self._kept):
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
        self._key = tuple(new.get(name.lower(), name) for name in self._key)
        for key in self._kept:
            parts = tuple(replace(part, column=new.get(part.column.lower(), part.column)) for part in key.parts)
            if parts != key.parts:
                key.parts, key.definition = parts, ""

    def settle(self, columns: Iterable[Column]) -> None:
        """Drop, then add; an index without a name is called after its first column."""
        written = {column.name.lower(): column.name for column in columns}
        self._kept = [key for key in self._kept if key.name.lower() not in self._dropped and key.parts]
        for change in self._added:
            taken = {key.name.lower() for key in self._kept}
            name = PRIMARY if change.primary else change.name
            if name and name.lower() in taken and (change.if_not_exists or change.replaces):
                if change.if_not_exists:
                    continue
                self._kept = [key for key in self._kept if key.name.lower() != name.lower()]
            if not name:
                first = change.parts[0].column
                name = _free(written.get(first.lower(), first) or "functional_index", taken)
            self._kept.append(_Key(name, change.parts, change.unique, change.kind, new=True))

    def primary(self) -> tuple[str, ...]:
        """Return the primary key's columns."""
        return next((tuple(part.column for part in key.parts) for key in self._kept if key.name == PRIMARY), ())

    def found(self, columns: tuple[Column, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the columns that find one row, and the primary key's."""
        by_name = {column.name.lower(): column for column in columns}
        fit = {name for name, column in by_name.items() if not column.nullable and not column.generated}
        primary = tuple(by_name[name.lower()].name for name in self.primary() if name.lower() in by_name)
        if primary and all(name.lower() in fit for name in primary):
            return primary, primary
        able = [
            key
            for key in self._kept
            if key.unique and key.name != PRIMARY and all(part.column.lower() in fit for part in key.parts)
        ]
        if primary:
            able.sort(key=lambda key: key.name)
        elif len(able) > 1:
            able = self._first(able)
        names = tuple(by_name[part.column.lower()].name for part in able[0].parts) if able else ()
        return names, primary

    def _first(self, able: list[_Key]) -> list[_Key]:
        """Bring the index that the server takes to the front."""
        whole = [key for key in able if not any(part.length for part in key.parts)]
        if not whole:
            return sorted(able, key=lambda key: key.name)
        kept = [key for key in whole if not key.new]
        same = [key for key in kept if tuple(part.column.lower() for part in key.parts) == _lower(self._key)]
        if not same and len(kept) > 1:
            self.doubts.append("which of its unique indexes is the oldest is not known")
        return same or kept or whole

    def indexes(self, name: TableName, columns: tuple[Column, ...]) -> tuple[Index, ...]:
        """Return them by name, without the primary key."""
        written = {column.name.lower(): column.name for column in columns}
        for key in self._kept:
            key.parts = tuple(replace(part, column=written.get(part.column.lower(), "")) for part in key.parts)
        found = sorted((key for key in self._kept if key.name != PRIMARY), key=lambda key: key.name)
        return tuple(_index(key, self._name, name) for key in found)


def _lower(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _free(column: str, taken: set[str]) -> str:
    if column.lower() not in taken and column.lower() != "primary":
        return column
    return next(name for at in range(2, 1000) if (name := f"{column}_{at}").lower() not in taken)


def _of(index: Index) -> _Key:
    """Read an index back from its definition, which says more than its columns: prefixes and order."""
    parts = tuple(_part(index.definition, column) for column in index.columns)
    kind = re.match(r"CREATE (FULLTEXT|SPATIAL|VECTOR) ", index.definition)
    return _Key(index.name, parts, index.unique, kind[1] if kind else "", index.definition)


def _part(definition: str, column: str) -> KeyPart:
    found = re.search(rf"{re.escape(ident(column))}(?:\((\d+)\))?( DESC)?[,)]", definition)
    return KeyPart(column, int(found[1] or 0), bool(found[2])) if found else KeyPart(column)


def _index(key: _Key, before: TableName, name: TableName) -> Index:
    columns = tuple(part.column for part in key.parts if part.column)
    if key.definition:
        definition = key.definition.replace(f" ON {qualified(before)} (", f" ON {qualified(name)} (", 1)
        return Index(key.name, columns, key.unique, definition)
    pieces = ", ".join(
        ident(part.column) + (f"({part.length})" if part.length else "") + (" DESC" if part.descending else "")
        for part in key.parts
        if part.column
    )
    prefix = f"{key.kind} " if key.kind else "UNIQUE " if key.unique else ""
    return Index(
        key.name, columns, key.unique, f"CREATE {prefix}INDEX {ident(key.name)} ON {qualified(name)} ({pieces})"
    )
