"""Large values: raw cells in a frame mean what their hex digits would, and rows come through in pieces."""

from __future__ import annotations

import random
import struct

import pytest

from cdcflow.codecs.copytext_cy import copy_text
from cdcflow.codecs.mysqlliterals import BYTES, NUMBER, TEXT, escaped
from cdcflow.codecs.mysqlload_cy import LOAD, SQL, Encoder, ImageError
from cdcflow.codecs.net_cy import net
from cdcflow.codecs.order_cy import by_key
from cdcflow.codecs.sqliterows_cy import RowError, image_rows
from cdcflow.model.frame import RAW_CELL, UNCHANGED, cells, image
from cdcflow.targets.sqlite.loader import _whole_lines
from tests.unit.test_codec_mysqltext import Wire, result
from tests.unit.test_codec_mysqltext import cells as kinds
from tests.unit.test_codec_mysqltext import mysqltext as reading

VALUES = [b"", b"\0", b"plain", bytes(range(256)) * 3, b"\\\t\n'" * 50_000]


def raw(value: bytes) -> bytes:
    """Return a raw cell."""
    return struct.pack("=i", RAW_CELL - len(value)) + value


def hexed(value: bytes) -> bytes:
    return b"\\x" + value.hex().encode()


def images(value: bytes) -> tuple[bytes, bytes]:
    """Return a row with a raw cell before its key, and the same row with the cell's text."""
    return raw(value) + image([b"7", None]), image([hexed(value), b"7", None])


@pytest.mark.parametrize("value", VALUES)
def test_a_raw_cell_is_written_as_its_text_would_be(value: bytes) -> None:
    one, other = images(value)
    start = struct.pack("=q", 0)
    assert cells(one, 0, 3) == cells(other, 0, 3)
    copied: list[list[bytes]] = [[], []]
    for number, row in enumerate((one, other)):
        copy_text(row, b"", start, 3, (0, 1, 2), copied[number].append)
    assert b"".join(copied[0]) == b"".join(copied[1])
    for column, form in ((BYTES, LOAD), (TEXT, LOAD), (TEXT, SQL)):
        written: list[list[bytes]] = [[], []]
        for number, row in enumerate((one, other)):
            encoder = Encoder(bytes([column, NUMBER, TEXT]), form)
            encoder.images(row, b"", start, 3, (0, 1, 2), lambda block, _, to=written[number]: to.append(block))
        assert b"".join(written[0]) == b"".join(written[1])
    for kind in b"xt":
        assert image_rows(one, start, 3, (0, 1, 2), bytes([kind]) + b"it", None) == image_rows(
            other, start, 3, (0, 1, 2), bytes([kind]) + b"it", None
        )


@pytest.mark.parametrize("value", VALUES)
def test_a_raw_cell_is_a_binary_string_in_a_statement(value: bytes) -> None:
    blocks: list[bytes] = []
    one, _ = images(value)
    encoder = Encoder(bytes([BYTES, NUMBER, TEXT]), SQL)
    encoder.images(one, b"", struct.pack("=q", 0), 3, (0, 1, 2), lambda block, _: blocks.append(block))
    (block,) = blocks
    meant = block.removeprefix(b"(_binary'").removesuffix(b"',7,NULL)")
    for letters, byte in ((b"\\0", b"\0"), (b"\\'", b"'")):
        meant = meant.replace(b"\\\\", b"\1\1").replace(letters, byte).replace(b"\1\1", b"\\\\")
    assert meant.replace(b"\\\\", b"\\") == value


def test_a_raw_cell_is_passed_over_to_find_the_key_and_what_is_absent() -> None:
    rows = [raw(b"a" * 9) + image([b"2", None]), raw(b"") + image([b"1", UNCHANGED]), image([UNCHANGED, b"2", b"new"])]
    after = b"".join(rows)
    sizes = struct.pack("=3i", *map(len, rows))
    netted = net(b"IUU", after, sizes, b"", bytes(12), 3, (1,))
    inserted = struct.unpack("=q", netted.inserted)
    assert inserted == (-1,)
    assert cells(netted.merged, 0, 3) == [hexed(b"a" * 9), b"2", b"new"]
    assert [len(netted.updated), netted.masks[1]] == [8, b"\0\0\1"]
    starts = struct.pack("=2q", 0, len(rows[0]))
    assert by_key(after, b"", starts, 1) == struct.pack("=2q", len(rows[0]), 0)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_raw_cell_that_ends_behind_its_image_is_refused(size: int) -> None:
    broken = struct.pack("=i", RAW_CELL - size) + b"x" * (size - 1)
    start = struct.pack("=q", 0)
    for refused in (
        lambda: cells(broken, 0, 1),
        lambda: copy_text(broken, b"", start, 1, (0,), list),
        lambda: Encoder(bytes([BYTES]), LOAD).images(broken, b"", start, 1, (0,), list),
        lambda: image_rows(broken, start, 1, (0,), b"x", None),
        lambda: net(b"U", broken, struct.pack("=i", len(broken)), b"", bytes(4), 1, (0,)),
    ):
        with pytest.raises((ValueError, RowError)):
            refused()


