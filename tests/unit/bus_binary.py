"""What the tests of Avro and Protobuf share: rows of every kind, written and read in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cdcflow.bus.config import Decoding, Encoding
from cdcflow.bus.formats import Messages
from cdcflow.bus.formats.avro import AvroFormat
from cdcflow.bus.formats.protobuf import ProtobufFormat
from cdcflow.codecs.buscells import array_text
from cdcflow.codecs.floattext_cy import float4, float8
from cdcflow.codecs.values_kinds import Interval
from cdcflow.codecs.values_time import encode_date, encode_interval, encode_time, encode_timestamp
from tests.unit.bus_rows import POSTGRES, MemoryRegistry, frame_of, route_of, stamps_of, table_of

FORMATS: dict[str, Callable[..., Any]] = {"avro": AvroFormat, "protobuf": ProtobufFormat}
both = pytest.mark.parametrize("name", FORMATS)
quick = settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))


def _digits(number: int) -> bytes:
    return b"%d" % number


def float8_text(number: float) -> bytes:
    if math.isfinite(number):
        return float8(number)
    return b"NaN" if number != number else b"Infinity" if number > 0 else b"-Infinity"


def _float4(number: float) -> bytes:
    return float4(number) if math.isfinite(number) else float8_text(number)


def _scaled(number: int) -> bytes:
    sign, digits = ("-" if number < 0 else ""), str(abs(number)).rjust(3, "0")
    return f"{sign}{digits[:-2]}.{digits[-2:]}".encode()


letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
texts = letters.map(str.encode)
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)).map(encode_timestamp)
CELLS: dict[str, st.SearchStrategy[bytes]] = {
    "bool": st.sampled_from([b"t", b"f"]),
    "int2": st.integers(-(1 << 15), (1 << 15) - 1).map(_digits),
    "int4": st.integers(-(1 << 31), (1 << 31) - 1).map(_digits),
    "int8": st.integers(-(1 << 63), (1 << 63) - 1).map(_digits),
    "uint8": st.integers(0, (1 << 64) - 1).map(_digits),
    "numeric": st.one_of(
        st.decimals(allow_nan=False, allow_infinity=False).map(lambda each: format(each, "f").encode()),
        st.sampled_from([b"NaN", b"Infinity", b"0", b"-0.00"]),
    ),
    "numeric12_2": st.one_of(st.integers(-(10**12) + 1, 10**12 - 1).map(_scaled), st.just(b"NaN")),
    "float4": st.floats(width=32).map(_float4),
    "float8": st.floats().map(float8_text),
    "text": texts,
    "bytea": st.binary(max_size=40).map(lambda each: b"\\x" + each.hex().encode()),
    "date": st.one_of(
        st.dates().map(encode_date),
        st.sampled_from(
            [b"infinity", b"-infinity", b"0044-03-15 BC", b"0001-02-28 BC", b"5874897-12-31", b"12024-02-29"]
        ),
    ),
    "time": st.one_of(st.times().map(encode_time), st.just(b"24:00:00")),
    "timetz": st.builds(
        lambda clock, zone: encode_time(clock) + zone, st.times(), st.sampled_from([b"+00", b"-03:30", b"+15:59:59"])
    ),
    "timestamp": st.one_of(
        moments,
        st.sampled_from(
            [b"infinity", b"4713-01-01 00:00:00 BC", b"294276-12-31 23:59:59.999999", b"0001-12-31 23:59:59.9 BC"]
        ),
    ),
    "timestamptz": st.one_of(
        moments.map(lambda each: each + b"+00"), st.sampled_from([b"-infinity", b"0044-03-15 00:00:00+00 BC"])
    ),
    "interval": st.one_of(
        st.builds(Interval, st.integers(-999, 999), st.integers(-999, 999), st.integers(-(10**12), 10**12)).map(
            encode_interval
        ),
        st.just(b"infinity"),
    ),
    "uuid": st.uuids().map(lambda each: str(each).encode()),
    "jsonb": letters.map(lambda each: json.dumps({"a": each}, ensure_ascii=False).encode()),
    "mood": st.sampled_from([b"sad", b"ok", b"happy"]),
    "bit1": st.sampled_from([b"0", b"1"]),
    "bit10": st.integers(0, 1023).map(lambda each: format(each, "010b").encode()),
    "varbit": st.text("01", max_size=20).map(str.encode),
    "texts": st.one_of(
        st.lists(
            st.one_of(st.none(), texts, st.sampled_from([b"NULL", b"null", b"", b'a"b\\', b"{x}", b"\xe2\x82\xac"]))
        ).map(array_text),
        st.sampled_from([b"[0:1]={a,b}", b"{{a,b},{c,d}}"]),
    ),
    "ints": st.lists(st.one_of(st.none(), st.integers(-(1 << 31), (1 << 31) - 1).map(_digits))).map(array_text),
    "moments": st.lists(st.one_of(st.none(), moments.map(lambda each: each + b"+00"))).map(array_text),
    "geometry": st.sampled_from(
        [b"0101000020E6100000000000000000F03F0000000000000040", b"0101000000000000000000F03F0000000000000040"]
    ),
    "inet": st.just(b"10.0.0.1/8"),
}
TABLE = table_of({"id": "int8"} | {kind: kind for kind in POSTGRES}, ["id"], not_null=["texts", "text", "float8"])
rows = st.tuples(
    CELLS["int8"],
    *(
        cells if kind in ("texts", "text", "float8") else st.one_of(st.none(), cells)
        for kind, cells in ((kind, CELLS[kind]) for kind in POSTGRES)
    ),
).map(list)


def written(name: str, table: Any, changes: Sequence[Any], registry: MemoryRegistry, **options: Any) -> Messages:
    form = FORMATS[name](Encoding(format=name, **options), registry)
    route = route_of(table)
    frame = frame_of(route, changes)
    found: Messages = form.writer("shop.orders", route, table.column_names).write(frame, stamps_of(len(changes)))
    return found


def reader_of(name: str, table: Any, registry: MemoryRegistry, **options: Any) -> Any:
    return FORMATS[name](Decoding(format=name, **options), registry).reader(table, None)
