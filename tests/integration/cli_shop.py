"""A pipeline over a small shop for the tests of commands, and what they ask of it."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable

from tests.servers.commands import Running
from tests.servers.database import Database
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]


def fill(source: Database) -> None:
    """Make two tables of 1,000 rows each."""
    source.execute(
        "CREATE TABLE customers (id int PRIMARY KEY, name text);"
        "CREATE TABLE orders (id int PRIMARY KEY, amount numeric(12, 2));"
        "INSERT INTO customers SELECT g, 'c' || g FROM generate_series(1, 1000) g;"
        "INSERT INTO orders SELECT g, g * 1.5 FROM generate_series(1, 1000) g"
    )


def page(port: int, path: str) -> tuple[int, str]:
    """Return status and text of what is served there; 0 where nobody serves."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()
    except OSError:
        return 0, ""


def until_live(cdcflow: Call, tables: int) -> None:
    """Wait until so many tables, and no others, are followed."""

    def live() -> bool:
        done = cdcflow("status", "--json")
        found = json.loads(done.stdout)["tables"] if done.returncode == 0 else []
        return len(found) == tables and all(table["state"] == "live" for table in found)

    until(live, what="every table is live")
