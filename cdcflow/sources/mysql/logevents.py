"""The log events that come once in a while, as values: pure functions over an event's body.

Formats: https://dev.mysql.com/doc/dev/mysql-server/latest/classBinary__log__event.html (and the classes beside it);
MariaDB's own: https://mariadb.com/docs/server/reference/clientserver-protocol/replication-protocol
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final, cast

import zstandard

from cdcflow.codecs.binlog_cy import MessageError

STOP: Final = 3
QUERY: Final = 2
ROTATE: Final = 4
EXECUTE_LOAD: Final = 18
FORMAT_DESCRIPTION: Final = 15
TABLE_MAP: Final = 19
INCIDENT: Final = 26
HEARTBEAT: Final = 27
XA_PREPARE: Final = 38
PAYLOAD: Final = 40
HEARTBEAT_V2: Final = 41
GTID_TAGGED: Final = 42
MARIADB_GTID: Final = 162
MARIADB_START_ENCRYPTION: Final = 164
MARIADB_QUERY_COMPRESSED: Final = 165

# Parameters of a statement that follows, which is looked at itself; texts for people; the server's own bookkeeping.
# Blocks of a file for a LOAD DATA that follows as EXECUTE_LOAD.
HARMLESS: Final = frozenset({STOP, 5, 9, 11, 13, 14, 17, 29, 35, 36, 37, 160, 161, 163, MARIADB_START_ENCRYPTION})

# An event of another type with this flag may be passed by without understanding it.
IGNORABLE: Final = 0x80

# What LOAD DATA has in its head beside a query's fields: the file's number, two places in the text, duplicates.
_LOAD_FIELDS: Final = 13

_CHECKSUM_CRC32: Final = 1
_MOST_UNPACKED: Final = 1 << 30
_PAYLOAD_PIECE: Final = 1 << 20

# Status variables of a query event:
# https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Query__event.html
_SQL_MODE: Final = 1
_CLIENT: Final = 4
_EXPLICIT_TIMESTAMPS: Final = 16
_UTF8MB4: Final = 18

# How long each status variable of a query event is; text and lists are read apart.
_STATUS_SIZES: Final = {
    0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 14: 3, 16: 1, 17: 8, 18: 2, 19: 1, 20: 1, 128: 3, 129: 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Session:
    """What a statement's event says of its session.

    charset: the number of the collation that the statement's text is in, 0 where it is not said.
    explicit_timestamps: None where it is not said. utf8mb4: the number of that charset's default collation, or 0.
    """

    charset: int = 0
    sql_mode: int = 0
    explicit_timestamps: bool | None = None
    utf8mb4: int = 0


@dataclass(frozen=True, slots=True)
class Query:
    """A statement, and what of its session it depends on."""

    database: str
    sql: bytes
    session: Session
    error: int


@dataclass(frozen=True, slots=True)
class MariadbGtid:
    """MariaDB's beginning of a transaction. `standalone`: the event that follows is all of it."""

    domain: int
    number: int
    standalone: bool
    starts_alter: bool
    rolls_alter_back: bool
    prepared_xa: bool
    completed_xa: bool


def rotate(body: bytes) -> tuple[str, int]:
    """Return the log file that comes next and the place in it."""
    if len(body) < 9:
        raise MessageError("a rotate event is too short")
    return _word(body[8:].rstrip(b"\0")), int.from_bytes(body[:8], "little")


def heartbeat(kind: int, body: bytes) -> tuple[str, int]:
    """Return the log file and the place where the server is; 0 where the event does not say the place."""
    if kind == HEARTBEAT:
        return _word(body), 0
    name, place, at = "", 0, 0
    while at < len(body) and body[at]:
        field = body[at]
        size, at = _packed(body, at + 1)
        value = body[at : at + size]
        at += size
        if field == 1:
            name = _word(value)
        elif field == 2:
            place, _ = _packed(value, 0)
    return name, place


def has_checksums(body: bytes) -> bool:
    """Read a format description: whether the events of its file end in checksums.

    Raises:
        MessageError: a kind of log or of checksum that is not known.
    """
    if len(body) < 57 or int.from_bytes(body[:2], "little") != 4:
        raise MessageError("the log is of a version that is not known (not 4)")
    if body[56] != 19:
        raise MessageError(f"event headers of {body[56]} bytes, not 19")
    kind = body[-5]
    if kind not in (0, _CHECKSUM_CRC32):
        raise MessageError(f"checksums of kind {kind}")
    return kind == _CHECKSUM_CRC32


