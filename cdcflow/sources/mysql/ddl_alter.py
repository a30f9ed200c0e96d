"""Reads the clauses of ALTER TABLE."""

from __future__ import annotations

from cdcflow.sources.mysql.ddl_columns import charset_name, charset_words, read_default, read_definition
from cdcflow.sources.mysql.ddl_intents import (
    AddColumn,
    AddForeignKey,
    Change,
    ChangeColumn,
    ConvertCharset,
    DropColumn,
    DropKey,
    Harmless,
    NotUnderstood,
    Place,
    RenameColumn,
    RenameKey,
    RenameTo,
    RowsChange,
    SetDefault,
)
from cdcflow.sources.mysql.ddl_parts import (
    column_with_place,
    create_body,
    if_exists,
    if_not_exists,
    key_of,
    option_of,
    position,
    rest,
    table_name,
)
from cdcflow.sources.mysql.ddl_tokens import Mark, Reader, UnreadError, words

_PARTITION_UPKEEP = words("ANALYZE CHECK OPTIMIZE REBUILD REPAIR COALESCE REORGANIZE")

_OF_PARTITIONS = _PARTITION_UPKEEP | words("ADD DROP TRUNCATE EXCHANGE DISCARD IMPORT CONVERT")


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
        key = _foreign_key(clause)
        if key is not None:
            changes.append(key)
        if alone:  # nothing else may follow: these are more names of partitions
            break
    return tuple(changes)


def _foreign_key(clause: Reader) -> AddForeignKey | None:
    """Return the foreign key that a clause adds, with a column or by itself."""
    words = [item.word for item in clause.items]
    if "REFERENCES" not in words:
        return None
    actions = {"DELETE": "NO ACTION", "UPDATE": "NO ACTION"}
    for at in range(words.index("REFERENCES"), len(words) - 2):
        if words[at] == "ON" and words[at + 1] in actions:
            two = words[at + 2] in ("SET", "NO") and at + 3 < len(words)
            actions[words[at + 1]] = " ".join(words[at + 2 : at + 4 if two else at + 3])
    return AddForeignKey(actions["DELETE"], actions["UPDATE"])


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
    found = _partitions(reader, database) or option_of(reader)
    if found is None:
        raise UnreadError(f"{reader.now.text} is not a clause that is known")
    return [found]


def _add(reader: Reader, sql_mode: int) -> list[Change]:
    key = key_of(reader)
    if key is not None:
        return [key]
    if reader.take("PARTITION"):
        return [rest(reader, "ADD PARTITION")]
    if reader.sees("SYSTEM", "VERSIONING") or reader.sees("PERIOD", "FOR"):
        raise UnreadError("a system-versioned table")
    reader.take("COLUMN")
    absent = if_not_exists(reader)
    if reader.sees_symbol("("):
        body = create_body(reader.inside(), sql_mode)
        columns = [AddColumn(name, definition, place, absent) for name, definition, place in body.columns]
        return [*columns, *body.keys]
    name, definition, place = column_with_place(reader, sql_mode)
    return [AddColumn(name, definition, place, absent)]


def _change(reader: Reader, sql_mode: int, *, renames: bool) -> list[Change]:
    reader.take("COLUMN")
    present = if_exists(reader)
    if reader.sees_symbol("("):  # MODIFY (a int, b int), which Oracle's users know
        raise UnreadError("several columns in parentheses")
    old = reader.name()
    new = reader.name() if renames else old
    definition = read_definition(reader, sql_mode)
    return [ChangeColumn(old, new, definition, position(reader, Place.KEPT), present)]


def _drop(reader: Reader) -> Change:
    if reader.take("PRIMARY", "KEY"):
        return DropKey("PRIMARY")
    if reader.take("FOREIGN", "KEY"):
        if_exists(reader)
        reader.name()
        return Harmless("DROP FOREIGN KEY")
    if reader.take("PARTITION"):
        if_exists(reader)
        return rest(reader, "DROP PARTITION", rows=True)
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
    rest(reader, "")
    return RowsChange("CONVERT PARTITION", other)


def _collate(reader: Reader) -> str:
    if reader.take("COLLATE"):
        reader.symbol("=")
        return reader.next().text.lower()
    return ""


def _partitions(reader: Reader, database: str) -> Change | None:
    if reader.take_any("DISCARD", "IMPORT"):
        return rest(reader, "DISCARD or IMPORT TABLESPACE", rows=True)
    if reader.take("TRUNCATE", "PARTITION"):
        return rest(reader, "TRUNCATE PARTITION", rows=True)
    if reader.take("EXCHANGE", "PARTITION"):
        reader.name()
        if not reader.take("WITH", "TABLE"):
            raise UnreadError("EXCHANGE PARTITION")
        other = table_name(reader, database)
        rest(reader, "")
        return RowsChange("EXCHANGE PARTITION", other)
    if reader.now.word in _PARTITION_UPKEEP and reader.ahead().word == "PARTITION":
        return rest(reader, f"{reader.now.word} PARTITION")
    if reader.sees("PARTITION", "BY") or reader.sees("REMOVE", "PARTITIONING") or reader.sees("UPGRADE"):
        return rest(reader, "partitioning")
    return None
