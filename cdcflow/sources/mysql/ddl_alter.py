"""Reads the clauses of ALTER TABLE and the body of CREATE TABLE."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdcflow.model.schema import TableName
from cdcflow.sources.mysql.ddl_columns import charset_name, charset_words, read_default, read_definition
from cdcflow.sources.mysql.ddl_intents import (
    AddColumn,
    AddKey,
    Change,
    ChangeColumn,
    ConvertCharset,
    DefaultCharset,
    Definition,
    DropColumn,
    DropKey,
    Harmless,
    KeyPart,
    NotUnderstood,
    Place,
    Position,
    RenameColumn,
    RenameKey,
    RenameTo,
    RowsChange,
    SetDefault,
    Unsure,
)
from cdcflow.sources.mysql.ddl_tokens import Mark, Reader, UnreadError, words

# Table options that change neither the shape nor the rows; each has a value behind it.
_OPTIONS = words(
    "ENGINE TYPE AUTO_INCREMENT AUTOEXTEND_SIZE AVG_ROW_LENGTH CHECKSUM TABLE_CHECKSUM COMMENT COMPRESSION CONNECTION "
    "DELAY_KEY_WRITE ENCRYPTION ENGINE_ATTRIBUTE INSERT_METHOD KEY_BLOCK_SIZE MAX_ROWS MIN_ROWS PACK_KEYS PASSWORD "
    "ROW_FORMAT SECONDARY_ENGINE SECONDARY_ENGINE_ATTRIBUTE STATS_AUTO_RECALC STATS_PERSISTENT STATS_SAMPLE_PAGES "
    "TABLESPACE STORAGE UNION ALGORITHM LOCK TRANSACTIONAL PAGE_CHECKSUM PAGE_COMPRESSED PAGE_COMPRESSION_LEVEL "
    "ENCRYPTED ENCRYPTION_KEY_ID IETF_QUOTES SEQUENCE WAIT"
)
_BARE = frozenset(("FORCE", "NOWAIT", "SECONDARY_LOAD", "SECONDARY_UNLOAD"))
_PARTITION_UPKEEP = words("ANALYZE CHECK OPTIMIZE REBUILD REPAIR COALESCE REORGANIZE")

_OF_PARTITIONS = _PARTITION_UPKEEP | words("ADD DROP TRUNCATE EXCHANGE DISCARD IMPORT CONVERT")


def table_name(reader: Reader, database: str) -> TableName:
    """Read `table` or `database.table`. Raises UnreadError."""
    if reader.symbol("."):  # `.t` is a table of the current database
        return TableName(database, reader.name())
    first = reader.name()
    if reader.symbol("."):
        return TableName(first, reader.name())
    return TableName(database, first)


def if_exists(reader: Reader) -> bool:
    """Go past IF EXISTS, or stay."""
    return reader.take("IF", "EXISTS")


def if_not_exists(reader: Reader) -> bool:
    """Go past IF NOT EXISTS, or stay."""
    return reader.take("IF", "NOT", "EXISTS")


def alter_changes(reader: Reader, database: str, sql_mode: int) -> tuple[Change, ...]:
    """Read all clauses from behind the table's name.

    Raises:
        UnreadError: the clauses could not even be told apart.
    """
    changes: list[Change] = []
    ordering = False
    for clause in reader.split():
        if ordering and _is_order_column(clause):
            continue
        ordering = False
        if clause.ended:
            continue
        start = clause.at
        alone = _is_of_partitions(clause)
        try:
            while not clause.ended:
                before = clause.at
                if clause.take("ORDER", "BY"):
                    ordering = True
                    _is_order_column(clause)
                    changes.append(Harmless("ORDER BY"))
                    continue
                changes.extend(_clause(clause, database, sql_mode))
                if clause.at == before:
                    raise UnreadError("no progress")
        except UnreadError:
            clause.at = start
            changes.append(NotUnderstood(clause.text()))
        if alone:  # nothing else may follow: these are more names of partitions
            break
    return tuple(changes)


def _is_of_partitions(clause: Reader) -> bool:
    """Whether the clause is about partitions that it names; commas stand between the names, too."""
    return clause.now.word in _OF_PARTITIONS and clause.ahead().word == "PARTITION"


def _is_order_column(clause: Reader) -> bool:
    """Go past one column of ORDER BY; a clause that is anything else is left as it is."""
    start = clause.at
    if clause.now.mark in (Mark.WORD, Mark.NAME):
        clause.next()
        while clause.symbol("."):
            clause.next()
        clause.take_any("ASC", "DESC")
        if clause.ended:
            return True
    clause.at = start
    return False


def _clause(reader: Reader, database: str, sql_mode: int) -> list[Change]:
    word = reader.now.word
    if word == "ADD":
        reader.next()
        return _add(reader, sql_mode)
    if word == "DROP":
        reader.next()
        return [_drop(reader)]
    if word in ("CHANGE", "MODIFY"):
        reader.next()
        return _change(reader, sql_mode, renames=word == "CHANGE")
    if word == "ALTER":
        reader.next()
        return [_alter(reader)]
    if word == "RENAME":
        reader.next()
        return [_rename(reader, database)]
    if word == "CONVERT":
        reader.next()
        return [_convert(reader, database)]
    found = _partitions(reader, database) or _option(reader)
    if found is None:
        raise UnreadError(f"{reader.now.text} is not a clause that is known")
    return [found]


def _add(reader: Reader, sql_mode: int) -> list[Change]:
    key = _key(reader)
    if key is not None:
        return [key]
    if reader.take("PARTITION"):
        return [_rest(reader, "ADD PARTITION")]
    if reader.sees("SYSTEM", "VERSIONING") or reader.sees("PERIOD", "FOR"):
        raise UnreadError("a system-versioned table")
    reader.take("COLUMN")
    absent = if_not_exists(reader)
    if reader.sees_symbol("("):
        body = _body(reader.inside(), sql_mode)
        columns = [AddColumn(name, definition, place, absent) for name, definition, place in body.columns]
        return [*columns, *body.keys]
    name, definition, place = _column(reader, sql_mode)
    return [AddColumn(name, definition, place, absent)]


def _column(reader: Reader, sql_mode: int) -> tuple[str, Definition, Position]:
    name = reader.name()
    while reader.symbol("."):  # `table.column` is allowed
        name = reader.name()
    definition = read_definition(reader, sql_mode)
    return name, definition, _position(reader, Place.LAST)


def _position(reader: Reader, otherwise: Place) -> Position:
    if reader.take("FIRST"):
        return Position(Place.FIRST)
    if reader.take("AFTER"):
        return Position(Place.AFTER, reader.name())
    return Position(otherwise)


def _change(reader: Reader, sql_mode: int, *, renames: bool) -> list[Change]:
    reader.take("COLUMN")
    present = if_exists(reader)
    if reader.sees_symbol("("):  # MODIFY (a int, b int), which Oracle's users know
        raise UnreadError("several columns in parentheses")
    old = reader.name()
    new = reader.name() if renames else old
    definition = read_definition(reader, sql_mode)
    return [ChangeColumn(old, new, definition, _position(reader, Place.KEPT), present)]


def _drop(reader: Reader) -> Change:
    if reader.take("PRIMARY", "KEY"):
        return DropKey("PRIMARY")
    if reader.take("FOREIGN", "KEY"):
        if_exists(reader)
        reader.name()
        return Harmless("DROP FOREIGN KEY")
    if reader.take("PARTITION"):
        if_exists(reader)
        return _rest(reader, "DROP PARTITION", rows=True)
    if reader.sees("SYSTEM", "VERSIONING") or reader.sees("PERIOD", "FOR"):
        raise UnreadError("a system-versioned table")
    if reader.take_any("INDEX", "KEY"):
        present = if_exists(reader)
        return DropKey(reader.name(), present)
    if reader.now.word in ("CHECK", "CONSTRAINT") and reader.ahead().mark is not Mark.END:
        kind = reader.next().word
        present = if_exists(reader)
        name = reader.name()
        return DropKey(name, present, constraint=True) if kind == "CONSTRAINT" else Harmless("DROP CHECK")
    reader.take("COLUMN")
    present = if_exists(reader)
    name = reader.name()
    reader.take_any("RESTRICT", "CASCADE")
    return DropColumn(name, present)


def _alter(reader: Reader) -> Change:
    if reader.take_any("INDEX", "KEY"):
        if_exists(reader)
        reader.name()
        if not reader.take("NOT", "IGNORED") and not reader.take_any("VISIBLE", "INVISIBLE", "IGNORED"):
            raise UnreadError("ALTER INDEX")
        return Harmless("ALTER INDEX")
    if reader.now.word in ("CHECK", "CONSTRAINT") and reader.ahead().mark in (Mark.WORD, Mark.NAME):
        reader.next()
        reader.name()
        reader.take("NOT")
        if not reader.take("ENFORCED"):
            raise UnreadError("ALTER CONSTRAINT")
        return Harmless("ALTER CHECK")
    reader.take("COLUMN")
    present = if_exists(reader)
    name = reader.name()
    if reader.take("DROP", "DEFAULT"):
        return SetDefault(name, None, present)
    if reader.take("SET", "VISIBLE") or reader.take("SET", "INVISIBLE"):
        return Harmless("ALTER COLUMN SET VISIBLE")
    if reader.take("SET", "DEFAULT"):
        return SetDefault(name, read_default(reader), present)
    raise UnreadError("ALTER COLUMN")


def _rename(reader: Reader, database: str) -> Change:
    if reader.take_any("INDEX", "KEY"):
        present = if_exists(reader)
        old = reader.name()
        if not reader.take("TO"):
            raise UnreadError("RENAME INDEX without TO")
        return RenameKey(old, reader.name(), present)
    if reader.take("COLUMN"):
        present = if_exists(reader)
        old = reader.name()
        if not reader.take("TO"):
            raise UnreadError("RENAME COLUMN without TO")
        return RenameColumn(old, reader.name(), present)
    if not reader.take_any("TO", "AS"):
        reader.symbol("=")
    return RenameTo(table_name(reader, database))


def _convert(reader: Reader, database: str) -> Change:
    if reader.take("TO") and charset_words(reader):
        word = reader.next()
        charset = "" if word.word == "DEFAULT" else charset_name(word.text)
        return ConvertCharset(charset, _collate(reader))
    if reader.take("PARTITION"):
        reader.name()
        if not reader.take("TO", "TABLE"):
            raise UnreadError("CONVERT PARTITION")
        other = table_name(reader, database)
    elif reader.take("TABLE"):
        other = table_name(reader, database)
    else:
        raise UnreadError("CONVERT")
    _rest(reader, "")
    return RowsChange("CONVERT PARTITION", other)


def _collate(reader: Reader) -> str:
    if reader.take("COLLATE"):
        reader.symbol("=")
        return reader.next().text.lower()
    return ""


def _partitions(reader: Reader, database: str) -> Change | None:
    if reader.take_any("DISCARD", "IMPORT"):
        return _rest(reader, "DISCARD or IMPORT TABLESPACE", rows=True)
    if reader.take("TRUNCATE", "PARTITION"):
        return _rest(reader, "TRUNCATE PARTITION", rows=True)
    if reader.take("EXCHANGE", "PARTITION"):
        reader.name()
        if not reader.take("WITH", "TABLE"):
            raise UnreadError("EXCHANGE PARTITION")
        other = table_name(reader, database)
        _rest(reader, "")
        return RowsChange("EXCHANGE PARTITION", other)
    if reader.now.word in _PARTITION_UPKEEP and reader.ahead().word == "PARTITION":
        return _rest(reader, f"{reader.now.word} PARTITION")
    if reader.sees("PARTITION", "BY") or reader.sees("REMOVE", "PARTITIONING") or reader.sees("UPGRADE"):
        return _rest(reader, "partitioning")
    return None


def _rest(reader: Reader, what: str, *, rows: bool = False) -> Change:
    """Go to the end of the clause."""
    reader.at = len(reader.items) - 1
    return RowsChange(what) if rows else Harmless(what)


def _option(reader: Reader) -> Change | None:
    """Read one table option: `ENGINE = InnoDB`, `DEFAULT CHARSET utf8mb4`, `COMMENT 'x'`."""
    for first in ("DISABLE", "ENABLE"):
        if reader.take(first, "KEYS"):
            return Harmless("KEYS")
    for first in ("WITH", "WITHOUT"):
        if reader.take(first, "VALIDATION"):
            return Harmless("VALIDATION")
    if reader.take_any(*_BARE):
        return Harmless("FORCE")
    start = reader.at
    reader.take("DEFAULT")
    if charset_words(reader):
        reader.symbol("=")
        charset = reader.next()
        return DefaultCharset("" if charset.word == "DEFAULT" else charset_name(charset.text), "")
    if reader.take("COLLATE"):
        reader.symbol("=")
        return DefaultCharset("", reader.next().text.lower())
    reader.at = start
    if reader.take("INDEX", "DIRECTORY") or reader.take("DATA", "DIRECTORY"):
        reader.symbol("=")
        reader.next()
        return Harmless("DIRECTORY")
    if reader.take("START", "TRANSACTION"):
        return Harmless("START TRANSACTION")
    word = reader.now.word
    if word in _OPTIONS or (reader.now.mark in (Mark.WORD, Mark.NAME) and reader.ahead().text == "="):
        reader.next()
        reader.symbol("=")
        if reader.sees_symbol("("):
            reader.inside()
        else:
            reader.next()
        return Harmless(word or "option")
    return None


def _key(reader: Reader) -> Change | None:
    """Read an index or constraint of a table, None where a column stands here."""
    start = reader.at
    name = ""
    constrained = False
    if reader.now.word == "CONSTRAINT":
        reader.next()
        constrained = True
        if reader.now.word not in ("PRIMARY", "UNIQUE", "FOREIGN", "CHECK"):
            if_not_exists(reader)
            name = reader.name()
    if reader.take("PRIMARY", "KEY"):
        return AddKey("PRIMARY", _parts(reader), primary=True)
    if reader.take("UNIQUE"):
        reader.take_any("INDEX", "KEY")
        absent = if_not_exists(reader)
        if not reader.sees_symbol("(") and not reader.sees("USING") and not reader.sees("TYPE"):
            name = reader.name()
        return AddKey(name, _parts(reader), if_not_exists=absent)
    if reader.take("FOREIGN", "KEY"):
        return _rest(reader, "ADD FOREIGN KEY")
    if reader.take("CHECK"):
        if reader.inside().now.word == "JSON_VALID":  # which makes a text MariaDB's JSON
            _rest(reader, "")
            return Unsure("a check of JSON")
        return _rest(reader, "ADD CHECK")
    if reader.now.word in ("FULLTEXT", "SPATIAL", "INDEX", "KEY") or _is_vector_index(reader):
        kind = reader.take_any("FULLTEXT", "SPATIAL", "VECTOR")
        reader.take_any("INDEX", "KEY")
        absent = if_not_exists(reader)
        if not reader.sees_symbol("(") and not reader.sees("USING") and not reader.sees("TYPE"):
            name = reader.name()
        return AddKey(name, _parts(reader), unique=False, kind=kind, if_not_exists=absent)
    if constrained:
        raise UnreadError("a constraint of a kind that is not known")
    reader.at = start
    return None


def _is_vector_index(reader: Reader) -> bool:
    """Whether VECTOR, which is no reserved word, begins an index and not a column of that name."""
    if reader.now.word != "VECTOR":
        return False
    if reader.ahead().word in ("INDEX", "KEY"):
        return True
    steps = 1 if reader.ahead().text == "(" else 2
    return reader.ahead(steps).text == "(" and reader.ahead(steps + 1).mark is not Mark.NUMBER


def key_parts(reader: Reader) -> tuple[KeyPart, ...]:
    """Read the list of an index's parts and its options, to the end. Raises UnreadError."""
    return _parts(reader)


