"""The target's disk runs full while rows are copied or changes followed: it is said, waited for, and gone on from."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest

from tests.conftest import MakeDatabase
from tests.servers.cluster import Cluster
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database, is_same, same
from tests.servers.small_disk import SmallDisk
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]

FULL = "the server's disk is full"
MEND = "free space on the server's disk; cdcflow goes on by itself"
TABLES = ("keyed", "keyless", "totals")

# A transaction moves an amount between the halves of `totals`: their sum is 0 in every state that was committed.
SHOP = """
CREATE TABLE keyed (id int PRIMARY KEY, pad text);
CREATE TABLE keyless (id int, pad text); ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE totals (half int PRIMARY KEY, amount int); INSERT INTO totals VALUES (1, 0), (2, 0);
"""


def rows(first: int, last: int) -> str:
    """Return statements that add about 500 bytes a row to both tables."""
    return "; ".join(
        f"INSERT INTO {table} SELECT n, repeat(md5(n::text), 14) FROM generate_series({first}, {last}) n"
        for table in ("keyed", "keyless")
    )


def transfer(amount: int) -> str:
    return (
        f"UPDATE totals SET amount = amount + {amount} WHERE half = 1;"
        f" UPDATE totals SET amount = amount - {amount} WHERE half = 2"
    )


@dataclass(slots=True)
class Setup:
    """A source, a target with a place that can run full, and the pipeline between them."""

    source: Database
    target: Database
    disk: SmallDisk
    server: Cluster


@contextmanager
def mounted(megabytes: int) -> Iterator[SmallDisk]:
    disk = SmallDisk(megabytes)
    try:
        yield disk
    finally:
        disk.remove()


@pytest.fixture
def disk(new_server: Callable[..., Cluster]) -> Iterator[tuple[SmallDisk, Cluster]]:
    """A small disk, and a server that is stopped before the disk is unmounted."""
    with mounted(16) as made:
        server = new_server(18, durable=True, settings={"max_wal_size": "'32MB'", "min_wal_size": "'32MB'"})
        try:
            yield made, server
        finally:
            server.remove()


@pytest.fixture(params=["the tables", "the whole database"])
def small(
    request: pytest.FixtureRequest,
    disk: tuple[SmallDisk, Cluster],
    source_db: Database,
    new_database: MakeDatabase,
    new_pipeline: Callable[[Database, Database], PipelineFolder],
) -> Setup:
    """What of the target lies on the small disk: the tables, cdcflow's own too, or everything but the log."""
    small_disk, server = disk
    target = new_database(server, label="target")
    target.close()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk.path}'".encode())
        if request.param == "the tables":
            connection.execute(f"ALTER DATABASE {target.name} SET default_tablespace = 'small'".encode())
        else:
            connection.execute(f"ALTER DATABASE {target.name} SET TABLESPACE small".encode())
    source_db.execute(SHOP)
    made = new_pipeline(source_db, target)
    made.write_config(source={"url": made.source_url, "snapshot": {"chunk": "1MB"}})
    return Setup(source_db, target, small_disk, server)


def until_told(process: Running, times: int) -> None:
    """Wait until it said so many times that the disk is full: it tries again and again, and does not end."""

    def told() -> bool:
        assert not process.ended, process.output()[-4000:]
        return process.log().count(FULL) >= times

    until(told, limit=90, what="it says that the disk is full")
    assert MEND in process.log()


def until_same(process: Running, setup: Setup) -> None:
    def equal() -> bool:
        assert not process.ended, process.output()[-4000:]
        return all(is_same(setup.source, setup.target, table) for table in TABLES)

    until(equal, limit=60, what="both sides are the same")


def end(process: Running, setup: Setup, cdcflow: Call) -> None:
    """End it, change something more, and follow that with another run."""
    process.terminate()
    assert process.wait() == 0, process.output()
    setup.source.execute(
        f"UPDATE keyed SET pad = 'x' WHERE id % 5 = 0; DELETE FROM keyless WHERE id < 9; {transfer(7)}"
    )
    cdcflow("run", "--until-caught-up", exit_code=0)
    for table in TABLES:
        same(setup.source, setup.target, table)


def test_a_copy_that_fills_the_disk_waits_for_space_and_ends_with_each_row_once(
    small: Setup, running: Start, cdcflow: Call
) -> None:
    small.source.execute(rows(1, 20_000))
    process = running("run")
    until_told(process, 2)
    done = small.target.value("SELECT count(*) FROM cdcflow.chunks")
    assert done > 0
    small.source.execute(f"{rows(20_001, 21_000)}; DELETE FROM keyed WHERE id % 10 = 0; {transfer(5)}")
    small.disk.grow(200)
    until_same(process, small)
    end(process, small, cdcflow)


