"""Commands that move rows: run, snapshot, stream."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cdcflow.cli.options import Settings, as_json, common
from cdcflow.errors import CdcflowError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdcflow.app import Pipeline
    from cdcflow.flow.progress import Observer, Report

Result = TypeVar("Result")

# As of every error that a person must mend: here a table that failed, while the others went on.
OPERATOR_MUST_ACT = 5

until_caught_up = click.option(
    "--until-caught-up",
    is_flag=True,
    help="End with 0 once everything committed at the source before now is durable in the target.",
)


@click.command()
@common
@until_caught_up
@as_json
def run(settings: Settings, until_caught_up: bool, as_json: bool) -> int:
    """Copy what is not copied yet, then follow the log.

    Stop it with Ctrl-C or SIGTERM: it finishes the open batch and ends with 0; a second signal ends
    it at once. Killed in any way, it goes on where it was: no row is lost and none is doubled.

    \b
    Example:
      cdcflow run
      cdcflow run --until-caught-up --json      # for scripts: copy, catch up, print a summary
      cdcflow run -c /etc/cdcflow/shop.yaml --log-format json
    """
    return _move(
        settings,
        lambda pipeline, stop, progress: pipeline.run(until_caught_up=until_caught_up, stop=stop, progress=progress),
        as_json=as_json,
    )


@click.command()
@common
@as_json
def snapshot(settings: Settings, as_json: bool) -> int:
    """Copy the tables and end; `stream` or `run` goes on from exactly there.

    An interrupted copy goes on with the chunks that are not finished. The source keeps its log from
    the beginning of the copy until `stream` or `run` has read it.

    \b
    Example:
      cdcflow snapshot && cdcflow stream
    """
    return _move(
        settings, lambda pipeline, stop, progress: pipeline.snapshot(stop=stop, progress=progress), as_json=as_json
    )


@click.command()
@common
@until_caught_up
@as_json
def stream(settings: Settings, until_caught_up: bool, as_json: bool) -> int:
    """Follow the log; copy nothing.

    Ends with an error when a table of the rules was not copied yet: `run` does both.

    \b
    Example:
      cdcflow stream --until-caught-up
    """
    return _move(
        settings,
        lambda pipeline, stop, progress: pipeline.stream(until_caught_up=until_caught_up, stop=stop, progress=progress),
        as_json=as_json,
    )


def _move(settings: Settings, work: Callable[[Pipeline, Event, Observer], Report], *, as_json: bool) -> int:
    """Run one of the three and print what it did."""
    from cdcflow import Pipeline

    with Pipeline.from_file(settings.config) as pipeline:
        report = watched(settings, pipeline, work)
    if as_json:
        from cdcflow.cli.reports import print_json

        print_json(summary(report))
    else:
        print_summary(report)
    return OPERATOR_MUST_ACT if report.failed and not report.stopped else 0


def watched(
    settings: Settings, pipeline: Pipeline, work: Callable[[Pipeline, Event, Observer], Result], *, serve: bool = True
) -> Result:
    """Do work that may take long: progress shown, signals heard, the service manager told.

    serve: whether metrics and health are served, where the configuration says so.
    """
    from cdcflow import __version__
    from cdcflow.cli.display import shown
    from cdcflow.cli.stopping import until_done
    from cdcflow.cli.tally import Tally
    from cdcflow.flow.progress import Fanout
    from cdcflow.ops.logs import get_logger
    from cdcflow.ops.watching import watching

    tally = Tally()
    log = get_logger("cdcflow")

    def asked() -> None:
        tally.state("stopping")
        log.info("stopping: the open batch is finished first; a second signal ends at once")

    with ExitStack() as stack:
        stack.enter_context(shown(tally, settings))
        listen = pipeline.http_listen if serve else None
        try:
            observers = stack.enter_context(watching(pipeline.name, listen, version=__version__))
        except ConfigError:
            if not _runs_elsewhere(pipeline):
                raise
            # The port is taken by another instance: let the lease say so, with who and since when.
            observers = stack.enter_context(watching(pipeline.name, None, version=__version__))
        return until_done(lambda stop: work(pipeline, stop, Fanout([tally, *observers])), asked)


def _runs_elsewhere(pipeline: Pipeline) -> bool:
    try:
        return bool(pipeline.status().get("running"))
    except CdcflowError:
        return False


def summary(report: Report) -> dict[str, Any]:
    """Return a run's summary for `--json`."""
    return {
        "rows_copied": report.rows_copied,
        "bytes_copied": report.bytes_copied,
        "changes_applied": report.changes_applied,
        "transactions": report.transactions,
        "batches": report.batches,
        "seconds": round(report.seconds, 3),
        "restarts": report.restarts,
        "position": report.position,
        "tables": report.tables,
        "failed": {name: {"reason": reason, "do": do} for name, (reason, do) in report.failed.items()},
    }


def print_summary(report: Report) -> None:
    """Print a run's summary for people, on stderr: stdout is for what was asked for."""
    from cdcflow.cli.tally import human_bytes, human_seconds

    parts = []
    if report.rows_copied:
        parts.append(f"copied {report.rows_copied:,} rows ({human_bytes(report.bytes_copied)})")
    if report.changes_applied:
        changes, transactions = _counted(report.changes_applied, "change"), _counted(report.transactions, "transaction")
        parts.append(f"applied {changes} in {transactions}")
    said = ", ".join(parts) or "nothing new"
    at = f", at {_brief(report.position)}" if report.position else ""
    print(f"{said} in {human_seconds(report.seconds)}{at}", file=sys.stderr)
    for name, (reason, do) in report.failed.items():
        lines = "\n        ".join(do.splitlines())
        print(f"table {name} failed: {reason}" + (f"\n  do:   {lines}" if do else ""), file=sys.stderr)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _brief(position: str) -> str:
    """Return a position for a person: that of a bus names each share."""
    from cdcflow.model.position import Shares

    return Shares.parse(position).brief() if position.startswith("{") else position
