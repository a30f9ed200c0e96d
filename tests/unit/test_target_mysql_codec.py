"""Canonical text into LOAD DATA text and SQL literals: what goes in comes out, in both forms of the codec."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.codecs import mysqlliterals as literals
from cdcflow.codecs.mysqlload_cy import LOAD, SQL, Encoder, ImageError
from cdcflow.model.frame import UNCHANGED, image

cells = st.one_of(st.none(), st.binary(max_size=20))
rows = st.lists(st.tuples(cells, cells, cells), max_size=12)


def _encoded(kinds: bytes, form: int, images: list[bytes], width: int, most: int = 1 << 18) -> list[tuple[bytes, int]]:
    found: list[tuple[bytes, int]] = []
    at, references = 0, []
    for each in images:
        references.append(at)
        at += len(each)
    packed = struct.pack(f"={len(references)}q", *references)
    count = Encoder(kinds, form).images(
        b"".join(images), b"", packed, width, tuple(range(width)), lambda block, n: found.append((block, n)), most
    )
    assert count == len(images)
    return found


def _loaded(text: bytes) -> list[tuple[bytes | None, ...]]:
    """Read LOAD DATA text as the server does."""
    found: list[tuple[bytes | None, ...]] = []
    fields: list[bytes | None] = []
    value, at, null = bytearray(), 0, False
    while at < len(text):
        byte = text[at : at + 1]
        if byte == b"\\":
            at += 1
            letter = text[at : at + 1]
            null = letter == b"N" and not value
            value += {b"n": b"\n", b"t": b"\t", b"0": b"\0"}.get(letter, letter)
        elif byte in (b"\t", b"\n"):
            fields.append(None if null else bytes(value))
            value, null = bytearray(), False
            if byte == b"\n":
                found.append(tuple(fields))
                fields = []
        else:
            value += byte
        at += 1
    assert not fields
    assert not value
    return found


@given(rows, st.integers(1, 60))
def test_load_text_holds_every_byte(table: list[tuple[bytes | None, ...]], most: int) -> None:
    blocks = _encoded(bytes(3), LOAD, [image(row) for row in table], 3, most)
    assert _loaded(b"".join(block for block, _ in blocks)) == table
    assert sum(count for _, count in blocks) == len(table)
    assert all(block.endswith(b"\n") for block, _ in blocks)


@given(rows, st.integers(1, 60))
def test_sql_rows_hold_every_byte(table: list[tuple[bytes | None, ...]], most: int) -> None:
    blocks = _encoded(bytes(3), SQL, [image(row) for row in table], 3, most)
    wanted = [
        b"(" + b",".join(b"NULL" if cell is None else literals.quoted(cell) for cell in row) + b")" for row in table
    ]
    assert b",".join(block for block, _ in blocks) == b",".join(wanted)
    assert all(len(block) <= most or count == 1 for block, count in blocks)


@given(rows)
def test_copy_text_becomes_the_same_load_text(table: list[tuple[bytes | None, ...]]) -> None:
    def copied(cell: bytes | None) -> bytes:
        if cell is None:
            return b"\\N"
        pairs = {
            b"\\": b"\\\\",
            b"\n": b"\\n",
            b"\t": b"\\t",
            b"\r": b"\\r",
            b"\b": b"\\b",
            b"\f": b"\\f",
            b"\v": b"\\v",
        }
        return b"".join(pairs.get(bytes([byte]), bytes([byte])) for byte in cell)

    block = b"".join(b"\t".join(map(copied, row)) + b"\n" for row in table)
    found: list[bytes] = []
    assert Encoder(bytes(3), LOAD).lines(block, lambda each, _: found.append(each)) == len(table)
    assert _loaded(b"".join(found)) == table
    assert [tuple(row) for row in literals.cells(block, 3)] == table


KINDS = [
    (literals.NUMBER, b"-1.50", b"-1.50", b"-1.50"),
    (literals.NUMBER, b"NaN", b"NaN", b"'NaN'"),
    (literals.NUMBER, b"1);x", b"1);x", b"'1);x'"),
    (literals.BOOL, b"t", b"1", b"1"),
    (literals.BOOL, b"f", b"0", b"0"),
    (literals.BYTES, b"\\x", b"", b"X''"),
    (literals.BYTES, b"\\x00090a5cff", b"\0\\t\\n\\\\\xff", b"X'00090a5cff'"),
    (literals.INSTANT, b"2024-01-31 12:00:00.5+00", b"2024-01-31 12:00:00.5", b"'2024-01-31 12:00:00.5'"),
    (literals.INSTANT, b"infinity", b"infinity", b"'infinity'"),
    (literals.BITS, b"0000000101", b"\0\x05", b"b'0000000101'"),
    (literals.VECTOR, b"{1,2.5}", b"\0\0\x80?\0\0 @", b"X'0000803f00002040'"),
    (literals.PADDED, b"ab  ", b"ab", b"'ab'"),
    (literals.YEAR, b"0", b"0000", b"'0000'"),
    (literals.FLAG, b"t", b"\x01", b"X'01'"),
    (literals.SINGLE, b"1e+20", b"1e+20", b"'1e+20'"),
    (literals.SINGLE, b"3.4028235e+38", b"3.4028234663852886e+38", b"'3.4028234663852886e+38'"),
    (literals.SINGLE, b"-3.4028235e+38", b"-3.4028234663852886e+38", b"'-3.4028234663852886e+38'"),
    (
        literals.GEOMETRY,
        b"0101000020E6100000000000000000F03F0000000000000040",
        struct.pack("<IBIdd", 4326, 1, 1, 1.0, 2.0),
        b"X'" + struct.pack("<IBIdd", 4326, 1, 1, 1.0, 2.0).hex().encode() + b"'",
    ),
]


@pytest.mark.parametrize(("kind", "text", "loaded", "literal"), KINDS)
def test_a_value_is_written_as_its_column_takes_it(kind: int, text: bytes, loaded: bytes, literal: bytes) -> None:
    ((block, _),) = _encoded(bytes([kind]), LOAD, [image([text])], 1)
    assert block == loaded + b"\n"
    ((block, _),) = _encoded(bytes([kind]), SQL, [image([text])], 1)
    assert block == b"(" + literal + b")"
    assert literals.literal(kind, text) == literal


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (literals.BYTES, b"6162"),
        (literals.BYTES, b"\\x6"),
        (literals.BYTES, b"\\x6'"),
        (literals.BITS, b"012"),
        (literals.BITS, b""),
        (literals.VECTOR, b"[1]"),
        (literals.GEOMETRY, b"00"),
        (literals.GEOMETRY, b"01010000A0E6100000000000000000F03F00000000000000400000000000000840"),
        (literals.FLAG, b"x"),
    ],
)
def test_what_a_column_cannot_take_is_refused(kind: int, text: bytes) -> None:
    for form in (LOAD, SQL):
        with pytest.raises(ImageError) as caught:
            _encoded(bytes([kind]), form, [image([text])], 1)
        assert not text or text.decode() not in str(caught.value)


@given(st.binary(max_size=60), st.integers(1, 4))
def test_a_broken_image_is_refused_and_never_read_past_its_end(data: bytes, width: int) -> None:
    for form in (LOAD, SQL):
        try:
            Encoder(bytes(width), form).images(data, b"", bytes(8), width, tuple(range(width)), lambda *_: None)
        except ImageError:
            continue


@given(st.binary(max_size=60), st.integers(1, 4))
def test_broken_copy_text_is_refused(data: bytes, width: int) -> None:
    try:
        Encoder(bytes(width), LOAD).lines(data, lambda *_: None)
    except ImageError:
        return


def test_an_absent_cell_is_refused() -> None:
    with pytest.raises(ImageError):
        _encoded(bytes(1), LOAD, [image([UNCHANGED])], 1)
