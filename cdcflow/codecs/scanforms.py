"""How a value of a binary message becomes canonical text: what the compiled readers are told for each place."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class Form(IntEnum):
    """What is made of the bytes at one place. The numbers are for the compiled readers only."""

    RAW = 0  # text as it is; an enum's symbol
    DIGITS = 1  # a whole number
    UNSIGNED = 2
    BOOL = 3  # t, f
    BIT = 4  # 1, 0
    FLOAT4 = 5
    FLOAT8 = 6
    HEX = 7
    DAYS = 8  # a number: days since 1970
    CLOCK_MILLIS = 9
    CLOCK_MICROS = 10
    CLOCK_NANOS = 11
    MOMENT_MILLIS = 12  # a number since 1970, without zone
    MOMENT_MICROS = 13
    MOMENT_NANOS = 14
    ZONED_MILLIS = 15  # a number since 1970, in UTC
    ZONED_MICROS = 16
    ZONED_NANOS = 17
    ZONED = 18  # text in ISO 8601
    DECIMAL = 19  # big-endian two's complement; the parameter is the scale
    ARRAY = 20  # the parameter is the delimiter
    CALL = 21  # whatever it is, as a Python value, given to a function
