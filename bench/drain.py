"""How fast a backlog is drained, beside PostgreSQL's own subscription: `python -m bench.drain`.

1,000,000 inserts (1,000 a transaction), 500,000 updates and 100,000 deletes (100 a transaction) on a table of ten
columns wait in the log; each contender drains the same log into a fresh target, in alternating pairs.
"""

from __future__ import annotations

from bench.contest import BINARY, CDCFLOW, TEXT, Contest, report
from bench.pair import arguments, keep, servers
from bench.workload import DRAIN_TABLE, drain_backlog


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows inserted; 1.6 row changes each")
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    contenders = (CDCFLOW, TEXT, BINARY)
    with servers() as pair:
        pair.database(pair.source, "drain", DRAIN_TABLE)
        pair.database(pair.target, "empty", DRAIN_TABLE)
        contest = Contest(pair, "drain", ("drain",), args.pairs, contenders)
        contest.prepare("empty")
        with pair.connect(pair.source, "drain") as source:
            changes = drain_backlog(source, args.rows)
        print(f"backlog: {changes:,} row changes", flush=True)
        result = report(contest.run(changes), contenders)
        keep("drain", {"row_changes": changes, **result}, args)


if __name__ == "__main__":
    main()
