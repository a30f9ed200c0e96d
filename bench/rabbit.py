"""How fast events go out to RabbitMQ with confirms, and from there into PostgreSQL: `python -m bench.rabbit`.

Events are inserts into the table of `bench.drain` as JSON in Debezium's envelope, in transactions of a thousand. To
quorum queues and to streams, one partition: published by the target's own `apply` until every confirm has come, then
read back by `cdcflow run --until-caught-up`. The seconds of the processor stand beside the rates: on a machine that has
other work they say more.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any

from bench.bus_codecs import ROUTE, frame
from bench.pair import arguments, keep, servers
from cdcflow.bus.rabbitmq import target as targets
from cdcflow.bus.rabbitmq.layout import Kind
from cdcflow.model.change import ChangeBatch, Rows
from cdcflow.model.context import Context
from cdcflow.model.frame import RowBatch
from cdcflow.sources.postgres.position import Lsn
from tests.servers.rabbitmq_server import RabbitMq, RabbitProcess, rabbitmq_process

BATCH = 10_000
TRANSACTION = 1_000


def batches(rows: int) -> list[ChangeBatch]:
    """Return inserts with rising keys in batches of ten transactions."""
    whole = frame(rows)
    sizes = memoryview(whole.after_sizes).cast("i")
    made, at = [], 0
    for start in range(0, rows, BATCH):
        end = min(start + BATCH, rows)
        size = sum(sizes[start:end])
        piece = RowBatch(
            ROUTE,
            whole.names,
            whole.ops[start:end],
            whole.after[at : at + size],
            whole.after_sizes[4 * start : 4 * end],
            b"",
            bytes(4 * (end - start)),
        )
        at += size
        marks = array("q")
        for first in range(start, end, TRANSACTION):
            number = 1000 + first
            marks.extend((min(TRANSACTION, end - first), number, 1_700_000_000_000_000, number))
        order = array("I", [1] * (end - start)).tobytes()
        lsn = Lsn(int(marks[-3]))
        made.append(ChangeBatch([Rows({1: piece}, order)], lsn, len(marks) // 4, marks.tobytes(), rows=end - start))
    return made


def measure(broker: RabbitMq, database: str, kind: Kind, rows: int) -> dict[str, Any]:
    """Publish and apply; return the figures."""
    url, server = broker.url(), broker.runs
    assert isinstance(server, RabbitProcess)
    name = f"bench{time.time_ns()}"
    context = Context(name, 256 << 20, 100_000, 64 << 20)
    made = batches(rows)
    target = targets.open(targets.Config(url=url, queue=kind), context)
    target.begin(name, 1)
    began, cpu, broker_cpu = time.perf_counter(), time.process_time(), server.cpu_seconds()
    for batch in made:
        target.apply(batch)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    broker_cpu = server.cpu_seconds() - broker_cpu
    target.close()
    found: dict[str, Any] = {"published_per_second": rows / seconds, "publisher_cpu_us": cpu / rows * 1e6}
    found |= {"broker_cpu_us": broker_cpu / rows * 1e6, "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "pipeline": f"{name}_in",
            "source": {"url": url, "exchange": name},
            "target": {"url": database},
            "tables": [{"match": "public.*"}],
        }
        (Path(folder) / "cdcflow.yaml").write_text(json.dumps(config))
        command = [sys.executable, "-m", "cdcflow", "run", "--until-caught-up"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, env=os.environ, capture_output=True)
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found |= {"applied_per_second": rows / seconds, "applier_cpu_us": used / rows * 1e6}
        found["applier_peak_mb"] = after.ru_maxrss / 1024
        subprocess.run([*command[:3], "teardown", "--yes"], cwd=folder, check=True, capture_output=True)
    found["publisher_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--schedulers", type=int, default=os.cpu_count() or 1, help="processors that the broker uses")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    found: dict[str, dict[str, float]] = {}
    kinds: tuple[Kind, ...] = ("quorum", "stream")
    with servers() as pair:
        broker, _ = rabbitmq_process(pair.scratch / "rabbitmq", schedulers=args.schedulers, memory="4GB")
        try:
            broker.start()
            for kind in kinds:
                pair.database(pair.target, kind)
                found[kind] = measure(broker, pair.target.url(kind), kind, args.rows)
                print(kind, ", ".join(f"{name} {value:,.1f}" for name, value in found[kind].items()), flush=True)
        finally:
            broker.remove()
    keep("rabbit", {"rows": args.rows, "schedulers": args.schedulers, "load_before": load, "kinds": found}, args)


if __name__ == "__main__":
    main()
