"""One backlog, several contenders: cdcflow and the built-in subscription drain the same log into fresh copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from bench import pair as pairs
from bench.pair import CpuMeter, Pair
from bench.workload import fingerprint

TEXT = "subscription"
BINARY = "subscription, binary"
CDCFLOW = "cdcflow"
OPTIONS = {TEXT: "", BINARY: ", binary = true"}


@dataclass(frozen=True, slots=True)
class Run:
    """How one contender did.

    seconds: from the slot's becoming active (START_REPLICATION) until its confirmed position is past the backlog.
    from_command: the same end, from starting the process or from CREATE SUBSCRIPTION.
    """

    contender: str
    round: int
    rows: int
    seconds: float
    from_command: float
    peak_rss_mb: float
    cpu_seconds: float
    source_cpu_seconds: float
    target_cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


@dataclass(frozen=True, slots=True)
class Contest:
    """A source database with slots laid down before its backlog, so that every contender reads the same log."""

    pair: Pair
    database: str
    tables: tuple[str, ...]
    rounds: int
    contenders: tuple[str, ...]

    def target_name(self, contender: str, number: int) -> str:
        return f"{self.database}_{'cdc' if contender == CDCFLOW else 'bin' if contender == BINARY else 'sub'}{number}"

    def slot(self, contender: str, number: int) -> str:
        return ("cdcflow_" if contender == CDCFLOW else "") + self.target_name(contender, number)

    def prepare(self, template: str) -> None:
        """Make every contender's target and slot. `template` is a target database that equals the source now."""
        pair = self.pair
        with pair.connect(pair.source, self.database) as source:
            source.execute(f"create publication built_in for table {', '.join(self.tables)}")
            for number in range(self.rounds):
                for contender in self.contenders:
                    name = self.target_name(contender, number)
                    if contender == CDCFLOW:
                        # cdcflow makes its own tables and copies into them; the process ends when it is level.
                        pair.database(pair.target, name)
                        tool = pairs.cdcflow(pair.config(name, self.database, name), "run", "--until-caught-up")
                        tool.finish()
                    else:
                        pair.database(pair.target, name, template=template)
                        source.execute(
                            "select pg_create_logical_replication_slot(%s, 'pgoutput')", (self.slot(contender, number),)
                        )
                    _vacuum(pair.connect(pair.target, name))

    def run(self, rows: int) -> list[Run]:
        """Let each contender drain the backlog, in alternating order, and compare each result with the source."""
        self.pair.warm()
        runs = []
        with self.drained(rows) as lap:
            for number in range(self.rounds):
                order = self.contenders if number % 2 == 0 else self.contenders[::-1]
                runs += [lap(contender, number) for contender in order]
        return runs

    @contextmanager
    def drained(self, rows: int) -> Iterator[Callable[[str, int], Run]]:
        """Lend a function that lets one contender drain the backlog in one round, and compares it with the source."""
        pair = self.pair
        _vacuum(pair.connect(pair.source, self.database))
        with pair.connect(pair.source, self.database) as source:
            row = source.execute("select pg_current_wal_flush_lsn()::text").fetchone()
            assert row is not None
            end = row[0]
            expected = [fingerprint(source, table) for table in self.tables]

            def lap(contender: str, number: int) -> Run:
                pair.settle()
                found = self._one(source, contender, number, rows, end)
                name = self.target_name(contender, number)
                with pair.connect(pair.target, name) as target:
                    if [fingerprint(target, table) for table in self.tables] != expected:
                        raise RuntimeError(f"{contender}: the target differs from the source")
                    if contender != CDCFLOW:
                        target.execute("drop subscription drained")
                if contender == CDCFLOW:
                    source.execute("select pg_drop_replication_slot(%s)", (self.slot(contender, number),))
                pair.drop(pair.target, name)
                print(
                    f"round {number + 1}: {contender}: {found.seconds:.2f} s, {found.rate:,.0f} rows/s"
                    + (f", peak RSS {found.peak_rss_mb:.0f} MB" if contender == CDCFLOW else ""),
                    flush=True,
                )
                return found

            yield lap

    def _one(self, source: psycopg.Connection[Any], contender: str, number: int, rows: int, end: str) -> Run:
        name, slot = self.target_name(contender, number), self.slot(contender, number)
        meters = CpuMeter(self.pair.source), CpuMeter(self.pair.target)
        if contender == CDCFLOW:
            tool = pairs.cdcflow(self.pair.scratch / f"{name}.yaml", "run", "--until-caught-up")
            began = tool.began
            active, done = watch(source, slot, end, tool, meters)
            tool.finish()
            memory, cpu = tool.peak_rss / 1e6, tool.cpu_seconds
        else:
            with self.pair.connect(self.pair.target, name) as target:
                began = time.perf_counter()
                target.execute(
                    f"create subscription drained connection '{self.pair.source.url(self.database)}' "
                    f"publication built_in with (copy_data = false, create_slot = false, "
                    f"slot_name = {slot}{OPTIONS[contender]})"
                )
                active, done = watch(source, slot, end, None, meters)
                row = target.execute("select pid from pg_stat_subscription where subname = 'drained'").fetchone()
            memory, cpu = pairs.anonymous_rss(row[0] if row else None) / 1e6, 0.0
        return Run(
            *(contender, number, rows, done - active, done - began, memory, cpu),
            *(meter.seconds for meter in meters),
        )


