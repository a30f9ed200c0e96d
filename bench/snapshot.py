"""How fast the initial copy is, beside `COPY TO | COPY FROM` and the subscription's own: `python -m bench.snapshot`.

3,000,000 rows of the drain table. The pipe moves ranges of the same rows with the same number of workers, each
`psql | psql`, into a table that has its primary key.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import subprocess
import threading
import time

from bench import pair as pairs
from bench.pair import Pair, arguments, keep, servers
from bench.workload import DRAIN_TABLE, fill, fingerprint

PIPE, CDCFLOW, SUBSCRIPTION = "COPY | COPY", "cdcflow", "subscription"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    args = parser.parse_args()
    with servers() as pair:
        pair.database(pair.source, "snapshot", DRAIN_TABLE)
        with pair.connect(pair.source, "snapshot") as source:
            fill(source, args.rows)
            source.execute("vacuum analyze drain")
            source.execute("create publication built_in for table drain")
        runs = _runs(pair, args)
    result: dict[str, object] = {"runs": runs, "ratios": _report(runs, args)}
    keep("snapshot", result, args)


def _runs(pair: Pair, args: argparse.Namespace) -> list[dict[str, object]]:
    runs: list[dict[str, object]] = []
    with pair.connect(pair.source, "snapshot") as source:
        expected = fingerprint(source, "drain")
    for number in range(args.pairs):
        todo = [(contender, workers) for workers in args.workers for contender in (PIPE, CDCFLOW)]
        todo.append((SUBSCRIPTION, 1))
        for contender, workers in todo if number % 2 == 0 else todo[::-1]:
            name = f"copy_{number}_{workers}_{contender[0].lower()}"
            pair.database(pair.target, name, *([] if contender == CDCFLOW else [DRAIN_TABLE]))
            pair.settle()
            rss = 0.0
            began = time.perf_counter()
            if contender == PIPE:
                _pipe(pair, name, workers)
                seconds = copying = time.perf_counter() - began
            elif contender == CDCFLOW:
                seconds, copying, rss = _cdcflow(pair, name, workers)
            else:
                seconds, copying = _subscription(pair, name)
            with pair.connect(pair.target, name) as target:
                if fingerprint(target, "drain") != expected:
                    raise RuntimeError(f"{contender}: the target differs from the source")
                if contender == SUBSCRIPTION:
                    target.execute("drop subscription copied")
            if contender == CDCFLOW:
                pairs.cdcflow(pair.scratch / f"{name}.yaml", "teardown", "--yes").finish()
            pair.drop(pair.target, name)
            runs.append(
                {
                    "contender": contender,
                    "workers": workers,
                    "round": number,
                    "seconds": copying,
                    "from_command": seconds,
                    "rows_per_second": args.rows / copying,
                    "peak_rss_mb": rss,
                }
            )
            print(f"round {number + 1}: {contender}, {workers} workers: {args.rows / copying:,.0f} rows/s", flush=True)
    return runs


def _pipe(pair: Pair, name: str, workers: int) -> None:
    """Move ctid ranges of equal size by `psql | psql`, all at once."""
    with pair.connect(pair.source, "snapshot") as source:
        row = source.execute("select pg_relation_size('drain') / current_setting('block_size')::int").fetchone()
    assert row is not None
    edges = [row[0] * share // workers for share in range(workers)] + [2**32 - 1]
    psql = shlex.quote(str(pair.source.binaries / "psql"))
    processes = []
    for low, high in itertools.pairwise(edges):
        ranged = f"copy (select * from drain where ctid >= '({low},0)' and ctid < '({high},0)') to stdout"
        line = f'{psql} -qX "$FROM" -c "{ranged}" | {psql} -qX "$TO" -c "copy drain from stdin"'
        env = {**os.environ, "FROM": pair.source.url("snapshot"), "TO": pair.target.url(name)}
        processes.append(subprocess.Popen(["/bin/sh", "-c", line], env=env))
    if any(process.wait() for process in processes):
        raise RuntimeError("COPY | COPY failed")


def _cdcflow(pair: Pair, name: str, workers: int) -> tuple[float, float, float]:
    config = pair.config(name, "snapshot", name, workers=workers)
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        """Note when rows begin to move: the interpreter's start, checks and DDL come before."""
        with pair.connect(pair.target, name) as connection:
            while not over.wait(0.005):
                if connection.execute("select 1 from pg_stat_progress_copy limit 1").fetchone():
                    seen.append(time.perf_counter())
                    return

    watcher = threading.Thread(target=watch)
    tool = pairs.cdcflow(config, "snapshot")
    watcher.start()
    try:
        tool.finish()
    finally:
        over.set()
        watcher.join()
    end = time.perf_counter()
    return end - tool.began, end - (seen[0] if seen else tool.began), tool.peak_rss / 1e6


def _subscription(pair: Pair, name: str) -> tuple[float, float]:
    with pair.connect(pair.target, name) as target:
        began = time.perf_counter()
        target.execute(
            f"create subscription copied connection '{pair.source.url('snapshot')}' publication built_in "
            f"with (slot_name = {name})"
        )
        while True:
            row = target.execute("select srsubstate in ('s', 'r') from pg_subscription_rel").fetchone()
            if row and row[0]:
                return time.perf_counter() - began, time.perf_counter() - began
            time.sleep(0.01)


def _report(runs: list[dict[str, object]], args: argparse.Namespace) -> dict[str, object]:
    def rates(contender: str, workers: int) -> list[float]:
        return [
            float(str(run["rows_per_second"]))
            for run in sorted(runs, key=lambda run: str(run["round"]))
            if run["contender"] == contender and run["workers"] == workers
        ]

    rows: list[list[object]] = []
    ratios: dict[str, object] = {}
    for workers in args.workers:
        pipe, ours = rates(PIPE, workers), rates(CDCFLOW, workers)
        ratio = pairs.median([one / other for one, other in zip(ours, pipe, strict=True)])
        whole = pairs.median([float(str(r["from_command"])) for r in runs if r["contender"] == CDCFLOW])
        rss = max(float(str(r["peak_rss_mb"])) for r in runs if r["contender"] == CDCFLOW and r["workers"] == workers)
        ratios[f"{workers} workers"] = ratio
        rows.append([PIPE, workers, f"{pairs.median(pipe):,.0f}", "", "", "1"])
        rows.append([CDCFLOW, workers, f"{pairs.median(ours):,.0f}", whole, f"{rss:.0f}", f"{ratio:.2f}"])
    rows.append([SUBSCRIPTION, 1, f"{pairs.median(rates(SUBSCRIPTION, 1)):,.0f}", "", "", ""])
    print()
    pairs.table(["contender", "workers", "rows/s", "s from command", "RSS MB", "to COPY | COPY"], rows)
    return ratios


if __name__ == "__main__":
    main()
