"""Row images to cells: what a value's bytes mean, and that no other bytes are read."""

from __future__ import annotations

import datetime as dt
import struct
import zlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdcflow.codecs import mysqlforms as f
from cdcflow.codecs.binlogrow_cy import MessageError, MissingValue, PartialValue, RowShape, UnrealDate
from cdcflow.codecs.mysqlforms import ColumnForm, optional_metadata, parse_types
from cdcflow.model.frame import UNCHANGED, Cell, cells


def one(form: ColumnForm, value: bytes) -> Cell:
    """Decode the only column of a row."""
    image, at = RowShape([form], "t").decode(b"\0" + value, 0, b"\1", False)
    assert at == 1 + len(value)
    return cells(image, 0, 1)[0]


def refused(form: ColumnForm, value: bytes) -> str:
    with pytest.raises(MessageError) as caught:
        one(form, value)
    return str(caught.value)


def packed_decimal(number: Decimal, precision: int, scale: int) -> bytes:
    """The server's decimal2bin, written down once more."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).rjust(-exponent, "0")
    text = text + "0" * (exponent + scale) if exponent + scale > 0 else text
    whole, fraction = (text[:-scale] if scale else text).rjust(precision - scale, "0"), text[-scale:] if scale else ""
    groups = []
    first = (precision - scale) % 9
    starts = [(0, first)] if first else []
    starts += [(i, i + 9) for i in range(first, precision - scale, 9)]
    groups += [whole[-(precision - scale) :][a:b] for a, b in starts] if precision > scale else []
    groups += [fraction[i : i + 9] for i in range(0, scale, 9)]
    out = bytearray(b"".join(int(g).to_bytes(4 if len(g) == 9 else (len(g) + 1) // 2, "big") for g in groups))
    if sign:
        out = bytearray(byte ^ 0xFF for byte in out)
    out[0] ^= 0x80
    return bytes(out)


@given(st.integers(1, 65), st.data())
def test_a_decimal_keeps_every_digit(precision: int, data: st.DataObject) -> None:
    scale = data.draw(st.integers(0, min(30, precision)))
    unscaled = data.draw(st.integers(1 - 10**precision, 10**precision - 1))
    number = Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -scale))
    form = ColumnForm(f.NEWDECIMAL, precision | scale << 8)
    assert one(form, packed_decimal(number, precision, scale)) == f"{number:f}".encode()


@given(st.sampled_from([(f.TINY, 1), (f.SHORT, 2), (f.INT24, 3), (f.LONG, 4), (f.LONGLONG, 8)]), st.data())
def test_an_integer_of_each_size(kind: tuple[int, int], data: st.DataObject) -> None:
    bits = 8 * kind[1]
    for unsigned, low, high in ((True, 0, 2**bits - 1), (False, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)):
        number = data.draw(st.one_of(st.integers(low, high), st.sampled_from([low, high, 0, 99, 100])))
        value = number.to_bytes(kind[1], "little", signed=not unsigned)
        assert one(ColumnForm(kind[0], 0, unsigned), value) == b"%d" % number


@settings(max_examples=500)
@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.decimals(-(10**9), 10**9, places=4).map(float)))
def test_a_double_reads_back_the_same_in_the_fewest_digits(number: float) -> None:
    text = one(ColumnForm(f.DOUBLE, 8), struct.pack("<d", number))
    assert isinstance(text, bytes)
    assert struct.pack("<d", float(text)) == struct.pack("<d", number)
    digits = repr(number).lower().partition("e")[0].replace(".", "").strip("-0")
    assert text.partition(b"e")[0].replace(b".", b"").strip(b"-0") == digits.encode()
    assert (b"e" in text) == (number != 0 and not 1e-4 <= abs(number) < 1e15)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_reads_back_the_same(number: float) -> None:
    text = one(ColumnForm(f.FLOAT, 4), struct.pack("<f", number))
    assert struct.pack("<f", float(bytes(text))) == struct.pack("<f", number)  # type: ignore[arg-type]


def shown(micros: int) -> bytes:
    return (f".{micros:06}".rstrip("0") if micros else "").encode()


@given(st.datetimes(dt.datetime(1, 1, 1)), st.integers(0, 6))
def test_a_datetime_of_each_precision(moment: dt.datetime, places: int) -> None:
    size = (places + 1) // 2
    kept = moment.microsecond // 10 ** (6 - places) * 10 ** (6 - places)
    number = (moment.year * 13 + moment.month) << 22 | moment.day << 17
    number |= moment.hour << 12 | moment.minute << 6 | moment.second
    value = (number + 0x8000000000).to_bytes(5, "big") + (kept // 10 ** (6 - 2 * size)).to_bytes(size, "big")
    text = f"{moment.year:04}{moment:-%m-%d %H:%M:%S}".encode() + shown(kept)
    assert one(ColumnForm(f.DATETIME2, places), value) == text


@given(st.integers(1, 2**32 - 1), st.integers(0, 999_999))
def test_a_timestamp_is_told_in_utc(seconds: int, micros: int) -> None:
    moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)
    text = f"{moment:%Y-%m-%d %H:%M:%S}".encode()
    value = seconds.to_bytes(4, "big") + micros.to_bytes(3, "big")
    assert one(ColumnForm(f.TIMESTAMP2, 6), value) == text + shown(micros) + b"+00"
    assert one(ColumnForm(f.TIMESTAMP, 0), seconds.to_bytes(4, "little")) == text + b"+00"


@given(st.integers(-(838 * 3600 + 59 * 60 + 59) * 10**6, (838 * 3600 + 59 * 60 + 59) * 10**6), st.integers(0, 6))
def test_a_time_of_each_precision(micros: int, places: int) -> None:
    size = (places + 1) // 2
    unit = 10 ** (6 - places)
    micros = abs(micros) // unit * unit * (1 if micros >= 0 else -1)
    seconds, fraction = divmod(abs(micros), 10**6)
    number = ((seconds // 3600) << 12 | (seconds // 60 % 60) << 6 | seconds % 60) << (8 * size)
    number |= fraction // 10 ** (6 - 2 * size)
    value = ((0x800000 << (8 * size)) + (number if micros >= 0 else -number)).to_bytes(3 + size, "big")
    text = f"{'-' if micros < 0 else ''}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}".encode()
    assert one(ColumnForm(f.TIME2, places), value) == text + shown(fraction)


@given(st.dates())
def test_a_date_and_the_forms_before_5_6(day: dt.date) -> None:
    text = f"{day.year:04}{day:-%m-%d}".encode()
    assert one(ColumnForm(f.DATE, 0), (day.year << 9 | day.month << 5 | day.day).to_bytes(3, "little")) == text
    digits = int(f"{day.year:04}{day:%m%d}123456").to_bytes(8, "little")
    assert one(ColumnForm(f.DATETIME, 0), digits) == text + b" 12:34:56"


def test_a_time_from_before_5_6() -> None:
    assert one(ColumnForm(f.TIME, 0), (8385959).to_bytes(3, "little")) == b"838:59:59"
    assert one(ColumnForm(f.TIME, 0), (-10203).to_bytes(3, "little", signed=True)) == b"-01:02:03"


@pytest.mark.parametrize("value", [(0).to_bytes(3, "little"), (2023 << 9 | 2 << 5 | 29).to_bytes(3, "little")])
def test_a_date_that_no_calendar_has(value: bytes) -> None:
    assert one(ColumnForm(f.DATE, 0), value) is None
    assert one(ColumnForm(f.DATE, 0, zero_dates="epoch"), value) == b"1970-01-01"
    with pytest.raises(UnrealDate, match="column born of table t"):
        one(ColumnForm(f.DATE, 0, zero_dates="fail", name="born"), value)


@given(st.text(max_size=40), st.sampled_from(["utf8mb4", "gb18030", "utf32", "utf16", "utf16le"]))
def test_text_of_a_set_that_has_every_character(text: str, charset: str) -> None:
    codec = {"utf8mb4": "utf-8", "utf32": "utf-32-be", "utf16": "utf-16-be", "utf16le": "utf-16-le"}.get(
        charset, charset
    )
    text = text.replace("\u1e3f", "").replace("\ue7c7", "")  # the two that GB 18030 exchanged
    try:
        encoded = text.encode(codec)
    except UnicodeEncodeError:
        return
    form = ColumnForm(f.VARCHAR, 1000, charset=charset)
    assert one(form, struct.pack("<H", len(encoded)) + encoded) == text.encode()


def test_latin1_is_what_the_server_takes_it_for() -> None:
    form = ColumnForm(f.STRING, 10, charset="latin1")
    assert one(form, b"\x04a\x80\x81\xff") == "a€\x81ÿ".encode()


@given(st.binary(max_size=60))
def test_text_is_utf8_or_refused(text: bytes) -> None:
    form = ColumnForm(f.BLOB, 2, charset="utf8mb4")
    try:
        text.decode()
    except UnicodeDecodeError:
        refused(form, struct.pack("<H", len(text)) + text)
    else:
        assert one(form, struct.pack("<H", len(text)) + text) == text


def test_bytes_are_hex_and_a_binary_has_its_zeros_again() -> None:
    assert one(ColumnForm(f.BLOB, 1), b"\x03\x00\xab\xff") == b"\\x00abff"
    assert one(ColumnForm(f.STRING, 4), b"\x01\x01") == b"\\x01000000"
    assert one(ColumnForm(f.VARCHAR, 4, charset="binary"), b"\x01\x01") == b"\\x01"


def test_labels() -> None:
    enum = ColumnForm(f.ENUM, 1, labels=("a", "é"))
    assert [one(enum, bytes([n])) for n in range(3)] == [b"", b"a", "é".encode()]
    assert "label" in refused(enum, b"\3")
    assert one(ColumnForm(f.SET, 1, labels=("a", "b", "c")), b"\5") == b"a,c"
    everything = ColumnForm(f.SET, 8, labels=tuple(f"m{n}" for n in range(64)))
    assert one(everything, b"\xff" * 8) == b",".join(b"m%d" % n for n in range(64))


def test_bits_geometry_vector_year() -> None:
    assert one(ColumnForm(f.BIT, 10), b"\x02\x01") == b"1000000001"
    assert one(ColumnForm(f.YEAR, 0), b"\0") == b"0"
    assert one(ColumnForm(f.VECTOR, 4), struct.pack("<I2f", 8, 1, 2.5)) == b"{1,2.5}"
    point = struct.pack("<BI2d", 1, 1, 1, 2)
    plain = struct.pack("<BI", len(point) + 4, 0) + point
    assert one(ColumnForm(f.GEOMETRY, 1), plain) == point.hex().upper().encode()
    placed = struct.pack("<BI", len(point) + 4, 4326) + point
    assert one(ColumnForm(f.GEOMETRY, 1), placed) == b"0101000020E6100000" + point[5:].hex().upper().encode()


@pytest.mark.parametrize(
    ("native", "value", "text"),
    [
        ("uuid", "0102", "01020000-0000-0000-0000-000000000000"),
        ("inet4", "0a", "10.0.0.0"),
        ("inet6", "", "::"),
        ("inet6", "00000000000000000000ffff01020304", "::ffff:1.2.3.4"),
    ],
)
def test_mariadbs_own_types(native: str, value: str, text: str) -> None:
    raw = bytes.fromhex(value)
    assert one(ColumnForm(f.STRING, 16, native=native), bytes([len(raw)]) + raw) == text.encode()


@given(st.text(max_size=300))
def test_a_compressed_column(text: str) -> None:
    raw = text.encode()
    packing = zlib.compressobj(wbits=-15)
    deflated = b"\x8a" + len(raw).to_bytes(2, "big") + packing.compress(raw) + packing.flush()
    form = ColumnForm(f.BLOB_COMPRESSED, 2, charset="utf8mb4")
    for value in (deflated, b"\0" + raw):
        assert one(form, struct.pack("<H", len(value)) + value) == raw
    assert one(form, b"\0\0") == b""
    changed = b"\x8a" + (len(raw) + 1).to_bytes(2, "big") + deflated[3:]
    refused(form, struct.pack("<H", len(changed)) + changed)


NAMED = [ColumnForm(f.TINY, 0, name=f"c{n}", default=b"7" if n != 3 else f.NO_DEFAULT) for n in range(10)]


def test_columns_that_an_event_leaves_out() -> None:
    shape = RowShape(NAMED, "t")
    assert cells(shape.decode(b"\2\1\2", 0, b"\x07\x00", False)[0], 0, 10) == [b"1", None, b"2", *[UNCHANGED] * 7]
    filled = cells(shape.decode(b"\0\1\2", 0, b"\x09\x00", True)[0], 0, 10)
    assert filled == [b"1", b"7", b"7", b"2", *[b"7"] * 6]
    with pytest.raises(MissingValue, match="column c3 of table t"):
        shape.decode(b"\0\1", 0, b"\1\0", True)


def test_columns_that_nobody_wants_are_passed_over() -> None:
    forms = [ColumnForm(f.BLOB, 2, keep=False), ColumnForm(f.TINY, 0), ColumnForm(f.LONG, 0, keep=False)]
    shape = RowShape(forms, "t")
    assert (shape.columns, shape.width) == (3, 1)
    image, at = shape.decode(b"\0\2\0xx\5\0\0\0\0", 0, b"\7", False)
    assert (cells(image, 0, 1), at) == ([b"5"], 10)


ROW = [
    ColumnForm(f.LONG, 0),
    ColumnForm(f.NEWDECIMAL, 10 | 2 << 8),
    ColumnForm(f.VARCHAR, 300, charset="utf8mb4"),
    ColumnForm(f.DATETIME2, 3),
    ColumnForm(f.JSON, 4),
    ColumnForm(f.BLOB, 2),
    ColumnForm(f.GEOMETRY, 4),
    ColumnForm(f.STRING, 30, charset="gbk"),
    ColumnForm(f.SET, 2, labels=("a", "b")),
]
DOCUMENT = bytes([0, 1, 0, 12, 0, 11, 0, 1, 0, 5, 7, 0]) + b"a"
IMAGE = (
    b"\0\0"
    + struct.pack("<i", -5)
    + packed_decimal(Decimal("-12.34"), 10, 2)
    + struct.pack("<H", 2)
    + "é".encode()
    + ((2024 * 13 + 2 << 22 | 29 << 17) + 0x8000000000).to_bytes(5, "big")
    + b"\0\5"
    + struct.pack("<I", len(DOCUMENT))
    + DOCUMENT
    + b"\2\0\0\1"
    + struct.pack("<IIBI2d", 25, 0, 1, 1, 1, 2)
    + b"\2\xc4\xe3"
    + b"\3\0"
)


def test_a_row_of_many_types() -> None:
    image, at = RowShape(ROW, "t").decode(IMAGE, 0, b"\xff\x01", False)
    assert at == len(IMAGE)
    found = cells(image, 0, 9)
    assert found[:6] == [b"-5", b"-12.34", "é".encode(), b"2024-02-29 00:00:00.0005", b'{"a": 7}', b"\\x0001"]
    assert found[7:] == ["你".encode(), b"a,b"]


def test_every_cut_of_a_row_is_refused() -> None:
    shape = RowShape(ROW, "t")
    for size in range(len(IMAGE)):
        with pytest.raises(MessageError):
            shape.decode(IMAGE[:size], 0, b"\xff\x01", False)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_changed_bytes_are_decoded_or_refused(data: st.DataObject) -> None:
    changed = bytearray(IMAGE)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        image, at = RowShape(ROW, "t").decode(bytes(changed), 0, b"\xff\x01", False)
    except MessageError:
        return
    assert at <= len(changed)
    assert len(cells(image, 0, 9)) == 9


@pytest.mark.parametrize(
    "form",
    [
        ColumnForm(f.NEWDECIMAL, 66),
        ColumnForm(f.NEWDECIMAL, 5 | 6 << 8),
        ColumnForm(f.BIT, 65),
        ColumnForm(f.BLOB, 5),
        ColumnForm(f.ENUM, 9),
        ColumnForm(f.DATETIME2, 7),
        ColumnForm(f.DECIMAL, 0),
        ColumnForm(200, 0),
        ColumnForm(f.VARCHAR, 10, charset="martian"),
        ColumnForm(f.TINY, 0, zero_dates="perhaps"),
    ],
)
def test_a_form_that_no_value_has_is_refused(form: ColumnForm) -> None:
    with pytest.raises(MessageError):
        RowShape([form], "t")


def test_a_partial_update_needs_the_old_document() -> None:
    forms = [ColumnForm(f.LONG, 0), ColumnForm(f.JSON, 4, name="doc")]
    shape = RowShape(forms, "t")
    change = bytes([0, 3]) + b"$.a" + bytes([3, 5, 9, 0])
    before = b"\0" + struct.pack("<iI", 1, len(DOCUMENT)) + DOCUMENT
    after = b"\1\1\0" + struct.pack("<iI", 1, len(change)) + change
    _, found, at = shape.decode_partial(before + after, b"\3", b"\3")
    assert (cells(found, 0, 2), at) == ([b"1", b'{"a": 9}'], len(before + after))
    with pytest.raises(PartialValue, match="column doc of table t"):
        shape.decode_partial(b"\0" + struct.pack("<i", 1) + b"\1\1\0" + after[7:], b"\1", b"\2")


def test_types_of_a_map() -> None:
    types = bytes([f.LONG, f.STRING, f.STRING, f.BIT, f.NEWDECIMAL, f.VARCHAR])
    metadata = bytes([0xF7, 1, 0xEE, 0x2C, 2, 1, 10, 2, 0x2C, 1])
    assert parse_types(types, metadata) == [(3, 0), (247, 1), (254, 300), (16, 10), (246, 10 | 2 << 8), (15, 300)]
    for wrong in (metadata[:-1], metadata + b"\0"):
        with pytest.raises(MessageError):
            parse_types(types, wrong)
    with pytest.raises(MessageError):
        parse_types(b"\xc8", b"")


@given(st.binary(max_size=60))
def test_any_metadata_is_read_or_refused(data: bytes) -> None:
    kinds: list[Any] = [(f.LONG, 0), (f.YEAR, 0), (f.VARCHAR, 20), (f.ENUM, 1), (f.GEOMETRY, 4)]
    try:
        found = optional_metadata(data, kinds)
    except MessageError:
        return
    assert len(found.unsigned) in (0, 5)


def test_collations_that_each_engine_counts_in_its_own_way() -> None:
    types = [(f.VARCHAR, 20), (f.GEOMETRY, 4), (f.STRING, 20)]
    each = bytes([3, 3, 8, 63, 45])  # MariaDB's: the geometry has one
    assert optional_metadata(each, types).collations == (8, 63, 45)
    with pytest.raises(MessageError):
        optional_metadata(each, types, "mysql")
    default = bytes([2, 3, 8, 1, 45])  # the second text: the geometry or the string
    assert optional_metadata(default, types, "mysql").collations == (8, 0, 45)
    assert optional_metadata(default, types, "mariadb").collations == (8, 45, 8)
    assert optional_metadata(default, types).collations == ()


def test_signs_of_a_table_with_a_year() -> None:
    types = [(f.YEAR, 0), (f.TINY, 0), (f.LONG, 0)]
    assert optional_metadata(b"\1\1\xa0", types).unsigned == (True, False, True)  # the year is counted
    assert optional_metadata(b"\1\1\x40", types).unsigned == (True, False, True)  # it is not
    assert optional_metadata(b"\1\1\x80", types).unsigned == ()  # either
