"""What the target has already: tables, columns, unique indexes, collations, read from information_schema."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.engines.mysql.names import literal, qualified
from cdcflow.model.schema import TableName
from cdcflow.targets.mysql.session import Session, text

# Stands at the end of the comment of each table that `create` made: only those get indexes and foreign keys, and only
# those are brought into the source's shape before a copy starts over. `shape` is a fingerprint of the route that the
# table was made or altered for last, and of which of the source's columns its names stand for (not in marks of earlier
# builds): an ALTER sets it together with what it changes, so one that is run again after a crash is known to be done.
_MARKED = re.compile(r"\[made by cdcflow, pipeline ([a-z0-9_]+)(?:, shape ([0-9a-f]{12})([0-9a-f]*))?\]$")
_LONGEST_COMMENT = 2048


Outline = frozenset[tuple[str, str, int]]


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """One column of a target table, in information_schema's words. `kind` is DATA_TYPE, `type` COLUMN_TYPE."""

    name: str
    kind: str
    type: str
    charset: str = ""
    collation: str = ""
    not_null: bool = False
    default: str | None = None  # as the server tells it; an expression of MySQL's in parentheses
    auto: bool = False  # AUTO_INCREMENT
    generated: bool = False
    renewed: bool = False  # ON UPDATE CURRENT_TIMESTAMP

    @property
    def filled(self) -> bool:
        """Whether a row that does not name the column still has a value for it."""
        return not self.not_null or self.default is not None or self.auto or self.generated


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index. `columns` has '' for an expression, and for a prefix of a column."""

    name: str
    columns: tuple[str, ...]

    @property
    def primary(self) -> bool:
        return self.name == "PRIMARY"


@dataclass(frozen=True, slots=True)
class TargetTable:
    """A table of the target. `kind` is TABLE_TYPE: `BASE TABLE`, `VIEW`, ...; `triggers` their names."""

    name: TableName
    kind: str
    engine: str
    columns: tuple[TargetColumn, ...]
    keys: tuple[UniqueKey, ...] = ()
    triggers: tuple[str, ...] = ()
    comment: str = ""
    rows: int = 0  # an estimate

    @property
    def made_by(self) -> str:
        """The pipeline that made the table, '' where a person did."""
        found = _MARKED.search(self.comment)
        return found[1] if found else ""

    @property
    def shape(self) -> str:
        """The fingerprint in the mark."""
        found = _MARKED.search(self.comment)
        return (found[2] or "") if found else ""

    @property
    def numbers(self) -> str:
        """The fingerprint of the columns' numbers in the mark; '' where an earlier build made it."""
        found = _MARKED.search(self.comment)
        return (found[3] or "") if found else ""

    def column(self, name: str) -> TargetColumn | None:
        """Return a column; MySQL's column names know no case."""
        folded = name.lower()
        return next((column for column in self.columns if column.name.lower() == folded), None)

    def finds_one_row_by(self, columns: tuple[str, ...]) -> bool:
        """Whether a unique index has exactly these columns, in any order."""
        return any(_same(key.columns, columns) for key in self.keys)

    @property
    def primary_key(self) -> UniqueKey | None:
        return next((key for key in self.keys if key.primary), None)

    def only_key(self, columns: tuple[str, ...]) -> bool:
        """Whether nothing but one unique index on these columns keeps rows apart."""
        return len(self.keys) == 1 and _same(self.keys[0].columns, columns)


