"""The command `read`: what the source sends, as JSON lines."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from cdcflow.cli.options import Settings, common
from cdcflow.cli.pipeline import until_caught_up

if TYPE_CHECKING:
    from cdcflow.events import Event


@click.command()
@click.option("--table", "tables", multiple=True, metavar="GLOB", help="Only these tables; may be given again.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@until_caught_up
@common
def read(settings: Settings, tables: tuple[str, ...], limit: int | None, until_caught_up: bool) -> int:
    """Print changes as JSON lines, from now on; write nothing.

    Reads beside the pipeline, as a reader of its own that leaves nothing behind at the server: no
    position moves, and the pipeline may run or not. The tables and columns are those that the rules
    keep, under their names at the source.

    A column that is missing from "after" was not changed and the source did not send it; "unchanged"
    names it. Values without an exact JSON form are text.

    \b
    Example:
      cdcflow read
      cdcflow read --table 'public.order*' --limit 10
      cdcflow read | jq 'select(.op == "delete")'
    """
    import orjson

    from cdcflow import config
    from cdcflow.cli.stopping import until_done
    from cdcflow.events import read_as

    out = sys.stdout.buffer

    def work(stop: threading.Event) -> None:
        events = read_as(config.load(_path(settings)), tables, until_caught_up=until_caught_up, stop=stop)
        for number, event in enumerate(events, 1):
            out.write(orjson.dumps(as_json(event), option=orjson.OPT_APPEND_NEWLINE))
            out.flush()
            if number == limit:
                events.close()
                return

    until_done(work)
    return 0


def _path(settings: Settings) -> Any:
    from pathlib import Path

    return Path(settings.config)


def as_json(event: Event) -> dict[str, object]:
    """Return one event as it is printed."""
    from cdcflow.codecs.values import plain

    line: dict[str, object] = {"table": event.table, "op": event.op}
    if event.key:
        line["key"] = plain(dict(event.key))
    if event.op != "truncate":
        line["before"] = None if event.before is None else plain(dict(event.before))
        line["after"] = None if event.after is None else plain(dict(event.after))
    if event.unchanged:
        line["unchanged"] = list(event.unchanged)
    line["position"] = event.position or None
    line["commit_time"] = event.commit_time.isoformat() if event.commit_time else None
    return line
