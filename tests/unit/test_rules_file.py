"""The rules file: what is read, and what a person is told when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.errors import ConfigError
from cdcflow.rules import Rules, load, parse
from cdcflow.rules.document import parse as parse_document


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text, "rules.yaml")
    return caught.value


def rule(lines: str) -> str:
    return "tables:\n  - match: public.t\n" + "".join(f"    {line}\n" for line in lines.splitlines())


def test_unknown_key_names_file_line_and_the_nearest_valid_key():
    error = refusal(rule("on_delet: soft"))
    assert error.report() == (
        'error: unknown key "on_delet"\n  at:   rules.yaml:3:5\n  do:   did you mean "on_delete"?'
    )
    assert error.exit_code == 2


def test_unknown_key_like_no_other_lists_the_valid_ones():
    error = refusal(rule("columns: {zzz: [a]}"))
    assert error.what == 'unknown key "zzz"'
    assert error.do == "valid keys here: exclude, rename, mask"


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("tabels: []", "tabels", "tables"),
        ("tables: [{mach: a.b}]", "mach", "match"),
        ("tables: [{match: a.b, columns: {renames: {}}}]", "renames", "rename"),
        ("tables: [{match: a.b}]\ndefaults: {on_truncat: ignore}", "on_truncat", "on_truncate"),
        ("tables: [{match: a.b, Exclude: true}]", "Exclude", "exclude"),
    ],
)
def test_typo_at_any_depth_offers_the_key_that_is_valid_there(text, key, near):
    assert f'unknown key "{key}"' in refusal(text).report()
    assert f'did you mean "{near}"?' in refusal(text).report()


@pytest.mark.parametrize(
    ("lines", "said", "do"),
    [
        ("on_delete: sof", '"on_delete" must be delete, soft or ignore, not "sof"', 'did you mean "soft"?'),
        ("on_truncate: 5", '"on_truncate" must be truncate or ignore, not 5', ""),
        ("schema_changes: [apply]", '"schema_changes" must be apply, stop or ignore, not a list', ""),
        ("zero_dates: epok", '"zero_dates" must be null, epoch or fail, not "epok"', 'did you mean "epoch"?'),
        ("exclude: maybe", '"exclude" must be true or false, not "maybe"', ""),
        ("key: id", '"key" must be a list, like [a, b], not "id"', ""),
        ("key: []", '"key" must be a list that is not empty', ""),
        ("key: [a, 1]", '"key" must be text, not 1', ""),
        ("key: [a, a]", '"key" names a column twice', "remove one"),
        ("key:", '"key" has no value', "give it one, or remove the key"),
        ("columns: [a]", '"columns" must be a mapping of keys, not a list', ""),
        ("columns: {exclude: a}", '"columns.exclude" must be a list, like [a, b], not "a"', ""),
        ("columns: {rename: [a]}", '"columns.rename" must be a mapping, like {a: b}, not a list', ""),
        ("where: a = 1", '"where" is not available yet in this version', "remove it"),
        ("columns: {mask: {a: sha256}}", '"columns.mask" is not available yet in this version', "remove it"),
        ("mode: history", '"mode" "history" is not available yet in this version', "use mirror or append"),
        ("mode: appnd", '"mode" must be mirror or append, not "appnd"', 'did you mean "append"?'),
        ("to: orders", '"to" must be schema.table', "write schema.table, for example sales.{table}"),
        ("to: a.b.c", '"to" must be schema.table', "write schema.table, for example sales.{table}"),
        (
            "to: a.{tabel}",
            '"to" has an unknown placeholder {tabel}: there are {schema} and {table}',
            "write schema.table, for example sales.{table}",
        ),
        ("to: cdcflow.x", '"to" names the reserved schema cdcflow', "choose another schema"),
        ("to: pg_catalog.x", '"to" names the reserved schema pg_catalog', "choose another schema"),
    ],
)
def test_wrong_value_says_what_would_be_right(lines, said, do):
    error = refusal(rule(lines))
    assert (error.what, error.do) == (said, do)
    assert error.at.startswith("rules.yaml:3:")


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ("orders", '"match" must be schema.table'),
        ("a.b.c", '"match" must be schema.table'),
        ("a.", '"match" must be schema.table'),
        ("'\"a.b'", '"match" has a quote that is not closed'),
    ],
)
def test_malformed_pattern_is_refused_with_an_example(match, said):
    error = refusal(f"tables:\n  - match: {match}\n")
    assert error.what == said
    assert "schema.table" in error.do


@pytest.mark.parametrize(
    ("text", "said", "at"),
    [
        ("", "file is empty", "rules.yaml:1:1"),
        ("# only a comment\n", "file is empty", "rules.yaml:1:1"),
        ("[]", '"the file" must be a mapping of keys, not a list', "rules.yaml:1:1"),
        ("version: 1", '"tables" is missing', "rules.yaml:1:1"),
        ("tables: []", '"tables" must be a list that is not empty', "rules.yaml:1:9"),
        ("tables:\n  - to: a.b", '"match" is missing', "rules.yaml:2:5"),
        ("version: 2\ntables: [{match: a.b}]", '"version" must be 1, not 2', "rules.yaml:1:10"),
        ("tables: [{match: a.b}]\nversion: 1\nversion: 1", 'key "version" is there twice', "rules.yaml:3:1"),
        ("a: [\n", "invalid YAML: expected the node content, but found '<stream end>'", "rules.yaml:2:1"),
        (
            "tables:\n\t- match: a.b",
            "invalid YAML: found character '\\t' that cannot start any token",
            "rules.yaml:2:1",
        ),
        ("a: b: c", "invalid YAML: mapping values are not allowed here", "rules.yaml:1:5"),
        ("a: b\n---\nc: d", "invalid YAML: a second document", "rules.yaml:2:1"),
        ("a: !tag b", "YAML tags are not used here", "rules.yaml:1:4"),
        ("? [a]\n: b", "invalid YAML: a key must be text", "rules.yaml:1:3"),
        ("a: &x [*x]", "invalid YAML: aliases that multiply or hold themselves", "rules.yaml:1:4"),
        ("a: \x07", "invalid YAML: a control character", "rules.yaml:1"),
        ("a: " + "9" * 5000, "a number or boolean cannot be read", "rules.yaml:1:4"),
        ("[" * 5000, "invalid YAML: nested too deeply", "rules.yaml"),
    ],
)
def test_file_that_is_not_rules_is_refused_with_line_and_column(text, said, at):
    error = refusal(text)
    assert (error.what, error.at) == (said, at)


@pytest.mark.parametrize("match", ["*", "*.orders", "&"])
def test_star_without_quotes_is_explained(match):
    error = refusal(f"tables:\n  - match: {match}\n")
    assert "without quotes" in error.what
    assert error.at == "rules.yaml:2:13"


def test_misspelt_key_is_not_reported_as_missing_too():
    error = refusal("tables: [{mtch: a.b}]")
    assert (error.what, error.why) == ('unknown key "mtch"', "")


def test_duplicate_key_says_where_the_first_one_is():
    assert refusal(rule("mode: append\nmode: mirror")).why == "the first one is at rules.yaml:3:5"


def test_all_problems_are_reported_at_once_in_the_order_of_the_file():
    error = refusal(rule("on_delet: soft\non_delete: sof\nkey: id"))
    assert error.what == 'unknown key "on_delet"'
    assert error.why.splitlines() == [
        "and 2 more:",
        'rules.yaml:4:16: "on_delete" must be delete, soft or ignore, not "sof" (did you mean "soft"?)',
        'rules.yaml:5:10: "key" must be a list, like [a, b], not "id"',
    ]


def test_words_that_yaml_1_1_takes_for_booleans_and_times_are_names():
    document = parse_document("{a: no, b: on, c: 12:30, d: 2024-01-01, yes: 1, e: 010, f: true, g: null}", "f")
    assert document.value == {
        "a": "no", "b": "on", "c": "12:30", "d": "2024-01-01", "yes": 1, "e": 10, "f": True, "g": None,
    }  # fmt: skip


def test_alias_repeats_a_value():
    rules = parse("tables:\n  - match: public.a\n    columns: &c {exclude: [x]}\n  - {match: public.b, columns: *c}\n")
    assert [rule.keys for rule in rules.rules] == [{"columns.exclude": ["x"]}] * 2


def test_aliases_that_multiply_are_stopped():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert refusal("\n".join(levels)).what == "invalid YAML: aliases that multiply or hold themselves"


def test_missing_file_is_an_error_that_names_it(tmp_path: Path):
    with pytest.raises(ConfigError, match="file not found") as caught:
        load(tmp_path / "rules.yaml")
    assert str(tmp_path / "rules.yaml") in caught.value.what


def test_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / "rules.yaml"
    path.write_bytes(b"version: 1\n# caf\xe9\n")
    with pytest.raises(ConfigError, match="file is not UTF-8 text") as caught:
        load(path)
    assert caught.value.at == f"{path}:2"


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="file cannot be read"):
        load(tmp_path)


def test_byte_order_mark_is_no_part_of_the_file(tmp_path: Path):
    path = tmp_path / "rules.yaml"
    path.write_bytes(b'\xef\xbb\xbftables: [{match: "public.*"}]')
    assert load(path).rules[0].pattern.text == "public.*"


def parsed(text: str) -> Rules | ConfigError:
    try:
        return parse(text)
    except ConfigError as error:
        return error


@given(st.text(max_size=200))
def test_any_text_is_rules_or_a_config_error(text):
    found = parsed(text)
    assert isinstance(found, Rules) or found.report()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["match", "to", "key", "columns", "exclude", "rename", "mode", "where", "tables"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_structure_is_rules_or_a_config_error_with_a_place(value):
    found = parsed(json.dumps(value))
    assert isinstance(found, Rules) or found.at.startswith("rules.yaml:")
