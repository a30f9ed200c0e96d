"""What a DDL statement means to do to tables, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from cdcflow.model.schema import TableName


class Place(StrEnum):
    """Where a column goes."""

    LAST = "last"
    FIRST = "first"
    AFTER = "after"
    KEPT = "kept"  # MODIFY and CHANGE without a place


@dataclass(frozen=True, slots=True)
class Position:
    """FIRST, AFTER `column`, or neither."""

    place: Place
    column: str = ""


class DefaultKind(StrEnum):
    """What stands behind DEFAULT."""

    LITERAL = "literal"
    NUMBER = "number"  # a literal without quotes
    BITS = "bits"  # b'1', x'41', 0x41: `text` is as written
    NULL = "null"
    NOW = "now"  # CURRENT_TIMESTAMP with `text` digits of a second
    EXPRESSION = "expression"  # `text` as written


@dataclass(frozen=True, slots=True)
class Default:
    """A column's DEFAULT. `charset` is a literal's introducer."""

    kind: DefaultKind
    text: str = ""
    charset: str = ""


@dataclass(frozen=True, slots=True)
class TypeSpec:
    """A column's type as written, its synonyms resolved (`INTEGER` is `int`, `LONG VARCHAR` is `mediumtext`).

    `args` are the numbers in parentheses, `labels` those of an enum or set. `charset` is '' where none is given;
    `binary` is the BINARY attribute: the charset's `_bin` collation.
    """

    base: str
    args: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    unsigned: bool = False
    zerofill: bool = False
    charset: str = ""
    collation: str = ""
    binary: bool = False
    srid: int = -1
    compressed: bool = False


@dataclass(frozen=True, slots=True)
class Definition:
    """A column's definition as written. `nullable` is None where neither NULL nor NOT NULL stands there.

    `doubts` say what of it this reader did not understand: the column is then to be asked of the server.
    """

    type: TypeSpec
    nullable: bool | None = None
    default: Default | None = None
    on_update: bool = False
    auto_increment: bool = False
    key: str = ""  # '' | 'primary' | 'unique'
    generated: str = ""  # '' | 'virtual' | 'stored' | 'row' (a MariaDB ROW START/END column)
    expression: str = ""
    invisible: bool = False
    json: bool = False  # CHECK (json_valid(it)), which is how MariaDB knows a JSON column
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One part of an index. `length` is a prefix's (`name(10)`), 0 for the whole; an expression has no column."""

    column: str
    length: int = 0
    descending: bool = False


@dataclass(frozen=True, slots=True)
class AddColumn:
    name: str
    definition: Definition
    position: Position = Position(Place.LAST)
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropColumn:
    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class ChangeColumn:
    """CHANGE, and MODIFY where `old` and `new` are the same."""

    old: str
    new: str
    definition: Definition
    position: Position = Position(Place.KEPT)
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class RenameColumn:
    old: str
    new: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class SetDefault:
    """ALTER COLUMN .. SET DEFAULT; without `default`: DROP DEFAULT."""

    column: str
    default: Default | None
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class ConvertCharset:
    """CONVERT TO CHARACTER SET: every text column; `charset` is '' for DEFAULT, the database's."""

    charset: str
    collation: str = ""


@dataclass(frozen=True, slots=True)
class DefaultCharset:
    """The table's default for columns to come; the ones that it has stay as they are."""

    charset: str = ""
    collation: str = ""


@dataclass(frozen=True, slots=True)
class RenameTo:
    new: TableName


@dataclass(frozen=True, slots=True)
class AddKey:
    """An index, the primary key among them; `name` is '' where the server finds one.

    `kind` is FULLTEXT, SPATIAL or VECTOR, or ''.
    """

    name: str
    parts: tuple[KeyPart, ...]
    primary: bool = False
    unique: bool = True
    kind: str = ""
    if_not_exists: bool = False
    replaces: bool = False  # MariaDB's CREATE OR REPLACE INDEX


