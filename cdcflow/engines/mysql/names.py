"""How identifiers and text constants are written into MySQL and MariaDB statements: always quoted."""

from __future__ import annotations

from hashlib import blake2b

from cdcflow.model.schema import TableName

# `\b`, `\t` and the like stay as they are: only what would end the constant, or be read as an escape, is escaped.
_ESCAPES = str.maketrans({"'": "''", "\\": "\\\\", "\0": "\\0", "\x1a": "\\Z"})


def ident(name: str) -> str:
    """Return the identifier quoted. Raises ValueError on an empty name or U+0000, which no server can hold."""
    if not name or "\0" in name:
        raise ValueError("an identifier is neither empty nor holds U+0000")
    return "`" + name.replace("`", "``") + "`"


def qualified(name: TableName) -> str:
    """Return `` `database`.`table` ``."""
    return f"{ident(name.schema)}.{ident(name.table)}"


def literal(text: str) -> str:
    """Return the text as a string constant.

    Right where the session's sql_mode has neither NO_BACKSLASH_ESCAPES nor ANSI_QUOTES, as on every connection of
    `connect`.
    """
    return "'" + text.translate(_ESCAPES) + "'"


def table_id(name: TableName) -> int:
    """Return the number that stands for a table's name: neither engine has one that survives a restart. 63 bits."""
    digest = blake2b(f"{name.schema}\0{name.table}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
