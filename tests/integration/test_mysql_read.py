"""`cdcflow read` and the Python `read` over a binary log: the same lines and events as of PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from cdcflow.codecs.values import Json
from cdcflow.events import read
from cdcflow.sources.mysql.position import Binlog
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.waiting import until

READERS = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%' ORDER BY 1"
ORDERS = "CREATE TABLE orders (id int PRIMARY KEY, amount decimal(10,2), note varchar(40), doc json)"
CHANGES = (
    "INSERT INTO orders VALUES (1, 1.50, 'né', '{\"n\": 1}')",
    "UPDATE orders SET amount = NULL WHERE id = 1",
    "SET SESSION binlog_row_image = 'MINIMAL'; UPDATE orders SET note = 'short' WHERE id = 1",
    "UPDATE orders SET id = 2 WHERE id = 1",
    "SET SESSION binlog_row_image = 'FULL'; DELETE FROM orders WHERE id = 2",
    "TRUNCATE orders",
)
BOTH = pytest.mark.parametrize("engine", ["mysql", "mariadb"])


@pytest.fixture
def source(engine: str, request: pytest.FixtureRequest) -> MysqlDatabase:
    database: MysqlDatabase = request.getfixturevalue(f"{engine}_source_db")
    database.execute(ORDERS)
    return database


def wait_for_reader(source: MysqlDatabase, before: list[tuple[Any, ...]], ended: Callable[[], bool]) -> None:
    """Wait until the log is read: what is committed from now on is seen."""
    until(lambda: ended() or set(source.query(READERS)) - set(before), what="the log is read")


@BOTH
def test_each_change_is_a_json_line_with_table_images_and_position(
    source: MysqlDatabase,
    target_db: Database,
    new_pipeline: Callable[..., PipelineFolder],
    running: Callable[..., Running],
) -> None:
    folder = new_pipeline(source, target_db).write_rules(f"{source.name}.*")
    before = source.query(READERS)
    process = running("read", "-c", str(folder.config), "--limit", str(len(CHANGES)))
    wait_for_reader(source, before, lambda: process.ended)
    for each in CHANGES:
        source.execute(each)
    assert process.wait() == 0, process.output()
    lines = [json.loads(line) for line in process.out().splitlines()]
    assert {line["table"] for line in lines} == {f"{source.name}.orders"}
    inserted, updated, small, moved, deleted, truncated = lines
    doc = {"n": 1}
    assert (inserted["op"], inserted["key"], inserted["before"]) == ("insert", {"id": 1}, None)
    whole = {"id": 1, "amount": "1.50", "note": "né", "doc": doc}
    assert inserted["after"] == whole
    assert (updated["op"], updated["key"]) == ("update", {"id": 1})
    assert updated["before"] == whole
    assert updated["after"] == {**whole, "amount": None}
    assert (small["op"], small["key"]) == ("update", {"id": 1})
    assert small["after"]["note"] == "short"
    assert small["unchanged"] == ["amount", "doc"]
    assert (moved["op"], moved["before"]["id"], moved["after"]["id"]) == ("update", 1, 2)
    assert (deleted["op"], deleted["after"]) == ("delete", None)
    assert deleted["before"] == {"id": 2, "amount": None, "note": "short", "doc": doc}
    assert truncated["op"] == "truncate"
    places = [Binlog.parse(line["position"]) for line in lines]
    assert all(later.covers(earlier) and not earlier.covers(later) for earlier, later in pairwise(places))
    assert target_db.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'cdcflow'") == 0


@BOTH
def test_until_caught_up_ends_on_a_source_where_nothing_happens_and_behind_what_did(
    source: MysqlDatabase,
    target_db: Database,
    new_pipeline: Callable[..., PipelineFolder],
    cdcflow: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    new_pipeline(source, target_db).write_rules(f"{source.name}.*")
    assert cdcflow("read", "--until-caught-up", exit_code=0).stdout == ""
    events = read(source.url, tables=[f"{source.name}.*"], until_caught_up=True)
    source.execute(CHANGES[0])  # before the first call of next
    assert list(events) == []


@BOTH
def test_an_iteration_gives_events_with_values_of_python(source: MysqlDatabase) -> None:
    stop = threading.Event()
    before = source.query(READERS)

    def write() -> None:
        with source.connect() as connection, connection.cursor() as cursor:
            until(lambda: set(source.query(READERS)) - set(before), what="the log is read")
            for each in ("BEGIN", CHANGES[0], CHANGES[1], "COMMIT", "DELETE FROM orders"):
                cursor.execute(each)

    writer = threading.Thread(target=write)
    writer.start()
    events = read(source.url, tables=[f"{source.name}.*"], stop=stop)
    inserted, updated, deleted = (next(events) for _ in range(3))
    writer.join()
    events.close()
    found = [(event.table, event.op, event.key) for event in (inserted, updated, deleted)]
    assert found == [(f"{source.name}.orders", op, {"id": 1}) for op in ("insert", "update", "delete")]
    assert inserted.before is None
    assert inserted.after == {"id": 1, "amount": Decimal("1.50"), "note": "né", "doc": Json('{"n": 1}')}
    assert updated.before == inserted.after
    assert updated.after == {**inserted.after, "amount": None}
    assert (deleted.before, deleted.after) == (updated.after, None)
    assert inserted.position == updated.position
    assert Binlog.parse(deleted.position).covers(Binlog.parse(updated.position))
