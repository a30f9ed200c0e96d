"""pgoutput messages become frames; what is no message is refused and never ends the process."""

from __future__ import annotations

import struct
import sys
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdcflow.codecs.pgoutput_cy import Decoder, MessageError
from cdcflow.model.frame import UNCHANGED, Cell, cells

NO_LIMIT = 1 << 40


def wal(body: bytes, *, end: int = 0, sent: int = 0) -> bytes:
    """Wrap one pgoutput message as the walsender does, with the length that the reader puts before it."""
    payload = b"w" + struct.pack(">QQq", end, end, sent) + body
    return struct.pack("=I", len(payload)) + payload


def keepalive(end: int, *, reply: bool = False) -> bytes:
    payload = b"k" + struct.pack(">QqB", end, 0, reply)
    return struct.pack("=I", len(payload)) + payload


def begin(final: int, xid: int = 1) -> bytes:
    return wal(b"B" + struct.pack(">QqI", final, 1_000, xid))


def commit(lsn: int, end: int) -> bytes:
    return wal(b"C" + struct.pack(">BQQq", 0, lsn, end, 1_000))


def cell(value: Cell) -> bytes:
    if value is None:
        return b"n"
    if not isinstance(value, bytes):
        return b"u"
    return b"t" + struct.pack(">I", len(value)) + value


def row(*values: Cell) -> bytes:
    return struct.pack(">H", len(values)) + b"".join(map(cell, values))


def insert(oid: int, *values: Cell) -> bytes:
    return wal(b"I" + struct.pack(">I", oid) + b"N" + row(*values))


def update(oid: int, new: tuple[Cell, ...], *, mark: bytes = b"", old: tuple[Cell, ...] = ()) -> bytes:
    return wal(b"U" + struct.pack(">I", oid) + (mark + row(*old) if mark else b"") + b"N" + row(*new))


def delete(oid: int, mark: bytes, *old: Cell) -> bytes:
    return wal(b"D" + struct.pack(">I", oid) + mark + row(*old))


def feed(decoder: Decoder, buffer: bytes) -> list[int]:
    """Feed all of a buffer; return the events that stopped it."""
    at, events = 0, []
    while at < len(buffer):
        before = at
        at = decoder.feed(buffer, at)
        kind, _ = decoder.event()
        if kind:
            events.append(kind)
            if kind == ord("S") and at == before:
                break
    return events


def following(*oids: int, width: int = 2) -> Decoder:
    decoder = Decoder(NO_LIMIT)
    for oid in oids:
        decoder.follow(oid, width, 0, 0)
    return decoder


TRANSACTION = (
    begin(100) + insert(7, b"1", None) + update(7, (b"1", UNCHANGED)) + delete(7, b"K", b"1", None) + commit(100, 150)
)


def test_rows_of_a_transaction_are_in_one_frame() -> None:
    decoder = following(7)
    assert feed(decoder, TRANSACTION) == []
    frames, order, _marks, transactions, *_ = decoder.take(False)
    ((number, ops, after, after_sizes, before, before_sizes, idempotent),) = frames
    assert (number, ops, transactions, idempotent) == (0, b"IUD", 1, False)
    assert cells(after, 0, 2) == [b"1", None]
    assert cells(after, array("i", after_sizes)[0], 2) == [b"1", UNCHANGED]
    assert cells(before, 0, 2) == [b"1", UNCHANGED]
    assert list(array("i", before_sizes)[:2]) == [0, 0]
    assert order == (0).to_bytes(4, sys.byteorder) * 3
    assert decoder.status()[4] == 150


def test_an_unchanged_value_is_taken_from_a_whole_old_row() -> None:
    decoder = following(7)
    changed = update(7, (b"2", UNCHANGED), mark=b"O", old=(b"1", b"large"))
    feed(decoder, begin(1) + changed + commit(1, 2))
    ((_, _, after, *_),) = decoder.take(False)[0]
    assert cells(after, 0, 2) == [b"2", b"large"]


def test_rows_of_an_open_transaction_are_not_taken() -> None:
    decoder = following(7)
    feed(decoder, TRANSACTION + begin(200) + insert(7, b"2", b"x"))
    assert decoder.take(False)[0][0][1] == b"IUD"
    feed(decoder, commit(200, 250))
    assert decoder.take(False)[0][0][1] == b"I"


def test_rows_of_relations_that_are_not_followed_or_are_skipped_are_left_out() -> None:
    decoder = following(7)
    decoder.follow(8, 2, 1_000, 0)
    feed(decoder, begin(100) + insert(8, b"1", None) + insert(9, b"1", None) + commit(100, 150))
    assert decoder.status()[1] == 0
    feed(decoder, begin(1_000) + insert(8, b"1", None) + commit(1_000, 1_100))
    assert decoder.status()[1] == 1


def test_a_transaction_that_starts_before_the_copied_position_may_find_its_rows() -> None:
    decoder = Decoder(NO_LIMIT)
    decoder.follow(7, 2, 0, 101)
    feed(decoder, TRANSACTION)
    assert bool(decoder.take(False)[0][0][6])


def test_a_row_of_an_unsettled_relation_waits() -> None:
    decoder = following(7, width=-1)
    assert set(feed(decoder, begin(1) + insert(7, b"1", None))) == {ord("S")}
    assert decoder.status()[2] == 0


def test_a_large_transaction_stops_in_pieces() -> None:
    decoder = Decoder(100)
    decoder.follow(7, 2, 0, 0)
    assert ord("P") in feed(decoder, begin(1) + insert(7, b"1", b"x" * 200))
    assert decoder.take(True)[0][0][1] == b"I"


def test_a_keepalive_moves_the_position_and_asks_for_an_answer() -> None:
    decoder = following(7)
    feed(decoder, keepalive(500, reply=True))
    assert decoder.status()[5] == 500
    assert decoder.wants_reply()
    assert not decoder.wants_reply()


def test_every_cut_of_a_transaction_is_refused_or_waits_for_more() -> None:
    for size in range(len(TRANSACTION)):
        try:
            feed(following(7), TRANSACTION[:size])
        except MessageError:
            pass


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_changed_bytes_are_decoded_or_refused(data: st.DataObject) -> None:
    changed = bytearray(TRANSACTION)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        feed(following(7), bytes(changed))
    except MessageError:
        pass


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_are_decoded_or_refused(bodies: list[bytes]) -> None:
    try:
        feed(following(7), begin(1) + b"".join(map(wal, bodies)))
    except MessageError:
        pass


@pytest.mark.parametrize(
    "buffer",
    [
        insert(7, b"1", None),
        begin(1) + begin(2),
        commit(1, 2),
        begin(1) + insert(7, b"1"),
        begin(1) + wal(b"?"),
        begin(1) + delete(7, b"N", b"1", None),
        begin(1) + wal(b"I" + struct.pack(">I", 7) + b"N" + row(b"1", None) + b"more"),
    ],
    ids=["no transaction", "nested begin", "commit alone", "too few columns", "unknown", "no old row", "too long"],
)
def test_messages_out_of_order_or_of_another_shape_are_refused(buffer: bytes) -> None:
    with pytest.raises(MessageError):
        feed(following(7), buffer)
