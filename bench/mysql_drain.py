"""How fast a backlog in MySQL is drained: `python -m bench.mysql_drain`.

1,000,000 inserts (1,000 a transaction), 500,000 updates and 100,000 deletes (100 a transaction) on a table of ten
columns wait in the binary log of a MySQL 9.7. cdcflow drains them into PostgreSQL 18 and into another MySQL. Beside it,
in the same rounds: PostgreSQL 18's own subscription on the same workload in PostgreSQL, the yardstick of the machine,
and MySQL's own replica on the very same backlog.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

from bench import pair as pairs
from bench.contest import TEXT, Contest, Run
from bench.mysql_pair import (
    ServerCpu,
    Watched,
    durable_in_mysql,
    durable_in_postgres,
    log_end,
    mysql_servers,
    one_more,
    run_sql,
    watch,
    where_time_goes,
    write_config,
)
from bench.mysql_workload import backlog, fingerprint, fingerprint_postgres, make_table
from bench.pair import Pair, arguments, keep, servers
from bench.workload import DRAIN_TABLE, drain_backlog
from cdcflow.demo.mysqld import MysqlServer
from cdcflow.sources.mysql.position import Binlog

TO_POSTGRES, TO_MYSQL, REPLICA, YARDSTICK = (
    *("cdcflow, MySQL to PostgreSQL", "cdcflow, MySQL to MySQL", "MySQL's own replica"),
    "yardstick: PostgreSQL's own subscription",
)
# What issue and aim ask for, of the yardstick's rate.
LEAST, AIM = 0.65, 1.3
LIMIT_MB = 256


@dataclass(frozen=True, slots=True)
class Drain:
    """How one contender did in one round. `from_command`: from the start of the process or of the replica."""

    contender: str
    round: int
    rows: int
    seconds: float
    from_command: float
    peak_rss_mb: float
    cpu_seconds: float
    source_cpu_seconds: float
    target_cpu_seconds: float
    threads: list[dict[str, float]]

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the source's log: so many row changes, up to `end`, after which the table is `expected`."""

    pair: Pair
    source: MysqlServer
    target: MysqlServer
    changes: int
    end: Binlog
    expected: tuple[int, int]

    def to_postgres(self, number: int) -> Drain:
        name = f"my2pg{number}"
        with durable_in_postgres(self.pair, name, name, self.end) as done:
            found = self._cdcflow(TO_POSTGRES, name, number, done, ServerCpu(self.pair.target))
        with self.pair.connect(self.pair.target, name) as connection:
            self._same(TO_POSTGRES, fingerprint_postgres(connection))
        self.pair.drop(self.pair.target, name)
        return found

    def to_mysql(self, number: int) -> Drain:
        name = f"my2my{number}"
        with durable_in_mysql(self.target, name, self.end) as done:
            found = self._cdcflow(TO_MYSQL, name, number, done, ServerCpu(self.target))
        self._same(TO_MYSQL, fingerprint(self.target, name))
        run_sql(self.target, f"drop database {name}")
        return found

    def replica(self, number: int) -> Drain:
        """A new server that reads the log from its beginning with its own defaults (four applying threads)."""
        with one_more(self.pair, f"replica{number}") as server:
            host, port = "127.0.0.1", self.source.base.rpartition(":")[2]
            run_sql(
                server,
                "change replication source to source_host = %s, source_port = %s, source_user = %s,"
                " source_password = %s, source_auto_position = 1, source_ssl = 1",
                *(host, int(port), self.source.user, self.source.password),
            )
            meters = [ServerCpu(self.source), ServerCpu(server)]
            for meter in meters:
                meter.begin()
            began = time.perf_counter()
            run_sql(server, "start replica")
            wanted = run_sql(self.source, "select @@global.gtid_executed")[0][0]
            while True:
                ((done,),) = run_sql(server, "select wait_for_executed_gtid_set(%s, 1)", wanted)
                if done == 0:
                    break
                state = run_sql(server, "show replica status")
                if not state or "Yes" not in state[0]:
                    raise RuntimeError("MySQL's own replica stopped")
            seconds = time.perf_counter() - began
            for meter in meters:
                meter.sample()
            self._same(REPLICA, fingerprint(server))
            used = [meter.seconds for meter in meters]
            return Drain(REPLICA, number, self.changes, seconds, seconds, 0.0, 0.0, used[0], used[1], [])

    def _cdcflow(self, contender: str, name: str, number: int, done: Callable[[], bool], target: ServerCpu) -> Drain:
        meters = [ServerCpu(self.source), target]
        tool = pairs.cdcflow(self.pair.scratch / f"{name}.yaml", "run", "--until-caught-up")
        seen: Watched = watch(tool, self.source, done, meters)
        tool.finish()
        return Drain(
            *(contender, number, self.changes, seen.done - seen.active, seen.done - tool.began),
            *(tool.peak_rss / 1e6, tool.cpu_seconds, meters[0].seconds, meters[1].seconds, seen.threads),
        )

    def _same(self, contender: str, found: tuple[int, int]) -> None:
        if found != self.expected:
            raise RuntimeError(f"{contender}: the target differs from the source: {found} and {self.expected}")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows inserted; 1.6 row changes each")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="100,000 rows, one round, nothing kept")
    parser.add_argument("--only", choices=["postgres", "mysql"], help="one target alone")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.pairs, args.no_keep = min(args.rows, 100_000), 1, True
    with servers() as pair, mysql_servers(pair, "source", "target") as (source, target):
        runs = _runs(pair, source, target, args)
        machine = {"mysql": source.words, "contender_settings": "see bench/mysql_pair.py"}
    result = _report(runs)
    keep("mysql_drain", {"row_changes": runs[0].rows, **machine, **result}, args)
    rss = max(run.peak_rss_mb for run in runs)
    if rss > LIMIT_MB:
        raise SystemExit(f"peak RSS {rss:.0f} MB, more than {LIMIT_MB} MB")


