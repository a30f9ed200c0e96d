"""A set of tables whose shapes are followed through DDL alone, and what the server says they are."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.engines.mysql.names import ident, qualified
from cdcflow.model.schema import Column, Logical, Table, TableName
from cdcflow.sources.mysql import reshape, types
from cdcflow.sources.mysql.catalog import shape_of
from cdcflow.sources.mysql.ddl import intents
from cdcflow.sources.mysql.ddl_charsets import Charsets
from cdcflow.sources.mysql.ddl_intents import (
    AlterTable,
    CreateDatabase,
    CreateTable,
    DropDatabase,
    DropTables,
    Intent,
    RenameTables,
    RenameTo,
    TruncateTable,
)
from cdcflow.sources.mysql.reshape import Outcome, Server, TableExtras
from tests.servers.mysql_session import rows

_MODES = {"REAL_AS_FLOAT": 0, "ANSI_QUOTES": 2, "ORACLE": 9, "NO_BACKSLASH_ESCAPES": 20, "STRICT_TRANS_TABLES": 21}


def charsets_of(connection: Connection[Any]) -> Charsets:
    """Read a server's charsets."""
    found = rows(
        connection, "SELECT character_set_name, default_collate_name, maxlen FROM information_schema.character_sets"
    )
    try:
        pairs = rows(
            connection,
            "SELECT full_collation_name, character_set_name"
            " FROM information_schema.collation_character_set_applicability",
        )
    except Exception:
        pairs = rows(connection, "SELECT collation_name, character_set_name FROM information_schema.collations")
    return Charsets(
        {name: collation for name, collation, _ in found},
        {name: width for name, _, width in found},
        {collation: charset for collation, charset in pairs if charset},
    )


@dataclass
class Difference:
    """Where a shape that was said to be certain is not the server's."""

    sql: str
    what: str


class World:
    """Follows the statements of the binlog from an empty database on."""

    def __init__(self, connection: Connection[Any], flavour: Flavour) -> None:
        self.connection, self.flavour = connection, flavour
        self.charsets = charsets_of(connection)
        self.tables: dict[TableName, tuple[Table, TableExtras]] = {}
        self.collations: dict[str, str] = {}
        self.certain = self.uncertain = 0
        self.doubts: list[tuple[str, tuple[str, ...]]] = []
        self.differences: list[Difference] = []
        self.same = self.recopied = 0
        self.rows: dict[TableName, dict[int, list[Any]]] = {}

    def run(self, sql: str, database: str) -> bool:
        """Run a statement, follow what the binlog has of it, and compare. False where the server refused it."""
        file, position = self._end()
        try:
            rows(self.connection, sql)
        except Exception:
            return False
        mode = sum(
            1 << bit
            for name, bit in _MODES.items()
            if name in rows(self.connection, "SELECT @@sql_mode")[0][0].split(",")
        )
        for text, where in self._statements(file, position, database):
            for intent in intents(text, where, self.flavour, mode):
                for name, outcome in self._follow(intent):
                    self._compare(text, name, outcome)
        return True

    def _end(self) -> tuple[str, int]:
        for statement in ("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"):
            try:
                return rows(self.connection, statement)[0][:2]  # type: ignore[return-value]
            except Exception:
                continue
        raise AssertionError("no binary log")

    def _statements(self, file: str, position: int, database: str) -> list[tuple[str, str]]:
        found = []
        for event in rows(self.connection, f"SHOW BINLOG EVENTS IN '{file}' FROM {position}"):
            if event[2] != "Query":
                continue
            text = re.sub(r" /\* xid=\d+ \*/$", "", event[5])
            used = re.match(r"use `((?:[^`]|``)*)`; ", text)
            where = used.group(1).replace("``", "`") if used else database
            found.append((text[used.end() :] if used else text, where))
        return found

    def _server(self, database: str) -> Server:
        return Server(self.flavour, self.charsets, self.collations.get(database, ""))

    def _follow(self, intent: Intent) -> list[tuple[TableName, Outcome | None]]:
        match intent:
            case CreateDatabase():
                given = self.charsets.resolve(
                    intent.charset, intent.collation, False, self.collations.get(intent.name, "latin1_german2_ci")
                )
                self.collations[intent.name] = given[1]
                return []
            case DropDatabase():
                self.tables = {name: held for name, held in self.tables.items() if name.schema != intent.name}
                return []
            case CreateTable():
                if intent.if_not_exists and intent.name in self.tables:
                    return []
                like, extras = self.tables.get(intent.like, (None, None)) if intent.like else (None, None)
                outcome = reshape.create(
                    intent,
                    server=self._server(intent.name.schema),
                    like=like,
                    collation=extras.collation if extras else "",
                )
                self.tables[intent.name] = outcome.table, outcome.extras
                return [(intent.name, outcome)]
            case DropTables():
                for name in intent.names:
                    self.tables.pop(name, None)
                return []
            case RenameTables():
                for old, new in intent.pairs:
                    table, extras = self.tables.pop(old)
                    self.tables[new] = reshape.renamed(table, new), extras
                return [(new, None) for _, new in intent.pairs if new in self.tables]
            case AlterTable():
                table, extras = self.tables.pop(intent.name)
                held = self.rows.pop(intent.name, None)
                outcome = reshape.apply(table, intent.changes, extras=extras, server=self._server(intent.name.schema))
                new = next((change.new for change in intent.changes if isinstance(change, RenameTo)), intent.name)
                assert outcome.table.name == new
                self.tables[new] = outcome.table, outcome.extras
                self._check_numbers(outcome.table)
                if held and not outcome.uncertain:
                    self._check_rows(table, outcome.table, intent, held)
                return [(new, outcome)]
            case TruncateTable():
                return []
        raise AssertionError(intent)

    @staticmethod
    def _check_numbers(after: Table) -> None:
        numbers = [column.number for column in after.columns]
        assert 0 not in numbers
        assert len(set(numbers)) == len(numbers)

    def hold_rows(self, name: TableName) -> None:
        """Remember the rows of a table: the next statement's effect is judged by them."""
        table = self.tables[name][0]
        self.rows[name] = self._values(table)

    def _values(self, table: Table) -> dict[int, list[Any]]:
        """Return each column's values by its number, as text; rows in the order of `row_number`."""
        found = {}
        for column in table.columns:
            text = ident(column.name)
            if column.logical in (Logical.GEOMETRY, Logical.ARRAY, Logical.BYTES):
                text = f"hex({text})"
            elif column.logical is Logical.BIT:
                text = f"lpad(bin({text}), {types.size(column.type.text)}, '0')"
            elif column.logical in (Logical.DECIMAL, Logical.INT4, Logical.INT8, Logical.UINT8, Logical.INT2):
                text = f"{text} + 0"
            else:
                text = f"CAST({text} AS CHAR CHARACTER SET utf8mb4)"
            found[column.number] = [
                row[0]
                for row in rows(self.connection, f"SELECT {text} FROM {qualified(table.name)} ORDER BY row_number_")
            ]
        return found

    def _check_rows(self, old: Table, new: Table, intent: AlterTable, held: dict[int, list[Any]]) -> None:
        """Where the effect is none, every kept column holds what it held, and an added one what `missing` says."""
        if reshape.effect(old, new, intent.changes, 1 << 21).recopy:
            self.recopied += 1
            return
        self.same += 1
        now = self._values(new)
        for column in new.columns:
            before = held.get(column.number)
            told = [canonical_seen(column)] * len(next(iter(held.values()))) if before is None else before
            seen = now[column.number]
            if [plain(each) for each in told] != [plain(each) for each in seen]:
                self.differences.append(Difference(str(intent.changes), f"rows of {column.name}: {told} became {seen}"))

    def _compare(self, sql: str, name: TableName, outcome: Outcome | None) -> None:
        seen = shape_of(self.connection, self.flavour, name)
        assert seen is not None, name
        if outcome is not None and outcome.uncertain:
            self.uncertain += 1
            self.doubts.append((sql, outcome.doubts))
            self.tables[name] = (
                replace(
                    seen,
                    columns=tuple(replace(column, number=at) for at, column in enumerate(seen.columns, 1)),
                ),
                replace(outcome.extras, collation=table_collation(self.connection, name)),
            )
            return
        self.certain += 1
        told, extras = self.tables[name]
        self.differences.extend(Difference(sql, what) for what in differences(told, seen))
        collation = table_collation(self.connection, name)
        if extras.collation != collation:
            self.differences.append(Difference(sql, f"default {extras.collation}, but {collation}"))