def _parts(reader: Reader) -> tuple[KeyPart, ...]:
    if not reader.sees_symbol("("):
        if reader.now.word not in ("USING", "TYPE"):
            reader.name()  # ADD PRIMARY KEY name (..)
        if reader.take_any("USING", "TYPE"):
            reader.next()
    parts: list[KeyPart] = []
    for part in reader.inside().split():
        if part.sees_symbol("("):
            parts.append(KeyPart(""))
            continue
        column, length = part.name(), 0
        if part.sees_symbol("("):
            length = int(part.inside().next().text)
        parts.append(KeyPart(column, length, part.take("DESC")))
    while not reader.ended and not reader.sees("PARTITION", "BY"):
        reader.next()
    return tuple(parts)


@dataclass(slots=True)
class Body:
    """What stands between the parentheses of CREATE TABLE."""

    columns: list[tuple[str, Definition, Position]] = field(default_factory=list)
    keys: list[AddKey] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def _body(reader: Reader, sql_mode: int) -> Body:
    body = Body()
    for part in reader.split():
        if part.sees("PERIOD", "FOR") or part.sees("LIKE"):
            raise UnreadError("a system-versioned table")
        key = _key(part)
        if isinstance(key, AddKey):
            body.keys.append(key)
        elif isinstance(key, Unsure):
            body.doubts.append(key.what)
        elif key is None:
            body.columns.append(_column(part, sql_mode))
            if not part.ended:
                raise UnreadError(f"{part.now.text} behind a column")
    return body


