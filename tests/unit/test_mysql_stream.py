"""The stream never goes on over an event that it does not understand: bytes of a log through a connection of ours."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, cast

import pytest
import zstandard

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.errors import DecodeError
from cdcflow.sources.mysql.ddl_charsets import Charsets
from cdcflow.sources.mysql.followed import Rules
from cdcflow.sources.mysql.gtids import MysqlGtids
from cdcflow.sources.mysql.log import BinlogConnection
from cdcflow.sources.mysql.position import Binlog
from cdcflow.sources.mysql.shapes import Shapes
from cdcflow.sources.mysql.stream import MysqlStream

QUERY, INCIDENT, WRITE_ROWS, GTID, XID, PAYLOAD, UNKNOWN = 2, 26, 30, 33, 16, 40, 150
IGNORABLE = 0x80
SOURCE = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
START = 400


class Line:
    """Stands for the replication connection: hands over what the test has put on it."""

    def __init__(self, *packets: bytes, checksums: bool = False) -> None:
        self.address = "mysql://here"
        self.flavour = Flavour("mysql", (9, 7))
        self.begin, self.exact, self.checksums = ("binlog.000007", START), True, checksums
        self.buffer = bytearray()
        self._waiting = list(packets)

    def receive(self, wait: float) -> bool:
        if not self._waiting:
            return False
        self.buffer += self._waiting.pop(0)
        return True

    def more(self) -> bool:
        return bool(self._waiting)


class Log:
    """Writes events one behind the other, as they stand in a file from `START` on."""

    def __init__(self, *, checksums: bool = False) -> None:
        self.end, self._checksums, self._number = START, checksums, 0

    def event(self, kind: int, body: bytes = b"", flags: int = 0) -> bytes:
        size = 19 + len(body) + 4 * self._checksums
        self.end += size
        found = struct.pack("<IBIIIH", 1_700_000_000, kind, 7, size, self.end, flags) + body
        return packet(found + (struct.pack("<I", zlib.crc32(found)) if self._checksums else b""))

    def transaction(self, *inside: tuple[int, bytes, int]) -> list[bytes]:
        self._number += 1
        gtid = b"\0" + bytes.fromhex(SOURCE.replace("-", "")) + struct.pack("<Q", self._number) + bytes(24)
        return [
            self.event(GTID, gtid),
            self.event(QUERY, bytes(13) + b"\0BEGIN"),
            *(self.event(*each) for each in inside),
            self.event(XID, bytes(8)),
        ]


def packet(event: bytes) -> bytes:
    return (len(event) + 1).to_bytes(3, "little") + b"\0\0" + event


def stream(*packets: bytes, checksums: bool = False) -> MysqlStream:
    start = Binlog("binlog.000007", START, MysqlGtids.parse(""), "s1")
    shapes: Any = type("Shaped", (), {"charsets": Charsets({}, {}, {}), "lower_names": False})()
    return MysqlStream(
        cast(BinlogConnection, Line(*packets, checksums=checksums)),
        start=start,
        server="s1",
        follow={},
        rules=Rules(lambda table: None, lambda table, route: [], lambda number: None),
        shapes=cast(Shapes, shapes),
        reaches=lambda name: False,
        piece_bytes=1 << 20,
        prepared_bytes=1 << 22,
    )


def told(found: MysqlStream) -> list[Binlog]:
    """Read all there is; return the positions that were told."""
    positions = []
    while (item := found.read(0)) is not None or found._connection.more():
        if item is None:
            continue
        assert isinstance(item.end, Binlog)
        positions.append(item.end)
    return positions


def refused(found: MysqlStream, at: int) -> DecodeError:
    """Read up to the error; it names the place, nothing behind it was told, and it stays so."""
    with pytest.raises(DecodeError) as raised:
        told(found)
    assert raised.value.exit_code == 5
    assert f"behind position binlog.000007:{at}@s1 mysql={SOURCE}:1" in str(raised.value.at)
    assert found.reached.offset == at
    with pytest.raises(DecodeError):
        found.read(0)
    return raised.value


def joined(packets: Sequence[bytes]) -> bytes:
    return b"".join(packets)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (INCIDENT, struct.pack("<HB", 1, 11) + b"LOST_EVENTS", "INCIDENT"),
        (UNKNOWN, b"what", "an event of a type that is not known (150)"),
    ],
    ids=["incident", "unknown"],
)
def test_event_that_cannot_be_passed_by_stops_with_the_position(
    kind: int, body: bytes, words: str, inside: bool, at_once: bool
) -> None:
    log = Log()
    packets = log.transaction()
    end = log.end
    packets += log.transaction((kind, body, 0)) if inside else [log.event(kind, body)]
    packets += log.transaction()
    assert words in str(refused(stream(*([joined(packets)] if at_once else packets)), end))


def test_event_of_an_unknown_type_that_says_it_may_be_passed_by_is_passed_by() -> None:
    log = Log()
    packets = log.transaction((UNKNOWN, b"what", IGNORABLE))
    packets += [log.event(UNKNOWN, b"what", IGNORABLE), *log.transaction()]
    positions = told(stream(*packets))
    assert positions[-1].offset == log.end
    assert str(positions[-1].gtids) == f"{SOURCE}:1-2"


@pytest.mark.parametrize("cut", [1, 4, 12])
@pytest.mark.parametrize("kind", [GTID, QUERY, WRITE_ROWS, INCIDENT])
def test_event_that_is_cut_stops_with_the_position(kind: int, cut: int) -> None:
    """Its packet is whole, and shorter than the event says that it is."""
    log = Log()
    packets = log.transaction()
    end = log.end
    whole = log.event(kind, bytes(40))
    packets += [packet(whole[5:-cut]), *log.transaction()]
    assert "an event's size is not its packet's" in str(refused(stream(*packets), end))


def test_event_whose_bytes_were_changed_stops_with_the_position() -> None:
    log = Log(checksums=True)
    packets = log.transaction()
    end = log.end
    damaged = bytearray(log.event(UNKNOWN, b"what", IGNORABLE))
    damaged[-6] ^= 1
    packets += [bytes(damaged), *log.transaction()]
    assert "checksum is wrong" in str(refused(stream(*packets, checksums=True), end))


def inner(kind: int, body: bytes = b"") -> bytes:
    """Return an event of a compressed transaction: without a place and a checksum."""
    return struct.pack("<IBIIIH", 1_700_000_000, kind, 7, 19 + len(body), 0, 0) + body


def payload(events: bytes, *, packed: bool = True, size: int | None = None) -> bytes:
    """Return the body of a compressed transaction's event."""
    data = zstandard.compress(events) if packed else events
    kind = b"\x02\x01\0" if packed else b"\x02\x03\xfc\xff\0"
    length = b"\xfd" + (len(data) if size is None else size).to_bytes(3, "little")
    return kind + b"\x01\x04" + length + b"\0" + data


