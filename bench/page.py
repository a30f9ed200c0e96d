"""Writes the tables of docs/performance.md from bench/results: `python -m bench.page`."""

from __future__ import annotations

import json
from typing import Any

from bench.pair import RESULTS, ROOT, median

PAGE = ROOT / "docs" / "performance.md"

_HEAD = """# Speed and memory

Made from `bench/results/*.json` by `python -m bench.page`. `make bench` measures everything anew (about an hour, with
MySQL in the tests' cache);
`python -m bench drain` one of them; every bench takes smaller sizes for a quick look (`python -m bench.drain --help`).

All contenders run on one machine, in one run, in alternating order, with all servers beside them (TCP loopback, durable
commits, 1 GB of buffers each): PostgreSQL 18, and MySQL 9.7 where it says so. Machines differ by half and drift within
the hour, so **only the ratios mean something elsewhere**. Every run ends with a comparison of the target with the
source.
"""

# Rows/s of Debezium's snapshot, and of the yardstick in the same run, on the machine that they were measured on.
_DEBEZIUM, _DEBEZIUM_YARDSTICK = 59_500, 158_000


def main() -> None:
    parts = [_HEAD]
    for name, render in (("drain", _contest), ("tpcb", _contest), ("snapshot", _snapshot), ("latency", _latency)):
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts += render(name, json.loads(path.read_text()))
    path = RESULTS / "memory.json"
    if path.exists():
        parts += _memory(json.loads(path.read_text()))
    mysql = (("binlog_decode", _binlog_decode), ("mysql_drain", _mysql_drain), ("mysql_snapshot", _mysql_snapshot))
    for name, render in mysql:
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts += render(json.loads(path.read_text()))
    for name, render in (("kafka_out", _kafka_out), ("kafka_in", _kafka_in), ("rabbit", _rabbit)):
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts += render(json.loads(path.read_text()))
    PAGE.write_text("\n".join(parts))
    print(f"wrote {PAGE.relative_to(ROOT)}")


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return (
        f"{result['at'][:10]}, {machine['cores']} cores ({machine['cpu']}), {machine['memory_gb']} GB, "
        f"Python {machine['python']}, commit {machine['commit']}.\n"
    )


def _contest(name: str, result: dict[str, Any]) -> list[str]:
    title = {
        "drain": "a backlog of inserts, updates and deletes in small transactions",
        "tpcb": "a backlog of pgbench's own transactions",
    }[name]
    lines = [f"\n## {name}: {title}\n", _machine(result)]
    lines += ["| contender | rows/s, median | seconds of each run | cdcflow is faster |", "| --- | --- | --- | --- |"]
    for contender, rate in result["median_rows_per_second"].items():
        seconds = " ".join(f"{run['seconds']:.1f}" for run in result["runs"] if run["contender"] == contender)
        ratio = result["ratios"].get(contender)
        faster = f"**{ratio['median']:.2f}x** ({_span(ratio['of_pairs'])})" if ratio else ""
        lines.append(f"| {contender} | {rate:,.0f} | {seconds} | {faster} |")
    lines.append(f"\n{result['row_changes']:,} row changes. Peak RSS of cdcflow: {result['peak_rss_mb']:.0f} MB.\n")
    return lines


def _snapshot(name: str, result: dict[str, Any]) -> list[str]:
    lines = ["\n## snapshot: the initial copy\n", _machine(result)]
    lines += [
        "| contender | workers | rows/s, median | to COPY \\| COPY | peak RSS, MB |",
        "| --- | --- | --- | --- | --- |",
    ]
    seen = sorted({(run["workers"], run["contender"]) for run in result["runs"]}, key=lambda one: (one[0], one[1]))
    for workers, contender in seen:
        own = [run for run in result["runs"] if (run["workers"], run["contender"]) == (workers, contender)]
        ratio = result["ratios"].get(f"{workers} workers") if contender == "cdcflow" else None
        rss = max(run["peak_rss_mb"] for run in own)
        rate = median([run["rows_per_second"] for run in own])
        lines.append(
            f"| {contender.replace('|', chr(92) + '|')} | {workers} | {rate:,.0f} "
            f"| {f'**{ratio:.2f}x**' if ratio else ''} | {f'{rss:.0f}' if rss else ''} |"
        )
    lines.append(f"\n{result['arguments']['rows']:,} rows of ten columns.\n")
    return lines