def create_body(reader: Reader, sql_mode: int) -> Body:
    """Read columns and keys of CREATE TABLE from between its parentheses. Raises UnreadError."""
    return _body(reader, sql_mode)


def create_options(reader: Reader) -> tuple[DefaultCharset, list[str]]:
    """Read the options behind the body: the charset that they give, and the upper-case names of the others."""
    charset = collation = ""
    others: list[str] = []
    while not reader.ended:
        if reader.symbol(","):
            continue
        if reader.sees("PARTITION", "BY"):
            others.append("PARTITION BY")
            _skip_partitions(reader)
            continue
        if reader.now.word in ("SELECT", "AS", "WITH", "VALUES", "TABLE", "IGNORE", "REPLACE") or reader.sees_symbol(
            "("
        ):
            others.append("VERSIONING" if reader.sees("WITH", "SYSTEM", "VERSIONING") else "SELECT")
            break
        option = _option(reader)
        if option is None:
            others.append("?")
            break
        if isinstance(option, DefaultCharset):
            charset, collation = option.charset or charset, option.collation or collation
        elif isinstance(option, Harmless):
            others.append(option.what)
    return DefaultCharset(charset, collation), others


def _skip_partitions(reader: Reader) -> None:
    """Go past a partitioning; a SELECT may follow it."""
    while not reader.ended and reader.now.word not in ("SELECT", "AS", "IGNORE", "REPLACE"):
        if reader.sees_symbol("("):
            reader.inside()
        else:
            reader.next()
