"""How fast the initial copy out of MySQL is: `python -m bench.mysql_snapshot`.

3,000,000 rows of the drain table, MySQL 9.7 to PostgreSQL 18, two workers; beside it, in the same rounds, PostgreSQL
18's own subscription on the workload *drain* in PostgreSQL, the yardstick of the machine.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable

from bench import pair as pairs
from bench.contest import TEXT, Contest, Run
from bench.mysql_pair import ServerCpu, Threads, mysql_servers, where_time_goes, write_config
from bench.mysql_workload import fill, fingerprint, fingerprint_postgres, make_table
from bench.pair import Pair, arguments, keep, servers
from bench.workload import DRAIN_TABLE, drain_backlog
from cdcflow.demo.mysqld import MysqlServer

CDCFLOW, YARDSTICK = "cdcflow, MySQL to PostgreSQL", "yardstick: PostgreSQL's own subscription, drain"
# What the issue asks for, of the yardstick's rate.
LEAST = 1.0
LIMIT_MB = 256

OneRun = dict[str, object]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--drain-rows", type=int, default=1_000_000, help="of the yardstick; 1.6 row changes each")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="300,000 rows, one round, nothing kept")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.drain_rows = min(args.rows, 300_000), min(args.drain_rows, 100_000)
        args.pairs, args.no_keep = 1, True
    with servers() as pair, mysql_servers(pair, "source") as (source,):
        runs = _runs(pair, source, args)
        words = source.words
    ratios = _report(runs)
    keep("mysql_snapshot", {"mysql": words, "runs": runs, "ratios": ratios}, args)
    rss = max(float(str(run["peak_rss_mb"])) for run in runs)
    if rss > LIMIT_MB:
        raise SystemExit(f"peak RSS {rss:.0f} MB, more than {LIMIT_MB} MB")


def _runs(pair: Pair, source: MysqlServer, args: argparse.Namespace) -> list[OneRun]:
    pair.database(pair.source, "drain", DRAIN_TABLE)
    pair.database(pair.target, "empty", DRAIN_TABLE)
    contest = Contest(pair, "drain", ("drain",), args.pairs, (TEXT,))
    contest.prepare("empty")
    with pair.connect(pair.source, "drain") as connection:
        changes = drain_backlog(connection, args.drain_rows)
    make_table(source)
    fill(source, args.rows)
    expected = fingerprint(source)
    print(f"{args.rows:,} rows in {source.words}", flush=True)
    pair.warm()
    runs: list[OneRun] = []
    with contest.drained(changes) as lap:
        for number in range(args.pairs):
            todo: list[Callable[[], OneRun]] = [
                lambda number=number: _yardstick(lap(TEXT, number)),  # type: ignore[misc]
                lambda number=number: _copy(pair, source, args, number, expected),  # type: ignore[misc]
            ]
            for one in todo if number % 2 == 0 else todo[::-1]:
                runs.append(one())
    return runs


def _yardstick(run: Run) -> OneRun:
    return {
        "contender": YARDSTICK,
        "round": run.round,
        "seconds": run.seconds,
        "from_command": run.from_command,
        "rows_per_second": run.rate,
        "peak_rss_mb": 0.0,
        "cpu_seconds": 0.0,
    }


def _copy(pair: Pair, source: MysqlServer, args: argparse.Namespace, number: int, expected: tuple[int, int]) -> OneRun:
    """Time from the first rows that move to the end of `cdcflow snapshot`."""
    name = f"mysnap{number}"
    pair.database(pair.target, name)
    config = write_config(pair, name, source, pair.target.url(name), workers=args.workers)
    pair.settle()
    seen: list[float] = []
    over = threading.Event()
    meters = [ServerCpu(source), ServerCpu(pair.target)]
    tool = pairs.cdcflow(config, "snapshot")
    threads = Threads(tool.process.pid)

    def look() -> None:
        """Note when rows begin to move: the interpreter's start, checks and DDL come before."""
        with pair.connect(pair.target, name) as connection:
            while not over.wait(0.01 if seen else 0.005):
                if not seen and connection.execute("select 1 from pg_stat_progress_copy limit 1").fetchone():
                    seen.append(time.perf_counter())
                    _begin(threads, meters)
                if seen:
                    _sample(threads, meters)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        tool.finish()
    finally:
        over.set()
        watcher.join()
    end = time.perf_counter()
    _sample(threads, meters)
    with pair.connect(pair.target, name) as connection:
        found = fingerprint_postgres(connection)
    if found != expected:
        raise RuntimeError(f"the target differs from the source: {found} and {expected}")
    pair.drop(pair.target, name)
    seconds = end - (seen[0] if seen else tool.began)
    rate = args.rows / seconds
    print(f"round {number + 1}: {CDCFLOW}: {seconds:.2f} s, {rate:,.0f} rows/s, peak RSS {tool.peak_rss / 1e6:.0f} MB")
    return {
        "contender": CDCFLOW,
        "round": number,
        "workers": args.workers,
        "seconds": seconds,
        "from_command": end - tool.began,
        "rows_per_second": rate,
        "peak_rss_mb": tool.peak_rss / 1e6,
        "cpu_seconds": tool.cpu_seconds,
        "source_cpu_seconds": meters[0].seconds,
        "target_cpu_seconds": meters[1].seconds,
        "threads": threads.report(),
    }


def _begin(threads: Threads, meters: list[ServerCpu]) -> None:
    threads.begin()
    for meter in meters:
        meter.begin()


def _sample(threads: Threads, meters: list[ServerCpu]) -> None:
    threads.sample()
    for meter in meters:
        meter.sample()


def _report(runs: list[OneRun]) -> dict[str, object]:
    def figures(contender: str, name: str) -> list[float]:
        own = sorted((run for run in runs if run["contender"] == contender), key=lambda run: int(str(run["round"])))
        return [float(str(run[name])) for run in own]

    rows: list[list[object]] = []
    for contender in (CDCFLOW, YARDSTICK):
        rss = max(figures(contender, "peak_rss_mb"))
        rows.append(
            [
                *(contender, f"{pairs.median(figures(contender, 'rows_per_second')):,.0f}"),
                *(pairs.median(figures(contender, name)) for name in ("seconds", "from_command", "cpu_seconds")),
                f"{rss:.0f}" if rss else "",
            ]
        )
    print()
    pairs.table(["contender", "rows/s", "s", "s from command", "CPU s", "RSS MB"], rows)
    where_time_goes([run for run in runs if run["contender"] == CDCFLOW])
    ours, theirs = figures(CDCFLOW, "rows_per_second"), figures(YARDSTICK, "rows_per_second")
    of_pairs = [one / other for one, other in zip(ours, theirs, strict=True)]
    print(f"\nsnapshot / yardstick: {pairs.median(of_pairs):.2f} (asked: {LEAST})")
    return {"snapshot / yardstick": {"median": pairs.median(of_pairs), "of_pairs": of_pairs}}


if __name__ == "__main__":
    main()
