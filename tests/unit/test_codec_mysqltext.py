"""Text resultsets as the servers send them, and what becomes of each value."""

from __future__ import annotations

import struct
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdcflow.codecs import floattext_cy, loading
from cdcflow.codecs import mysqlcells_cy as cells
from cdcflow.codecs import mysqltext_cy as mysqltext
from cdcflow.codecs.frames_cy import MessageError


def lenenc(value: bytes | None) -> bytes:
    if value is None:
        return b"\xfb"
    size = len(value)
    if size < 0xFB:
        return bytes([size]) + value
    if size < 1 << 16:
        return b"\xfc" + struct.pack("<H", size) + value
    if size < 1 << 24:
        return b"\xfd" + struct.pack("<I", size)[:3] + value
    return b"\xfe" + struct.pack("<Q", size) + value


class Wire:
    """Writes an answer as a server does."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.sequence = 1

    def packet(self, payload: bytes) -> None:
        while True:
            piece, payload = payload[:0xFFFFFF], payload[0xFFFFFF:]
            self.data += struct.pack("<I", len(piece))[:3] + bytes([self.sequence & 0xFF]) + piece
            self.sequence += 1
            if len(piece) < 0xFFFFFF:
                return

    def header(self, columns: int) -> None:
        self.packet(bytes([columns]))
        for number in range(columns):
            texts = b"".join(lenenc(t) for t in (b"def", b"d", b"t", b"t", b"c%d" % number, b"c"))
            self.packet(texts + b"\x0c" + struct.pack("<HIBHB", 255, 40, 0xFD, 1, 0) + b"\0\0")
        self.packet(b"\xfe\0\0\2\0")

    def row(self, values: list[bytes | None]) -> None:
        self.packet(b"".join(map(lenenc, values)))

    def end(self) -> None:
        self.packet(b"\xfe\0\0\2\0")


def result(kinds: list[tuple[int, int]], zero_dates: int = cells.ZERO_NULL) -> mysqltext.Result:
    return mysqltext.Result(tuple(kinds), tuple(f"c{n}" for n in range(len(kinds))), zero_dates, "d.t")


def read(reader: mysqltext.Result, data: bytes, step: int = 1 << 20) -> int:
    state = mysqltext.MORE
    for at in range(0, len(data), step):
        piece = bytearray(data[at : at + step])
        state = reader.feed(piece, len(piece))
        if state == mysqltext.HEADER:
            state = reader.feed(bytearray(), 0)
    return state


def lines(rows: list[list[bytes | None]], kinds: list[tuple[int, int]], **options: int) -> bytes:
    wire = Wire()
    wire.header(len(kinds))
    for row in rows:
        wire.row(row)
    wire.end()
    reader = result(kinds, **options)
    assert read(reader, bytes(wire.data)) == mysqltext.DONE
    assert reader.rows() == len(rows)
    return reader.take()


def one(value: bytes, kind: int, width: int = 0, **options: int) -> bytes:
    return lines([[value]], [(kind, width)], **options).removesuffix(b"\n")


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (cells.PLAIN, b"-42", b"-42"),
        (cells.DIGITS, b"0000000042", b"42"),
        (cells.DIGITS, b"0000", b"0"),
        (cells.DIGITS, b"0000001.50", b"1.50"),
        (cells.DIGITS, b"0.10", b"0.10"),
        (cells.DIGITS, b"-0.10", b"-0.10"),
        (cells.TEXT, b"", b""),
        (cells.TEXT, b"a\tb\nc\rd\\e", b"a\\tb\\nc\\rd\\\\e"),
        (cells.TEXT, "Größe 😀".encode(), "Größe 😀".encode()),
        (cells.TEXT, b"\\N", b"\\\\N"),
        (cells.BYTES, b"", b"\\\\x"),
        (cells.BYTES, b"\x00\xff\\", b"\\\\x00ff5c"),
        (cells.FLOAT4, b"0.10000000149011612", b"0.1"),
        (cells.FLOAT4, b"-0", b"-0"),
        (cells.FLOAT4, b"3.4028234663852886e38", b"3.4028235e+38"),
        (cells.FLOAT8, b"1.5e20", b"1.5e+20"),
        (cells.FLOAT8, b"0.00001", b"1e-05"),
        (cells.FLOAT8, b"100000000000000", b"100000000000000"),
        (cells.DATE, b"2024-02-29", b"2024-02-29"),
        (cells.DATE, b"2023-02-29", b"\\N"),
        (cells.DATE, b"0000-00-00", b"\\N"),
        (cells.DATE, b"2024-00-10", b"\\N"),
        (cells.DATE, b"0000-05-01", b"\\N"),
        (cells.DATE, b"2024-06-31", b"\\N"),
        (cells.DATETIME, b"2024-01-31 12:00:00", b"2024-01-31 12:00:00"),
        (cells.DATETIME, b"2024-01-31 12:00:00.500000", b"2024-01-31 12:00:00.5"),
        (cells.DATETIME, b"2024-01-31 12:00:00.000000", b"2024-01-31 12:00:00"),
        (cells.TIMESTAMP, b"2024-01-31 12:00:00.10", b"2024-01-31 12:00:00.1+00"),
        (cells.TIMESTAMP, b"0000-00-00 00:00:00", b"\\N"),
        (cells.TIME, b"-838:59:59.500000", b"-838:59:59.5"),
        (cells.TIME, b"00:00:00", b"00:00:00"),
        (cells.TIME, b"100:00:00", b"100:00:00"),
        (cells.TIME, b"00:00:00.0", b"00:00:00"),
        (cells.GEOMETRY, b"\0\0\0\0\1\1\0\0\0" + struct.pack("<dd", 1, 2), None),
        (cells.VECTOR, struct.pack("<2f", 1, 2.5), b"{1,2.5}"),
        (cells.VECTOR, struct.pack("<1f", -0.1), b"{-0.1}"),
    ],
)
def test_a_value_becomes_canonical_text(kind: int, value: bytes, text: bytes | None) -> None:
    if text is None:
        text = value[4:].hex().upper().encode()
    assert one(value, kind) == text


def test_a_geometry_with_an_srid_is_ewkb() -> None:
    value = struct.pack("<I", 4326) + b"\1\1\0\0\0" + struct.pack("<dd", 1, 2)
    ewkb = b"\1" + struct.pack("<II", 0x20000001, 4326) + struct.pack("<dd", 1, 2)
    assert one(value, cells.GEOMETRY) == ewkb.hex().upper().encode()


@pytest.mark.parametrize(
    ("value", "width", "text"),
    [(b"\x05", 4, b"0101"), (b"\x01", 1, b"1"), (b"\x01\x80", 9, b"110000000"), (b"\xff" * 8, 64, b"1" * 64)],
)
def test_bits_become_digits(value: bytes, width: int, text: bytes) -> None:
    assert one(value, cells.BIT, width) == text


def test_a_date_that_no_calendar_has_becomes_the_epoch_where_the_route_says_so() -> None:
    kinds = [(cells.DATE, 0), (cells.DATETIME, 0), (cells.TIMESTAMP, 0)]
    row: list[bytes | None] = [b"0000-00-00", b"2024-00-10 10:00:00.5", b"0000-00-00 00:00:00"]
    epoch = b"1970-01-01\t1970-01-01 00:00:00\t1970-01-01 00:00:00+00\n"
    assert lines([row], kinds, zero_dates=cells.ZERO_EPOCH) == epoch


def test_a_date_that_no_calendar_has_rejects_the_row_where_the_route_says_so() -> None:
    with pytest.raises(mysqltext.NoDateError, match="c0") as caught:
        one(b"2024-02-30", cells.DATE, zero_dates=cells.ZERO_FAIL)
    assert caught.value.column == "c0"


@pytest.mark.parametrize("size", [0, 1, 250, 251, 252, 65535, 65536, 0xFFFFFF - 5, 0xFFFFFF - 4, 0xFFFFFF, 20_000_000])
def test_a_value_of_any_size_comes_whole(size: int) -> None:
    value = b"x" * size
    kinds = [(cells.TEXT, 0), (cells.PLAIN, 0)]
    wire = Wire()
    wire.header(2)
    wire.row([value, b"1"])
    wire.row([None, b"2"])
    wire.end()
    reader = result(kinds)
    assert read(reader, bytes(wire.data), 1 << 18) == mysqltext.DONE
    assert reader.take() == value + b"\t1\n\\N\t2\n"


def test_a_row_that_fills_its_packets_exactly_ends_with_an_empty_one() -> None:
    for size in (0xFFFFFF - 4, 2 * 0xFFFFFF - 9):
        wire = Wire()
        wire.header(1)
        wire.row([b"y" * size])
        assert wire.data[-4:-1] == b"\0\0\0"
        wire.row([b"z"])
        wire.end()
        reader = result([(cells.TEXT, 0)])
        assert read(reader, bytes(wire.data)) == mysqltext.DONE
        assert reader.take() == b"y" * size + b"\nz\n"


VALUES = st.lists(
    st.tuples(
        st.one_of(st.none(), st.binary(max_size=300)),
        st.one_of(st.none(), st.integers(0, 2**64 - 1).map(lambda n: b"%d" % n)),
        st.one_of(st.none(), st.binary(max_size=9)),
    ),
    max_size=30,
)


def plain_form() -> ModuleType:
    """The same file, and those that it uses, not compiled."""
    row = loading.plain("cdcflow.codecs.mysqltextrow_cy")
    row.mysqlcells_cy = loading.plain("cdcflow.codecs.mysqlcells_cy")
    text: ModuleType = loading.plain("cdcflow.codecs.mysqltext_cy")
    return text


PLAIN_TEXT = plain_form()


@given(VALUES, st.integers(1, 700))
def test_it_makes_no_difference_where_the_socket_cuts(rows: list[tuple[bytes | None, ...]], step: int) -> None:
    kinds = [(cells.TEXT, 0), (cells.DIGITS, 0), (cells.BYTES, 0)]
    wire = Wire()
    wire.header(3)
    for row in rows:
        wire.row(list(row))
    wire.end()
    reader = result(kinds)
    assert read(reader, bytes(wire.data), step) == mysqltext.DONE
    whole = reader.take()
    assert whole == lines([list(row) for row in rows], kinds)
    assert whole.count(b"\n") == len(rows)


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=30), max_size=13), st.binary(max_size=20), st.integers(0, 2))
def test_both_forms_of_the_module_agree(values: list[bytes], tail: bytes, zero_dates: int) -> None:
    """Also where the bytes are no row at all."""
    kinds = [(kind % 13, 9) for kind in range(len(values))] or [(cells.TEXT, 0)]
    columns = tuple((kind, width) for kind, width in kinds if kind not in (cells.FLOAT4, cells.FLOAT8))
    names = tuple(f"c{n}" for n in range(len(columns)))
    wire = Wire()
    wire.header(len(columns))
    for cut in (0, len(tail)):
        wire.packet(b"".join(map(lenenc, values[: len(columns)])) + tail[:cut])
    wire.end()
    seen = []
    for module in (mysqltext, PLAIN_TEXT):
        reader = module.Result(columns, names, zero_dates, "d.t")
        try:
            state: object = read(reader, bytes(wire.data))
        except ValueError as error:
            state = (type(error).__name__, str(error))
        seen.append((state, reader.rows(), reader.take() if isinstance(state, int) else b"", reader.error()))
    assert seen[0] == seen[1]


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_raise(data: bytes) -> None:
    reader = result([(cells.TEXT, 0), (cells.GEOMETRY, 0), (cells.VECTOR, 0), (cells.DATE, 0)])
    wire = Wire()
    wire.header(4)
    try:
        read(reader, bytes(wire.data) + data)
    except (MessageError, mysqltext.NoDateError):
        pass


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_single_precision_number_printed_as_a_double_is_found_again(value: float) -> None:
    assert one(repr(value).encode(), cells.FLOAT4) == floattext_cy.float4(value)


def test_the_server_breaks_off_in_the_middle() -> None:
    wire = Wire()
    wire.header(1)
    wire.row([b"1"])
    wire.packet(b"\xff" + struct.pack("<H", 1317) + b"#70100Query execution was interrupted")
    reader = result([(cells.TEXT, 0)])
    assert read(reader, bytes(wire.data)) == mysqltext.FAILED
    assert reader.error() == (1317, "Query execution was interrupted")
    assert reader.take() == b"1\n"


def test_the_server_refuses_the_query() -> None:
    wire = Wire()
    wire.packet(b"\xff" + struct.pack("<H", 1146) + b"#42S02Table 'd.t' doesn't exist")
    reader = result([(cells.TEXT, 0)])
    assert read(reader, bytes(wire.data)) == mysqltext.FAILED
    assert reader.error() == (1146, "Table 'd.t' doesn't exist")


def test_the_columns_definitions_can_be_looked_at_before_the_rows() -> None:
    wire = Wire()
    wire.header(2)
    wire.row([b"1", b"2"])
    wire.end()
    reader = result([(cells.TEXT, 0)] * 2)
    data = bytearray(wire.data)
    assert reader.feed(data, len(data)) == mysqltext.HEADER
    assert [(name, kind, charset) for name, kind, charset, *_ in reader.definitions()] == [
        ("c0", 0xFD, 255),
        ("c1", 0xFD, 255),
    ]
    assert reader.take() == b""
    assert reader.feed(bytearray(), 0) == mysqltext.DONE
    assert reader.take() == b"1\t2\n"


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x05abc", b"\xfc\x05", b"\xfd\xff\xff\xff", b"\xfe" + b"\xff" * 8, b"\x01a\x01b", b"\x01"],
)
def test_a_broken_row_is_an_error(payload: bytes) -> None:
    wire = Wire()
    wire.header(1)
    wire.packet(payload)
    with pytest.raises(MessageError):
        read(result([(cells.TEXT, 0)]), bytes(wire.data))


def test_a_packet_out_of_order_is_an_error() -> None:
    wire = Wire()
    wire.header(1)
    wire.sequence += 1
    wire.row([b"1"])
    with pytest.raises(MessageError, match="order"):
        read(result([(cells.TEXT, 0)]), bytes(wire.data))


def test_an_answer_with_other_columns_is_an_error() -> None:
    wire = Wire()
    wire.header(2)
    with pytest.raises(MessageError, match="columns"):
        read(result([(cells.TEXT, 0)]), bytes(wire.data))