def test_changes_that_fill_the_disk_wait_for_space_and_every_state_seen_is_whole(
    small: Setup, running: Start, cdcflow: Call
) -> None:
    small.source.execute(rows(1, 100))
    process = running("run")
    until_same(process, small)
    until(lambda: small.target.query("SELECT DISTINCT state FROM cdcflow.tables") == [("live",)])
    small.disk.fill()
    for amount in range(1, 5):
        small.source.execute(f"BEGIN; {transfer(amount)}; {rows(amount * 1000, amount * 1000 + 999)}; COMMIT")
    until_told(process, 2)
    assert small.target.value("SELECT sum(amount) FROM totals") == 0
    applied, whole = small.target.query("SELECT count(*), count(*) / 1000 * 1000 FROM keyed WHERE id > 100")[0]
    assert applied == whole < 4000
    small.source.execute("UPDATE keyed SET pad = 'changed' WHERE id <= 50; DELETE FROM keyless WHERE id <= 20")
    small.disk.free()
    small.disk.grow(200)
    until_same(process, small)
    end(process, small, cdcflow)


def test_it_may_be_stopped_while_it_waits_for_space_and_started_again(
    small: Setup, running: Start, cdcflow: Call
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    process = running("run")
    process.until_output("streaming")
    small.disk.fill()
    small.source.execute(f"BEGIN; {rows(1, 2000)}; {transfer(3)}; COMMIT")
    until_told(process, 1)
    process.terminate()
    assert process.wait(60) == 0, process.output()
    assert small.target.value("SELECT count(*) FROM keyed") == 0
    small.disk.free()
    cdcflow("run", "--until-caught-up", exit_code=0)
    for table in TABLES:
        same(small.source, small.target, table)


def test_an_index_that_the_disk_has_no_space_for_is_made_once_it_has(
    small: Setup, running: Start, cdcflow: Call
) -> None:
    small.source.execute(rows(1, 5000))
    for number in range(5):
        small.source.execute(f"CREATE UNIQUE INDEX by_{number} ON keyed (left(pad, 44{number}), id)")
    process = running("run")
    until_told(process, 1)
    assert small.target.value("SELECT count(*) FROM keyed") == 5000  # the rows had space
    small.disk.grow(200)
    until_same(process, small)
    indexes = "SELECT indexname::text FROM pg_indexes WHERE tablename = 'keyed' AND indexname ~ '^by_' ORDER BY 1"
    wanted = small.source.query(indexes)
    assert len(wanted) == 5
    until(lambda: small.target.query(indexes) == wanted, what="the indexes are made")
    assert small.target.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
    end(process, small, cdcflow)


@pytest.fixture
def small_log(
    disk: tuple[SmallDisk, Cluster],
    source_db: Database,
    new_database: MakeDatabase,
    new_pipeline: Callable[[Database, Database], PipelineFolder],
) -> Setup:
    """The target's log lies on the small disk."""
    small_disk, server = disk
    small_disk.grow(80)
    target = new_database(server, label="target")
    server.stop()
    log = server.folder / "data" / "pg_wal"
    subprocess.run(["cp", "-a", f"{log}/.", str(small_disk.path)], check=True)
    shutil.rmtree(log)
    log.symlink_to(small_disk.path)
    server.start()
    source_db.execute(SHOP)
    new_pipeline(source_db, target)
    return Setup(source_db, target, small_disk, server)


def test_a_target_that_crashes_because_its_log_has_no_space_is_waited_for(
    small_log: Setup, running: Start, cdcflow: Call
) -> None:
    small_log.source.execute(rows(1, 100))
    process = running("run")
    until_same(process, small_log)
    small_log.disk.fill()
    try:
        for amount in range(1, 9):  # more than the segments that are there can hold
            first = amount * 10_000
            small_log.source.execute(f"BEGIN; {transfer(amount)}; {rows(first, first + 9999)}; COMMIT")

        def crashed() -> bool:
            assert not process.ended, process.output()[-4000:]
            return "No space left on device" in small_log.server.log() and "interrupted" in process.log()

        until(crashed, limit=60, what="the server crashes and it is noticed")
    finally:
        small_log.disk.free()
        small_log.disk.grow(400)
        # It may be about to go down, and then `start` finds it running.
        until(lambda: small_log.server.start() and small_log.target.query("SELECT 1"), what="the server is back")
    until_same(process, small_log)
    end(process, small_log, cdcflow)