TABLE = [(kinds.DIGITS, 0), (kinds.TEXT, 0), (kinds.BYTES, 0), (kinds.DATE, 0)]


def rows_of(seed: int) -> list[list[bytes | None]]:
    chance = random.Random(seed)
    sizes = [0, 3, 70_000, (1 << 20) - 40, 1 << 20, 3 << 20]
    return [
        [
            b"%d" % number,
            chance.choice([None, b"a\\b\tc\n\xc3\xa9" * (chance.choice(sizes) // 8)]),
            chance.choice([None, chance.randbytes(chance.choice(sizes))]),
            chance.choice([None, b"2024-02-29", b"0000-00-00"]),
        ]
        for number in range(6)
    ]


def copied(rows: list[list[bytes | None]]) -> bytes:
    lines = []
    for number, text, binary, day in rows:
        assert number is not None
        fields = [
            number,
            b"\\N" if text is None else escaped(text),
            b"\\N" if binary is None else b"\\" + hexed(binary),
            b"\\N" if day is None or day.startswith(b"0000") else day,
        ]
        lines.append(b"\t".join(fields) + b"\n")
    return b"".join(lines)


def pieces_of(rows: list[list[bytes | None]], step: int) -> list[bytes]:
    wire = Wire()
    wire.header(len(TABLE))
    for row in rows:
        wire.row(row)
    wire.end()
    reader, found = result(TABLE), []
    state = reading.MORE
    for at in range(0, len(wire.data), step):
        piece = bytearray(wire.data[at : at + step])
        state = reader.feed(piece, len(piece))
        if state == reading.HEADER:
            state = reader.feed(bytearray(), 0)
        if reader.pending():
            found.append(reader.take())
    assert state == reading.DONE
    assert reader.rows() == len(rows)
    return found


@pytest.mark.parametrize("step", [65_521, 262_144, 1 << 24])
@pytest.mark.parametrize("seed", [1, 2])
def test_large_rows_of_a_result_come_in_pieces_that_make_the_same_text(seed: int, step: int) -> None:
    rows = rows_of(seed)
    pieces = pieces_of(rows, step)
    assert b"".join(pieces) == copied(rows)


def test_a_row_of_several_packets_is_read_and_one_that_ends_early_is_refused() -> None:
    long = [b"1", None, b"\x5c" * (0xFFFFFF - 20), None]
    for more in range(14, 18):  # around the packet's end
        row = [*long[:2], long[2] + b"z" * more, None]
        assert b"".join(pieces_of([row, long], 1 << 20)) == copied([row, long])
    wire = Wire()
    wire.header(len(TABLE))
    wire.packet(b"\x011\xfb\xfe" + struct.pack("<Q", 1 << 21) + bytes(1 << 20))
    reader = result(TABLE)
    assert reader.feed(wire.data, len(wire.data)) == reading.HEADER
    with pytest.raises(reading.MessageError, match="ends inside a value: column c2"):
        reader.feed(bytearray(), 0)


@pytest.mark.parametrize("form", [LOAD, SQL])
def test_lines_that_come_in_pieces_are_encoded_as_whole_ones(form: int) -> None:
    rows = rows_of(3)
    written: list[list[bytes]] = [[], []]
    counts = []
    for number, blocks in enumerate((pieces_of(rows, 100_003), [copied(rows)])):
        encoder = Encoder(bytes([NUMBER, TEXT, BYTES, TEXT]), form)
        counts.append(
            sum(encoder.lines(block, lambda text, _, to=written[number]: to.append(text)) for block in blocks)
        )
        assert encoder.ended()
    assert counts == [len(rows), len(rows)]
    joined = [b",".join(each) if form == SQL else b"".join(each) for each in written]
    assert joined[0] == joined[1]


def test_lines_that_end_too_early_or_too_late_are_noticed() -> None:
    encoder = Encoder(bytes([TEXT, TEXT]), LOAD)
    written: list[bytes] = []
    assert encoder.lines(b"one\ttw", lambda text, _: written.append(text)) == 0
    assert not encoder.ended()
    with pytest.raises(ImageError, match="another number of fields"):
        encoder.lines(b"o\tthree\n", lambda text, _: written.append(text))


def test_sqlite_is_given_whole_lines() -> None:
    rows = rows_of(4)
    blocks = list(_whole_lines(pieces_of(rows, 100_003)))
    assert b"".join(blocks) == copied(rows)
    assert all(block.endswith(b"\n") for block in blocks)
