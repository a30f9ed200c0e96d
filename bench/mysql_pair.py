"""MySQL servers beside the two PostgreSQL 18, and how a pipeline out of MySQL is watched: when it began, when all was
durable, and who used the processor meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import pair as pairs
from bench.mysql_workload import DATABASE
from bench.pair import CpuMeter, Pair, Tool, backend_cpu
from cdcflow.demo import mysqld, programs
from cdcflow.demo.cluster import Cluster
from cdcflow.demo.mysqld import MysqlServer
from cdcflow.engines.mysql.connect import flavour
from cdcflow.sources.mysql.log_end import end_position
from cdcflow.sources.mysql.position import Binlog

# Durable on both sides, and no checkpoint of small logs in the middle of a run.
SETTINGS = {
    "sync-binlog": "1",
    "innodb-flush-log-at-trx-commit": "1",
    "innodb-buffer-pool-size": "1G",
    "loose-innodb-redo-log-capacity": "2G",
    "innodb-flush-neighbors": "0",
    "max-connections": "100",
    "local-infile": "1",
}


@contextmanager
def mysql_servers(pair: Pair, *names: str) -> Iterator[list[MysqlServer]]:
    """Start MySQL servers under the pair's scratch folder; remove them at the end."""
    found = programs.find("mysql")
    with ExitStack() as stack:
        made = []
        for name in names:
            home = pair.scratch / f"mysql-{name}"
            stack.callback(mysqld.remove, home)
            made.append(mysqld.start(found, home, SETTINGS))
        yield made


@contextmanager
def one_more(pair: Pair, name: str) -> Iterator[MysqlServer]:
    """Start one more server, for one run."""
    with mysql_servers(pair, name) as (server,):
        yield server


def write_config(
    pair: Pair, name: str, source: MysqlServer, target: str, *, to: str = DATABASE, workers: int = 2
) -> Path:
    """Write the config of pipeline `name` from MySQL to the URL `target`, into schema or database `to`."""
    path = pair.scratch / f"{name}.yaml"
    path.touch(mode=0o600)
    path.write_text(
        f"pipeline: {name}\n"
        f"source: {{url: '{source.url(DATABASE)}', snapshot: {{workers: {workers}}}}}\n"
        f"target: {{url: '{target}'}}\n"
        f"tables:\n  - {{match: {DATABASE}.drain, to: {to}.drain}}\n"
    )
    return path


