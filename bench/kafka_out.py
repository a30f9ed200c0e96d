"""How fast a backlog goes out to Kafka: `python -m bench.kafka_out`.

The backlog of `bench.drain` (1,000,000 inserts, 500,000 updates, 100,000 deletes on a table of ten columns) goes out
as JSON and as Avro to one broker of this machine, exactly once. Beside it, in the same rounds: PostgreSQL 18's own
subscription, the yardstick of the machine, and a bare loop of `produce()` over messages of the same sizes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from bench import pair as pairs
from bench.contest import TEXT, Contest, Run, watch
from bench.pair import CpuMeter, Pair, arguments, backend_cpu, keep, servers
from bench.workload import DRAIN_TABLE, drain_backlog
from tests.servers.kafka_server import Kafka, kafka_processes
from tests.servers.registry_server import SchemaRegistry, registry_process
from tests.servers.runs import OwnProcess

PRODUCER = "bare producer"
# What the yardstick's rate is to be reached by.
LEAST = {"json": 0.75, "avro": 0.5}
LIMIT_MB = 256
PARTITIONS = 12


@dataclass(frozen=True, slots=True)
class Published:
    """How one format did in one round; `broker_cpu_seconds` of the broker's process."""

    contender: str
    round: int
    rows: int
    messages: int
    message_bytes: float
    seconds: float
    from_command: float
    peak_rss_mb: float
    cpu_seconds: float
    source_cpu_seconds: float
    broker_cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


