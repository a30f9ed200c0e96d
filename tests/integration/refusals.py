"""What the tests of wrong circumstances share: a small shop, and a command that has to refuse in good form."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from tests.servers.database import Database

Call = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[..., str]

SECRET = "Gehe1m-Wort"


def fill(source: Database) -> None:
    """Make two tables of 100 rows each."""
    for name in ("customers", "orders"):
        source.execute(
            f"CREATE TABLE {name} (id int PRIMARY KEY, name text);"
            f"INSERT INTO {name} SELECT g, 'n' || g FROM generate_series(1, 100) g"
        )


def of(cdcflow: Call) -> Refused:
    """`refused(5, "words", command="run")`: the command ends with this code and an error that holds every word."""

    def call(exit_code: int, *words: str, command: str = "run --until-caught-up") -> str:
        done = cdcflow(*command.split(), exit_code=exit_code)
        said = done.stdout + done.stderr
        lines = [line.lstrip() for line in done.stderr.splitlines()]
        # A table that failed while the others went on is told at the end, in its own form.
        for labels in (("error:", "table "), ("at:", "table "), ("do:",)):
            assert any(line.startswith(labels) for line in lines), f"no line {labels} in:\n{said}"
        for word in words:
            assert word in said, f"{word!r} is not in:\n{said}"
        assert "Traceback" not in said
        assert SECRET not in said
        return said

    return call


def end_walsenders(database: Database) -> None:
    """End every session that reads the log of this database."""
    database.query(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = %s AND backend_type = 'walsender'",
        [database.name],
    )
