"""Commands for the first minutes: init and demo."""

from __future__ import annotations

from pathlib import Path

import click

from cdcflow.cli.options import Settings, common, common_without_logs
from cdcflow.errors import ConfigError


@click.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path), metavar="[DIR]")
@common_without_logs
def init(settings: Settings, directory: Path) -> int:
    """Write a commented cdcflow.yaml and rules.yaml into DIR.

    DIR is made where it is missing and is the current one when not given. A file that is there
    already is never overwritten.

    \b
    Example:
      cdcflow init shop && cd shop && $EDITOR cdcflow.yaml
    """
    del settings
    from cdcflow.config.init import write_templates

    for path in write_templates(directory):
        print(f"wrote {path}")
    config = directory / "cdcflow.yaml"
    option = "" if directory == Path() else f" -c {config}"
    print(f"\nPut your two URLs into {config}, then:\n  cdcflow check{option}\n  cdcflow run{option}")
    return 0


@click.command()
@click.argument("directory", required=False, type=click.Path(file_okay=False, path_type=Path), metavar="[DIR]")
@click.option(
    "--source",
    default="postgresql",
    show_default=True,
    metavar="ENGINE|URL",
    help="postgresql, mysql or mariadb; or the URL of a MySQL or MariaDB.",
)
@click.option(
    "--rows", type=click.IntRange(min=1000), default=300_000, show_default=True, help="How large the shop is."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=10.0,
    show_default=True,
    help="How long to follow before the crash, and again after it.",
)
@click.option("--down", is_flag=True, help="Stop and remove what a demo left.")
@common
def demo(settings: Settings, directory: Path | None, source: str, rows: int, seconds: float, down: bool) -> int:
    """Watch it work: two private databases, a crash, and the proof.

    Starts two PostgreSQL 18 servers of its own (nothing to install), fills a small shop, copies it
    while customers go on buying, follows the changes, kills the pipeline with SIGKILL in the middle,
    starts it again, and compares both databases row by row. Everything stays in DIR (./cdcflow-demo
    when not given) to go on with.

    With --source the shop is in MySQL or MariaDB: a server that the tests have fetched into
    CDCFLOW_CACHE, or one of yours by its URL, in a new database that --down drops.

    \b
    Example:
      cdcflow demo
      cdcflow demo --source mysql
      cdcflow demo --source mysql://root:secret@127.0.0.1:3306/cdcflow_demo
      cdcflow status -c cdcflow-demo/cdcflow.yaml
      cdcflow demo --down
    """
    del settings
    try:
        from cdcflow import demo as story
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("cdcflow"):
            raise
        raise ConfigError(
            "the demo's databases are not installed", why=str(exc), do="pip install 'cdcflow[demo]'"
        ) from exc
    if down:
        return story.down(directory)
    return story.run(directory, source=source, rows=rows, seconds=seconds)