BEGIN = inner(QUERY, bytes(13) + b"\0BEGIN")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("checksums", [True, False])
def test_compressed_transaction_is_read_to_its_end_and_what_follows_it(packed: bool, checksums: bool) -> None:
    log = Log(checksums=checksums)
    first = log.transaction()
    gtid = log.transaction()[0]
    body = payload(BEGIN + inner(29, bytes(3_000_000)) + inner(XID, bytes(8)), packed=packed)
    packets = [*first, gtid, log.event(PAYLOAD, body), *log.transaction()]
    positions = told(stream(joined(packets), checksums=checksums))
    assert str(positions[-1].gtids) == f"{SOURCE}:1-3"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (payload(BEGIN + inner(UNKNOWN, b"what")), "an event of a type that is not known (150)"),
        (payload(BEGIN + inner(XID, bytes(8))[:-1]), "ends inside an event"),
        (payload(BEGIN + inner(PAYLOAD, payload(BEGIN))), "inside of another"),
        (payload(BEGIN, size=7), "has another size than it says"),
        (payload(BEGIN)[:-1], "has another size than it says"),
        (payload(b"no zstd at all", packed=False).replace(b"\x02\x03\xfc\xff\0", b"\x02\x01\0"), "cannot be unpacked"),
        (b"", "ends inside a number"),
    ],
)
def test_compressed_transaction_that_is_not_understood_stops_with_the_position(body: bytes, words: str) -> None:
    log = Log()
    packets = log.transaction()
    end = log.end
    gtid = log.transaction()[0]
    packets += [gtid, log.event(PAYLOAD, body), *log.transaction()]
    assert words in str(refused(stream(joined(packets)), end))
