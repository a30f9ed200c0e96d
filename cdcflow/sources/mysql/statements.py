"""Statements in the log: where they end a transaction, and what they do to the tables that are followed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cdcflow.codecs.mysqlcharsets import converter
from cdcflow.engines.mysql.connect import Flavour
from cdcflow.engines.mysql.names import table_id
from cdcflow.model.ports import Follow
from cdcflow.model.schema import TableName
from cdcflow.sources.mysql.ddl import Kind, intents, kind
from cdcflow.sources.mysql.ddl_charsets import Charsets
from cdcflow.sources.mysql.ddl_intents import (
    AlterTable,
    Change,
    ChangeRows,
    CreateTable,
    DropDatabase,
    DropTables,
    Intent,
    RenameTables,
    RenameTo,
    RowsChange,
    TruncateTable,
    Unreadable,
)
from cdcflow.sources.mysql.logevents import Query

_START_TRANSACTION: Final = re.compile(r"\bSTART\s+TRANSACTION\s*;?\s*$", re.IGNORECASE)
# A name of three parts: global part, branch part, format.
_XID: Final = re.compile(r"X'([0-9a-f]*)'\s*,\s*X'([0-9a-f]*)'\s*,\s*(\d+)", re.IGNORECASE)

ENDS: Final[Mapping[Kind, str]] = {
    Kind.BEGIN: "begin",
    Kind.XA_START: "begin",
    Kind.COMMIT: "commit",
    Kind.XA_COMMIT: "commit",
    Kind.ROLLBACK: "rollback",
    Kind.XA_ROLLBACK: "rollback",
    Kind.ROLLBACK_TO: "undo",
    Kind.SAVEPOINT: "",
    Kind.XA_END: "",
    Kind.XA_PREPARE: "",
}


@dataclass(slots=True)
class Group:
    """What the beginning of the open transaction said of it.

    standalone: the statement that follows is all of it (MariaDB says so; MySQL begins others with BEGIN).
    passed_over: the statement is half of an ALTER that is logged twice, and the other half counts.
    xa: its rows wait for a second word.
    """

    standalone: bool = False
    passed_over: bool = False
    xa: bool = False


@dataclass(frozen=True, slots=True)
class Emptied:
    """The table has lost all its rows."""

    name: TableName


@dataclass(frozen=True, slots=True)
class Altered:
    """The table has another shape, and perhaps other rows."""

    name: TableName
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Gone:
    """Under the name stands another table from here on, or none."""

    name: TableName
    why: str


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Something may have happened to the table: it has to be looked at. None: to any table."""

    name: TableName | None
    why: str


TableChange = Emptied | Altered | Gone | Doubtful


@dataclass(slots=True)
class Found:
    """What a statement is.

    ends: `begin`, `commit`, `rollback`, `undo` (a part is taken back), `statement` (on its own), or '' for nothing.
    stop: the kind of a statement that changed rows as text, and `table` which ones.
    changes: what it does to tables that are followed. goes_on: rows follow it in its transaction.
    xid: which XA transaction is committed or rolled back.
    """

    ends: str
    stop: str = ""
    table: str = ""
    changes: list[TableChange] = field(default_factory=list)
    goes_on: bool = False
    xid: bytes = b""
    xa: bool = False


