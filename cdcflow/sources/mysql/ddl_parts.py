"""What ALTER TABLE and CREATE TABLE have in common: names, columns, keys, table options."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdcflow.model.schema import TableName
from cdcflow.sources.mysql.ddl_columns import charset_name, charset_words, read_definition
from cdcflow.sources.mysql.ddl_intents import (
    AddKey,
    Change,
    DefaultCharset,
    Definition,
    Harmless,
    KeyPart,
    Place,
    Position,
    RowsChange,
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


def table_name(reader: Reader, database: str) -> TableName:
    """Read `table` or `database.table`. Raises UnreadError."""
    if reader.symbol("."):  # `.t` is a table of the current database
        return TableName(database, reader.table_part())
    first = reader.table_part()
    if reader.symbol("."):
        return TableName(first, reader.table_part())
    return TableName(database, first)


def if_exists(reader: Reader) -> bool:
    """Go past IF EXISTS, or stay."""
    return reader.take("IF", "EXISTS")


def if_not_exists(reader: Reader) -> bool:
    """Go past IF NOT EXISTS, or stay."""
    return reader.take("IF", "NOT", "EXISTS")


def column_with_place(reader: Reader, sql_mode: int) -> tuple[str, Definition, Position]:
    """Read a column's name, definition and place. Raises UnreadError."""
    name = reader.name()
    while reader.symbol("."):  # `table.column` is allowed
        name = reader.name()
    definition = read_definition(reader, sql_mode)
    return name, definition, position(reader, Place.LAST)


def position(reader: Reader, otherwise: Place) -> Position:
    """Read FIRST or AFTER; `otherwise` where neither is there."""
    if reader.take("FIRST"):
        return Position(Place.FIRST)
    if reader.take("AFTER"):
        return Position(Place.AFTER, reader.name())
    return Position(otherwise)


def rest(reader: Reader, what: str, *, rows: bool = False) -> Change:
    """Go to the end of the clause."""
    reader.at = len(reader.items) - 1
    return RowsChange(what) if rows else Harmless(what)


def option_of(reader: Reader) -> Change | None:
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


def key_of(reader: Reader) -> Change | None:
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
        return AddKey("PRIMARY", key_parts(reader), primary=True)
    if reader.take("UNIQUE"):
        reader.take_any("INDEX", "KEY")
        absent = if_not_exists(reader)
        if not reader.sees_symbol("(") and not reader.sees("USING") and not reader.sees("TYPE"):
            name = reader.name()
        return AddKey(name, key_parts(reader), if_not_exists=absent)
    if reader.take("FOREIGN", "KEY"):
        return rest(reader, "ADD FOREIGN KEY")
    if reader.take("CHECK"):
        if reader.inside().now.word == "JSON_VALID":  # which makes a text MariaDB's JSON
            rest(reader, "")
            return Unsure("a check of JSON")
        return rest(reader, "ADD CHECK")
    if reader.now.word in ("FULLTEXT", "SPATIAL", "INDEX", "KEY") or _is_vector_index(reader):
        kind = reader.take_any("FULLTEXT", "SPATIAL", "VECTOR")
        reader.take_any("INDEX", "KEY")
        absent = if_not_exists(reader)
        if not reader.sees_symbol("(") and not reader.sees("USING") and not reader.sees("TYPE"):
            name = reader.name()
        return AddKey(name, key_parts(reader), unique=False, kind=kind, if_not_exists=absent)
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
            size = part.inside().next().text
            if not size.isdecimal():
                raise UnreadError("a prefix's length is not a number")
            length = int(size)
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


def create_body(reader: Reader, sql_mode: int) -> Body:
    """Read columns and keys of CREATE TABLE, or of ADD (..), from between the parentheses. Raises UnreadError."""
    body = Body()
    for part in reader.split():
        if part.sees("PERIOD", "FOR") or part.sees("LIKE"):
            raise UnreadError("a system-versioned table")
        key = key_of(part)
        if isinstance(key, AddKey):
            body.keys.append(key)
        elif isinstance(key, Unsure):
            body.doubts.append(key.what)
        elif key is None:
            body.columns.append(column_with_place(part, sql_mode))
            if not part.ended:
                raise UnreadError(f"{part.now.text} behind a column")
    return body


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
        option = option_of(reader)
        if option is None:
            others.append("?")
            break
        if isinstance(option, DefaultCharset):
            if option.charset and collation:
                others.append("a charset behind a collation")
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
