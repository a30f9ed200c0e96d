"""The pgoutput messages that are not rows: relations, truncates, logical messages. Rare, so plain Python.

Formats: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cdcflow.codecs.pgoutput_cy import MessageError

_UINT32 = struct.Struct(">I")
_RELATION_TAIL = struct.Struct(">cH")
_TYPE = struct.Struct(">Ii")
_TRUNCATE = struct.Struct(">IB")
_MESSAGE = struct.Struct(">BQ")


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A column as the log describes it: part of the replica identity or not, name, type oid, modifier."""

    key: bool
    name: str
    type_oid: int
    modifier: int


@dataclass(frozen=True, slots=True)
class Relation:
    """A table's shape as the log describes it before the first row of that shape."""

    oid: int
    schema: str
    table: str
    identity: str  # relreplident: d, n, f or i
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class Truncation:
    """A TRUNCATE of several tables."""

    oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """What an application wrote by `pg_logical_emit_message`."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


def relation(body: bytes) -> Relation:
    """Parse a Relation message behind its type byte. An empty schema name stands for pg_catalog.

    Raises:
        MessageError: it ends too early or holds text that is not UTF-8.
    """
    try:
        (oid,) = _UINT32.unpack_from(body, 0)
        schema, at = _string(body, 4)
        table, at = _string(body, at)
        identity, count = _RELATION_TAIL.unpack_from(body, at)
        at += _RELATION_TAIL.size
        columns = []
        for _ in range(count):
            flags = body[at]
            name, at = _string(body, at + 1)
            type_oid, modifier = _TYPE.unpack_from(body, at)
            at += _TYPE.size
            columns.append(RelationColumn(bool(flags & 1), name, type_oid, modifier))
        return Relation(oid, schema or "pg_catalog", table, identity.decode("ascii"), tuple(columns))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MessageError("malformed Relation message") from error


def truncation(body: bytes) -> Truncation:
    """Parse a Truncate message behind its type byte.

    Raises:
        MessageError: it ends too early.
    """
    try:
        count, options = _TRUNCATE.unpack_from(body, 0)
        oids = struct.unpack_from(f">{count}I", body, _TRUNCATE.size)
    except struct.error as error:
        raise MessageError("malformed Truncate message") from error
    return Truncation(oids, bool(options & 1), bool(options & 2))


def logical_message(body: bytes) -> LogicalMessage:
    """Parse a logical decoding Message behind its type byte.

    Raises:
        MessageError: it ends too early or its prefix is not UTF-8.
    """
    try:
        flags, lsn = _MESSAGE.unpack_from(body, 0)
        prefix, at = _string(body, _MESSAGE.size)
        (length,) = _UINT32.unpack_from(body, at)
    except (struct.error, UnicodeDecodeError) as error:
        raise MessageError("malformed logical decoding message") from error
    content = body[at + 4 : at + 4 + length]
    if len(content) != length:
        raise MessageError("logical decoding message ends inside its content")
    return LogicalMessage(bool(flags & 1), lsn, prefix, content)


def _string(body: bytes, at: int) -> tuple[str, int]:
    end = body.find(b"\0", at)
    if end < 0:
        raise MessageError("a name has no end")
    return body[at:end].decode(), end + 1
