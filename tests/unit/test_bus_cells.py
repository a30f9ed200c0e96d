"""Cells on a bus: what each text becomes, and that it comes back as it was or is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.codecs import buscells
from cdcflow.codecs.buskinds import Kind, WireKind, wire_kind
from cdcflow.codecs.values import BadValue, Interval
from cdcflow.codecs.values_time import encode_interval
from cdcflow.model.schema import Column, Logical, NativeType

INT32 = st.integers(-(2**31), 2**31 - 1)
# Above a million hours PostgreSQL itself still prints; the form is the same.
MICROS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-(10**9), 10**9))


@pytest.mark.parametrize(
    ("cell", "iso"),
    [
        (b"1 year 2 mons 3 days 04:05:06.7", b"P1Y2M3DT4H5M6.7S"),
        (b"00:00:00", b"P0Y0M0DT0H0M0S"),
        (b"-00:00:00.5", b"P0Y0M0DT0H0M-0.5S"),
        (b"-1 years -2 mons +3 days -04:05:06", b"P-1Y-2M3DT-4H-5M-6S"),
        (b"838:59:59.999999", b"P0Y0M0DT838H59M59.999999S"),
    ],
)
def test_an_interval_is_written_as_debezium_writes_it(cell: bytes, iso: bytes) -> None:
    assert buscells.interval_iso(cell) == iso
    assert buscells.interval_text(iso) == cell


@given(INT32, INT32, MICROS)
def test_any_interval_comes_back(months: int, days: int, micros: int) -> None:
    cell = encode_interval(Interval(months, days, micros))
    assert buscells.interval_text(buscells.interval_iso(cell)) == cell


@pytest.mark.parametrize(
    ("cell", "iso"),
    [(b"04:05:06.5+02", b"04:05:06.5+02:00"), (b"24:00:00+00", b"24:00:00Z"), (b"01:02:03-15:59:59",) * 2],
)
def test_a_time_with_zone_keeps_its_offset(cell: bytes, iso: bytes) -> None:
    assert buscells.timetz_iso(cell) == iso
    assert buscells.timetz_text(iso) == cell


@given(st.lists(st.one_of(st.none(), st.sampled_from([b"", b"NULL", b"null", b'"', b"\\", b"{,}", b" "]), st.binary())))
def test_any_list_comes_back(cells: list[bytes | None]) -> None:
    cells = [None if cell is None else cell.replace(b"\0", b"") for cell in cells]
    assert buscells.array_cells(buscells.array_text(cells)) == cells


@pytest.mark.parametrize("cell", [b"{{1,2},{3,4}}", b"[0:1]={1,2}", b"{1, 2}", b"", b"{1"])
def test_what_is_more_than_a_list_is_refused(cell: bytes) -> None:
    with pytest.raises(BadValue):
        buscells.array_cells(cell)


@given(st.text("01", min_size=1, max_size=200))
def test_bits_come_back(cell: str) -> None:
    raw = buscells.bits_bytes(cell.encode())
    assert buscells.bits_text(raw, len(cell)) == cell.encode()
    assert raw[0] & 1 == int(cell[-1])


@given(st.sampled_from("<>"), st.integers(0, 0x1FFFFFFF), st.none() | INT32.filter(bool), st.binary(max_size=40))
def test_a_geometry_is_taken_apart_and_put_together(order: str, form: int, srid: int | None, rest: bytes) -> None:
    mark = b"\x01" if order == "<" else b"\0"
    wkb = mark + struct.pack(order + "I", form) + rest
    cell = buscells.geometry_text(wkb, srid)
    assert buscells.geometry_parts(cell) == (wkb, srid)
    assert buscells.geometry_text(bytes.fromhex(cell.decode()), srid) == cell


def kind(text: str, logical: Logical, oid: int = 0, modifier: int = -1, element: NativeType | None = None) -> WireKind:
    return wire_kind(Column("c", NativeType(text, oid=oid, modifier=modifier, element=element), logical))


def test_a_type_says_how_large_its_values_are() -> None:
    assert kind("numeric(12,2)", Logical.DECIMAL, 1700, (12 << 16 | 2) + 4) == WireKind(Kind.DECIMAL, 12, 2)
    assert kind("numeric(3,-2)", Logical.DECIMAL, 1700, (3 << 16 | (-2 & 0x7FF)) + 4) == WireKind(Kind.DECIMAL, 3, -2)
    assert kind("numeric", Logical.DECIMAL, 1700) == WireKind(Kind.DECIMAL)
    assert kind("decimal(10,0) unsigned", Logical.DECIMAL) == WireKind(Kind.DECIMAL, 10, 0)
    assert kind("bit(1)", Logical.BIT, 1560, 1) == WireKind(Kind.BIT1)
    assert kind("bit(9)", Logical.BIT) == WireKind(Kind.BITS, length=9)
    assert kind("bit varying(9)", Logical.BIT, 1562, 9) == WireKind(Kind.VARBIT)
    assert kind("int4range", Logical.OTHER, 3904).kind is Kind.TEXT


def test_an_array_has_the_kind_of_its_elements() -> None:
    times = kind("timestamptz[]", Logical.ARRAY, 1185, element=NativeType("timestamptz", oid=1184))
    assert times.element == WireKind(Kind.TIMESTAMPTZ)
    boxes = kind("box[]", Logical.ARRAY, 1020, element=NativeType("box", oid=603))
    assert (boxes.element, boxes.delimiter) == (WireKind(Kind.TEXT), b";")
    moods = NativeType("mood", oid=20000, labels=("a", "b"))
    assert kind("mood[]", Logical.ARRAY, 20001, element=moods).element == WireKind(Kind.ENUM, labels=("a", "b"))
    assert kind("vector(3)", Logical.ARRAY, element=NativeType("float")).element == WireKind(Kind.FLOAT32)
    domain = Column(
        "c", NativeType("d", oid=30000, base=NativeType("numeric(4,1)", 1700, (4 << 16 | 1) + 4)), Logical.DECIMAL
    )
    assert wire_kind(domain) == WireKind(Kind.DECIMAL, 4, 1)
