"""How identifiers and text constants are written into PostgreSQL statements: always quoted."""

from __future__ import annotations

from cdcflow.model.schema import TableName


def ident(name: str) -> str:
    """Return the identifier quoted. Raises ValueError on an empty name or U+0000, which no server can hold."""
    if not name or "\0" in name:
        raise ValueError("an identifier is neither empty nor holds U+0000")
    return '"' + name.replace('"', '""') + '"'


def qualified(name: TableName) -> str:
    """Return `"schema"."table"`."""
    return f"{ident(name.schema)}.{ident(name.table)}"


def literal(text: str) -> str:
    """Return the text as a string constant.

    Right under `standard_conforming_strings = on`, which every connection of `connect` has, and in the
    replication commands, whose grammar knows no other kind. Raises ValueError on U+0000.
    """
    if "\0" in text:
        raise ValueError("PostgreSQL text never holds U+0000")
    return "'" + text.replace("'", "''") + "'"
