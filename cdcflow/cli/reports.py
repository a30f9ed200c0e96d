"""Commands that look and change nothing: check, status, version."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from cdcflow.cli.options import Settings, as_json, common, common_without_logs

if TYPE_CHECKING:
    from rich.console import Console

    from cdcflow.model.check import Finding

LEVEL_STYLES: Final = {"ok": "green", "note": "cyan", "warning": "yellow", "blocker": "bold red"}
STATE_STYLES: Final = {"live": "green", "failed": "bold red", "pending": "dim"}


@click.command()
@common
@as_json
def check(settings: Settings, as_json: bool) -> int:
    """Say what is missing before `run` finds out.

    Looks at both servers and every table that the rules name: settings, privileges, versions, keys,
    whether the log tells all that happens to a table. Each thing that is not right comes with the
    statement that mends it. Changes nothing. Ends with 3 if something would stop `run`.

    \b
    Example:
      cdcflow check
      cdcflow check --json | jq '.findings[] | select(.level == "blocker")'
    """
    from cdcflow import Pipeline

    with Pipeline.from_file(settings.config) as pipeline:
        findings = pipeline.check()
    blockers = sum(finding.level == "blocker" for finding in findings)
    if as_json:
        print_json(
            {
                "ok": not blockers,
                "blockers": blockers,
                "findings": [
                    {
                        "level": str(finding.level),
                        "name": finding.name,
                        "subject": finding.subject,
                        "found": finding.found,
                        "do": finding.do,
                    }
                    for finding in findings
                ],
            }
        )
    else:
        print_findings(findings)
    return 3 if blockers else 0


def print_findings(findings: Sequence[Finding]) -> None:
    """Print the report of `check`: what blocks first, `do:` under each line, what is fine last."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    order = list(LEVEL_STYLES)
    ranked = sorted(findings, key=lambda finding: -order.index(finding.level))
    width = max((len(finding.subject) for finding in ranked), default=0)
    for finding in ranked:
        line = Text(f"{finding.level:<8}", style=LEVEL_STYLES[finding.level])
        line.append(f"  {finding.name.partition('.')[0]:<6}", style="cyan")
        line.append(f"  {finding.subject:<{min(width, 40)}}", style="bold")
        line.append(f"  {finding.found}", style="default")
        console.print(line)
        for number, words in enumerate(finding.do.splitlines()):
            console.print(Text(f"{'':18}{'do: ' if number == 0 else '    '}{words}", style="bold"))
    counts = {level: sum(finding.level == level for finding in findings) for level in reversed(order)}
    said = [f"{count} {level}{'s' if count > 1 and level != 'ok' else ''}" for level, count in counts.items() if count]
    console.print()
    console.print(", ".join(said) or "nothing to look at")
    if not counts["blocker"]:
        console.print("nothing blocks: cdcflow run")


@click.command()
@common
@as_json
def status(settings: Settings, as_json: bool) -> int:
    """Show where the pipeline and each of its tables are.

    Reads what the pipeline recorded and asks the source for its log's end, so it works while the
    pipeline runs, on this machine or another, and when it does not.

    \b
    Example:
      cdcflow status
      watch -n 2 cdcflow status
      cdcflow status --json | jq .lag_bytes
    """
    from cdcflow import Pipeline

    with Pipeline.from_file(settings.config) as pipeline:
        found = pipeline.status()
    if as_json:
        print_json(found)
    else:
        print_status(found)
    return 0


