"""Two PostgreSQL 18 servers of the pip wheel on this machine, and the programs that move rows between them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from cdcflow.demo.cluster import Cluster, create

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]

SETTINGS = {
    "shared_buffers": "1GB",
    "wal_level": "logical",
    "fsync": "on",
    # No checkpoint in the middle of one contender's run and not of the other's.
    "max_wal_size": "16GB",
    "min_wal_size": "2GB",  # see `Pair.warm`
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "max_replication_slots": "40",
    "max_wal_senders": "40",
    "max_connections": "100",
    "max_worker_processes": "16",
    "max_logical_replication_workers": "8",
}


# A broker as Kafka's own start script runs it, with a heap that leaves memory to the others.
BROKER_JVM = ("-Xmx512m", "-Xms512m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")


@dataclass(frozen=True, slots=True)
class Pair:
    """A source, a target, and a scratch folder for config files."""

    source: Cluster
    target: Cluster
    scratch: Path

    @contextmanager
    def connect(self, cluster: Cluster, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(cluster.url(database), autocommit=True) as connection:
            yield connection

    def database(self, cluster: Cluster, name: str, *statements: str, template: str = "template0") -> None:
        with self.connect(cluster) as connection:
            connection.execute(f"create database {name} template {template}")
        with self.connect(cluster, name) as connection:
            for statement in statements:
                connection.execute(statement)

    def drop(self, cluster: Cluster, name: str) -> None:
        with self.connect(cluster) as connection:
            connection.execute(f"drop database if exists {name} with (force)")

    def warm(self) -> None:
        """Give the target log files to recycle, as one that has been up for a while has: making new ones is slower,
        and would be left to whoever comes first."""
        with self.connect(self.target) as connection:
            connection.execute("create table warm as select repeat('x', 1000) from generate_series(1, 1200000)")
            connection.execute("drop table warm")
            connection.execute("checkpoint")
            connection.execute("checkpoint")

    def settle(self) -> None:
        """Bring both servers and the disk to rest, so that each run begins alike."""
        for cluster in (self.source, self.target):
            with self.connect(cluster) as connection:
                connection.execute("checkpoint")
        os.sync()

    def config(self, name: str, source: str, target: str, workers: int = 2) -> Path:
        """Write a config for the pipeline `name` between two databases: every table of `public`. Returns its path."""
        path = self.scratch / f"{name}.yaml"
        path.touch(mode=0o600)
        path.write_text(
            f"pipeline: {name}\n"
            f"source: {{url: '{self.source.url(source)}', snapshot: {{workers: {workers}}}}}\n"
            f"target: {{url: '{self.target.url(target)}'}}\n"
            'tables:\n  - match: "public.*"\n'
        )
        return path


@contextmanager
def servers(settings: dict[str, str] | None = None) -> Iterator[Pair]:
    """Make and start both servers under a scratch folder that everybody may enter; remove them at the end."""
    scratch = Path(tempfile.mkdtemp(prefix="cdcflow-bench-", dir=os.environ.get("CDCFLOW_BENCH_DIR")))
    scratch.chmod(0o755)
    made: list[Cluster] = []
    try:
        for name in ("source", "target"):
            made.append(create(scratch / name, {**SETTINGS, **(settings or {})}))
            made[-1].start()
        yield Pair(made[0], made[1], scratch)
    finally:
        for cluster in made:
            cluster.remove()
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass(slots=True)
class Tool:
    """A cdcflow process under measurement."""

    process: subprocess.Popen[bytes]
    log: Path
    began: float
    peak_rss: int = 0
    cpu_seconds: float = 0.0
    _ended: int | None = field(default=None)

    def sample(self) -> None:
        """Take the highest memory so far. Called while it runs; the kernel's last word (`ru_maxrss`) is of no use, for
        what this process had when it started the tool counts there too."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.peak_rss = max(self.peak_rss, int(line.split()[1]) * 1024)

    def poll(self) -> int | None:
        if self._ended is None:
            self.sample()
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                self._ended = self.process.returncode = os.waitstatus_to_exitcode(status)
                self.cpu_seconds = usage.ru_utime + usage.ru_stime
        return self._ended

    def finish(self, limit_seconds: float = 600) -> None:
        """Wait until it ends by itself. Raises RuntimeError with the end of its log where it failed."""
        end = time.monotonic() + limit_seconds
        while self.poll() is None:
            if time.monotonic() > end:
                self.process.kill()
                raise RuntimeError(f"cdcflow did not end in {limit_seconds} s:\n{self.tail()}")
            time.sleep(0.01)
        if self._ended:
            raise RuntimeError(f"cdcflow ended with {self._ended}:\n{self.tail()}")

    def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait."""
        if self.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.finish(60)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])


def cdcflow(config: Path, *args: str) -> Tool:
    """Start `python -m cdcflow ARGS -c CONFIG` in a process of its own."""
    log = config.with_suffix(".log")
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cdcflow", *args, "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    return Tool(process, log, time.perf_counter())


def backend_cpu(pid: int | None) -> float:
    """Return the CPU seconds that a process used so far, 0 where it is gone."""
    try:
        parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


class CpuMeter:
    """CPU seconds of one server's processes since the meter was made; those that end in between count too."""

    def __init__(self, cluster: Cluster) -> None:
        self._postmaster = int((cluster.data / "postmaster.pid").read_text().split()[0])
        self._before: dict[int, float] = {}
        self._latest: dict[int, float] = {}
        self.sample()
        self._before = dict(self._latest)

    def sample(self) -> None:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == self._postmaster:
                pid = int(stat.parent.name)
                self._latest[pid] = max(self._latest.get(pid, 0.0), backend_cpu(pid))

    @property
    def seconds(self) -> float:
        return sum(cpu - self._before.get(pid, 0.0) for pid, cpu in self._latest.items())


def anonymous_rss(pid: int | None) -> int:
    """Return a process's own memory in bytes: without the server's shared buffers."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which `share` of the ordered values lie."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def machine() -> dict[str, object]:
    """Return what a reader needs to compare results: processor, memory, versions, compiled or not."""
    cpu = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    version = subprocess.run(
        [sys.executable, "-m", "cdcflow", "version"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1024 / 1024),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cdcflow": version.stdout.strip(),
        "commit": commit.stdout.strip(),
        "settings": SETTINGS,
    }


def keep(name: str, result: dict[str, object], args: argparse.Namespace) -> None:
    """Write one bench's result to bench/results/NAME.json, unless `--no-keep` was given."""
    if args.no_keep:
        return
    RESULTS.mkdir(exist_ok=True)
    whole = {
        "bench": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "arguments": {key: value for key, value in vars(args).items() if key != "no_keep"},
        "machine": machine(),
        **result,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(whole, indent=1, default=str) + "\n")
    print(f"\nkept in {path.relative_to(ROOT)}")


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--no-keep", action="store_true", help="do not write bench/results")
    return parser


def table(head: list[str], rows: list[list[object]]) -> None:
    """Print a table with its columns lined up."""
    cells = [head, *[[f"{cell:,.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(head))]
    for number, row in enumerate(cells):
        first, *rest = [
            cell.ljust(width) if not index else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join([first, *rest]))
        if not number:
            print("  ".join("-" * width for width in widths))
