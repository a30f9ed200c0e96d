"""Places in the log: 64-bit offsets out of 32-bit ones, and events that fill several packets."""

from __future__ import annotations

import struct

from cdcflow.codecs.binlog_cy import Decoder

ROWS, XID, ROWS_QUERY, ANONYMOUS_GTID, PREVIOUS_GTIDS = 30, 16, 29, 34, 35
GIGABYTE = 1 << 30


def event(kind: int, body: bytes, end: int = 0) -> bytes:
    """Return an event that ends at offset `end` of its file; 0 where it does not say."""
    return struct.pack("<IBIIIH", 1_700_000_000, kind, 7, 19 + len(body), end & 0xFFFFFFFF, 0) + body


def packets(data: bytes) -> bytes:
    """Return an event as it is sent: behind a zero, in packets of at most 16 MB."""
    rest, found = b"\0" + data, b""
    while True:
        piece, rest = rest[:0xFFFFFF], rest[0xFFFFFF:]
        found += len(piece).to_bytes(3, "little") + b"\0" + piece
        if len(piece) < 0xFFFFFF:
            return found


def fed(decoder: Decoder, *events: bytes) -> list[int]:
    """Feed whole events; return the types of those that are handed over."""
    kinds = []
    for each in events:
        buffer = bytearray(packets(each))
        assert decoder.feed(buffer, 0) == len(buffer)
        kind, _, _ = decoder.event()
        kinds += [kind] if kind else []
    return kinds


def transaction(end: int, *events: bytes) -> list[bytes]:
    return [event(ANONYMOUS_GTID, bytes(25), end - 100), *events, event(XID, bytes(8), end)]


def test_place_beyond_four_gigabytes_is_known_after_a_start_by_gtids() -> None:
    """The server begins at the file's head then, and sends of each place the low 32 bits."""
    decoder = Decoder(1 << 20)
    start = 4 * GIGABYTE + 300
    decoder.resume(3, start)
    assert fed(decoder, event(PREVIOUS_GTIDS, b"", 197)) == [PREVIOUS_GTIDS]
    assert decoder.where() == (3, start, start)
    gtid, xid = transaction(start + 500)
    fed(decoder, gtid)
    assert decoder.serial() == 3 << 40 | start
    fed(decoder, xid)
    assert decoder.where() == (3, start + 500, start + 500)
    decoder.place(4, 4)
    fed(decoder, event(PREVIOUS_GTIDS, b"", 197), *transaction(900))
    assert decoder.where() == (4, 900, 900)


def test_place_is_known_behind_four_gigabytes_of_events_that_have_none() -> None:
    decoder = Decoder(1 << 20)
    decoder.place(1, 1000)
    _, xid = transaction(1000 + 5 * GIGABYTE)
    size = 16_000_000
    of_no_table = bytearray(packets(event(ROWS, b"\xff\xff\xff\0\0\0\1\0\2\0" + bytes(size - 29))))
    fed(decoder, event(ANONYMOUS_GTID, bytes(25), 1100))
    for _ in range(5 * GIGABYTE // size):
        decoder.feed(of_no_table, 0)
    fed(decoder, xid)
    assert decoder.where() == (1, 1000 + 5 * GIGABYTE, 1000 + 5 * GIGABYTE)


def test_transaction_begins_behind_what_the_server_wrote_for_itself() -> None:
    decoder = Decoder(1 << 20)
    decoder.place(2, 4)
    fed(decoder, event(PREVIOUS_GTIDS, b"", 197), *transaction(600)[:1])
    assert decoder.serial() == 2 << 40 | 197
    assert decoder.where()[2] == 4


def test_event_of_several_packets_is_read_when_the_last_one_is_there() -> None:
    decoder = Decoder(1 << 20)
    data = packets(event(ROWS_QUERY, b"x" * 34_000_000))
    buffer = bytearray()
    for at in range(0, len(data), 1 << 21):
        assert decoder.feed(buffer, 0) == 0
        assert decoder.event()[0] == 0
        buffer += data[at : at + (1 << 21)]
    assert decoder.feed(buffer, 0) == len(data)
    kind, _, body = decoder.event()
    assert (kind, len(body)) == (ROWS_QUERY, 34_000_000)
