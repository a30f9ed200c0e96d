"""What a statement out of the log is, and what it means to do to tables."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum

from cdcflow.model.schema import TableName
from cdcflow.sources.mysql.ddl_alter import alter_changes
from cdcflow.sources.mysql.ddl_columns import charset_name, charset_words
from cdcflow.sources.mysql.ddl_intents import (
    AddKey,
    AlterTable,
    ChangeRows,
    CreateDatabase,
    CreateTable,
    DropDatabase,
    DropKey,
    DropTables,
    Intent,
    RenameTables,
    RowsChange,
    TruncateTable,
    Unreadable,
)
from cdcflow.sources.mysql.ddl_parts import (
    create_body,
    create_options,
    if_exists,
    if_not_exists,
    key_parts,
    table_name,
)
from cdcflow.sources.mysql.ddl_tokens import Flavour, Mark, Reader, Token, UnreadError, reader, tokens, words


class Kind(StrEnum):
    """What the text of a QUERY event is, at a first look."""

    BEGIN = "begin"  # BEGIN, START TRANSACTION
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"  # SAVEPOINT, RELEASE SAVEPOINT
    # What the transaction wrote since the savepoint into transactional tables is taken back, although its row
    # events stand in the log (it also wrote into other tables: else the server leaves both out).
    ROLLBACK_TO = "rollback to"
    XA_START = "xa start"
    XA_END = "xa end"
    XA_PREPARE = "xa prepare"
    XA_COMMIT = "xa commit"
    XA_ROLLBACK = "xa rollback"
    DDL = "ddl"  # may concern tables: `intents` says more
    DML = "dml"  # rows changed by a statement, not by row events: `intents` names the tables
    HARMLESS = "harmless"  # neither tables nor rows
    UNKNOWN = "unknown"


_FIRST = {
    "BEGIN": Kind.BEGIN,
    "COMMIT": Kind.COMMIT,
    "SAVEPOINT": Kind.SAVEPOINT,
    "RELEASE": Kind.SAVEPOINT,
    "RENAME": Kind.DDL,
    "TRUNCATE": Kind.DDL,
    "INSERT": Kind.DML,
    "UPDATE": Kind.DML,
    "DELETE": Kind.DML,
    "REPLACE": Kind.DML,
    "LOAD": Kind.DML,
    "CALL": Kind.DML,
    "DO": Kind.DML,  # may call a function that writes
    "SELECT": Kind.DML,  # as DO: a SELECT is logged only for the function that it calls
    "WITH": Kind.DML,
    "TABLE": Kind.UNKNOWN,
    "IMPORT": Kind.UNKNOWN,
    "GRANT": Kind.HARMLESS,
    "REVOKE": Kind.HARMLESS,
    "ANALYZE": Kind.HARMLESS,
    "OPTIMIZE": Kind.HARMLESS,
    "REPAIR": Kind.HARMLESS,
    "CHECK": Kind.HARMLESS,
    "FLUSH": Kind.HARMLESS,
    "SET": Kind.HARMLESS,
    "USE": Kind.HARMLESS,
    "INSTALL": Kind.HARMLESS,
    "UNINSTALL": Kind.HARMLESS,
    "RESET": Kind.HARMLESS,
    "PURGE": Kind.HARMLESS,
    "CACHE": Kind.HARMLESS,
    "KILL": Kind.HARMLESS,
    "BACKUP": Kind.HARMLESS,
}
_XA = {
    "START": Kind.XA_START,
    "BEGIN": Kind.XA_START,
    "END": Kind.XA_END,
    "PREPARE": Kind.XA_PREPARE,
    "COMMIT": Kind.XA_COMMIT,
    "ROLLBACK": Kind.XA_ROLLBACK,
}
# What CREATE, ALTER and DROP may be followed by where no table is meant. A PACKAGE BODY is MariaDB's.
_OBJECTS = words(
    "USER ROLE VIEW TRIGGER PROCEDURE FUNCTION EVENT SEQUENCE SERVER TABLESPACE LOGFILE UNDO RESOURCE PACKAGE INSTANCE "
    "AGGREGATE SPATIAL_REFERENCE_SYSTEM LIBRARY MASKING JSON SQL PREPARE CATALOG"
)
# What may stand between CREATE and the object: DEFINER = .., ALGORITHM = .., OR REPLACE.
_BEFORE_VIEW = frozenset(("DEFINER", "ALGORITHM", "SQL"))


class _Newest:
    """For the first look, in which no version matters: every versioned comment is read."""

    engine = "mysql"
    version = (99, 0, 0)


_NEWEST = _Newest()
# A statement's first words are in here, unless a long comment stands before them.
_HEAD_CHARACTERS = 1000


def kind(sql: str, flavour: Flavour = _NEWEST) -> Kind:
    """Say what `sql`, the text of a QUERY event, is. Cheap: reads a few words."""
    if sql == "BEGIN":
        return Kind.BEGIN
    if sql == "COMMIT":
        return Kind.COMMIT
    for text in (sql[:_HEAD_CHARACTERS], sql) if len(sql) > _HEAD_CHARACTERS else (sql,):
        found = _first_tokens(text, flavour, 0, 8)
        if text is not sql:
            found = [token for token in found if token.end < len(text)]  # the last may have been cut
        if found and (len(found) == 8 or _FIRST.get(found[0].word) is Kind.DML):
            return _kind([token.word or token.text for token in found])
        if text is sql and (found or _is_empty(sql, flavour)):
            return _kind([token.word or token.text for token in found])
    return Kind.UNKNOWN


def _first_tokens(text: str, flavour: Flavour, sql_mode: int, count: int) -> list[Token]:
    """Return up to `count` tokens, fewer where a quote or comment is open before."""
    found: list[Token] = []
    with suppress(UnreadError):
        for token in tokens(text, flavour, sql_mode):
            if token.mark is Mark.END or len(found) == count:
                break
            found.append(token)
    return found


def _is_empty(text: str, flavour: Flavour) -> bool:
    """Whether there is nothing but comments."""
    try:
        return next(tokens(text, flavour)).mark is Mark.END
    except UnreadError:
        return False


def _kind(head: list[str]) -> Kind:
    if not head:
        return Kind.HARMLESS  # a comment alone: MariaDB's "# Dummy event replacing .."
    first, second = head[0], head[1] if len(head) > 1 else ""
    if first == "XA":
        return _XA.get(second, Kind.UNKNOWN)
    if first == "START":
        return Kind.BEGIN if second == "TRANSACTION" else Kind.HARMLESS
    if first == "ROLLBACK":
        return Kind.ROLLBACK_TO if "TO" in head[1:3] else Kind.ROLLBACK
    if first == "RENAME" and second == "USER":
        return Kind.HARMLESS
    if first in ("CREATE", "ALTER", "DROP"):
        return _of_object(head)
    if first == "SET" and second == "STATEMENT":  # MariaDB: SET STATEMENT x=1 FOR statement
        return Kind.DDL
    return _FIRST.get(first, Kind.UNKNOWN)


def _of_object(head: list[str]) -> Kind:
    rest = [word for word in head[1:] if word not in ("OR", "REPLACE", "ONLINE", "OFFLINE", "IGNORE")]
    if not rest:
        return Kind.UNKNOWN
    if rest[0] == "TEMPORARY":
        return Kind.HARMLESS
    if rest[0] in ("TABLE", "TABLES", "DATABASE", "SCHEMA", "INDEX", "UNIQUE", "FULLTEXT", "VECTOR"):
        return Kind.DDL
    if rest[0] == "SPATIAL":
        return Kind.HARMLESS if rest[1:2] == ["REFERENCE"] else Kind.DDL
    if rest[0] in _OBJECTS or rest[0] in _BEFORE_VIEW:
        return Kind.HARMLESS
    return Kind.UNKNOWN


def intents(sql: str, database: str, flavour: Flavour, sql_mode: int = 0, *, lower_names: bool = False) -> list[Intent]:
    """Return what `sql` means to do, in order; an empty list where it concerns no tables.

    `database` is the event's; `sql_mode` the number in its status variables, which says what a double quote
    and a backslash mean; `lower_names` is true where the server's lower_case_table_names is not 0: a statement may
    write `Shop.Orders` for what information_schema and the log's table maps call `shop.orders`. Never raises:
    what cannot be read is an Unreadable.
    """
    if len(sql) > _HEAD_CHARACTERS and kind(sql, flavour) is Kind.DML:  # it may hold megabytes of values
        found = _first_tokens(sql[:_HEAD_CHARACTERS], flavour, sql_mode, _HEAD_CHARACTERS)
        found = [token for token in found if token.end < _HEAD_CHARACTERS]  # the last may have been cut
        goes_on = Token(Mark.SYMBOL, "..", _HEAD_CHARACTERS, len(sql))
        end = Token(Mark.END, "", len(sql), len(sql))
        walk = Reader(sql, [*found, goes_on, end], lower_names=lower_names)
        with suppress(UnreadError):
            rows = _rows(walk, database)
            return [ChangeRows(None)] if walk.now is goes_on else rows  # its table's name may go on, too
        return [ChangeRows(None)]
    try:
        walk = reader(sql, flavour, sql_mode, lower_names=lower_names)
    except UnreadError as reason:
        return [Unreadable(None, str(reason))]
    try:
        return _intents(walk, database, sql_mode)
    except UnreadError as reason:
        return [Unreadable(_names(walk, database), str(reason))]


def _intents(walk: Reader, database: str, sql_mode: int) -> list[Intent]:
    if walk.take("SET", "STATEMENT"):
        while not walk.ended and not walk.take("FOR"):
            walk.next()
        return _intents(walk, database, sql_mode)
    if walk.take("CREATE"):
        return _create(walk, database, sql_mode)
    if walk.take("ALTER"):
        return _alter(walk, database, sql_mode)
    if walk.take("DROP"):
        return _drop(walk, database)
    if walk.take("RENAME"):
        return _rename(walk, database)
    if walk.take("TRUNCATE"):
        walk.take("TABLE")
        return [TruncateTable(table_name(walk, database))]
    look = _kind([token.word or token.text for token in walk.items[:8] if token.mark is not Mark.END])
    if look is Kind.DML:
        return _rows(walk, database)
    return [Unreadable(None, "a statement of a kind that is not known")] if look is Kind.UNKNOWN else []


def _create(walk: Reader, database: str, sql_mode: int) -> list[Intent]:
    replaces = walk.take("OR", "REPLACE")
    if walk.take("TABLE"):
        return [_create_table(walk, database, sql_mode, replaces)]
    if walk.take_any("DATABASE", "SCHEMA"):
        if_not_exists(walk)
        return [_database(walk, walk.table_part(), replaces=replaces)]
    while walk.take_any("ONLINE", "OFFLINE"):
        pass
    unique = walk.take("UNIQUE")
    sort = walk.take_any("FULLTEXT", "SPATIAL", "VECTOR")
    if not walk.take("INDEX"):
        return _nothing(walk)
    absent = if_not_exists(walk)
    name = walk.name()
    if walk.take_any("USING", "TYPE"):
        walk.next()
    if not walk.take("ON"):
        raise UnreadError("CREATE INDEX without ON")
    table = table_name(walk, database)
    return [AlterTable(table, (AddKey(name, key_parts(walk), False, unique, sort, absent, replaces),))]


def _create_table(walk: Reader, database: str, sql_mode: int, replaces: bool) -> Intent:
    absent = if_not_exists(walk)
    name = table_name(walk, database)
    if walk.take("LIKE"):
        return CreateTable(name, table_name(walk, database), if_not_exists=absent, replace=replaces)
    start = walk.at
    if walk.sees_symbol("("):
        inner = walk.inside()
        if inner.take("LIKE"):
            return CreateTable(name, table_name(inner, database), if_not_exists=absent, replace=replaces)
        if inner.now.word not in ("SELECT", "WITH", "VALUES", "TABLE") or inner.ahead().mark is Mark.WORD:
            walk.at = start
            try:
                return _with_columns(walk, name, sql_mode, absent, replaces)
            except UnreadError as reason:
                doubts = (str(reason),)
                return CreateTable(name, if_not_exists=absent, replace=replaces, doubts=doubts, as_select=True)
    walk.at = start
    options, others = create_options(walk)
    return CreateTable(
        name,
        as_select=True,
        if_not_exists=absent,
        replace=replaces,
        charset=options.charset,
        collation=options.collation,
        doubts=("its columns are those of a SELECT",) if "SELECT" in others else ("no columns found",),
    )


def _with_columns(walk: Reader, name: TableName, sql_mode: int, absent: bool, replaces: bool) -> CreateTable:
    body = create_body(walk.inside(), sql_mode)
    options, others = create_options(walk)
    doubts = list(body.doubts)
    if "SELECT" in others:
        doubts.append("more of its columns are those of a SELECT")
    if "?" in others:
        doubts.append("an option that is not known")
    if "a charset behind a collation" in others:
        doubts.append("a charset behind a collation")
    if "VERSIONING" in others:
        doubts.append("a system-versioned table")
    return CreateTable(
        name,
        as_select="SELECT" in others,
        atomic="START TRANSACTION" in others,
        if_not_exists=absent,
        replace=replaces,
        columns=tuple((column, definition) for column, definition, _ in body.columns),
        keys=tuple(body.keys),
        charset=options.charset,
        collation=options.collation,
        doubts=tuple(doubts),
    )


def _database(walk: Reader, name: str, *, exists: bool = False, replaces: bool = False) -> Intent:
    charset = collation = ""
    while not walk.ended:
        walk.take("DEFAULT")
        if charset_words(walk):
            walk.symbol("=")
            word = walk.next()
            charset = "" if word.word == "DEFAULT" else charset_name(word.text)
        elif walk.take("COLLATE"):
            walk.symbol("=")
            collation = walk.next().text.lower()
        else:
            walk.next()
    return CreateDatabase(name, charset, collation, exists, replaces)


def _alter(walk: Reader, database: str, sql_mode: int) -> list[Intent]:
    ignores = False
    while word := walk.take_any("ONLINE", "OFFLINE", "IGNORE"):
        ignores |= word == "IGNORE"
    if walk.take_any("DATABASE", "SCHEMA"):
        named = walk.now.mark is Mark.NAME or walk.now.word not in (
            *("DEFAULT", "CHARACTER", "CHARSET", "CHAR", "COLLATE", "ENCRYPTION", "READ", "COMMENT"),
        )
        return [_database(walk, walk.table_part() if named else database, exists=True)]
    if not walk.take("TABLE"):
        return _nothing(walk)
    present = if_exists(walk)
    name = table_name(walk, database)
    if walk.take("WAIT"):
        walk.next()
    walk.take("NOWAIT")
    changes = alter_changes(walk, database, sql_mode)
    if ignores:  # rows that a new unique index does not take are gone, values that do not fit are cut
        changes = (*changes, RowsChange("ALTER IGNORE"))
    return [AlterTable(name, changes, present)]


def _drop(walk: Reader, database: str) -> list[Intent]:
    while walk.take_any("ONLINE", "OFFLINE"):
        pass
    if walk.take_any("DATABASE", "SCHEMA"):
        if_exists(walk)
        return [DropDatabase(walk.table_part())]
    if walk.take_any("TABLE", "TABLES"):
        present = if_exists(walk)
        names = [table_name(walk, database)]
        while walk.symbol(","):
            names.append(table_name(walk, database))
        return [DropTables(tuple(names), present)]
    if walk.take("INDEX"):
        present = if_exists(walk)
        index = walk.name()
        if not walk.take("ON"):
            raise UnreadError("DROP INDEX without ON")
        return [AlterTable(table_name(walk, database), (DropKey(index, present),))]
    return _nothing(walk)


def _rename(walk: Reader, database: str) -> list[Intent]:
    if not walk.take_any("TABLE", "TABLES"):
        return _nothing(walk)
    if_exists(walk)
    pairs: list[tuple[TableName, TableName]] = []
    while True:
        old = table_name(walk, database)
        if walk.take("WAIT"):
            walk.next()
        walk.take("NOWAIT")
        if not walk.take("TO"):
            raise UnreadError("RENAME TABLE without TO")
        pairs.append((old, table_name(walk, database)))
        if not walk.symbol(","):
            break
    if not walk.ended:
        raise UnreadError("RENAME TABLE")
    return [RenameTables(tuple(pairs))]


def _nothing(walk: Reader) -> list[Intent]:
    """Return no intents for what concerns no table, by the first look's measure."""
    look = _kind([token.word or token.text for token in walk.items[:8] if token.mark is not Mark.END])
    if look is Kind.HARMLESS:
        return []
    raise UnreadError("a statement of a kind that is not known")


