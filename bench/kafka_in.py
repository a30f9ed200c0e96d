"""How fast topics are applied: `python -m bench.kafka_in`.

cdcflow publishes the backlog of `bench.drain` (1,000,000 inserts, 500,000 updates, 100,000 deletes) from PostgreSQL
into a topic of 12 partitions. One, two and four instances of a pipeline then apply it to PostgreSQL, exactly once.
Beside it, in the same rounds: PostgreSQL 18's own subscription on the same backlog, the yardstick of the machine.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from bench import pair as pairs
from bench.contest import TEXT, Contest, Run
from bench.pair import CpuMeter, Pair, arguments, backend_cpu, keep, servers
from bench.workload import DRAIN_TABLE, drain_backlog, fingerprint
from tests.servers.kafka_server import Kafka, kafka_processes
from tests.servers.runs import OwnProcess

PARTITIONS = 12
PUBLISHER = "published"
# What is asked of the instances together, of the yardstick's rate.
LEAST = 0.65
LIMIT_MB = 256

_RECORDED = "SELECT coalesce(sum(place), 0), count(*) FROM cdcflow.shares WHERE pipeline = %s"


@dataclass(frozen=True, slots=True)
class Applied:
    """How so many instances did together in one round. seconds: from the first claim until every row is recorded.

    peak_rss_mb: of the largest of them.
    """

    instances: int
    round: int
    rows: int
    seconds: float
    from_command: float
    peak_rss_mb: float
    cpu_seconds: float
    target_cpu_seconds: float
    broker_cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


@dataclass(frozen=True, slots=True)
class Filled:
    """The broker with the published backlog: `end` is the sum of the partitions' ends, `expected` what comes of it."""

    pair: Pair
    kafka: Kafka
    changes: int
    end: int
    expected: Any

    def apply(self, instances: int, number: int) -> Applied:
        """Let instances of a new pipeline apply everything into a new database."""
        pair, name = self.pair, f"in{instances}_{number}"
        pair.database(pair.target, name)
        config = _config(pair, name, f"{{url: '{self.kafka.url()}', topics: ['{PUBLISHER}.*']}}", pair.target.url(name))
        meter, broker = CpuMeter(pair.target), self._broker_cpu()
        with pair.connect(pair.target, name) as target:
            tools = [pairs.cdcflow(config, "run") for _ in range(instances)]
            try:
                claimed, done = self._watch(target, name, tools, meter)
            finally:
                for tool in tools:
                    tool.stop()
            if fingerprint(target, "drain") != self.expected:
                raise RuntimeError(f"{instances} instances: the target differs from the source")
        found = Applied(
            *(instances, number, self.changes, done - claimed, done - tools[0].began),
            max(tool.peak_rss for tool in tools) / 1e6,
            sum(tool.cpu_seconds for tool in tools),
            *(meter.seconds, self._broker_cpu() - broker),
        )
        pair.drop(pair.target, name)
        print(
            f"round {number + 1}: {instances} instances: {found.seconds:.2f} s, {found.rate:,.0f} rows/s,"
            f" peak RSS {found.peak_rss_mb:.0f} MB",
            flush=True,
        )
        return found

    def _watch(
        self, target: psycopg.Connection[Any], name: str, tools: list[pairs.Tool], meter: CpuMeter
    ) -> tuple[float, float]:
        """Return when the first partition was claimed, and when everything was on record."""
        claimed = 0.0
        while True:
            place, shares = 0, 0
            there = target.execute("SELECT to_regclass('cdcflow.shares')").fetchone()
            if there is not None and there[0] is not None:
                row = target.execute(_RECORDED, (name,)).fetchone()
                assert row is not None
                place, shares = row
            now = time.perf_counter()
            claimed = claimed or (now if shares else 0.0)
            meter.sample()
            if place >= self.end:
                return claimed, now
            for tool in tools:
                if tool.poll() is not None:
                    raise RuntimeError(f"cdcflow ended with {tool.poll()}:\n{tool.tail()}")
            time.sleep(0.05)

    def _broker_cpu(self) -> float:
        return sum(backend_cpu(each.runs.pid) for each in self.kafka.brokers if isinstance(each.runs, OwnProcess))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows inserted; 1.6 row changes each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--instances", default="1,2,4")
    args = parser.parse_args()
    counts = [int(each) for each in args.instances.split(",")]
    with servers() as pair:
        kafka, _ = kafka_processes(pair.scratch / "kafka", jvm=pairs.BROKER_JVM)
        try:
            kafka.start()
            applied, yard = _runs(pair, kafka, args.rows, args.rounds, counts)
        finally:
            kafka.remove()
        keep("kafka_in", {"row_changes": applied[0].rows, **_report(applied, yard, counts)}, args)