def _vacuum(connected: AbstractContextManager[psycopg.Connection[Any]]) -> None:
    """Do now what autovacuum would do beside the first of the runs, and leave every contender's pages alike."""
    with connected as connection:
        connection.execute("vacuum (analyze)")


def watch(
    source: psycopg.Connection[Any], slot: str, end: str, tool: pairs.Tool | None, meters: tuple[CpuMeter, CpuMeter]
) -> tuple[float, float]:
    """Wait until `slot` has confirmed `end`. Returns when it became active and when it was done."""
    active, metered = 0.0, time.perf_counter()
    while True:
        row = source.execute(
            "select active, confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots where slot_name = %s",
            (end, slot),
        ).fetchone()
        now = time.perf_counter()
        if row is None:
            raise RuntimeError(f"slot {slot} is gone")
        if row[0] and not active:
            active = now
        if row[1] or now - metered > 0.5:
            for meter in meters:
                meter.sample()
            metered = now
        if row[1]:
            return active or now, now
        if tool is not None and tool.poll():
            raise RuntimeError(f"cdcflow ended with {tool.poll()}:\n{tool.tail()}")
        time.sleep(0.02 if active else 0.002)


def report(runs: list[Run], contenders: tuple[str, ...]) -> dict[str, object]:
    """Print medians and ratios, and return them with every run for the results file."""
    rates = {name: [run.rate for run in runs if run.contender == name] for name in contenders}
    rows: list[list[object]] = []
    ratios: dict[str, object] = {}
    for name in contenders:
        own = [run for run in runs if run.contender == name]
        pairs_of = [ours / theirs for ours, theirs in zip(rates[CDCFLOW], rates[name], strict=True)]
        if name != CDCFLOW:
            ratios[name] = {"median": pairs.median(pairs_of), "of_pairs": pairs_of}
        rows.append(
            [
                name,
                f"{pairs.median(rates[name]):,.0f}",
                pairs.median([run.seconds for run in own]),
                pairs.median([run.from_command for run in own]),
                f"{max(run.peak_rss_mb for run in own):.0f}",
                pairs.median([run.cpu_seconds for run in own]),
                pairs.median([run.source_cpu_seconds for run in own]),
                pairs.median([run.target_cpu_seconds for run in own]),
                "1" if name == CDCFLOW else f"{pairs.median(pairs_of):.2f} ({min(pairs_of):.2f}-{max(pairs_of):.2f})",
            ]
        )
    print()
    head = [
        "contender",
        "rows/s",
        "s",
        "s from command",
        "RSS MB",
        "CPU s",
        "source CPU s",
        "target CPU s",
        "cdcflow x",
    ]
    pairs.table(head, rows)
    return {
        "ratios": ratios,
        "median_rows_per_second": {name: pairs.median(rates[name]) for name in contenders},
        "peak_rss_mb": max(run.peak_rss_mb for run in runs if run.contender == CDCFLOW),
        "runs": [{**asdict(run), "rows_per_second": run.rate} for run in runs],
    }
