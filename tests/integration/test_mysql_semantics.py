"""What happens to rows and tables of MySQL and MariaDB happens to their copies, by the command, pair by pair."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.mysql_cases import CASES
from tests.integration.mysql_pairs import Pair, pair, quoted
from tests.servers.fleet import Fleet
from tests.servers.mysql_database import compression_put_back
from tests.servers.mysql_session import rows

LOADED = "1,eins,10\n2,zwei é 😀,20\n3,\\N,\\N\n"

# Pairs, and whether the changes come while a run follows them or while none does.
# The first test of a way makes the pipeline for all of them.
pytestmark = pytest.mark.timeout(400)

# Each is a pipeline of its own, and some minutes. `CDCFLOW_ALL_WAYS=1` goes the others, too, which share the reading or
# the writing with one of these.
WAYS = ("mysql-postgres followed", "mariadb-postgres later", "mysql-mysql followed", "mysql-sqlite later")
if os.environ.get("CDCFLOW_ALL_WAYS"):
    WAYS = (*WAYS, "mysql-postgres later", "mariadb-mysql later")


@dataclass(frozen=True, slots=True)
class Done:
    """A pair after the changes of its cases."""

    pair: Pair
    cases: tuple[str, ...]


@pytest.fixture(scope="module", params=WAYS)
def done(request: pytest.FixtureRequest, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """Every case's tables made, copied, changed and followed in one pipeline."""
    engines, _, way = request.param.partition(" ")
    folder = tmp_path_factory.mktemp("pair")
    names = [name for name, case in CASES.items() if case.only in ("", engines.partition("-")[0])]
    with pair(folder, fleet, engines) as made, compression_put_back(made.source):
        file = folder / "load.csv"
        file.write_text(LOADED)
        writer = made.source.connect()
        with writer:
            for name in names:
                rows(writer, CASES[name].setup)
            made.run()
            running = made.start() if way == "followed" else None
            if running is not None:
                running.until_output("streaming")
            for name in names:
                for change in CASES[name].changes:
                    rows(writer, change.replace("{file}", str(file)))
        if running is not None:
            running.terminate()
            assert running.wait() == 0, running.output()[-8000:]
        made.run()
        made.run()  # what is copied again comes behind what is followed
        yield Done(made, tuple(names))


@pytest.mark.parametrize("name", CASES)
def test_the_target_has_what_the_source_has(done: Done, name: str) -> None:
    if name not in done.cases:
        pytest.skip("the source's engine has no such thing")
    for table in CASES[name].tables:
        here, there = contents(done.pair, table)
        assert there == here, table


def contents(made: Pair, table: str) -> tuple[list[Any], list[Any]]:
    """Return a table's rows here and there as text, in one order."""
    names = [
        name
        for name, expression in made.source.query(
            "SELECT column_name, generation_expression FROM information_schema.columns WHERE table_schema = %s"
            " AND table_name = %s ORDER BY ordinal_position",
            [made.schema, table],
        )
        # Another engine does not compute it, and the log says that it was left out.
        if not expression or made.engines[0] == made.engines[1]
    ]
    mark = "`" if made.engines[1] in ("mysql", "mariadb") else '"'
    here = made.source.query(f"SELECT {', '.join(quoted(name, '`') for name in names)} FROM {quoted(table, '`')}")
    there = made.target.query(f"SELECT {', '.join(quoted(name, mark) for name in names)} FROM {made.name(table)}")
    return _texts(here), _texts(there)


def _texts(found: list[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    return sorted(tuple(_text(value) for value in row) for row in found)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return "NULL" if value is None else str(value)
