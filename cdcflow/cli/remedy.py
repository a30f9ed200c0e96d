"""Commands that mend or undo: resync, teardown."""

from __future__ import annotations

import sys
from typing import Any

import click

from cdcflow.cli.options import Settings, as_json, common, yes
from cdcflow.cli.pipeline import watched
from cdcflow.errors import UsageError


@click.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--all", "every", is_flag=True, help="Every table, and the log from now on: also after a lost position.")
@common
@yes
@as_json
def resync(settings: Settings, tables: tuple[str, ...], every: bool, yes: bool, as_json: bool) -> int:
    """Copy tables again, from the beginning.

    TABLE is a name at the source, `schema.table`. The tables are emptied in the target, with the
    rows that only it keeps (`on_delete: soft`, `ignore`), copied again and followed until they are
    caught up. Where the pipeline is running, that instance is asked to do
    it while its other tables go on. With --all the log is read from now on too, which is the way out
    when the source no longer holds what the checkpoint needs.

    \b
    Example:
      cdcflow resync public.orders public.order_items
      cdcflow resync --all && cdcflow run
    """
    from cdcflow import Pipeline

    if every == bool(tables):
        raise UsageError(
            "name the tables to copy again, or give --all" if not every else "give table names or --all, not both",
            do="cdcflow resync public.orders    or    cdcflow resync --all",
        )
    with Pipeline.from_file(settings.config) as pipeline:
        if not yes and asks():
            what = f"every table of pipeline {pipeline.name!r}" if every else ", ".join(tables)
            confirm(f"Empty {what} in {pipeline.target_address} and copy again? Rows that only the target keeps go.")
        done = watched(
            settings,
            pipeline,
            lambda pipeline, stop, progress: pipeline.resync(tables, every=every, stop=stop, progress=progress),
            serve=False,  # a running instance has the port, and this one is soon over
        )
    if as_json:
        _print_json({"resync": done})
    else:
        for line in done:
            print(line)
    return 0


@click.command()
@common
@yes
@as_json
def teardown(settings: Settings, yes: bool, as_json: bool) -> int:
    """Drop the pipeline's state and what it keeps at the source; keep the rows.

    The tables in the target stay as they are. Afterwards the pipeline can only begin anew. Do this
    when a pipeline is no longer wanted: at a PostgreSQL source, a slot that nobody reads makes the
    server keep its log until the disk is full.

    \b
    Example:
      cdcflow teardown
      cdcflow teardown --yes --json
    """
    from cdcflow import Pipeline

    with Pipeline.from_file(settings.config) as pipeline:
        if not yes:
            if not asks():
                raise UsageError(
                    "teardown asks before it drops anything, and there is nobody to ask",
                    do="cdcflow teardown --yes",
                )
            confirm(
                f"Drop the state of pipeline {pipeline.name!r} and what it keeps at the source? It cannot go on "
                "afterwards, only begin anew."
            )
        done = pipeline.teardown()
    if as_json:
        _print_json({"dropped": done})
    else:
        for line in done:
            print(f"dropped {line}")
        if not done:
            print("nothing was there")
    return 0


def asks() -> bool:
    """Whether a person is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> None:
    """Ask, and give up unless the answer is yes."""
    click.confirm(question, abort=True, err=True)


def _print_json(content: Any) -> None:
    from cdcflow.cli.reports import print_json

    print_json(content)