def query(kind: int, body: bytes) -> Query:
    """Read a statement, MariaDB's compressed one and LOAD DATA too."""
    head = 13 + (_LOAD_FIELDS if kind == EXECUTE_LOAD else 0)
    if len(body) < head:
        raise MessageError("a query event is too short")
    database_size, error = body[8], int.from_bytes(body[9:11], "little")
    status_end = head + int.from_bytes(body[11:13], "little")
    database = body[status_end : status_end + database_size]
    start = status_end + database_size + 1
    if start > len(body):
        raise MessageError("a query event ends before its statement")
    session = _session(body[head:status_end])
    sql = body[start:]
    return Query(
        database.decode("utf-8", "replace"),
        _unpacked(sql) if kind == MARIADB_QUERY_COMPRESSED else sql,
        session,
        error,
    )


def refusal(body: bytes) -> str:
    """Return the server's words in an error packet."""
    text = body[9:] if body[3:4] == b"#" else body[3:]
    return text.decode("utf-8", "replace")


def _session(body: bytes) -> Session:
    """Read the status variables of a query event."""
    found: dict[int, int] = {}
    at = 0
    while at < len(body):
        kind = body[at]
        at += 1
        if kind in _STATUS_SIZES:
            size = _STATUS_SIZES[kind]
            # Of the three collations in 4 the first is the client's.
            found[kind] = int.from_bytes(body[at : at + (2 if kind == _CLIENT else size)], "little")
            at += size
        elif kind in (2, 5, 6):  # catalog (with a zero behind it in 2) and time zone
            at += 1 + body[at] + (kind == 2)
        elif kind == 11:  # who it runs as: user, host
            at += 1 + body[at]
            at += 1 + body[at]
        elif kind == 12:  # the databases that it touches
            count, at = body[at], at + 1
            for _ in range(count if count < 254 else 0):
                at = body.index(b"\0", at) + 1
        else:  # newer than this reader
            break
    explicit = found.get(_EXPLICIT_TIMESTAMPS)
    return Session(
        found.get(_CLIENT, 0),
        found.get(_SQL_MODE, 0),
        None if explicit is None else bool(explicit),
        found.get(_UTF8MB4, 0),
    )


def mariadb_gtid(body: bytes) -> MariadbGtid:
    """Read the beginning of a MariaDB transaction."""
    if len(body) < 13:
        raise MessageError("a GTID event is too short")
    flags, at = body[12], 13
    if flags & 0x02:  # with the number of the group that was committed together
        at += 8
    prepared, completed = bool(flags & 0x40), bool(flags & 0x80)
    if prepared or completed:
        if at + 6 > len(body):
            raise MessageError("a GTID event ends inside its XA name")
        at += 6 + body[at + 4] + body[at + 5]
    extra = body[at] if at < len(body) else 0
    if body[7] & 0x80:
        raise MessageError("a GTID whose number is larger than any")
    return MariadbGtid(
        int.from_bytes(body[8:12], "little"),
        int.from_bytes(body[:8], "little"),
        bool(flags & 0x01),
        bool(extra & 0x02),
        bool(extra & 0x08),
        prepared,
        completed,
    )


def tagged_gtid(body: bytes) -> tuple[str, int, int]:
    """Return (source with its tag, number, commit time in microseconds) of a tagged GTID event.

    The body is a list of numbered fields behind three numbers: version, size, last field that must be understood.
    https://dev.mysql.com/doc/dev/mysql-server/latest/PageLibsMysqlSerialization.html
    """
    at = 0
    for _ in range(3):
        _, at = _varlen(body, at)
    source, tag, number, commit_us = bytearray(), "", 0, 0
    while at < len(body):
        field, at = _varlen(body, at)
        if field == 1:
            for _ in range(16):
                value, at = _varlen(body, at)
                source.append(value & 0xFF)
        elif field == 2:
            number, at = _signed_varlen(body, at)
        elif field == 3:
            size, at = _varlen(body, at)
            tag, at = _word(body[at : at + size]), at + size
        elif field in (4, 5):
            _, at = _signed_varlen(body, at)
        elif field == 6:
            commit_us, at = _varlen(body, at)
        elif field == 0:
            _, at = _varlen(body, at)
        else:
            break
    if len(source) != 16 or not 0 < number < 1 << 63 or commit_us >= 1 << 63:
        raise MessageError("a tagged GTID event without a GTID")
    name = str(uuid.UUID(bytes=bytes(source)))
    return (f"{name}:{tag}" if tag else name), number, commit_us


