"""How fast MySQL's rows are read and encoded for the initial copy: `python -m bench.mysql_reading`.

3,000,000 rows of ten mixed columns, chunk by chunk as the copy reads them, thrown away as COPY text. Beside it the
driver's own cursor over the same chunks, which makes a Python object of every value and no text yet.
"""

from __future__ import annotations

import argparse
import threading
import time
from contextlib import closing
from queue import Empty, SimpleQueue

import pymysql

from bench.pair import arguments, keep
from cdcflow.engines.mysql.connect import connect
from cdcflow.model.copy import Chunk
from cdcflow.model.route import Route
from cdcflow.model.schema import TableName
from cdcflow.sources.mysql import catalog, chunks, selecting
from cdcflow.sources.mysql.sessions import Sessions
from cdcflow.sources.mysql.snapshot import MysqlSnapshot
from tests.servers.fleet import Fleet
from tests.servers.mysql_session import connect_to, rows

TABLE = """
CREATE TABLE drain (
  id BIGINT PRIMARY KEY, n INT NOT NULL, name VARCHAR(100), price DECIMAL(12,2), currency CHAR(3), note TEXT,
  weight DOUBLE, doc JSON, created TIMESTAMP(6) NULL, seen DATETIME
)
"""
FILL = """
INSERT INTO drain SELECT {first} + n, n % 1000, CONCAT('customer ', {first} + n), n * 1.25, 'EUR',
  CONCAT('note ', n, ', with some words behind it'), n / 7, JSON_OBJECT('a', n, 'b', JSON_ARRAY(1, 2, 3)),
  FROM_UNIXTIME(1700000000 + n), '2024-01-31 12:00:00'
FROM (SELECT a.d + b.d * 10 + c.d * 100 + d.d * 1000 + e.d * 10000 + 1 AS n
  FROM digits a, digits b, digits c, digits d, digits e) AS numbers
"""
STEP = 100_000
CDCFLOW, DRIVER = "cdcflow", "PyMySQL"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--server", default="mysql-9.7", help="mysql-9.7, mysql-8.0, mariadb-11.8")
    args = parser.parse_args()
    fleet = Fleet()
    try:
        flavour, _, version = args.server.partition("-")
        server = fleet.mysql(version) if flavour == "mysql" else fleet.mariadb(version=version)
        with closing(connect_to(server.url())) as connection:
            rows(connection, "CREATE DATABASE bench")
        url = server.url("bench")
        _fill(url, args.rows)
        runs = _runs(url, args)
    finally:
        fleet.end()
    best = {
        f"{who}, {workers} workers": max(
            r["rows_per_second"] for r in runs if (r["who"], r["workers"]) == (who, workers)
        )
        for who in (CDCFLOW, DRIVER)
        for workers in args.workers
    }
    for name, value in best.items():
        print(f"{name}: {value:,.0f} rows/s")
    keep("mysql_reading", {"server": args.server, "runs": runs, "best": best}, args)


def _fill(url: str, count: int) -> None:
    with closing(connect_to(url)) as connection:
        rows(connection, "SET sql_log_bin = 0")
        rows(connection, TABLE)
        rows(connection, "CREATE TABLE digits (d INT PRIMARY KEY)")
        rows(connection, "INSERT INTO digits VALUES " + ", ".join(f"({n})" for n in range(10)))
        for first in range(0, count, STEP):
            rows(connection, FILL.format(first=first))
        rows(connection, "ANALYZE TABLE drain")


def _runs(url: str, args: argparse.Namespace) -> list[dict[str, float | str]]:
    runs: list[dict[str, float | str]] = []
    with closing(Sessions(url)) as sessions:
        with sessions.sql() as connection:
            table = catalog.shape_of(connection, sessions.flavour, TableName("bench", "drain"))
        assert table is not None
        route = Route(table, table.name, tuple((c, c.name) for c in table.columns), table.key)
        for number in range(args.rounds):
            for workers in args.workers:
                for who in (CDCFLOW, DRIVER) if number % 2 == 0 else (DRIVER, CDCFLOW):
                    runs.append(_run(url, sessions, route, who, workers, args.rows))
                    print(runs[-1], flush=True)
    return runs


def _run(url: str, sessions: Sessions, route: Route, who: str, workers: int, count: int) -> dict[str, float | str]:
    with closing(MysqlSnapshot(sessions)) as snapshot:
        began, cpu = time.perf_counter(), time.process_time()
        todo: SimpleQueue[Chunk] = SimpleQueue()
        planned = snapshot.plan(route, [])
        for chunk in planned:
            todo.put(chunk)
        planning = time.perf_counter() - began
        seen: list[tuple[int, int]] = []

        def work() -> None:
            while True:
                try:
                    chunk = todo.get_nowait()
                except Empty:
                    return
                read = _encoded(snapshot, route, chunk) if who == CDCFLOW else _fetched(url, route, chunk)
                seen.append(read)

        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    if sum(each for each, _ in seen) != count:
        raise RuntimeError(f"{who} read {sum(each for each, _ in seen)} rows of {count}")
    return {
        "who": who,
        "workers": workers,
        "chunks": len(planned),
        "planning_seconds": planning,
        "seconds": seconds,
        "rows_per_second": count / seconds,
        "cpu_seconds": cpu,  # ours, all threads
        "megabytes": sum(size for _, size in seen) / 1e6,
    }


def _encoded(snapshot: MysqlSnapshot, route: Route, chunk: Chunk) -> tuple[int, int]:
    lines = size = 0
    for block in snapshot.read(route, chunk):
        lines += block.count(b"\n")
        size += len(block)
    return lines, size


def _fetched(url: str, route: Route, chunk: Chunk) -> tuple[int, int]:
    piece = chunks.Piece.of(chunk)
    key = chunks.Key("PRIMARY", tuple(route.source.column(name) for name in piece.by))
    statement = selecting.statement(route, key.index, chunks.where(key, piece.low, piece.high))
    lines = 0
    with closing(connect(url, side="source")) as connection, connection.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute(statement)
        while found := cursor.fetchmany(1000):
            lines += len(found)
    return lines, 0


if __name__ == "__main__":
    main()
