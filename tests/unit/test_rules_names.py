"""Patterns over table names, and templates that make them."""

from __future__ import annotations

import string
from fnmatch import fnmatchcase

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cdcflow.model.schema import TableName
from cdcflow.rules.name import Pattern, Template, reserved

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=12)
GLOBS = st.text(string.ascii_letters + "*?[]!-_% :é😀", min_size=1, max_size=8)


def matches(pattern: str, schema: str, table: str) -> bool:
    return Pattern.parse(pattern).matches(TableName(schema, table))


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize(
    ("pattern", "schema", "table", "expected"),
    [
        ("public.*", "public", "orders", True),
        ("public.*", "sales", "orders", False),
        ("*.orders", "sales", "orders", True),
        ("*", "sales", "orders", True),
        ("public.audit_?", "public", "audit_1", True),
        ("public.audit_?", "public", "audit_12", False),
        ("public.[ab]*", "public", "beta", True),
        ("public.[!ab]*", "public", "beta", False),
        ("public.orders", "public", "Orders", False),
        ("public.Orders", "public", "Orders", True),
        ("p*.x", "p.q", "x", True),
        ('"my.schema"."t*"', "my.schema", "t*", True),
        ('"my.schema"."t*"', "my.schema", "tx", False),
        ('"my.schema".t*', "my.schema", "tx", True),
        ('public."a""b"', "public", 'a"b', True),
        ('public."50%"_*', "public", "50%_x", True),
        ("public.Bestellungen mit ü 😀", "public", "Bestellungen mit ü 😀", True),
        ("public.a:b%c", "public", "a:b%c", True),
        ("public.x*", "public", "x\ny", True),
        ("public.x", "public", "x\n", False),
    ],
)
def test_pattern_matches_schema_and_table_apart(pattern, schema, table, expected):
    assert matches(pattern, schema, table) is expected


@pytest.mark.parametrize(
    "schema", ["pg_catalog", "information_schema", "pg_toast", "pg_temp_3", "pg_toast_temp_3", "cdcflow"]
)
def test_system_schemas_and_our_own_are_never_matched(schema):
    assert reserved(schema)
    assert not matches("*", schema, "x")
    assert not matches(f"{schema}.x", schema, "x")
    assert matches("*", schema + "!", "x") is not schema.startswith("pg_")


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_the_databases_that_another_engine_has_for_itself_are_never_matched(engine):
    for database in ("mysql", "sys", "performance_schema", "information_schema", "cdcflow"):
        assert not Pattern.parse("*").matches(TableName(database, "x"), engine)
    assert Pattern.parse("*").matches(TableName("pg_shop", "x"), engine)
    assert Pattern.parse("*").matches(TableName("sys", "x"), "postgresql")


@pytest.mark.parametrize("name", ["shop 2.0", "50%", "a`b", "ünï😀", 'say "hi"', "a_b", "Shop", "*", "[x]"])
def test_any_database_and_table_can_be_named(name):
    pattern = Pattern.parse(f"{quoted(name)}.{quoted(name)}")
    assert pattern.matches(TableName(name, name), "mysql")
    assert not pattern.matches(TableName(name.upper() + "x", name), "mysql")
    assert pattern.exact


@pytest.mark.parametrize(("pattern", "exact"), [("a.b", True), ("a.*", False), ("a.[b]", False), ('a."[*]"', True)])
def test_pattern_without_a_wildcard_is_exact(pattern, exact):
    assert Pattern.parse(pattern).exact is exact


@given(GLOBS, GLOBS, NAMES, NAMES)
@example("a*b*c", "*a*", "aXbYbZc", "bab")
@example("[", "[!", "[", "[!")
def test_unquoted_pattern_is_fnmatch_on_each_part(schema_glob, table_glob, schema, table):
    assume(not reserved(schema))
    expected = fnmatchcase(schema, schema_glob) and fnmatchcase(table, table_glob)
    assert matches(f"{schema_glob}.{table_glob}", schema, table) is expected


@given(NAMES, NAMES, NAMES, NAMES)
def test_quoted_pattern_matches_its_own_name_and_no_other(schema, table, other_schema, other_table):
    assume(not reserved(schema))
    pattern = f"{quoted(schema)}.{quoted(table)}"
    assert matches(pattern, schema, table)
    assert matches(pattern, other_schema, other_table) is ((schema, table) == (other_schema, other_table))


PLAIN = st.text("abc _%", max_size=3)


@given(NAMES, PLAIN, PLAIN, NAMES)
def test_quoted_and_unquoted_pieces_stand_side_by_side(literal, before, after, more):
    pattern = f"s.{before}{quoted(literal)}{after}"
    assert matches(pattern, "s", before + literal + after)
    assert not matches(pattern, "s", before + literal + after + more)
    assert matches(pattern + "*", "s", before + literal + after + more)


def read_pattern(text: str) -> str:
    try:
        return Pattern.parse(text).text
    except ValueError as error:
        return str(error)


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_a_value_error(text):
    assert read_pattern(text) in (text, "must be schema.table", "has a quote that is not closed")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{schema}.{table}", TableName("Sch.ema", "ta{b}le")),
        ("sales.{table}_copy", TableName("sales", "ta{b}le_copy")),
        ("x.{schema}_{table}", TableName("x", "Sch.ema_ta{b}le")),
        ('"a.b".{table}', TableName("a.b", "ta{b}le")),
        ("a.{{x}}", TableName("a", "{x}")),
        ('a."""q"""', TableName("a", '"q"')),
    ],
)
def test_template_fills_in_schema_and_table(template, expected):
    assert Template.parse(template).fill(TableName("Sch.ema", "ta{b}le")) == expected


@pytest.mark.parametrize("template", ["x", "a.b.c", "a.{tbl}", "a.{", "a.}", "a.{table", ""])
def test_malformed_template_is_refused(template):
    with pytest.raises(ValueError, match=r"must be schema\.table|unknown placeholder"):
        Template.parse(template)


@given(NAMES, NAMES)
def test_default_template_keeps_any_name(schema, table):
    name = TableName(schema, table)
    assert Template.parse("{schema}.{table}").fill(name) == name
