"""What the demo shows: bars of the copy, a live line of the stream; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cdcflow.demo.process import Figures
from cdcflow.demo.shop import TABLES, Traffic

_LINE_EVERY_SECONDS: Final = 2.0


@dataclass(slots=True)
class Screen:
    """Draws what the last look at the process showed. One for the whole demo. `rows` are the tables' sizes."""

    console: Console = field(default_factory=Console)
    rows: dict[str, int] = field(default_factory=dict)
    _live: Live | None = None
    _said: float = 0.0
    _before: tuple[float, Figures] | None = None
    _rate: float = 0.0
    _late: float = 0.0

    def step(self, text: str) -> None:
        """Say what happens next."""
        self.console.print(Text("> ", style="bold cyan") + Text(text, style="bold"), soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(Text(text if text.startswith("  ") else "  " + text), soft_wrap=True)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Keep a live picture until the block ends; off a terminal, `show` prints lines instead."""
        self._before = None
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=8, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def show(self, figures: Figures | None, traffic: Traffic | None) -> None:
        """Show the latest figures; None says that the process does not answer yet."""
        at = time.monotonic()
        if figures is not None:
            self._measure(at, figures)
        if self._live is not None:
            self._live.update(self._picture(figures, traffic))
        elif at - self._said >= _LINE_EVERY_SECONDS:
            self._said = at
            self.say(self._line(figures, traffic).plain)

    def _measure(self, at: float, figures: Figures) -> None:
        if self._before is not None:
            then, old = self._before
            if at - then < 0.5:
                return
            self._rate = (figures.applied - old.applied) / (at - then)
            batches = figures.visible_batches - old.visible_batches
            if batches > 0:
                self._late = (figures.visible_seconds - old.visible_seconds) / batches
        self._before = (at, figures)

    def _picture(self, figures: Figures | None, traffic: Traffic | None) -> Table:
        grid = Table.grid(padding=(0, 1))
        if figures is not None and figures.copying and figures.table_states:
            bars = Table.grid(padding=(0, 1))
            for table in TABLES:
                share = self._share(figures, table)
                state = figures.table_states.get(table, "pending")
                bars.add_row(
                    f"  {table:12}",
                    ProgressBar(total=1.0, completed=share, width=36, pulse=state == "copying" and not share),
                    f"{share:4.0%}",
                    f"{figures.copied.get(table, 0):>9,} rows",
                    Text(state.replace("_", " "), style="dim"),
                )
            grid.add_row(bars)
        grid.add_row(self._line(figures, traffic))
        return grid

    def _share(self, figures: Figures, table: str) -> float:
        if figures.table_states.get(table) in ("catching_up", "live"):
            return 1.0
        return min(0.99, figures.copied.get(table, 0) / max(1, self.rows.get(table, 0)))

    def _line(self, figures: Figures | None, traffic: Traffic | None) -> Text:
        line = Text("  ")
        if figures is None or figures.state == "starting":
            line.append("starting", style="yellow")
        elif figures.copying:
            line.append("copying", style="cyan")
            line.append(f"  {sum(figures.copied.values()):,} rows")
        else:
            line.append("streaming", style="bold green")
            line.append(f"  lag {_milliseconds(max(self._late, figures.lag_seconds))}", style="bold")
            line.append(f"  {self._rate:,.0f} changes/s applied, {figures.applied:,} so far")
        if traffic is not None:
            line.append(f"  (the shop: {traffic.transactions:,} transactions)", style="dim")
        return line


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.1f} s"
