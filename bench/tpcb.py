"""How fast pgbench's own transactions are drained, beside PostgreSQL's subscription: `python -m bench.tpcb`.

200,000 transactions of pgbench (scale 20, history with replica identity full): three updates and one insert each.
"""

from __future__ import annotations

from bench.contest import BINARY, CDCFLOW, TEXT, Contest, report
from bench.pair import Pair, arguments, keep, servers

TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history")
CLIENTS = 4


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--transactions", type=int, default=200_000)
    parser.add_argument("--scale", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    contenders = (CDCFLOW, TEXT, BINARY)
    with servers() as pair:
        pair.database(pair.source, "tpcb")
        pair.source.run("pgbench", "-i", "-q", "-s", str(args.scale), "tpcb")
        with pair.connect(pair.source, "tpcb") as source:
            source.execute("alter table pgbench_history replica identity full")
        _template(pair, args.scale)
        contest = Contest(pair, "tpcb", TABLES, args.pairs, contenders)
        contest.prepare("filled")
        each = args.transactions // CLIENTS
        with pair.connect(pair.source, "tpcb") as source:
            source.execute("alter database tpcb set synchronous_commit = off")
            pair.source.run("pgbench", "-n", "-c", str(CLIENTS), "-j", "2", "-t", str(each), "tpcb")
            source.execute("alter database tpcb reset synchronous_commit")
        rows = each * CLIENTS * 4
        print(f"backlog: {each * CLIENTS:,} transactions, {rows:,} row changes", flush=True)
        result = report(contest.run(rows), contenders)
        keep("tpcb", {"transactions": each * CLIENTS, "row_changes": rows, **result}, args)


def _template(pair: Pair, scale: int) -> None:
    """Fill a target database as pgbench fills the source: its rows depend on nothing but the scale."""
    pair.database(pair.target, "filled")
    pair.target.run("pgbench", "-i", "-q", "-s", str(scale), "filled")
    with pair.connect(pair.target, "filled") as target:
        target.execute("alter table pgbench_history replica identity full")


if __name__ == "__main__":
    main()
