"""Floating point numbers in PostgreSQL's words."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdcflow.codecs import floattext_cy as floattext

doubles = st.floats(allow_nan=False, allow_infinity=False)
singles = st.floats(allow_nan=False, allow_infinity=False, width=32)


def single(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, b"0"),
        (-0.0, b"-0"),
        (0.1, b"0.1"),
        (1e20, b"1e+20"),
        (1e-07, b"1e-07"),
        (0.0001, b"0.0001"),
        (0.00001234, b"1.234e-05"),
        (123456789012345.0, b"123456789012345"),
        (1e15, b"1e+15"),
        (-1.5e300, b"-1.5e+300"),
        (5e-324, b"5e-324"),
    ],
)
def test_a_double_is_laid_out_as_postgresql_does(value: float, text: bytes) -> None:
    assert floattext.float8(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, b"0.1"),
        (100000.0, b"100000"),
        (1e6, b"1e+06"),
        (1234567.0, b"1.234567e+06"),
        (16777216.0, b"1.6777216e+07"),
        (3.4028234663852886e38, b"3.4028235e+38"),
        (1.401298464324817e-45, b"1e-45"),
        (-0.0, b"-0"),
    ],
)
def test_a_single_is_laid_out_as_postgresql_does(value: float, text: bytes) -> None:
    assert floattext.float4(single(value)) == text


@given(doubles)
def test_a_double_reads_back_the_same(value: float) -> None:
    text = floattext.float8(value)
    assert struct.pack("d", float(text)) == struct.pack("d", value)


@given(singles)
@example(2.0**-44)
@example(1.1754943508222875e-38)
def test_a_single_reads_back_the_same_and_has_no_digit_to_spare(value: float) -> None:
    text = floattext.float4(value)
    assert struct.pack("f", float(text)) == struct.pack("f", value)
    digits = len(text.partition(b"e")[0].strip(b"-0.").replace(b".", b""))
    for shorter in range(1, digits):
        assert single(float(f"{value:.{shorter - 1}e}")) != value or value == 0


@given(st.from_regex(r"\A-?[0-9]{1,30}(\.[0-9]{0,30})?(e[+-]?[0-9]{1,3})?\Z"))
def test_any_decimal_text_keeps_its_value(text: str) -> None:
    laid_out = floattext.decimal(text.encode(), 15)
    if sum(c.isdigit() for c in text.partition("e")[0]) <= 17:
        assert float(laid_out) == float(text)
