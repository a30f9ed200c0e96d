"""Character sets by name and by a collation's number. What each byte becomes is asked of servers elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.codecs.mysqlcharsets import charset_of, converter, single


@pytest.mark.parametrize(
    ("collation", "charset"),
    [
        (1, "big5"),
        (8, "latin1"),
        (33, "utf8mb3"),
        (45, "utf8mb4"),
        (63, "binary"),
        (248, "gb18030"),
        (255, "utf8mb4"),
        (323, "utf8mb4"),
        (1069, "utf8mb4"),
        (1032, "latin1"),
        (2048, "utf8mb3"),
        (2304, "utf8mb4"),
        (3072, "utf32"),
        (0, ""),
        (17, ""),
        (500, ""),
        (9999, ""),
    ],
)
def test_a_collations_character_set(collation: int, charset: str) -> None:
    assert charset_of(collation) == charset


@given(
    st.binary(max_size=40), st.sampled_from(["gbk", "gb2312", "gb18030", "big5", "sjis", "cp932", "ujis", "eucjpms"])
)
def test_any_bytes_become_utf8(text: bytes, charset: str) -> None:
    convert = converter(charset)
    assert convert is not None
    convert(text).decode()


@pytest.mark.parametrize(
    ("charset", "text", "told"),
    [
        ("ujis", b"\xa1\xc0\xf5\xa1", "\\\ue000"),
        ("eucjpms", b"\x8f\xf4\xac\xad\xa1", "\u2116\u2460"),
        ("big5", b"\xf9\xd6", "\u7881"),
        ("gb18030", b"\x81\x35\xf4\x37\xa8\xbc", "\ue7c7\u1e3f"),
        ("sjis", b"\x81\x5f\xb1", "\\\uff71"),
        ("ucs2", b"\xd8\x00\xff\xfd", "?\ufffd"),
        ("euckr", b"\x81\x41a", "\uac02a"),
    ],
)
def test_what_pythons_codecs_have_otherwise(charset: str, text: bytes, told: str) -> None:
    convert = converter(charset)
    assert convert is not None
    assert convert(text).decode() == told


def test_a_table_has_four_bytes_for_each() -> None:
    table = single("swe7")
    assert table is not None
    assert len(table) == 1024
    assert table[4 * 0x5B : 4 * 0x5B + 3] == b"\x02" + "Ä".encode()
    assert single("utf8mb4") is converter("latin1") is single("martian") is None