def _runs(pair: Pair, source: MysqlServer, target: MysqlServer, args: argparse.Namespace) -> list[Drain]:
    pair.database(pair.source, "drain", DRAIN_TABLE)
    pair.database(pair.target, "empty", DRAIN_TABLE)
    contest = Contest(pair, "drain", ("drain",), args.pairs, (TEXT,))
    contest.prepare("empty")
    make_table(source)
    # Each pipeline copies the empty table and keeps its position: before the backlog.
    for number in range(args.pairs):
        if args.only != "mysql":
            name = f"my2pg{number}"
            pair.database(pair.target, name)
            config = write_config(pair, name, source, pair.target.url(name))
            pairs.cdcflow(config, "run", "--until-caught-up").finish()
        if args.only != "postgres":
            name = f"my2my{number}"
            config = write_config(pair, name, source, target.url(), to=name)
            pairs.cdcflow(config, "run", "--until-caught-up").finish()
    with pair.connect(pair.source, "drain") as connection:
        changes = drain_backlog(connection, args.rows)
    backlog(source, args.rows)
    print(f"backlog: {changes:,} row changes, in PostgreSQL and in {source.words}", flush=True)
    waiting = Backlog(pair, source, target, changes, log_end(source), fingerprint(source))
    pair.warm()
    found: list[Drain] = []
    with contest.drained(changes) as lap:
        for number in range(args.pairs):
            todo: list[Callable[[int], Drain]] = [partial(_yardstick, lap)]
            todo += [waiting.to_postgres] if args.only != "mysql" else []
            todo += [waiting.to_mysql, waiting.replica] if args.only != "postgres" else []
            for one in todo if number % 2 == 0 else todo[::-1]:
                pair.settle()
                found.append(one(number))
                if found[-1].contender != YARDSTICK:
                    _say(found[-1])
    return found


def _yardstick(lap: Callable[[str, int], Run], number: int) -> Drain:
    run = lap(TEXT, number)
    return Drain(
        *(YARDSTICK, run.round, run.rows, run.seconds, run.from_command, 0.0, 0.0),
        *(run.source_cpu_seconds, run.target_cpu_seconds, []),
    )


def _say(run: Drain) -> None:
    memory = f", peak RSS {run.peak_rss_mb:.0f} MB" if run.peak_rss_mb else ""
    print(f"round {run.round + 1}: {run.contender}: {run.seconds:.2f} s, {run.rate:,.0f} rows/s{memory}", flush=True)


def _report(runs: list[Drain]) -> dict[str, object]:
    """Print medians and ratios of the rounds, and where the time goes; return them for the results file."""
    names = [name for name in (TO_POSTGRES, TO_MYSQL, REPLICA, YARDSTICK) if any(r.contender == name for r in runs)]
    rates = {name: [run.rate for run in sorted(runs, key=_round) if run.contender == name] for name in names}
    ratios: dict[str, dict[str, object]] = {}
    for ours, theirs in ((TO_POSTGRES, YARDSTICK), (TO_MYSQL, REPLICA), (TO_MYSQL, YARDSTICK)):
        if ours in rates and theirs in rates:
            of_pairs = [one / other for one, other in zip(rates[ours], rates[theirs], strict=True)]
            ratios[f"{ours} / {theirs}"] = {"median": pairs.median(of_pairs), "of_pairs": of_pairs}
    rows: list[list[object]] = []
    for name in names:
        own = [run for run in runs if run.contender == name]
        rows.append(
            [
                *(name, f"{pairs.median(rates[name]):,.0f}", pairs.median([run.seconds for run in own])),
                pairs.median([run.from_command for run in own]),
                f"{max(run.peak_rss_mb for run in own):.0f}" if any(run.peak_rss_mb for run in own) else "",
                pairs.median([run.cpu_seconds for run in own]),
                pairs.median([run.source_cpu_seconds for run in own]),
                pairs.median([run.target_cpu_seconds for run in own]),
            ]
        )
    print()
    head = ["contender", "rows/s", "s", "s from command", "RSS MB", "CPU s", "source CPU s", "target CPU s"]
    pairs.table(head, rows)
    where_time_goes([asdict(run) for run in runs if run.contender in (TO_POSTGRES, TO_MYSQL)])
    print()
    for name, ratio in ratios.items():
        asked = f" (asked: {LEAST}, aim: {AIM})" if name.startswith(TO_POSTGRES) else ""
        print(f"{name}: {ratio['median']:.2f}{asked}")
    return {
        "ratios": ratios,
        "median_rows_per_second": {name: pairs.median(rates[name]) for name in names},
        "peak_rss_mb": max(run.peak_rss_mb for run in runs),
        "runs": [{**asdict(run), "rows_per_second": run.rate} for run in runs],
    }


def _round(run: Drain) -> int:
    return run.round


if __name__ == "__main__":
    main()