def _latency(name: str, result: dict[str, Any]) -> list[str]:
    lines = ["\n## latency: commit at the source to visible at the target\n", _machine(result)]
    lines += ["| load | contender | p50, ms | p90, ms | p99, ms | max, ms |", "| --- | --- | --- | --- | --- | --- |"]
    for rate, contender in sorted({(run["rate"], run["contender"]) for run in result["runs"]}):
        own = [run for run in result["runs"] if (run["rate"], run["contender"]) == (rate, contender)]
        figures = [median([run[figure] for run in own]) for figure in ("p50_ms", "p90_ms", "p99_ms", "max_ms")]
        lines.append(f"| {rate} tx/s | {contender} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |")
    lines.append("\nMedians over the rounds; one insert a transaction.\n")
    return lines


def _memory(result: dict[str, Any]) -> list[str]:
    big = result["transaction"]
    return [
        "\n## memory and idling\n",
        _machine(result),
        f"One transaction of {result['arguments']['rows']:,} rows: peak RSS **{big['peak_rss_mb']:.0f} MB** "
        f"(limit {result['limit_mb']}), {big['seconds']:.1f} s. "
        f"Idle: **{result['idle_cpu_percent']:.2f} %** of one CPU.\n",
    ]


def _binlog_decode(result: dict[str, Any]) -> list[str]:
    lines = [
        "\n## MySQL, decoding: rows of a recorded binary log\n",
        _machine(result),
        "Both read the same packets of a real server's log from memory: no socket, no target. mysql-replication is\n"
        "Python's usual library.\n",
        "| decoder | rows/s, median | rows/s of each run |",
        "| --- | --- | --- |",
    ]
    for contender, rate in result["median_rows_per_second"].items():
        each = " ".join(f"{run['rows_per_second']:,.0f}" for run in result["runs"] if run["contender"] == contender)
        lines.append(f"| {contender} | {rate:,.0f} | {each} |")
    (ratio,) = result["ratios"].values()
    lines.append(
        f"\n{result['row_changes']:,} rows of {result['columns']} mixed columns, {result['codecs']} codecs:"
        f" **{ratio['median']:.0f}x** ({_span(ratio['of_pairs'])}); {result['asked']} was asked for,"
        f" {result['aimed_at']} aimed at.\n"
    )
    return lines


def _mysql_drain(result: dict[str, Any]) -> list[str]:
    lines = [
        "\n## MySQL, drain: the same backlog in a binary log\n",
        _machine(result),
        "The yardstick is PostgreSQL's own subscription on the backlog in PostgreSQL. The replica is a second MySQL\n"
        "that reads the very same log, with its own defaults (four applying threads).\n",
        "| contender | rows/s, median | seconds of each run | peak RSS, MB |",
        "| --- | --- | --- | --- |",
    ]
    for contender, rate in result["median_rows_per_second"].items():
        own = [run for run in result["runs"] if run["contender"] == contender]
        seconds = " ".join(f"{run['seconds']:.1f}" for run in own)
        rss = max(run["peak_rss_mb"] for run in own)
        lines.append(f"| {contender} | {rate:,.0f} | {seconds} | {f'{rss:.0f}' if rss else ''} |")
    lines.append("")
    lines += [
        f"- {name}: **{ratio['median']:.2f}x** ({_span(ratio['of_pairs'])})" for name, ratio in result["ratios"].items()
    ]
    lines.append(f"\n{result['row_changes']:,} row changes, {result['mysql']}.\n")
    return lines + _who(result["runs"])


def _mysql_snapshot(result: dict[str, Any]) -> list[str]:
    lines = [
        "\n## MySQL, snapshot: the initial copy into PostgreSQL\n",
        _machine(result),
        "| contender | rows/s, median | seconds of each run | peak RSS, MB |",
        "| --- | --- | --- | --- |",
    ]
    for contender in dict.fromkeys(run["contender"] for run in result["runs"]):
        own = [run for run in result["runs"] if run["contender"] == contender]
        rss = max(run["peak_rss_mb"] for run in own)
        seconds = " ".join(f"{run['seconds']:.1f}" for run in own)
        lines.append(
            f"| {contender} | {median([run['rows_per_second'] for run in own]):,.0f} "
            f"| {seconds} | {f'{rss:.0f}' if rss else ''} |"
        )
    ratio = result["ratios"]["snapshot / yardstick"]
    debezium = _DEBEZIUM / _DEBEZIUM_YARDSTICK
    lines.append(
        f"\n{result['arguments']['rows']:,} rows of ten columns, {result['arguments']['workers']} workers: "
        f"**{ratio['median']:.2f}x** the yardstick ({_span(ratio['of_pairs'])}).\n"
        f"Debezium 3.6 copied {_DEBEZIUM:,} rows/s of MySQL 9.7 on a machine where the yardstick was"
        f" {_DEBEZIUM_YARDSTICK:,}:\n{debezium:.2f}x."
        f" Measured by the yardstick, cdcflow is **{ratio['median'] / debezium:.1f} times** as fast.\n"
    )
    return lines + _who(result["runs"])