def print_status(found: dict[str, Any]) -> None:
    """Print the pipeline's line and a table of its tables."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for line in status_lines(found):
        console.print(Text.assemble(*line), soft_wrap=True)
    if found.get("shares"):
        console.print()
        print_shares(console, found["shares"])
    tables = found.get("tables") or []
    if not tables:
        return
    console.print()
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("source", "target", "state"):
        grid.add_column(name, overflow="fold")
    grid.add_column("copied rows", justify="right")
    for table in tables:
        state = str(table["state"])
        grid.add_row(
            str(table["source"]),
            str(table["target"]),
            Text(state.replace("_", " "), style=STATE_STYLES.get(state, "yellow")),
            f"{table['rows']:,}",
        )
    console.print(grid)
    for table in tables:
        if table.get("reason"):
            console.print()
            console.print(Text.assemble((f"{table['source']}: ", "bold red"), str(table["reason"])), soft_wrap=True)
            if table.get("hint"):
                console.print(Text(f"  do: {table['hint']}", style="bold"), soft_wrap=True)


def print_shares(console: Console, shares: Sequence[dict[str, Any]]) -> None:
    """Print what each share of a bus is at, and which instance had it last."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("share", "instance"):
        grid.add_column(name, overflow="fold")
    for name in ("read", "waiting"):
        grid.add_column(name, justify="right")
    for share in shares:
        owner = share["owner"]
        instance = f"{owner.get('host', '')}, process {owner.get('process', '')}" if owner else ""
        waiting = f"{share['waiting']:,}" if "waiting" in share else "unknown"
        grid.add_row(str(share["share"]), instance, f"{share['place']:,}", waiting)
    console.print(grid)


def status_lines(found: dict[str, Any]) -> list[list[str | tuple[str, str]]]:
    """Return the lines above the table: pipeline, position, lag, retained log."""
    from cdcflow.cli.tally import human_bytes

    lines: list[list[str | tuple[str, str]]] = []

    def add(label: str, text: object, style: str = "") -> None:
        lines.append([(f"{label:<10}", "cyan"), (str(text), style)])

    add("pipeline", found["pipeline"], "bold")
    add("source", found["source"])
    add("target", found["target"])
    running = found.get("running")
    if running is not None:
        add("running", "yes" if running else "no", "green" if running else "yellow")
    shares = found.get("shares")
    if shares is None:
        add("position", found.get("position") or "none yet: nothing was copied")
    else:
        read = sum(share["place"] for share in shares)
        add("position", f"{read:,} messages in {len(shares)} shares" if shares else "none yet: nothing was read")
        if any("waiting" in share for share in shares):
            add("lag", f"{sum(share.get('waiting', 0) for share in shares):,} messages")
    if found.get("source_error"):
        add("source", found["source_error"], "yellow")
    if found.get("lag_bytes") is not None:
        add("lag", human_bytes(found["lag_bytes"]))
    if found.get("retained_bytes") is not None:
        add("retained", f"{human_bytes(found['retained_bytes'])} of log kept at the source")
    if found.get("updated_at"):
        add("updated", found["updated_at"])
    return lines


@click.command()
@common_without_logs
@as_json
def version(settings: Settings, as_json: bool) -> int:
    """Show the versions in use, and whether the compiled modules are.

    The hot modules come compiled, and fall back to plain Python, which is many times slower, where
    no compiled form fits. CDCFLOW_CODECS=compiled makes their absence an error.
    """
    del settings
    found = versions()
    if as_json:
        print_json(found)
        return 0
    print(f"cdcflow  {found['cdcflow']}")
    for name in ("python", "psycopg", "libpq"):
        print(f"{name:<8} {found[name]}")
    modules: dict[str, str] = found["codecs"]
    width = max(map(len, modules), default=0)
    for name, form in modules.items():
        print(f"{name:<{width}}  {form}")
    return 0


def versions() -> dict[str, Any]:
    """Return what `version` prints."""
    import platform

    import psycopg
    from psycopg import pq

    from cdcflow import __version__
    from cdcflow.codecs.loading import loaded

    number = pq.version()
    return {
        "cdcflow": __version__,
        "python": platform.python_version(),
        "psycopg": f"{psycopg.__version__} ({pq.__impl__})",
        "libpq": f"{number // 10000}.{number % 10000}",
        "codecs": dict(loaded()),
    }


def print_json(content: object) -> None:
    """Print a report as indented JSON on stdout."""
    json.dump(content, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")