def _rows(walk: Reader, database: str) -> list[Intent]:
    """Name the tables that a statement writes to, where that is plain to see."""
    if walk.take("DELETE", "FROM"):
        name = table_name(walk, database)
        return [TruncateTable(name) if walk.ended else ChangeRows((name,))]
    if walk.take_any("INSERT", "REPLACE"):
        while walk.take_any("LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE"):
            pass
        walk.take("INTO")
        return [ChangeRows((table_name(walk, database),))]
    if walk.take("LOAD"):
        while not walk.ended and not walk.take("INTO", "TABLE"):
            walk.next()
        return [ChangeRows((table_name(walk, database),))]
    if walk.take("UPDATE"):
        while walk.take_any("LOW_PRIORITY", "IGNORE"):
            pass
        name = table_name(walk, database)
        return [ChangeRows((name,))] if walk.sees("SET") else [ChangeRows(None)]
    return [ChangeRows(None)]


def _names(walk: Reader, database: str) -> tuple[TableName, ...] | None:
    """Return the table that ALTER or CREATE TABLE begins with, where the rest could not be read."""
    walk.at = 0
    walk.take_any("CREATE", "ALTER")
    while walk.take_any("OR", "REPLACE", "ONLINE", "OFFLINE", "IGNORE"):
        pass
    if not walk.take("TABLE"):
        return None
    if not if_exists(walk):
        if_not_exists(walk)
    try:
        return (table_name(walk, database),)
    except UnreadError:
        return None