def _runs(pair: Pair, kafka: Kafka, rows: int, rounds: int, counts: list[int]) -> tuple[list[Applied], list[Run]]:
    pair.database(pair.source, "drain", DRAIN_TABLE)
    pair.database(pair.target, "empty", DRAIN_TABLE)
    contest = Contest(pair, "drain", ("drain",), rounds, (TEXT,))
    contest.prepare("empty")
    target = f"{{url: '{kafka.url()}', partitions: {PARTITIONS}}}"
    config = _config(pair, PUBLISHER, f"{{url: '{pair.source.url('drain')}'}}", target, braced=True)
    pairs.cdcflow(config, "run", "--until-caught-up").finish()
    with pair.connect(pair.source, "drain") as source:
        changes = drain_backlog(source, rows)
        expected = fingerprint(source, "drain")
    pairs.cdcflow(config, "run", "--until-caught-up").finish()
    with pair.connect(pair.source, "drain") as source:
        source.execute("select pg_drop_replication_slot(%s)", (f"cdcflow_{PUBLISHER}",))
    filled = Filled(pair, kafka, changes, _end(kafka, f"{PUBLISHER}.public.drain"), expected)
    print(f"{changes:,} row changes are in {PARTITIONS} partitions", flush=True)
    pair.warm()
    applied: list[Applied] = []
    yard: list[Run] = []
    with contest.drained(changes) as lap:
        for number in range(rounds):
            steps = [partial(filled.apply, each) for each in counts]
            if number % 2 == 0:
                yard.append(lap(TEXT, number))
            for step in steps if number % 2 == 0 else steps[::-1]:
                pair.settle()
                applied.append(step(number))
            if number % 2:
                yard.append(lap(TEXT, number))
    return applied, yard


def _end(kafka: Kafka, topic: str) -> int:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "ends", "isolation.level": "read_committed"})
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, each), timeout=30) for each in range(PARTITIONS)]
    consumer.close()
    return sum(end for _, end in ends)


def _config(pair: Pair, name: str, source: str, target: str, *, braced: bool = False) -> Path:
    path = pair.scratch / f"{name}.yaml"
    path.touch(mode=0o600)
    target = target if braced else f"{{url: '{target}'}}"
    path.write_text(f'pipeline: {name}\nsource: {source}\ntarget: {target}\ntables:\n  - match: "public.*"\n')
    return path


def _report(applied: list[Applied], yard: list[Run], counts: list[int]) -> dict[str, object]:
    """Print medians and ratios, and return them with every run for the results file."""
    yardstick = pairs.median([run.rate for run in yard])
    rows: list[list[object]] = [[f"yardstick: {TEXT}", f"{yardstick:,.0f}", 1.0, "", "", "", ""]]
    ratios: dict[str, float] = {}
    for count in counts:
        own = sorted((each for each in applied if each.instances == count), key=lambda each: each.round)
        ratio = pairs.median([a.rate / b.rate for a, b in zip(own, yard, strict=True)])
        ratios[str(count)] = ratio
        rows.append(
            [
                *(f"cdcflow, instances: {count}", f"{pairs.median([each.rate for each in own]):,.0f}", ratio),
                f"{max(each.peak_rss_mb for each in own):.0f}",
                pairs.median([each.cpu_seconds for each in own]),
                pairs.median([each.target_cpu_seconds for each in own]),
                pairs.median([each.broker_cpu_seconds for each in own]),
            ]
        )
    print()
    pairs.table(["contender", "rows/s", "x yardstick", "RSS MB", "CPU s", "target CPU s", "broker CPU s"], rows)
    best, peak = max(ratios.values()), max(each.peak_rss_mb for each in applied)
    print(f"{best:.2f} of the yardstick, {LEAST} was asked for: {'reached' if best >= LEAST else 'NOT reached'}")
    print(f"peak RSS {peak:.0f} MB, the limit is {LIMIT_MB} MB: {'kept' if peak <= LIMIT_MB else 'NOT kept'}")
    return {
        "ratios": ratios,
        "least": LEAST,
        "yardstick_rows_per_second": yardstick,
        "median_rows_per_second": {
            str(count): pairs.median([each.rate for each in applied if each.instances == count]) for count in counts
        },
        "peak_rss_mb": peak,
        "runs": [
            *[{**asdict(each), "rows_per_second": each.rate} for each in applied],
            *[{**asdict(run), "rows_per_second": run.rate} for run in yard],
        ],
    }


if __name__ == "__main__":
    main()
