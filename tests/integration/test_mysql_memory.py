"""Transactions and rows larger than the memory budget: the process stays inside, the target is whole or untouched."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from cdcflow.ops.faults import VARIABLE
from tests.servers.commands import PipelineFolder, Running
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_server import MysqlServer
from tests.servers.sides import Rows
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]

pytestmark = [pytest.mark.own_interpreter, pytest.mark.timeout(600)]
BUDGET_BYTES = 256_000_000
LARGEST_PACKET = "1073741824"

# What one transaction inserts, and what of it is compared.
MANY = (
    "INSERT INTO big (n, v) SELECT a.n * 1000 + b.n, concat(repeat('row ', 24), b.n)"
    " FROM numbers a JOIN numbers b WHERE a.n < 500",
    "SELECT count(*), sum(n), min(v), max(v) FROM big",
)
DIFFERENT = (
    "INSERT INTO big (n, v) SELECT a.n * 1000 + b.n, concat(sha2(a.n * 1000 + b.n, 256), ' ', b.n)"
    " FROM numbers a JOIN numbers b WHERE a.n < 500",
    "SELECT count(*), sum(n), min(v), max(v) FROM big",
)
# Small in the log, and unpacked more than the budget by itself.
WIDE = (
    "INSERT INTO big (n, v) SELECT n, repeat(char(97 + mod(n, 26)), 6000000 + n) FROM numbers WHERE n < 30",
    "SELECT count(*), sum(n), sum(char_length(v)), max(md5_of) FROM (SELECT n, v, {md5} AS md5_of FROM big) x",
)
# Rows of 64 MB each: bytes of which some are escaped on their way, and text likewise.
LARGE = (
    "INSERT INTO big (n, b) SELECT {0}, repeat(unhex('00ff415c0a0927c3'), 8000000)",
    "INSERT INTO big (n, v) SELECT {0}, repeat(concat('row', char(92), char(10), char(9), 'of é'), 5818181)",
)


@pytest.fixture
def flow_of(
    new_mysql_server: Callable[..., MysqlServer],
    new_mysql_database: Callable[..., MysqlDatabase],
    new_pipeline: Callable[..., PipelineFolder],
    request: pytest.FixtureRequest,
) -> Callable[..., tuple[MysqlDatabase, Rows, PipelineFolder]]:
    """`flow_of("postgres", compressed=True)`: a source with room for large transactions, caught up."""

    def make(target: str, *, compressed: bool, engine: str = "mysql") -> tuple[MysqlDatabase, Rows, PipelineFolder]:
        settings: dict[str, str] = {"max-allowed-packet": LARGEST_PACKET, "innodb-buffer-pool-size": "256M"}
        if compressed:
            settings["binlog-transaction-compression" if engine == "mysql" else "log-bin-compress"] = "ON"
        here = new_mysql_database(new_mysql_server(engine, settings=settings), "source")
        here.execute("CREATE TABLE numbers (n int PRIMARY KEY)")
        here.execute("INSERT INTO numbers VALUES " + ", ".join(f"({n})" for n in range(1000)))
        here.execute("CREATE TABLE big (n int PRIMARY KEY, v longtext, b longblob)")
        if target == "postgres":
            there = request.getfixturevalue("target_db")
        else:
            server = new_mysql_server(target, settings={"max-allowed-packet": LARGEST_PACKET})
            there = new_mysql_database(server, "target")
        folder = new_pipeline(here, there)
        side = Rows(there)
        folder.write_config(memory=f"{BUDGET_BYTES // 1_000_000}MB")
        folder.write_rules({"match": f"{here.name}.big", "to": f"{side.schema}.{{table}}"})
        return here, side, folder

    return make


def rows(side: Any, query: str, *, mysql: bool) -> list[tuple[Any, ...]]:
    text = query.format(
        md5="sha2(v, 256)" if mysql else "encode(sha256(convert_to(v, 'UTF8')), 'hex')",
        bytes="sha2(b, 256)" if mysql else "encode(sha256(b), 'hex')",
    )
    found: list[tuple[Any, ...]] = side.query(text)
    return [tuple(str(value) for value in row) for row in found]


@pytest.mark.parametrize(
    ("engine", "target", "compressed", "what"),
    [
        ("mysql", "postgres", True, "wide"),
        ("mysql", "mysql", True, "many"),
        ("mysql", "postgres", False, "different"),
        ("mariadb", "mysql", False, "different"),
    ],
)
def test_transaction_larger_than_the_budget_stays_inside_it(
    engine: str,
    target: str,
    compressed: bool,
    what: str,
    flow_of: Callable[..., tuple[MysqlDatabase, Rows, PipelineFolder]],
    running: Start,
    cdcflow: Call,
) -> None:
    statement, query = {"many": MANY, "wide": WIDE, "different": DIFFERENT}[what]
    source, side, _folder = flow_of(target, compressed=compressed, engine=engine)
    cdcflow("run", "--until-caught-up", exit_code=0)
    source.execute(statement)
    if what == "many":  # what was written before the kill is not seen, and is written once
        killed = running("run", env={VARIABLE: "piece written:3"})
        assert killed.wait(120) == -signal.SIGKILL
        assert rows(side, "SELECT count(*) FROM big", mysql=side.mysql) == [("0",)]
    expected = rows(source, query, mysql=True)
    process = running("run")
    until(
        lambda: process.ended or side.query("SELECT count(*) FROM big") != [(0,)], limit=150, what="all of it is there"
    )
    assert not process.ended, process.output()[-3000:]
    peak = process.memory_bytes()
    assert rows(side, query, mysql=side.mysql) == expected
    process.terminate()
    assert process.wait() == 0, process.output()
    assert peak < BUDGET_BYTES


def test_compressed_transaction_of_60_megabytes_that_are_not_made_smaller_stays_inside_the_budget(
    flow_of: Callable[..., tuple[MysqlDatabase, Rows, PipelineFolder]], running: Start
) -> None:
    """It is one event, which has to be there whole before it is unpacked."""
    source, side, _folder = flow_of("postgres", compressed=True)
    process = running("run")
    process.until_output("streaming")
    with source.connect(autocommit=False) as writer, writer.cursor() as cursor:
        for number in range(60):
            value = random.randbytes(1_000_000)
            cursor.execute("INSERT INTO big (n, b) VALUES (%s, %s)", [number, value])
        writer.commit()
    until(lambda: process.ended or side.query("SELECT count(*) FROM big") == [(60,)], limit=150, what="it is there")
    assert not process.ended, process.output()[-3000:]
    peak = process.memory_bytes()
    query = "SELECT n, {bytes} FROM big ORDER BY n"
    assert rows(side, query, mysql=False) == rows(source, query, mysql=True)
    process.terminate()
    assert process.wait() == 0, process.output()
    assert peak < BUDGET_BYTES


@pytest.mark.parametrize("target", ["postgres", "mysql"])
def test_values_of_64_megabytes_are_copied_and_streamed_inside_the_budget(
    target: str, flow_of: Callable[..., tuple[MysqlDatabase, Rows, PipelineFolder]], running: Start
) -> None:
    source, side, _folder = flow_of(target, compressed=False)
    for number, statement in enumerate(LARGE):
        source.execute(statement.format(number))
    process = running("run")

    def arrived(count: int) -> int:
        there = [(count,)]
        until(lambda: process.ended or side.query("SELECT count(*) FROM big") == there, limit=150, what=f"{count} rows")
        assert not process.ended, process.output()[-3000:]
        return process.memory_bytes()

    peaks = [arrived(len(LARGE))]
    for number, statement in enumerate(LARGE, len(LARGE)):
        source.execute(statement.format(number))
    peaks.append(arrived(2 * len(LARGE)))
    query = "SELECT n, {bytes}, {md5} FROM big ORDER BY n"
    assert rows(side, query, mysql=side.mysql) == rows(source, query, mysql=True)
    process.terminate()
    assert process.wait() == 0, process.output()

    assert max(peaks) < BUDGET_BYTES, peaks
