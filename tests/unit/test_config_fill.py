"""Placeholders, sizes and durations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from cdcflow.config.fill import FILE_LIMIT_BYTES, FillError, Surroundings, fill
from cdcflow.config.url import _malformed
from cdcflow.model.quantity import parse_duration, parse_size

NOWHERE = Path("/nonexistent")


def filled(text: str, folder: Path = NOWHERE, **environ: str) -> str:
    return fill(text, Surroundings(environ, folder))[0]


def refusal(text: str, folder: Path = NOWHERE, **environ: str) -> FillError:
    with pytest.raises(FillError) as caught:
        filled(text, folder, **environ)
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain $ and {x}", "plain $ and {x}"),
        ("${A}", "1"),
        ("x${A}y${B}z", "x1y2z"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$${A}${A}", "${A}1"),
        ("$A", "$A"),
    ],
)
def test_variables_are_filled_in_and_two_dollars_stand_for_themselves(text, expected):
    assert filled(text, A="1", B="2") == expected


def test_value_is_not_filled_in_again():
    assert filled("${A}", A="${B}", B="x") == "${B}"


def test_missing_variable_is_named_with_the_one_that_is_nearest():
    error = refusal("${SOURCE_PASWORD}", SOURCE_PASSWORD="hunter2")
    assert error.what == "variable SOURCE_PASWORD is not set"
    assert error.why == "SOURCE_PASSWORD is set: a typo?"
    assert error.do == "export SOURCE_PASWORD=..."


@pytest.mark.parametrize("text", ["${}", "${a b}", "${1}", "${hunter-2}", "${A:-x}", "${${A}}"])
def test_placeholder_that_is_neither_variable_nor_file_is_refused_without_being_shown(text):
    error = refusal(text, A="B")
    assert error.what == "a ${...} that is neither a variable nor a file"
    assert "hunter" not in error.do


@pytest.mark.parametrize("text", ["${A", "x${file:${A}", "${"])
def test_placeholder_without_its_end_is_refused(text):
    assert refusal(text, A="1").what == "a ${ without its }"


def test_file_is_read_without_its_newline(tmp_path: Path):
    (tmp_path / "secret").write_text(" p@ss\n\r\n")
    assert filled(f"${{file:{tmp_path}/secret}}") == " p@ss"


def test_relative_file_stands_beside_the_configuration(tmp_path: Path):
    (tmp_path / "secret").write_text("x")
    assert filled("${file:secret}", tmp_path) == "x"


def test_systemd_credential_is_found_through_its_variable(tmp_path: Path):
    (tmp_path / "source").write_text("pw\n")
    assert filled("${file:${CREDENTIALS_DIRECTORY}/source}", CREDENTIALS_DIRECTORY=str(tmp_path)) == "pw"


def test_file_that_cannot_be_a_value_is_named(tmp_path: Path):
    assert refusal("${file:absent}", tmp_path).what == f"file {tmp_path}/absent does not exist"
    assert refusal(f"${{file:{tmp_path}}}").what == f"file {tmp_path} cannot be read"
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert refusal("${file:binary}", tmp_path).what == f"file {tmp_path}/binary is not UTF-8 text"
    with (tmp_path / "large").open("wb") as file:
        file.truncate(FILE_LIMIT_BYTES + 1)
    assert refusal("${file:large}", tmp_path).what == f"file {tmp_path}/large is too large to be a value"
    assert refusal("${file:}", tmp_path).what == "${file:...} without a path"
    assert refusal("${file:" * 9 + "x" + "}" * 9).what == "${...} nested too deeply"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:${P}@h:1/d", "postgresql://u:%40%3A%2F%25%23%27%20%3F@h:1/d"),
        ("postgresql://${P}:x@h/d", "postgresql://%40%3A%2F%25%23%27%20%3F:x@h/d"),
        ("postgresql://h/d?user=u&password=${P}", "postgresql://h/d?user=u&password=%40%3A%2F%25%23%27%20%3F"),
        ("postgresql://h/${P}", "postgresql://h/%40%3A/%25%23%27%20%3F"),
        ("not a url ${P}", "not a url @:/%#' ?"),
    ],
)
def test_value_inside_a_url_is_percent_encoded_where_it_stands(text, expected):
    assert filled(text, P="@:/%#' ?") == expected


def test_host_scheme_and_whole_url_stay_as_they_are():
    assert filled("postgresql://u@${HOST}/d", HOST="db1:5433") == "postgresql://u@db1:5433/d"
    assert filled("postgresql://${HOST}", HOST="u:p@db1:5433/d") == "postgresql://u:p@db1:5433/d"
    assert filled("${URL}", URL="postgresql://u:p%40@h/d") == "postgresql://u:p%40@h/d"
    assert filled("${URL}?application_name=x", URL="postgresql://u:p%40@h/d").startswith("postgresql://u:p%40@h/d?")


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=30),
)
@example("@:/%#' ?&=+\\\"$${}", "u@x:/")
def test_any_user_and_password_arrive_at_the_driver_as_they_are(password, user):
    url = filled("postgresql://${U}:${P}@db1:5432/shop?sslmode=require", U=user, P=password)
    assert _malformed(url) == ""
    assert unquote(urlsplit(url).password or "") == password
    found = conninfo_to_dict(url)
    assert (found["user"], found.get("password", ""), found["host"]) == (user, password, "db1")


@given(st.text("ab$${}:/file ", max_size=30))
def test_any_text_is_filled_or_refused(text):
    try:
        found = filled(text, a="1", b="2")
    except FillError as error:
        found = error.what
    assert isinstance(found, str)


@given(st.text(max_size=30))
def test_escaped_text_comes_back_as_it_was(text):
    assert filled(text.replace("${", "$${")) == text or "$${" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64MB", 64_000_000), ("1GiB", 2**30), ("1.5 kB", 1500), ("10", 10), (10, 10), ("0B", 0), ("2mib", 2**21),
        (" 3TB ", 3 * 10**12), ("0.5KiB", 512),
    ],
)  # fmt: skip
def test_sizes_are_decimal_or_binary_by_their_unit(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "MB", "-1MB", "1 MB MB", "1e3", "64M", "1.MB", "٣MB", -1, True, 1.5, None, "1" * 99]
)
def test_other_sizes_are_refused(text):
    with pytest.raises(ValueError, match="must be a size, like 64MB or 1GiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0ms", 0.0), ("5s", 5.0), ("500ms", 0.5), ("1.5s", 1.5), ("2m", 120.0), ("2min", 120.0), ("1h", 3600.0),
     ("250us", 0.00025), ("1d", 86400.0), ("0", 0.0), (0, 0.0)],
)  # fmt: skip
def test_durations_are_seconds(text, expected):
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", 5, "-1s", "s", "1 fortnight", False, None, "1S", "1e3s"])
def test_other_durations_are_refused(text):
    with pytest.raises(ValueError, match="must be a duration, like 500ms, 5s or 1h"):
        parse_duration(text)


@given(st.integers(0, 10**15), st.sampled_from([("B", 1), ("kB", 10**3), ("MiB", 2**20), ("GB", 10**9)]))
def test_whole_sizes_are_exact(number, unit):
    name, factor = unit
    assert parse_size(f"{number}{name}") == parse_size(f" {number} {name.lower()} ") == number * factor


def read_quantity(read: Callable[[object], float], text: str) -> float | str:
    try:
        return read(text)
    except ValueError as error:
        return str(error)


@given(st.text(max_size=12), st.sampled_from([parse_size, parse_duration]))
def test_any_text_is_a_quantity_or_a_value_error(text, read):
    found = read_quantity(read, text)
    assert found.startswith("must be a ") if isinstance(found, str) else found >= 0