def payload(body: list[bytes]) -> Iterator[bytes]:
    """Yield the events of a compressed transaction, in pieces that may end within an event.

    body: what the decoder handed over. It is emptied on the way: there is no room for all of it beside what it becomes.

    Raises:
        MessageError: it is compressed in another way than zstd, or damaged.
    """
    body.reverse()
    head = body.pop() if body else b""
    kind, size, at = 0, -1, 0
    while True:
        field, at = _packed(head, at)
        if field == 0:
            break
        length, at = _packed(head, at)
        value, _ = _packed(head, at)
        at += length
        if field == 1:
            size = value
        elif field == 2:
            kind = value
    if at < len(head):
        body.append(head[at:])
    if size != sum(map(len, body)):
        raise MessageError("a compressed transaction has another size than it says")
    if kind == 255:
        while body:
            yield body.pop()
        return
    if kind != 0:
        raise MessageError(f"a transaction compressed in an unknown way ({kind})")
    source = cast(IO[bytes], _Pieces(body))
    try:
        with zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True) as reader:
            while piece := reader.read(_PAYLOAD_PIECE):
                yield piece
    except zstandard.ZstdError as error:
        raise MessageError(f"a compressed transaction cannot be unpacked: {error}") from None


class _Pieces:
    """A list of bytes, last first, as a file that is emptied."""

    def __init__(self, left: list[bytes]) -> None:
        self._left = left

    def read(self, size: int = -1) -> bytes:
        """Return one of them, however long; b"" at the end."""
        return self._left.pop() if self._left else b""


def _unpacked(packed: bytes) -> bytes:
    """Return the statement of a compressed query event: see `codecs.binlog_cy` for the form."""
    if not packed or not packed[0] & 0x80 or packed[0] & 0x70:
        raise MessageError("a statement compressed in an unknown way")
    count = packed[0] & 0x07
    size = int.from_bytes(packed[1 : 1 + count], "big")
    try:
        sql = zlib.decompressobj().decompress(packed[1 + count :], min(size, _MOST_UNPACKED) + 1)
    except zlib.error as error:
        raise MessageError(f"a compressed statement cannot be unpacked: {error}") from None
    if len(sql) != size:
        raise MessageError("a compressed statement has another size than it says")
    return sql


def _word(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise MessageError("a name that is not UTF-8") from None


def _packed(body: bytes, at: int) -> tuple[int, int]:
    """Read a length-encoded number: 1 byte up to 250; 252, 253, 254 announce 2, 3, 8 bytes."""
    if at >= len(body):
        raise MessageError("an event ends inside a number")
    first = body[at]
    size = {252: 2, 253: 3, 254: 8}.get(first, 0)
    if not size:
        return first, at + 1
    if at + 1 + size > len(body):
        raise MessageError("an event ends inside a number")
    return int.from_bytes(body[at + 1 : at + 1 + size], "little"), at + 1 + size


def _varlen(body: bytes, at: int) -> tuple[int, int]:
    """Read a number whose first byte's trailing one bits say how many bytes follow."""
    if at >= len(body):
        raise MessageError("an event ends inside a number")
    first = body[at]
    more = 0
    while more < 8 and first >> more & 1:
        more += 1
    if at + 1 + more > len(body):
        raise MessageError("an event ends inside a number")
    if more == 8:
        return int.from_bytes(body[at + 1 : at + 9], "little"), at + 9
    return int.from_bytes(body[at : at + 1 + more], "little") >> (more + 1), at + 1 + more


def _signed_varlen(body: bytes, at: int) -> tuple[int, int]:
    """Read a signed number: its lowest bit is the sign."""
    value, at = _varlen(body, at)
    return (~(value >> 1) if value & 1 else value >> 1), at
