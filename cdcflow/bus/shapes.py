"""The shapes of the tables on a bus, in the order in which they came: what the messages of each shape hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Protocol

from cdcflow.errors import DecodeError
from cdcflow.model import shape
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Table, TableName


class Catalogue(Protocol):
    """Where shapes are looked up by their fingerprint (header SCHEMA). Their `version` grows from one to the next of a
    table, and their `id` is the number that stands for the name on every bus."""

    def find(self, fingerprint: str) -> Table | None:
        """Return the shape; what the bus has been told since is read first where it is not known yet."""

    def refresh(self) -> None:
        """Read what the bus has been told since."""

    def newest(self) -> list[Table]:
        """Return each table's newest shape, as far as the bus has been read."""

    def between(self, old: Table, new: Table) -> list[Table]:
        """Return the shapes that the table had between these two, in their order, as far as the bus has been read."""

    def placed(self, table: Table) -> Table:
        """Return a shape that was read at another time, with a `version` that compares with those that are here. Where
        it was read elsewhere (another publisher wrote it, or its record was lost), all that is told here is newer: 0.
        As it is where the bus has told nothing of the table."""


class Shapes:
    """The records of shapes that were read so far. A `Catalogue` of what it was given, which reads nothing itself."""

    def __init__(self) -> None:
        self._known: dict[str, Table] = {}
        self._versions: dict[str, int] = {}  # by what a shape holds
        self._names: set[TableName] = set()

    def put(self, key: bytes | None, value: bytes | None, version: int, *, at: str) -> None:
        """Take one record, keyed `schema.table#fingerprint`: the table as JSON; without a value, it is forgotten.

        `version`: where it stands among the others, from 1.

        Raises:
            DecodeError: it is no such record; `at` says where it stands.
        """
        fingerprint = (key or b"").rpartition(b"#")[2].decode("utf-8", "replace")
        if not fingerprint:
            raise DecodeError("a record of a table's shape has no key", at=at, do=_WRITE_AGAIN)
        if value is None:
            self._known.pop(fingerprint, None)
            return
        try:
            table = shape.from_json(json.loads(value))
        except (ValueError, RecursionError) as error:
            raise DecodeError(
                "a record of a table's shape cannot be read", at=at, why=str(error), do=_WRITE_AGAIN
            ) from (None)
        # Two publishers may have given the same number to different tables: here the name decides.
        self._known[fingerprint] = replace(table, id=number_of(table.name), version=version)
        self._versions[_held(table)] = version
        self._names.add(table.name)

    def find(self, fingerprint: str) -> Table | None:
        """As `Catalogue.find`."""
        return self._known.get(fingerprint)

    def newest(self) -> list[Table]:
        """As `Catalogue.newest`."""
        found: dict[TableName, Table] = {}
        for table in self._known.values():
            there = found.get(table.name)
            if there is None or there.version < table.version:
                found[table.name] = table
        return [found[name] for name in sorted(found)]

    def between(self, old: Table, new: Table) -> list[Table]:
        """As `Catalogue.between`."""
        ours = [table for table in list(self._known.values()) if table.name == new.name]
        return sorted((each for each in ours if old.version < each.version < new.version), key=lambda one: one.version)

    def placed(self, table: Table) -> Table:
        """As `Catalogue.placed`. It was read elsewhere if its record is not here, or is an earlier one."""
        if table.name not in self._names:
            return table
        return replace(table, version=min(table.version, self._versions.get(_held(table), 0)))


_WRITE_AGAIN = "start the publisher once more with an empty topic of shapes; or leave the topic out of schema_topics"


def placed(catalogue: Catalogue, tables: Sequence[Table]) -> list[Table]:
    """Return shapes that are on record as `Catalogue.placed` does, by what the bus has been told up to now."""
    if tables:
        catalogue.refresh()
    return [catalogue.placed(table) for table in tables]


def _held(table: Table) -> str:
    """Return what a shape holds, as text; two publishers' numbers for one table do not matter."""
    return shape.text(shape.to_json(replace(table, id=0, version=0)))


def number_of(name: TableName) -> int:
    """Return the number that stands for a table of a bus: of its name, below 2**63."""
    digest = blake2b(f"{name.schema}\0{name.table}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def routed_as(old: Route, newest: Route) -> Route:
    """Return how rows of an older shape are written into the table that has the newest one by now.

    A column goes where the newest shape's column of the same number goes (it may have been renamed), else of the same
    name; one that the newest shape has no longer is left out.
    """
    numbers = {column.number: (column, name) for column, name in newest.columns if column.number}
    names = {column.name: (column, name) for column, name in newest.columns}
    pairs: list[tuple[Column, str]] = []
    for column, _ in old.columns:
        there = numbers.get(column.number) if column.number else names.get(column.name)
        if there is not None:
            pairs.append((column, there[1]))
    return replace(newest, source=old.source, columns=tuple(pairs), key=old.key)


def named(tables: Iterable[Table]) -> str:
    """Return the first few names, for a message."""
    names = sorted(str(table.name) for table in tables)
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