class Statements:
    """Reads statements as one server writes them."""

    def __init__(
        self, flavour: Flavour, charsets: Charsets, reaches: Callable[[TableName], bool], *, lower_names: bool
    ) -> None:
        """Read what this server writes.

        reaches: whether a statement that names this table may change others, as they are now.
        lower_names: the server keeps tables' names in lower case, whatever statements call them.
        """
        self._flavour, self._charsets, self._lower_names = flavour, charsets, lower_names
        self._reaches = reaches
        self._alone: set[TableName] = set()  # those that do not, since the last statement that is not about rows

    def look(self, query: Query, follow: Mapping[int, Follow]) -> Found:
        """Say what a statement is and does; `follow` are the tables that matter, by number."""
        sql = self._text(query)
        word = kind(sql, self._flavour)
        if word in ENDS:
            xid = _xid(sql) if word in (Kind.XA_COMMIT, Kind.XA_ROLLBACK) else b""
            return Found(ENDS[word], xid=xid, xa=word is Kind.XA_START)
        if word is not Kind.DML:
            self._alone.clear()
        if word is Kind.HARMLESS:
            return Found("statement")
        found = Found("statement", goes_on=bool(_START_TRANSACTION.search(sql)))
        read = intents(sql, query.database, self._flavour, query.session.sql_mode, lower_names=self._lower_names)
        for intent in read:
            touched = _touched(intent.names, follow) if isinstance(intent, ChangeRows) else None
            if touched is None and word is Kind.DML and follow and self._reach(intent):
                touched = ""
            if touched is not None:
                found.stop, found.table = sql.split(None, 1)[0].upper(), touched
            elif not isinstance(intent, ChangeRows):
                found.changes += [change for change in _changes(intent) if _concerns(change, follow)]
                if isinstance(intent, DropDatabase):
                    found.changes += _dropped(intent.name, follow)
        return found

    def _reach(self, intent: Intent) -> bool:
        """Whether rows of tables that a statement does not name may have changed by it."""
        match intent:
            case ChangeRows(names):
                named = names or ()
            case TruncateTable(name):  # DELETE FROM without WHERE
                named = (name,)
            case _:
                return False
        for name in named:
            if name not in self._alone and self._reaches(name):
                return True
            self._alone.add(name)
        return False

    def _text(self, query: Query) -> str:
        """Return the statement, which the log holds in the client's charset."""
        collation = self._charsets.names.get(query.session.charset, "")
        convert = converter(self._charsets.charset_of.get(collation, "utf8mb4"))
        return (convert(query.sql) if convert else query.sql).decode("utf-8", "replace")


def _touched(names: Iterable[TableName] | None, follow: Mapping[int, Follow]) -> str | None:
    """Return which followed tables a statement changes, '' where it is not known, None where it is none."""
    if names is None:
        return "" if follow else None
    return next((str(name) for name in names if table_id(name) in follow), None)


def _concerns(change: TableChange, follow: Mapping[int, Follow]) -> bool:
    return change.name is None or table_id(change.name) in follow


def _dropped(database: str, follow: Mapping[int, Follow]) -> list[TableChange]:
    names = [each.route.source.name for each in follow.values() if each.route.source.name.schema == database]
    return [Gone(name, f"database {database} was dropped") for name in names]


def _changes(intent: Intent) -> list[TableChange]:
    match intent:
        case TruncateTable(name):
            return [Emptied(name)]
        case DropTables(names):
            return [Gone(name, "it was dropped at the source") for name in names]
        case CreateTable(name):
            if intent.if_not_exists and not intent.replace:
                return []  # a table that is followed was there
            return [Gone(name, "it was made anew at the source")]
        case RenameTables(pairs):
            return [change for old, new in pairs for change in _renamed(old, new)]
        case AlterTable(name, changes):
            found: list[TableChange] = [Altered(name, changes)]
            for each in changes:
                if isinstance(each, RenameTo):
                    found += _renamed(name, each.new)
                elif isinstance(each, RowsChange) and each.other is not None:
                    found.append(Gone(each.other, f"its rows were changed by {each.what}"))
            return found
        case Unreadable(names, why):
            if names is None:
                return [Doubtful(None, why)]
            return [Doubtful(name, why) for name in names]
        case _:
            return []


def _renamed(old: TableName, new: TableName) -> list[TableChange]:
    return [Gone(old, f"it was renamed to {new} at the source"), Gone(new, f"{old} took its name at the source")]


def _xid(sql: str) -> bytes:
    """Return an XA transaction's name in one form, whatever it is written like."""
    found = _XID.search(sql)
    if found is None:
        return sql.split("'", 1)[-1].encode()
    return f"{found[1].lower()},{found[2].lower()},{found[3]}".encode()
