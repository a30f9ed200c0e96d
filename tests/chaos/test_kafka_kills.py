"""SIGKILL of a publisher into Kafka: who reads committed messages sees each event once, in the order of its key.

`CDCFLOW_KILLS=100` kills so often; without it a few times.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cdcflow.ops.faults import MOMENTS, VARIABLE
from tests.integration.kafka_world import World, make_world
from tests.servers.commands import Running
from tests.servers.database import Database
from tests.servers.kafka_server import Kafka
from tests.servers.waiting import until

KILLS = max(1, int(os.environ.get("CDCFLOW_KILLS", "5")))
ACCOUNTS = 400
# Those of a run whose copy is done.
FOLLOWING = ("piece written", "batch sent", "batch committed")

Cdcflow = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]


@pytest.fixture
def world(kafka: Kafka, source_db: Database, tmp_path: Path) -> World:
    made = make_world(kafka, source_db, tmp_path)
    made.folder.write_config(
        source={"url": source_db.url, "snapshot": {"chunk": "64KiB"}}, batch={"max_bytes": "1MB", "max_rows": 1000}
    )
    source_db.execute("CREATE TABLE account (id int PRIMARY KEY, n int NOT NULL, note text)")
    source_db.execute("CREATE TABLE entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int, note text)")
    source_db.execute(f"INSERT INTO account SELECT g, 0, repeat('x', g % 900) FROM generate_series(1, {ACCOUNTS}) g")
    source_db.execute("INSERT INTO entry (account) SELECT 1 FROM generate_series(1, 3000)")
    return made


class Traffic(threading.Thread):
    """Counts accounts up one by one, with an entry each; and many entries in one transaction when told to."""

    def __init__(self, source: Database, seed: int) -> None:
        super().__init__(daemon=True)
        self._source, self._random = source, random.Random(seed)
        self._done, self._many = threading.Event(), threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with self._source.connect(autocommit=False) as connection:
                while not self._done.wait(0.01):
                    pick = self._random.randrange(1, ACCOUNTS + 1)
                    connection.execute(f"UPDATE account SET n = n + 1 WHERE id = {pick}".encode())
                    connection.execute(f"INSERT INTO entry (account) VALUES ({pick})".encode())
                    if self._many.is_set():
                        self._many.clear()
                        # Several times what a batch may hold.
                        many = b"INSERT INTO entry (account, note) SELECT 1, repeat('y', 200)"
                        connection.execute(many + b" FROM generate_series(1, 4000)")
                    connection.commit()
        except BaseException as error:
            self.failure = error

    def burst(self) -> None:
        """Ask for one large transaction soon."""
        self._many.set()

    def end(self) -> None:
        self._done.set()
        self.join(30)
        if self.failure is not None:
            raise self.failure


def streams(process: Running) -> bool:
    return process.ended or "streaming" in process.output()


def killed(process: Running, after: float) -> None:
    """Wait until it has killed itself, or kill it so many seconds after it has begun to follow the log."""
    until(lambda: streams(process), 120)
    try:
        until(lambda: process.ended, after)
    except AssertionError:
        process.kill()
    assert process.wait(30) in (-signal.SIGKILL, 128 + signal.SIGKILL), process.output()


@pytest.mark.timeout(3600)
def test_a_reader_of_committed_messages_sees_each_event_once_and_in_order_over_kills(
    world: World, cdcflow: Cdcflow, running: Start
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    chance = random.Random(os.environ.get("CDCFLOW_KILLS_SEED", "kills"))
    traffic = Traffic(world.source, chance.randrange(1 << 30))
    traffic.start()
    try:
        for number in range(KILLS):
            # Every other one at a moment of its own, the rest at any.
            moment = f"{chance.choice(FOLLOWING)}:{chance.randrange(1, 4)}" if number % 2 == 0 else ""
            traffic.burst()
            killed(running("run", env={VARIABLE: moment} if moment else {}), 60 if moment else chance.random())
    finally:
        traffic.end()
    cdcflow("run", "--until-caught-up", exit_code=0)
    accounts = dict(world.source.query("SELECT id, n FROM account"))
    for events in world.by_key("account").values():
        counted = [each.after["n"] for each in events if each.after is not None]
        assert counted == list(range(accounts[events[0].key["id"]] + 1 if events[0].key else 0))
        assert [each.op for each in events] == ["r"] + ["u"] * (len(events) - 1)
    assert len(world.by_key("account")) == ACCOUNTS
    entries = sorted(each.after["id"] for each in world.changes("entry") if each.after)
    assert entries == [number for (number,) in world.source.query("SELECT id FROM entry ORDER BY id")]


@pytest.mark.timeout(1800)
def test_a_copy_that_is_killed_again_and_again_is_whole_in_the_end(
    world: World, cdcflow: Cdcflow, running: Start
) -> None:
    chance = random.Random(os.environ.get("CDCFLOW_KILLS_SEED", "copies"))
    world.source.execute("INSERT INTO entry (account) SELECT 2 FROM generate_series(1, 30000)")
    traffic = Traffic(world.source, chance.randrange(1 << 30))
    traffic.start()
    try:
        for moment in [*MOMENTS[:4], *MOMENTS[:4]][: max(2, KILLS // 4)]:
            killed(running("run", env={VARIABLE: f"{moment}:{chance.randrange(1, 4)}"}), chance.random())
    finally:
        traffic.end()
    cdcflow("run", "--until-caught-up", exit_code=0)
    for table, columns in (("account", "id, n, note"), ("entry", "id, account, note")):
        names = columns.split(", ")
        rows = world.source.query(f"SELECT {columns} FROM {table} ORDER BY id")
        assert world.rows(table, "id") == [dict(zip(names, row, strict=True)) for row in rows]
