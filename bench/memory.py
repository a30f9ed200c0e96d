"""How much memory one huge transaction takes, and how much CPU an idle pipeline: `python -m bench.memory`."""

from __future__ import annotations

import time

from bench import pair as pairs
from bench.pair import Pair, arguments, keep, servers
from bench.workload import DRAIN_TABLE, fill, fingerprint

LIMIT_MB = 256
LIMIT_IDLE_PERCENT = 1.0


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000, help="rows of the one transaction")
    parser.add_argument("--idle-seconds", type=int, default=30)
    args = parser.parse_args()
    with servers() as pair:
        big = _one_transaction(pair, args.rows)
        print(f"one transaction of {args.rows:,} rows: peak RSS {big['peak_rss_mb']:.0f} MB, {big['seconds']:.1f} s")
        idle = _idle(pair, args.idle_seconds)
        print(f"idle for {args.idle_seconds} s: {idle:.2f} % of one CPU")
    keep("memory", {"transaction": big, "limit_mb": LIMIT_MB, "idle_cpu_percent": idle}, args)
    if big["peak_rss_mb"] > LIMIT_MB or idle > LIMIT_IDLE_PERCENT:
        raise SystemExit("above the limit")


def _one_transaction(pair: Pair, rows: int) -> dict[str, float]:
    pair.database(pair.source, "big", DRAIN_TABLE)
    pair.database(pair.target, "big")
    config = pair.config("big", "big", "big")
    pairs.cdcflow(config, "run", "--until-caught-up").finish()
    with pair.connect(pair.source, "big") as source, pair.connect(pair.target, "big") as target:
        fill(source, rows)
        pair.settle()
        tool = pairs.cdcflow(config, "run", "--until-caught-up")
        tool.finish(1800)
        seconds = time.perf_counter() - tool.began
        if fingerprint(source, "drain") != fingerprint(target, "drain"):
            raise RuntimeError("the target differs from the source")
    return {"peak_rss_mb": tool.peak_rss / 1e6, "seconds": seconds, "cpu_seconds": tool.cpu_seconds}


def _idle(pair: Pair, seconds: int) -> float:
    """Return the share of one CPU, in percent, that a pipeline takes when nothing happens at the source."""
    tool = pairs.cdcflow(pair.scratch / "big.yaml", "run")
    with pair.connect(pair.source, "big") as source:
        end = time.monotonic() + 60
        while not source.execute("select 1 from pg_replication_slots where active").fetchone():
            if time.monotonic() > end or tool.poll() is not None:
                raise RuntimeError(f"the stream did not begin:\n{tool.tail()}")
            time.sleep(0.05)
    time.sleep(5)  # what starting up brings: the first heartbeats, the first checkpoint
    before, began = pairs.backend_cpu(tool.process.pid), time.perf_counter()
    time.sleep(seconds)
    used, passed = pairs.backend_cpu(tool.process.pid) - before, time.perf_counter() - began
    tool.stop()
    return 100 * used / passed


if __name__ == "__main__":
    main()
