"""What is taken from a PostgreSQL URL, and what of it may be shown."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.engines.postgres.connect import parameters, safe_url
from cdcflow.errors import ConfigError

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://repl:s3cr3t@db1:5432/shop", "postgresql://repl@db1:5432/shop"),
        ("postgres://db1/shop?password=s3cr3t&sslmode=require", "postgresql://db1/shop"),
        ("postgresql://u:s3cr3t@a:1,b:2/shop", "postgresql://u@a:1,b:2/shop"),
        ("postgresql://u:s3cr3t@[::1]:5432/shop", "postgresql://u@[::1]:5432/shop"),
        ("postgresql:///shop?host=/run/pg&password=s3cr3t", "postgresql:///shop?host=/run/pg"),
        ("postgresql://u:s3cr3t%@db1/shop", "postgresql://(not readable)"),
        ("postgresql://u:pa/s3cr3t@db1/shop", "postgresql://(not readable)"),
        ("postgresql://u:p@s3cr3t@db1/shop", "postgresql://(not readable)"),
        ("mysql://u:s3cr3t@db1/shop", "mysql://(not shown)"),
        ("u:s3cr3t@db1/shop", "(not a URL)"),
    ],
)
def test_a_shown_url_holds_no_secret(url: str, shown: str) -> None:
    assert safe_url(url) == shown


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_percent_encoded_password_arrives_whole(password: str) -> None:
    url = f"postgresql://u:{quote(password, safe='')}@db1:5432/shop"
    settings = parameters(url)
    assert settings["password"] == password
    assert (settings["host"], settings["port"], settings["dbname"]) == ("db1", "5432", "shop")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cr3t%zz@db1/shop",
        "postgresql://u:pa/s3cr3t@db1/shop",
        "postgresql://u:p@s3cr3t@db1/shop",
        "postgresql://u:s3cr3t@db1/shop?sslmod=require",
        "mysql://u:s3cr3t@db1/shop",
        "db1",
    ],
)
def test_an_unusable_url_is_a_config_error_that_does_not_repeat_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parameters(url)
    assert SECRET not in caught.value.report()
    assert caught.value.do


def test_what_the_url_says_outranks_our_time_limits() -> None:
    settings = parameters("postgresql://db1/shop?connect_timeout=3&keepalives_idle=7&application_name=mine")
    assert settings["connect_timeout"] == "3"
    assert settings["keepalives_idle"] == "7"
    assert settings["application_name"] == "mine"


def test_the_urls_own_server_options_are_kept_and_the_pinned_ones_come_last() -> None:
    options = str(parameters("postgresql://db1/shop?options=-c%20work_mem%3D64MB%20-c%20TimeZone%3DJapan")["options"])
    assert options.startswith("-c work_mem=64MB -c TimeZone=Japan ")
    assert options.index("TimeZone=UTC") > options.index("TimeZone=Japan")
    assert r"-c default_transaction_isolation=read\ committed" in options


def test_of_several_hosts_the_primary_is_wanted_unless_the_url_says_else() -> None:
    assert parameters("postgresql://a,b/shop")["target_session_attrs"] == "read-write"
    assert parameters("postgresql://a,b/shop?target_session_attrs=any")["target_session_attrs"] == "any"
    assert "target_session_attrs" not in parameters("postgresql://a/shop")