def plain(value: Any) -> Any:
    """Return a value with what a finer type only prints in another way left out."""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str) and re.match(r"-?[\d:. -]+$", value) and "." in value:
        return value.rstrip("0").rstrip(".")
    return value


def canonical_seen(column: Column) -> Any:
    """Return what SELECT shows of the canonical text in `missing`."""
    text = column.missing
    if text is None:
        return None
    if column.logical is Logical.BYTES:
        return text[2:].upper()
    if column.logical in (Logical.DECIMAL, Logical.INT4, Logical.INT8, Logical.UINT8, Logical.INT2):
        return Decimal(text) if column.logical is Logical.DECIMAL else int(text)
    if column.logical is Logical.TIMESTAMPTZ:
        return text.removesuffix("+00")
    return text


def table_collation(connection: Connection[Any], name: TableName) -> str:
    found = rows(
        connection,
        "SELECT table_collation FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
        [name.schema, name.table],
    )
    return str(found[0][0])


def differences(told: Table, seen: Table) -> list[str]:
    """Say in words where two shapes differ."""
    if told.column_names != seen.column_names:
        return [f"columns {told.column_names}, but {seen.column_names}"]
    found = [
        f"column {one.name}: {what} {getattr(one, what)!r}, but {getattr(other, what)!r}"
        for one, other in zip(told.columns, seen.columns, strict=True)
        for what in ("type", "logical", "nullable", "generated", "identity", "default", "missing")
        if getattr(one, what) != getattr(other, what)
        and not (what == "default" and _both_computed(one, other))
        and not (what in ("default", "missing") and _catalog_has_no_answer(other))
    ]
    for what in ("key", "primary_key"):
        if getattr(told, what) != getattr(seen, what):
            found.append(f"{what} {getattr(told, what)}, but {getattr(seen, what)}")
    ours = [(index.name, index.columns, index.unique) for index in told.indexes if index.unique]
    theirs = [(index.name, index.columns, index.unique) for index in seen.indexes if index.unique]
    return found if ours == theirs else [*found, f"indexes {ours}, but {theirs}"]


def _catalog_has_no_answer(seen: Column) -> bool:
    """Whether the catalog itself could not find out which bytes are the default."""
    return seen.logical is Logical.BYTES and seen.default is not None and seen.missing is None


def _both_computed(one: Column, other: Column) -> bool:
    """Whether both defaults are expressions: the server writes them in its own way."""
    texts = one.default, other.default
    if None in texts or one.missing is not None or other.missing is not None:
        return False
    return not any(str(text).lower().startswith("current_timestamp") for text in texts)
