"""Index and constraint definitions as the server prints them, taken apart and put together again."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Index, Logical, NativeType, Table, TableName
from cdcflow.targets.postgres.ddl import words
from cdcflow.targets.postgres.indexes import Untranslatable, parse, target_index
from cdcflow.targets.postgres.types import labels


def columns(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, NativeType("text"), Logical.TEXT, number=at) for at, name in enumerate(names, 1))


def route(*pairs: tuple[str, str]) -> Route:
    kept = columns(*(name for name, _ in pairs))
    source = Table(TableName("s", "t"), 1, kept)
    return Route(source, TableName("s", "t"), tuple(zip(kept, (to for _, to in pairs), strict=True)), ())


def rest(definition: str, *pairs: tuple[str, str]) -> str:
    found = target_index(route(*pairs), Index("i", (), False, definition))
    assert found is not None
    return found.rest


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE INDEX i ON s.t USING btree (a)",
        'CREATE INDEX "i ON x" ON ONLY "S.1"."t ""u"" (x)" USING btree (a)',
        "CREATE INDEX i ON t USING btree (a)",
    ],
)
def test_what_follows_using_is_found_whatever_the_names_are(definition: str) -> None:
    assert parse(definition) == (False, "btree (a)")


def test_renamed_columns_are_replaced_only_where_they_are_columns() -> None:
    definition = (
        'CREATE INDEX i ON s.t USING btree (text text_ops DESC, "B, (" COLLATE "C", c) INCLUDE (text) WITH (x=\'1\')'
    )
    assert rest(definition, ("text", "t2"), ("B, (", 'q"'), ("c", "c")) == (
        'btree ("t2" text_ops DESC, "q""" COLLATE "C", c) INCLUDE ("t2") WITH (x=\'1\')'
    )


def test_an_expression_stays_as_it_is_where_its_columns_keep_their_names() -> None:
    definition = "CREATE INDEX i ON s.t USING btree (lower(a), ((b || 'c'::text))) WHERE (a <> 'c'::text)"
    assert rest(definition, ("a", "a"), ("b", "b"), ("c", "d")) == definition.partition(" USING ")[2]


@given(st.text("abc\"'(), ", max_size=30))
def test_no_definition_breaks_the_parser(text: str) -> None:
    with suppress(Untranslatable):
        rest(f"CREATE INDEX i ON s.t USING btree {text}", ("a", "x"), ("b", "y"))


@given(st.lists(st.text("ab',\\ 🐘", min_size=1, max_size=6), max_size=5))
def test_labels_are_read_back_from_a_definition(wanted: list[str]) -> None:
    definition = "AS ENUM (" + ", ".join("'" + label.replace("'", "''") + "'" for label in wanted) + ")"
    assert labels(definition) == tuple(wanted)


def test_words_of_an_expression_are_its_identifiers_and_not_its_texts() -> None:
    assert words("((a || 'b c'::text) || \"D\"\"e\") COLLATE pg_catalog.\"C\"") == {
        "a", "text", 'D"e', "COLLATE", "pg_catalog", "C"
    }  # fmt: skip