def _kafka_out(result: dict[str, Any]) -> list[str]:
    lines = [
        "\n## Kafka, out: the same backlog published exactly once\n",
        _machine(result),
        "One broker on the same machine, 12 partitions, lz4, Debezium's envelope. The yardstick is PostgreSQL's own\n"
        "subscription on the same backlog; the bare producer sends as many ready-made messages of the same size.\n",
        "| contender | rows/s, median | to the yardstick | bytes a message | peak RSS, MB |",
        "| --- | --- | --- | --- | --- |",
        f"| subscription | {result['yardstick_rows_per_second']:,.0f} | 1 | | |",
    ]
    for contender, rate in result["median_rows_per_second"].items():
        own = [run for run in result["runs"] if run["contender"] == contender]
        rss = max(run["peak_rss_mb"] for run in own)
        ratio, nbytes = result["ratios"][contender], median([run["message_bytes"] for run in own])
        name = f"cdcflow, {contender}" if rss else contender
        lines.append(f"| {name} | {rate:,.0f} | **{ratio:.2f}x** | {nbytes:.0f} | {f'{rss:.0f}' if rss else ''} |")
    lines.append(f"\n{result['row_changes']:,} row changes.\n")
    return lines


def _kafka_in(result: dict[str, Any]) -> list[str]:
    lines = [
        "\n## Kafka, in: a filled topic applied exactly once\n",
        _machine(result),
        "One topic of 12 partitions, as cdcflow publishes it (JSON in Debezium's envelope), applied to PostgreSQL by\n"
        "one, two and four instances of one pipeline. The yardstick is PostgreSQL's own subscription on the same\n"
        "backlog.\n",
        "| instances | rows/s together, median | to the yardstick | peak RSS of one, MB |",
        "| --- | --- | --- | --- |",
        f"| subscription | {result['yardstick_rows_per_second']:,.0f} | 1 | |",
    ]
    for count, rate in result["median_rows_per_second"].items():
        own = [run for run in result["runs"] if str(run.get("instances", "")) == count]
        peak = max(run["peak_rss_mb"] for run in own)
        lines.append(f"| {count} | {rate:,.0f} | **{result['ratios'][count]:.2f}x** | {peak:.0f} |")
    lines.append(f"\n{result['row_changes']:,} row changes.\n")
    return lines


def _rabbit(result: dict[str, Any]) -> list[str]:
    lines = [
        "\n## RabbitMQ: out with confirms, and into PostgreSQL\n",
        _machine(result),
        f"{result['rows']:,} inserts as JSON in Debezium's envelope, one broker (schedulers:"
        f" {result['schedulers']}), one partition; the machine's load before was {result['load_before']:.0f}. The"
        " applier's rate has its start and end in it. CPU is microseconds an event.\n",
        "| to | published, events/s | CPU of publisher | broker | applied, events/s | CPU of applier | peak RSS, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, one in result["kinds"].items():
        lines.append(
            f"| {kind} | {one['published_per_second']:,.0f} | {one['publisher_cpu_us']:.1f}"
            f" | {one['broker_cpu_us']:.1f} | {one['applied_per_second']:,.0f} | {one['applier_cpu_us']:.1f}"
            f" | {one['applier_peak_mb']:.0f} |"
        )
    return [*lines, ""]


def _who(runs: list[dict[str, Any]]) -> list[str]:
    """Say who used the processor in the median run of each contender of ours."""
    lines = ["| CPU seconds | source server | target server | cdcflow's threads |", "| --- | --- | --- | --- |"]
    for contender in dict.fromkeys(run["contender"] for run in runs if run.get("threads")):
        own = sorted((run for run in runs if run["contender"] == contender), key=lambda run: float(run["seconds"]))
        run = own[len(own) // 2]
        threads = " + ".join(f"{one['cpu_seconds']:.1f}" for one in run["threads"])
        lines.append(f"| {contender} | {run['source_cpu_seconds']:.1f} | {run['target_cpu_seconds']:.1f} | {threads} |")
    return [*lines, ""] if len(lines) > 2 else []


def _span(values: list[float]) -> str:
    return f"{min(values):.2f}-{max(values):.2f}"


if __name__ == "__main__":
    main()
