"""All benches one after the other: `python -m bench`, or some by name: `python -m bench drain latency`."""

from __future__ import annotations

import sys
from importlib import import_module

from cdcflow.errors import UsageError

NAMES = (
    *("drain", "tpcb", "snapshot", "latency", "memory"),
    *("binlog_decode", "mysql_drain", "mysql_snapshot", "kafka_out", "kafka_in", "rabbit"),
)


def main() -> int:
    names = sys.argv[1:] or list(NAMES)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no bench {unknown[0]!r}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    failed = []
    for name in names:
        print(f"\n== {name}\n", flush=True)
        sys.argv = [f"bench.{name}"]
        try:
            import_module(f"bench.{name}").main()
        except SystemExit as end:
            if end.code:
                failed.append(f"{name}: {end.code}")
        except UsageError as missing:  # no server at hand
            failed.append(f"{name}: {missing.report()}")
    print("".join(f"\n{line}" for line in failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