def run_sql(server: MysqlServer, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement and return its rows."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return list(cursor.fetchall())


def log_end(server: MysqlServer) -> Binlog:
    """Return where the server's binary log ends now."""
    with closing(server.connect()) as connection:
        return end_position(connection, flavour(connection))


@dataclass(slots=True)
class ServerCpu:
    """CPU seconds of one server since `begin`."""

    server: MysqlServer | Cluster
    _meter: CpuMeter | None = None
    _before: float = 0.0
    _latest: float = 0.0

    def begin(self) -> None:
        if isinstance(self.server, Cluster):
            self._meter = CpuMeter(self.server)
        else:
            self._before = self._latest = backend_cpu(self._pid())

    def sample(self) -> None:
        if self._meter is not None:
            self._meter.sample()
        else:
            self._latest = backend_cpu(self._pid())

    @property
    def seconds(self) -> float:
        return self._meter.seconds if self._meter is not None else self._latest - self._before

    def _pid(self) -> int:
        assert isinstance(self.server, MysqlServer)
        assert self.server.home is not None
        return int((self.server.home / "pid").read_text())


@dataclass(slots=True)
class Threads:
    """CPU seconds of each thread of a process, as the kernel counts them: where its time goes, at no cost to it.

    Python's threads have no names for the kernel; they are numbered in the order in which they were started. Number 0
    is the main thread.
    """

    pid: int
    _before: dict[int, float] = field(default_factory=dict)
    _latest: dict[int, float] = field(default_factory=dict)
    _waits: dict[int, dict[str, int]] = field(default_factory=dict)

    def begin(self) -> None:
        """Leave out what was used until now: starting Python takes a second of CPU."""
        self.sample()
        self._before = dict(self._latest)
        self._waits.clear()

    def sample(self) -> None:
        try:
            tasks = sorted(int(task.name) for task in Path(f"/proc/{self.pid}/task").iterdir())
        except OSError:
            return
        for task in tasks:
            try:
                parts = Path(f"/proc/{self.pid}/task/{task}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            self._latest[task] = (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
            seen = self._waits.setdefault(task, {})
            seen[parts[0]] = seen.get(parts[0], 0) + 1

    def report(self) -> list[dict[str, float]]:
        """Return the CPU seconds of each thread that used any, and the share of looks at which it ran."""
        found = []
        for number, task in enumerate(sorted(self._latest)):
            looks = self._waits.get(task, {})
            used = self._latest[task] - self._before.get(task, 0.0)
            if used >= 0.02 and looks:
                running = looks.get("R", 0) / sum(looks.values())
                found.append({"thread": number, "cpu_seconds": used, "running": round(running, 2)})
        return found


@dataclass(frozen=True, slots=True)
class Watched:
    """One run: when the source began to send (`active`), when all was durable (`done`), on `time.perf_counter`."""

    active: float
    done: float
    threads: list[dict[str, float]]


def watch(tool: Tool, source: MysqlServer, done: Callable[[], bool], meters: list[ServerCpu]) -> Watched:
    """Wait until `done()`, from right after the tool's start. Raises RuntimeError where cdcflow ended before.

    The server notices late that a reader of a run before has gone, so a new one is what counts.
    """
    active = metered = 0.0
    readers = "select id from information_schema.processlist where command like 'Binlog Dump%'"
    threads = Threads(tool.process.pid)
    with closing(source.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(readers)
        before = set(cursor.fetchall())
        while True:
            if not active:
                cursor.execute(readers)
                if set(cursor.fetchall()) - before:
                    active = time.perf_counter()
                    threads.begin()
                    for meter in meters:
                        meter.begin()
            finished = done()
            now = time.perf_counter()
            if active and (finished or now - metered > 0.1):
                threads.sample()
                for meter in meters:
                    meter.sample()
                metered = now
            if finished:
                return Watched(active or now, now, threads.report())
            if tool.poll():
                raise RuntimeError(f"cdcflow ended with {tool.poll()}:\n{tool.tail()}")
            time.sleep(0.02 if active else 0.002)


@contextmanager
def durable_in_postgres(pair: Pair, database: str, pipeline: str, end: Binlog) -> Iterator[Callable[[], bool]]:
    """Lend a question: is the pipeline's position past `end`, and flushed to disk?"""
    flushed: list[str] = []
    with pair.connect(pair.target, database) as connection:

        def asked() -> bool:
            if not flushed:
                row = connection.execute(
                    "select position, pg_current_wal_insert_lsn()::text from cdcflow.checkpoints where pipeline = %s",
                    (pipeline,),
                ).fetchone()
                if row is None or not row[0] or not Binlog.parse(row[0]).covers(end):
                    return False
                flushed.append(row[1])
            row = connection.execute("select pg_current_wal_flush_lsn() >= %s::pg_lsn", flushed).fetchone()
            return row is not None and bool(row[0])

        yield asked


@contextmanager
def durable_in_mysql(target: MysqlServer, pipeline: str, end: Binlog) -> Iterator[Callable[[], bool]]:
    """The same of a MySQL target, which flushes each commit."""
    with closing(target.connect()) as connection, connection.cursor() as cursor:

        def asked() -> bool:
            cursor.execute("select position from cdcflow.checkpoints where pipeline = %s", (pipeline,))
            row: Any = cursor.fetchone()
            return bool(row and row[0]) and Binlog.parse(row[0]).covers(end)

        yield asked


def where_time_goes(runs: list[dict[str, Any]]) -> None:
    """Print the CPU seconds of cdcflow's threads and of the servers, of the median run of each contender."""
    shown: list[list[object]] = []
    for contender in dict.fromkeys(run["contender"] for run in runs):
        own = sorted((run for run in runs if run["contender"] == contender), key=lambda run: float(run["seconds"]))
        run = own[len(own) // 2]
        shown += [[contender, name, seconds, f"{seconds / run['seconds']:.0%}"] for name, seconds in _parts(run)]
    if shown:
        print()
        pairs.table(["contender", "who", "CPU s", "of the run"], shown)


def _parts(run: dict[str, Any]) -> list[tuple[str, float]]:
    parts = [("source server", run["source_cpu_seconds"]), ("target server", run["target_cpu_seconds"])]
    return parts + [(f"cdcflow, thread {one['thread']}", one["cpu_seconds"]) for one in run["threads"]]