def _same(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return {name.lower() for name in one} == {name.lower() for name in other} and len(one) == len(other)


def mark(pipeline: str, comment: str, shape: str) -> str:
    """Return the table comment that says who made the table, behind the source's own."""
    words = f"[made by cdcflow, pipeline {pipeline}, shape {shape}]"
    room = _LONGEST_COMMENT - len(words) - 1
    return f"{comment[:room]}\n{words}" if comment else words


def unmarked(comment: str) -> str:
    """Return a comment without the mark."""
    return _MARKED.sub("", comment).rstrip("\n")


def table(session: Session, name: TableName) -> TargetTable | None:
    """Read one table; None where there is none of that name."""
    where = f"table_schema = {literal(name.schema)} AND table_name = {literal(name.table)}"
    rows = [
        row
        for row in session.query(
            "SELECT table_name, table_type, engine, table_comment, table_rows"
            f" FROM information_schema.tables WHERE {where}"
        )
        if session.folds_names or text(row[0]) == name.table
    ]
    if not rows:
        return None
    _, kind, engine, comment, estimate = rows[0]
    columns = tuple(
        TargetColumn(
            text(row[1]),
            text(row[2]).lower(),
            text(row[3]),
            text(row[4]),
            text(row[5]),
            text(row[6]) == "NO",
            _default(row[7], text(row[8])),
            "auto_increment" in text(row[8]).lower(),
            bool(text(row[9])),
            "on update" in text(row[8]).lower(),
        )
        for row in session.query(
            "SELECT table_name, column_name, data_type, column_type, character_set_name, collation_name, is_nullable,"
            " column_default, extra, generation_expression, ordinal_position"
            f" FROM information_schema.columns WHERE {where} ORDER BY ordinal_position"
        )
        if session.folds_names or text(row[0]) == name.table
    )
    keys: dict[str, list[str]] = {}
    for row in session.query(
        "SELECT table_name, index_name, column_name, sub_part, seq_in_index"
        f" FROM information_schema.statistics WHERE {where} AND non_unique = 0 ORDER BY index_name, seq_in_index"
    ):
        if session.folds_names or text(row[0]) == name.table:
            whole = row[2] is not None and row[3] is None
            keys.setdefault(text(row[1]), []).append(text(row[2]) if whole else "")
    triggers = session.query(
        "SELECT trigger_name FROM information_schema.triggers"
        f" WHERE event_object_schema = {literal(name.schema)} AND event_object_table = {literal(name.table)}"
    )
    return TargetTable(
        name,
        text(kind),
        text(engine),
        columns,
        tuple(UniqueKey(key, tuple(names)) for key, names in keys.items()),
        tuple(text(row[0]) for row in triggers),
        text(comment),
        int(estimate or 0),
    )


def outline(session: Session, name: TableName) -> Outline:
    """Read what a table's columns, unique indexes and triggers are called, which takes a part of what `table` does."""
    where = f"table_schema = {literal(name.schema)} AND table_name = {literal(name.table)}"
    triggered = f"event_object_schema = {literal(name.schema)} AND event_object_table = {literal(name.table)}"
    rows = session.query(
        f"SELECT 'column', column_name, 0 FROM information_schema.columns WHERE {where}"
        " UNION ALL SELECT index_name, column_name, seq_in_index FROM information_schema.statistics"
        f" WHERE {where} AND non_unique = 0"
        f" UNION ALL SELECT 'trigger', trigger_name, 0 FROM information_schema.triggers WHERE {triggered}"
    )
    return frozenset((text(kind), text(called), int(at)) for kind, called, at in rows)


def _default(found: object, extra: str) -> str | None:
    if found is None or text(found) == "NULL":
        return None
    if "DEFAULT_GENERATED" in extra:
        return f"({text(found)})".replace("\\'", "'")  # it shows quotes in expressions with a backslash
    return text(found)


def has_database(session: Session, name: str) -> bool:
    """Whether there is a database of that name."""
    rows = session.query(f"SELECT schema_name FROM information_schema.schemata WHERE schema_name = {literal(name)}")
    return any(session.folds_names or text(row[0]) == name for row in rows)


def has_rows(session: Session, name: TableName) -> bool:
    """Whether a table has any row."""
    return bool(session.query(f"SELECT 1 FROM {qualified(name)} LIMIT 1"))


@dataclass(frozen=True, slots=True)
class Server:
    """What types and collations a server knows. `collations` gives each one's character set."""

    flavour: Flavour
    collations: dict[str, str]

    @property
    def mariadb(self) -> bool:
        return self.flavour.engine == "mariadb"

    @property
    def binary(self) -> str:
        """The collation of utf8mb4 that keeps apart whatever differs in a byte, trailing spaces too where there is
        one that does."""
        # MariaDB knows the other's name too (from 11.4.5), and means its own utf8mb4_bin, which pads.
        name = "utf8mb4_nopad_bin" if self.mariadb else "utf8mb4_0900_bin"
        return name if name in self.collations else "utf8mb4_bin"


def server(session: Session) -> Server:
    """Read which collations the server has."""
    rows = session.query(
        "SELECT collation_name, character_set_name FROM information_schema.collation_character_set_applicability"
    )
    names = {text(name): text(charset) for name, charset in rows}
    if session.flavour.engine == "mariadb" and session.flavour.version >= (10, 10):
        # There the short names are listed once, and the full ones in a column of their own.
        full = session.query(
            "SELECT full_collation_name, character_set_name"
            " FROM information_schema.collation_character_set_applicability"
        )
        names |= {text(name): text(charset) for name, charset in full}
    return Server(session.flavour, names)
