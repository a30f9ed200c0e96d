"""Log lines: their two shapes, and that no secret gets into them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.ops import logs


def lines(style: logs.Format, level: str = "info") -> io.StringIO:
    out = io.StringIO()
    logs.configure(style, level, stream=out)
    return out


def test_a_json_line_has_time_level_event_and_fields() -> None:
    out = lines("json")
    logs.get_logger("cdcflow.test").info("copied table", table="public.orders", rows=3)
    entry = json.loads(out.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "info",
        "event": "copied table",
        "table": "public.orders",
        "rows": 3,
        "logger": "cdcflow.test",
    }


def test_a_text_line_has_the_fields_behind_the_message() -> None:
    out = lines("text")
    logs.get_logger("cdcflow.test").warning("copied table", table="public.two words", rows=3)
    time, rest = out.getvalue().rstrip("\n").split(" ", 1)
    assert len(time) == len("12:00:00")
    assert rest == "warning copied table  table='public.two words' rows=3"


def test_records_of_the_standard_library_come_out_in_the_same_shape() -> None:
    out = lines("json")
    logging.getLogger("cdcflow.other").info("lease taken", extra={"epoch": 4})
    entry = json.loads(out.getvalue())
    assert (entry["event"], entry["epoch"], entry["level"]) == ("lease taken", 4, "info")


def test_debug_lines_appear_only_at_level_debug() -> None:
    quiet = lines("text", "info")
    logs.get_logger("cdcflow.test").debug("opened stream")
    assert quiet.getvalue() == ""
    loud = lines("text", "debug")
    logs.get_logger("cdcflow.test").debug("opened stream")
    assert "opened stream" in loud.getvalue()


def test_a_traceback_is_masked_too() -> None:
    out = lines("text")
    try:
        raise ValueError("no route to postgresql://app:hunter2@db/shop")
    except ValueError:
        logs.get_logger("cdcflow.test").exception("connection failed")
    assert "ValueError" in out.getvalue()
    assert "hunter2" not in out.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://app:s3cret@db:5432/shop", "postgresql://app:***@db:5432/shop"),
        ("postgresql://db:5432/shop", "postgresql://db:5432/shop"),
        ("postgresql://app@db:5432/shop", "postgresql://app@db:5432/shop"),
        ("listening on http://127.0.0.1:9187", "listening on http://127.0.0.1:9187"),
        ("see http://db:80/a, mail a@b.example", "see http://db:80/a, mail a@b.example"),
        ("postgresql://app:p@ss/w:rd@db/shop", "postgresql://app:***@db/shop"),
        ("postgresql://app:two words@db/shop down", "postgresql://app:***@db/shop down"),
        ("mysql://a:b@x/d and mysql://c:d@y/e", "mysql://a:***@x/d and mysql://c:***@y/e"),
        ("host=db password=s3cret user=app", "host=db password=*** user=app"),
        ("host=db password='s3 \\' cret' user=app", "host=db password=*** user=app"),
        ("postgresql://db/shop?user=a&password=s3cret&sslmode=require",
         "postgresql://db/shop?user=a&password=***&sslmode=require"),
        ("{'sslpassword': 'x y'}", "{'sslpassword': ***}"),
    ],
)  # fmt: skip
def test_passwords_in_text_are_masked(text: str, expected: str) -> None:
    assert logs.redact(text) == expected


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_no_password_of_a_url_survives_however_odd_it_is(password: str) -> None:
    marked = f"<<{password}>>"
    assert marked not in logs.redact(f"cannot reach postgresql://app:{marked}@db/shop: refused")


def test_fields_named_like_a_secret_are_masked_whatever_they_hold() -> None:
    out = lines("json")
    logs.get_logger("cdcflow.test").info("opened", options={"password": "x", "user": "app"}, sslpassword="y")
    entry = json.loads(out.getvalue())
    assert entry["options"] == {"password": "***", "user": "app"}
    assert entry["sslpassword"] == "***"


def test_in_a_process_that_did_not_configure_us_messages_are_ordinary_log_records() -> None:
    script = (
        "import logging, sys\nfrom cdcflow.ops import logs\n"
        "logs.get_logger('cdcflow.test').info('nobody asked')\n"
        "logging.basicConfig(stream=sys.stdout, level='INFO', format='%(levelname)s %(message)s')\n"
        "logs.get_logger('cdcflow.test').info('made an index', name='i', url='postgresql://u:secret@h/d')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("INFO made an index name=i url=postgresql://u:***@h/d\n", "")