@dataclass(frozen=True, slots=True)
class DropKey:
    """DROP PRIMARY KEY (name `PRIMARY`), DROP INDEX, or DROP CONSTRAINT, which may be a unique index."""

    name: str
    if_exists: bool = False
    constraint: bool = False


@dataclass(frozen=True, slots=True)
class RenameKey:
    old: str
    new: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class Harmless:
    """Neither the shape nor the rows change: indexes that are not unique, engine, comment, partition maintenance."""

    what: str


@dataclass(frozen=True, slots=True)
class AddForeignKey:
    """A foreign key, and what it does to rows of the table: `CASCADE`, `SET NULL`, ..."""

    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"


@dataclass(frozen=True, slots=True)
class RowsChange:
    """Rows come or go without row events: `what` says how (`DROP PARTITION`, `IMPORT TABLESPACE`).

    `other` is a second table whose rows change with it: of EXCHANGE PARTITION, CONVERT PARTITION TO TABLE.
    """

    what: str
    other: TableName | None = None


@dataclass(frozen=True, slots=True)
class Unsure:
    """The rows stay as they are, but what the shape is now is for the server to say."""

    what: str


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """A clause that this reader does not know: what it changes is to be asked of the server."""

    text: str


Change = (
    AddColumn
    | DropColumn
    | ChangeColumn
    | RenameColumn
    | SetDefault
    | ConvertCharset
    | DefaultCharset
    | RenameTo
    | AddKey
    | DropKey
    | RenameKey
    | Harmless
    | AddForeignKey
    | RowsChange
    | Unsure
    | NotUnderstood
)


@dataclass(frozen=True, slots=True)
class CreateTable:
    """CREATE TABLE. One of: `like`; `columns` (in order) with `keys`; or neither, where they follow from a SELECT
    or could not be read (`doubts`).

    `if_not_exists`: nothing happened where the table was there. `replace`: MariaDB's OR REPLACE dropped it first.
    `as_select`: more columns, and rows, come from a SELECT; `atomic` (MySQL's `START TRANSACTION`) has them all
    listed and the rows follow as row events. `charset` and `collation` are the table's own, '' for the database's.
    """

    name: TableName
    like: TableName | None = None
    as_select: bool = False
    atomic: bool = False
    if_not_exists: bool = False
    replace: bool = False
    columns: tuple[tuple[str, Definition], ...] = ()
    keys: tuple[AddKey, ...] = ()
    charset: str = ""
    collation: str = ""
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DropTables:
    names: tuple[TableName, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class RenameTables:
    """Pairs of old and new in the order in which they happen: `a TO c, b TO a` leaves the rows of b under a."""

    pairs: tuple[tuple[TableName, TableName], ...]


@dataclass(frozen=True, slots=True)
class TruncateTable:
    """TRUNCATE; also `DELETE FROM t` without a condition, as a statement (a MEMORY table after a restart)."""

    name: TableName


@dataclass(frozen=True, slots=True)
class AlterTable:
    """ALTER TABLE, CREATE INDEX and DROP INDEX. `if_exists`: nothing happened where the table was not there."""

    name: TableName
    changes: tuple[Change, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateDatabase:
    """CREATE or ALTER DATABASE: its default for tables to come, '' where not given.

    `exists` where it is ALTER; `replace` where MariaDB's OR REPLACE dropped all its tables first.
    """

    name: str
    charset: str = ""
    collation: str = ""
    exists: bool = False
    replace: bool = False


@dataclass(frozen=True, slots=True)
class DropDatabase:
    name: str


@dataclass(frozen=True, slots=True)
class ChangeRows:
    """Rows were changed by a statement in the log, not by row events. `names`: None where they are not known."""

    names: tuple[TableName, ...] | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A statement that this reader does not understand. `names` seem to be concerned; None: any table may be."""

    names: tuple[TableName, ...] | None
    why: str = field(default="", compare=False)


Intent = (
    CreateTable
    | DropTables
    | RenameTables
    | TruncateTable
    | AlterTable
    | CreateDatabase
    | DropDatabase
    | ChangeRows
    | Unreadable
)
