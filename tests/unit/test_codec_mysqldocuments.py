"""JSON documents with the SQL types of their values: two orders of counting, one expression."""

from __future__ import annotations

import pytest

from cdcflow.codecs.mysqldocuments import END, MARK, DocumentError, expression, marks, untyped
from cdcflow.codecs.mysqlliterals import DOCUMENT, UNTYPED, ImageError, converted, literal, quoted

TEXT = b'{"a": 1.50, "b": [7, "2024-01-31", {"c": "base64:type16:Cqo="}]}'
MADE = (
    b"JSON_REPLACE('"
    + TEXT
    + b"','$.\"a\"',CAST('1.50' AS DECIMAL(3,2)),'$.\"b\"[1]',CAST('2024-01-31' AS DATE),'$.\"b\"[2].\"c\"',"
    b"(SELECT x FROM JSON_TABLE('[2730]', '$[*]' COLUMNS (x BIT(16) PATH '$' ERROR ON ERROR)) AS t))"
)


def typed(types: bytes, text: bytes = TEXT) -> bytes:
    return text + MARK + types + END


def test_values_counted_as_the_log_has_them() -> None:
    cell = TEXT + marks([(1, 246), (4, 10), (6, 16)])
    assert expression(cell, quoted) == MADE
    assert untyped(cell) == TEXT


def test_values_counted_as_json_table_finds_them() -> None:
    parts = expression(typed(b"o2:1n,3b;a1:2d;"), quoted).split(b",'$.")
    assert {part.rstrip(b")") for part in parts[1:]} == {part.rstrip(b")") for part in MADE.split(b",'$.")[1:]}


def test_a_document_that_is_one_value() -> None:
    found = expression(typed(b"r1:0n;", b"-0.050"), quoted)
    assert found == b"CAST(CAST('-0.050' AS DECIMAL(4,3)) AS JSON)"
    assert expression(b"-0.05" + marks([(0, 246)]), quoted) == b"CAST(CAST('-0.05' AS DECIMAL(3,2)) AS JSON)"


def test_a_document_without_types_is_its_text() -> None:
    assert literal(DOCUMENT, TEXT) == quoted(TEXT)
    assert converted(DOCUMENT, TEXT) == converted(UNTYPED, TEXT) == TEXT


def test_elsewhere_the_text_alone_is_written() -> None:
    assert converted(UNTYPED, typed(b"p1:1n;")) == TEXT
    with pytest.raises(ImageError):
        converted(DOCUMENT, typed(b"p1:1n;"))  # LOAD DATA has no form for it


@pytest.mark.parametrize(
    "types",
    [b"", b"p2:1n;", b"p1:9n;", b"p1:4n;", b"p1:2d;", b"p1:4b;", b"x1:1n;", b"p1:1n", b"o1:0n;", b"p1:1d;"],
)
def test_a_list_of_types_that_does_not_fit_is_an_error(types: bytes) -> None:
    with pytest.raises(DocumentError):
        expression(typed(types), quoted)
    with pytest.raises(ImageError):
        literal(DOCUMENT, typed(types))


def test_bytes_of_a_type_without_an_expression_are_an_error() -> None:
    with pytest.raises(DocumentError, match="253"):
        expression(typed(b"r1:0b;", b'"base64:type253:Cqo="'), quoted)
