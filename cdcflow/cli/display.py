"""How a run shows its progress: bars and a live line on a terminal, a plain log line every few seconds elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cdcflow.cli.options import Settings
from cdcflow.cli.tally import CopyOf, Tally, human_bytes, human_seconds
from cdcflow.ops import logs

# Bars beyond this many scroll the screen; the rest is counted in the total.
MOST_BARS: Final = 8

REFRESHES_PER_SECOND: Final = 4

LINE_EVERY_SECONDS: Final = 5.0


class Bars:
    """Draws a tally: a bar for each table that is being copied, their total, and a line about the stream."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._copy_began = 0.0
        self._rows_at_begin = 0
        self._share_at_begin = 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        tally = self._tally
        tally.sample()
        with tally.lock:
            copies = [CopyOf(c.name, c.state, c.rows, c.nbytes, c.total_bytes_estimate) for c in tally.copies.values()]
        working = [copy for copy in copies if copy.state in ("pending", "copying")]
        if working:
            yield self._bars(copies, working, options.max_width)
        if tally.pipeline_state not in ("starting", "copying") or not working:
            line = stream_line(tally)
            line.truncate(options.max_width, overflow="ellipsis")
            yield line

    def _bars(self, copies: list[CopyOf], working: list[CopyOf], width: int) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=max(16, width // 3))
        grid.add_column(width=max(10, min(32, width // 4)))
        for justify in ("right", "right", "right"):
            grid.add_column(justify=justify, no_wrap=True)
        active = sorted(working, key=lambda copy: (copy.state != "copying", copy.name))
        for copy in active[:MOST_BARS]:
            grid.add_row(
                copy.name,
                ProgressBar(total=1.0, completed=copy.share, pulse=copy.state == "copying" and not copy.share),
                f"{copy.share:.0%}" if copy.share else "",
                f"{copy.rows:,} rows" if copy.rows else Text(copy.state, style="dim"),
                "",
            )
        if len(active) > MOST_BARS:
            grid.add_row(Text(f"and {len(active) - MOST_BARS} more", style="dim"), "", "", "", "")
        share = total_share(copies)
        grid.add_row(
            Text(f"{len(copies) - len(working)} of {len(copies)} tables", style="bold"),
            ProgressBar(total=1.0, completed=share),
            f"{share:.0%}",
            f"{self._tally.copied_rows():,} rows",
            self._pace(share),
        )
        return grid

    def _pace(self, share: float) -> str:
        now, rows = self._tally.clock(), self._tally.copied_rows()
        if not self._copy_began or rows < self._rows_at_begin:
            self._copy_began, self._rows_at_begin, self._share_at_begin = now, rows, share
        text = f"{self._tally.copy_rate.per_second:,.0f} rows/s"
        done, seconds = share - self._share_at_begin, now - self._copy_began
        if done > 0.01 and seconds > 1:
            text += f", {human_seconds((1 - share) / done * seconds)} left"
        return text


def _waiting(tally: Tally) -> dict[str, int]:
    """Return what waits at the source: bytes of its log, or messages of a broker."""
    waiting = {"lag_bytes": tally.lag_bytes, "lag_messages": tally.lag_messages}
    return {name: count for name, count in waiting.items() if count is not None}


def total_share(copies: list[CopyOf]) -> float:
    """Return how much of all tables is copied, each weighed by its size."""
    weights = [max(copy.total_bytes_estimate, copy.nbytes, 1) for copy in copies]
    return sum(copy.share * weight for copy, weight in zip(copies, weights, strict=True)) / max(1, sum(weights))


def stream_line(tally: Tally) -> Text:
    """Return the line that stands at the bottom while changes are followed."""
    style = {"streaming": "bold green", "waiting": "bold yellow"}.get(tally.pipeline_state, "bold")
    line = Text(tally.pipeline_state, style=style)
    if tally.pipeline_state == "waiting" and tally.why_waiting:
        return line.append(f"  {tally.why_waiting}", style="default")
    if tally.pipeline_state == "starting":
        return line
    parts = [f"lag {human_seconds(tally.lag_seconds)}"]
    if tally.lag_bytes:
        parts[0] += f" ({human_bytes(tally.lag_bytes)})"
    if tally.lag_messages:
        parts[0] += f" ({tally.lag_messages:,} messages)"
    parts.append(f"{tally.change_rate.per_second:,.0f} rows/s")
    parts.append(f"{tally.changes:,} changes")
    counts = tally.counts()
    parts.append(", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items()) or "no tables")
    if tally.durable:
        parts.append(f"at {tally.durable}")
    if tally.restarts:
        parts.append(f"{tally.restarts} restarts")
    return line.append("  " + " · ".join(parts), style="default")


@contextmanager
def shown(tally: Tally, settings: Settings) -> Iterator[None]:
    """Show the tally until the block ends: on a terminal drawn live, otherwise as log lines."""
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal and settings.log_format == "text":
        with Live(Bars(tally), console=console, refresh_per_second=REFRESHES_PER_SECOND, transient=True):
            logs.configure(settings.log_format, settings.log_level, write=lambda line: print_above(console, line))
            try:
                yield
            finally:
                logs.configure(settings.log_format, settings.log_level)
        return
    over = threading.Event()
    thread = threading.Thread(target=_lines, args=(tally, over), name="cdcflow-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def print_above(console: Console, line: str) -> None:
    """Print a finished log line above what is drawn live."""
    level = line.split(" ", 2)[1:2]
    style = {"warning": "yellow", "error": "red", "debug": "dim"}.get(level[0] if level else "", "")
    console.print(Text(line, style=style), soft_wrap=True)


def _lines(tally: Tally, over: threading.Event) -> None:
    """Log how far the copy and the stream are, every few seconds, when there is news."""
    log = logs.get_logger("cdcflow.progress")
    said_rows = tally.copied_rows()
    said_changes = 0
    # Rates are over the time since the last look, so that the first line of a short burst has one too.
    looked, seen_rows, seen_changes = tally.clock(), said_rows, tally.changes
    while not over.wait(LINE_EVERY_SECONDS):
        tally.sample()
        now, rows, changes = tally.clock(), tally.copied_rows(), tally.changes
        seconds = max(now - looked, 0.001)
        rows_rate, changes_rate = (rows - seen_rows) / seconds, (changes - seen_changes) / seconds
        looked, seen_rows, seen_changes = now, rows, changes
        with tally.lock:
            copies = list(tally.copies.values())
            share = total_share(copies)
        working = sum(copy.state in ("pending", "copying") for copy in copies)
        if working and rows != said_rows:
            log.info(
                "copying",
                rows=rows,
                percent=round(100 * share),
                rows_per_second=max(0, round(rows_rate)),
                tables=len(copies),
                tables_to_do=working,
            )
            said_rows = rows
        if changes != said_changes:
            log.info(
                "streaming",
                changes=changes,
                rows_per_second=round(changes_rate),
                lag_seconds=round(tally.lag_seconds, 3),
                **_waiting(tally),
                position=tally.durable,
            )
            said_changes = changes
