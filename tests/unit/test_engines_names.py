"""How names and constants are quoted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.engines.postgres.names import ident, literal, qualified
from cdcflow.model.schema import TableName

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


def test_quotes_inside_a_name_are_doubled() -> None:
    assert ident('a"b') == '"a""b"'
    assert qualified(TableName("Sh op", "select")) == '"Sh op"."select"'


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_name_that_no_server_can_hold_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        ident(name)


def test_a_constant_with_a_zero_byte_is_an_error() -> None:
    with pytest.raises(ValueError, match="U\\+0000"):
        literal("a\0")


@given(TEXT)
def test_a_quoted_name_ends_where_it_should(name: str) -> None:
    inside = ident(name)[1:-1]
    assert inside.replace('""', "").count('"') == 0
    assert inside.replace('""', '"') == name


@given(TEXT)
def test_a_quoted_constant_ends_where_it_should(text: str) -> None:
    inside = literal(text)[1:-1]
    assert inside.replace("''", "").count("'") == 0
    assert inside.replace("''", "'") == text