@dataclass(frozen=True, slots=True)
class Outlet:
    """The broker, the registry, and the source with its backlog."""

    pair: Pair
    kafka: Kafka
    registry: SchemaRegistry | None

    def name(self, kind: str, number: int) -> str:
        return f"out_{kind}{number}"

    def prepare(self, kinds: tuple[str, ...], rounds: int) -> None:
        """Make every pipeline's slot and topics while the table is empty."""
        for number in range(rounds):
            for kind in kinds:
                pairs.cdcflow(self._config(kind, number), "run", "--until-caught-up").finish()

    def publish(self, kind: str, number: int, rows: int, end: str) -> Published:
        """Let one pipeline publish the backlog, and count what is in its topic."""
        name = self.name(kind, number)
        meter, broker = CpuMeter(self.pair.source), self._broker_cpu()
        tool = pairs.cdcflow(self.pair.scratch / f"{name}.yaml", "run", "--until-caught-up")
        with self.pair.connect(self.pair.source, "drain") as source:
            active, done = watch(source, f"cdcflow_{name}", end, tool, (meter, meter))
            tool.finish()
            source.execute("select pg_drop_replication_slot(%s)", (f"cdcflow_{name}",))
        used = self._broker_cpu() - broker
        topic = f"{name}.public.drain"
        counted = self._read(topic)
        # A delete has its tombstone.
        if counted.messages != rows + counted.tombstones:
            raise RuntimeError(f"{kind}: {counted} in {topic}, and {rows} row changes")
        found = Published(
            *(kind, number, rows, counted.messages, counted.nbytes / counted.messages),
            *(done - active, done - tool.began, tool.peak_rss / 1e6, tool.cpu_seconds, meter.seconds, used),
        )
        print(
            f"round {number + 1}: {kind}: {found.seconds:.2f} s, {found.rate:,.0f} rows/s,"
            f" {found.message_bytes:.0f} bytes a message, peak RSS {found.peak_rss_mb:.0f} MB",
            flush=True,
        )
        return found

    def bare(self, number: int, rows: int, nbytes: float) -> Published:
        """Produce messages of the given size in a loop: as many as the backlog has rows, in transactions."""
        topic = self.kafka.create_topic(f"bare{number}", PARTITIONS)
        broker = self._broker_cpu()
        # Half of it alike from message to message, as columns are; the rest is not.
        half = int(nbytes) // 2
        values = [(f"{n:09d}" * (half // 9 + 1))[:half].encode() + b"x" * half for n in range(10_000)]
        keys = [f'{{"id":{n}}}'.encode() for n in range(10_000)]
        producer = Producer(
            {
                "bootstrap.servers": self.kafka.bootstrap,
                "transactional.id": f"bare{number}",
                "compression.type": "lz4",
                "linger.ms": 5,
                "queue.buffering.max.kbytes": 32 * 1024,
                "log_level": 0,
            }
        )
        producer.init_transactions(30)
        began, used = time.perf_counter(), time.process_time()
        for first in range(0, rows, 50_000):
            producer.begin_transaction()
            for n in range(first, min(rows, first + 50_000)):
                place = n % 10_000
                while True:
                    try:
                        producer.produce(topic, values[place], keys[place], n % PARTITIONS)
                        break
                    except BufferError:
                        producer.poll(0.002)
            producer.commit_transaction()
        seconds = time.perf_counter() - began
        found = Published(
            *(PRODUCER, number, rows, rows, nbytes, seconds, seconds, 0.0),
            *(time.process_time() - used, 0.0, self._broker_cpu() - broker),
        )
        self.kafka.delete_topic(topic)
        print(f"round {number + 1}: {PRODUCER}: {seconds:.2f} s, {found.rate:,.0f} messages/s", flush=True)
        return found

    def _config(self, kind: str, number: int) -> Path:
        name = self.name(kind, number)
        path = self.pair.scratch / f"{name}.yaml"
        path.touch(mode=0o600)
        registry = f", registry: {{url: '{self.registry.url}'}}" if kind != "json" and self.registry else ""
        path.write_text(
            f"pipeline: {name}\n"
            f"source: {{url: '{self.pair.source.url('drain')}'}}\n"
            f"target: {{url: '{self.kafka.url()}', format: {kind}, partitions: {PARTITIONS}{registry}}}\n"
            'tables:\n  - match: "public.*"\n'
        )
        return path

    def _broker_cpu(self) -> float:
        return sum(backend_cpu(each.runs.pid) for each in self.kafka.brokers if isinstance(each.runs, OwnProcess))

    def _read(self, topic: str) -> Counted:
        settings: dict[str, Any] = {
            "bootstrap.servers": self.kafka.bootstrap,
            "group.id": "count",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
        consumer = Consumer(settings)
        consumer.assign([TopicPartition(topic, each, 0) for each in range(PARTITIONS)])
        left, messages, tombstones, nbytes = PARTITIONS, 0, 0, 0
        while left:
            for message in consumer.consume(10_000, 0.5):
                error = message.error()
                if error is None:
                    value = message.value()
                    messages += 1
                    tombstones += value is None
                    nbytes += len(value or b"") + len(message.key() or b"")
                elif error.code() == KafkaError._PARTITION_EOF:
                    left -= 1
                else:
                    raise RuntimeError(str(error))
        consumer.close()
        return Counted(messages, tombstones, nbytes)


@dataclass(frozen=True, slots=True)
class Counted:
    messages: int
    tombstones: int
    nbytes: int


@contextmanager
def _outlet(pair: Pair, kinds: tuple[str, ...]) -> Iterator[Outlet]:
    kafka, _ = kafka_processes(pair.scratch / "kafka", jvm=pairs.BROKER_JVM)
    registry: SchemaRegistry | None = None
    try:
        kafka.start()
        if kinds != ("json",):
            registry, _ = registry_process(pair.scratch / "registry")
            registry.start()
        yield Outlet(pair, kafka, registry)
    finally:
        if registry is not None:
            registry.remove()
        kafka.remove()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows inserted; 1.6 row changes each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--formats", default="json,avro")
    args = parser.parse_args()
    kinds = tuple(args.formats.split(","))
    with servers() as pair, _outlet(pair, kinds) as outlet:
        pair.database(pair.source, "drain", DRAIN_TABLE)
        pair.database(pair.target, "empty", DRAIN_TABLE)
        contest = Contest(pair, "drain", ("drain",), args.rounds, (TEXT,))
        contest.prepare("empty")
        outlet.prepare(kinds, args.rounds)
        with pair.connect(pair.source, "drain") as source:
            changes = drain_backlog(source, args.rows)
        print(f"backlog: {changes:,} row changes", flush=True)
        published: list[Published] = []
        yard: list[Run] = []
        pair.warm()
        with contest.drained(changes) as lap:
            with pair.connect(pair.source, "drain") as source:
                row = source.execute("select pg_current_wal_flush_lsn()::text").fetchone()
                assert row is not None
            for number in range(args.rounds):
                steps: list[str] = [*kinds, TEXT, PRODUCER]
                for step in steps if number % 2 == 0 else steps[::-1]:
                    if step == TEXT:
                        yard.append(lap(TEXT, number))
                    elif step == PRODUCER:
                        published.append(outlet.bare(number, changes, _size(published, kinds[0])))
                    else:
                        published.append(outlet.publish(step, number, changes, row[0]))
        keep("kafka_out", {"row_changes": changes, **_report(published, yard, kinds)}, args)


def _size(published: list[Published], kind: str) -> float:
    return next((each.message_bytes for each in published if each.contender == kind), 500.0)


def _report(published: list[Published], yard: list[Run], kinds: tuple[str, ...]) -> dict[str, object]:
    yardstick = pairs.median([run.rate for run in yard])
    rows: list[list[object]] = [[f"yardstick: {TEXT}", f"{yardstick:,.0f}", 1.0, "", "", "", ""]]
    ratios: dict[str, float] = {}
    for name in (*kinds, PRODUCER):
        own = [each for each in published if each.contender == name]
        rate = pairs.median([each.rate for each in own])
        ratios[name] = pairs.median([a.rate / b.rate for a, b in zip(own, yard, strict=True)])
        rows.append(
            [
                name if name == PRODUCER else f"cdcflow, {name}",
                f"{rate:,.0f}",
                ratios[name],
                f"{pairs.median([each.message_bytes for each in own]):.0f}",
                f"{max(each.peak_rss_mb for each in own):.0f}",
                pairs.median([each.cpu_seconds for each in own]),
                pairs.median([each.broker_cpu_seconds for each in own]),
            ]
        )
    print()
    pairs.table(["contender", "rows/s", "x yardstick", "bytes", "RSS MB", "CPU s", "broker CPU s"], rows)
    ours = [each for each in published if each.contender != PRODUCER]
    peak = max(each.peak_rss_mb for each in ours)
    for kind in kinds:
        least = LEAST.get(kind, 0.0)
        word = "reached" if ratios[kind] >= least else "NOT reached"
        print(f"{kind}: {ratios[kind]:.2f} of the yardstick, {least} was asked for: {word}")
    print(f"peak RSS {peak:.0f} MB, the limit is {LIMIT_MB} MB: {'kept' if peak <= LIMIT_MB else 'NOT kept'}")
    return {
        "ratios": ratios,
        "least": LEAST,
        "yardstick_rows_per_second": yardstick,
        "median_rows_per_second": {
            name: pairs.median([each.rate for each in published if each.contender == name])
            for name in (*kinds, PRODUCER)
        },
        "peak_rss_mb": peak,
        "runs": [
            *[{**asdict(each), "rows_per_second": each.rate} for each in published],
            *[{**asdict(run), "rows_per_second": run.rate} for run in yard],
        ],
    }


if __name__ == "__main__":
    main()
