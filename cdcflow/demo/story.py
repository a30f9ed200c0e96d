"""The demo from beginning to end: copy, follow, be killed, go on, and compare."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cdcflow.demo import place as places
from cdcflow.demo.comparing import Difference, compare, lateness
from cdcflow.demo.mysqld import MysqlServer
from cdcflow.demo.place import Place
from cdcflow.demo.process import Figures, Running
from cdcflow.demo.screen import Screen
from cdcflow.demo.shop import Traffic
from cdcflow.errors import CdcflowError

DEFAULT_ROWS: Final = 300_000
_POLL_SECONDS: Final = 0.1
_LIMIT_SECONDS: Final = 90
# Share of the rows that are copied when the process is killed for the first time.
_KILL_AT: Final = 0.35
_DIFFERENCES_FOUND: Final = 4  # the exit code of `cdcflow verify`


_STARTING: Final = {
    "postgresql": "starting two PostgreSQL 18 servers",
    "mysql": "starting MySQL and PostgreSQL 18",
    "mariadb": "starting MariaDB and PostgreSQL 18",
}


@dataclass(slots=True)
class Tally:
    """What happened, for the summary. `streamed` are the spans of unix time in which the stream was live."""

    copied: int = 0
    copy_seconds: float = 0.0
    kills: int = 0
    back_seconds: list[float] = field(default_factory=list)
    streamed: list[tuple[float, float]] = field(default_factory=list)


def run(
    directory: Path | None = None,
    *,
    source: str = "postgresql",
    rows: int = DEFAULT_ROWS,
    seconds: float = 10.0,
) -> int:
    """Run the demo in `directory` and leave its servers and config there.

    Args:
        directory: made where it is missing; ./cdcflow-demo when not given. A demo already there is replaced.
        source: see `place.build`.
        rows: about how many rows the shop has.
        seconds: how long changes are followed, before the kill and after it each.

    Returns:
        0 when both databases are equal at the end, 4 when they are not.

    Raises:
        CdcflowError: something did not start or did not get done in time.
    """
    folder = directory or Path(places.DEFAULT_FOLDER)
    screen = Screen()
    began = time.monotonic()
    screen.step(_STARTING.get(source, "starting PostgreSQL 18; the source is a server of yours"))
    place = places.build(folder, source)
    screen.say(f"source {_where(place)}, target PostgreSQL 18 at 127.0.0.1:{place.target.port}")
    screen.step("making a shop in the source")
    screen.rows = place.fill(rows)
    screen.say(f"{sum(screen.rows.values()):,} rows in customers, products, orders, order_items and events")
    traffic = Traffic(place.shop)
    tally = Tally()
    running = None
    try:
        screen.step(f"cdcflow run -c {_short(place.config)}: the copy, while the shop goes on selling")
        running = Running.start(place)
        _copy_partly(running, traffic, screen, tally)
        screen.step("kill -9, in the middle of the copy; then cdcflow run, once more")
        running.kill()
        tally.kills += 1
        running = Running.start(place)
        _copy(running, traffic, screen, tally)
        screen.say(f"all {tally.copied:,} rows copied, level with the source, indexes and foreign keys made; following")
        _follow(running, traffic, screen, tally, seconds)
        screen.step("kill -9, in the middle of the stream; the shop goes on selling")
        running.kill()
        tally.kills += 1
        time.sleep(1.5)
        screen.step("cdcflow run, once more")
        again = time.monotonic()
        running = Running.start(place)
        _level(place, running, screen, traffic)
        tally.back_seconds.append(time.monotonic() - again)
        screen.say(f"level again {tally.back_seconds[-1]:.1f} s after its start")
        _follow(running, traffic, screen, tally, seconds)
        traffic.stop()
        screen.step("the shop closes; comparing every row of both databases")
        _level(place, running, screen, traffic)
        code = running.stop()
        if code:
            raise CdcflowError(f"`cdcflow run` ended with {code} after SIGTERM", at=str(place.log))
    except BaseException:
        with suppress(Exception):
            traffic.stop()
        if running is not None and running.process.poll() is None:
            running.kill()
        raise
    differences = compare(place.shop, place.copy)
    _summary(screen, place, traffic, tally, differences, time.monotonic() - began)
    return _DIFFERENCES_FOUND if any(found.differing for found in differences) else 0


def down(directory: Path | None = None) -> int:
    """Stop the demo's servers and delete what it made. Returns 0, also where there is no demo."""
    folder = directory or Path(places.DEFAULT_FOLDER)
    screen = Screen()
    there = folder.exists()
    left = places.remove(folder)
    if left:
        screen.say(f"removed the demo; these are not its own: {', '.join(path.name for path in left)}")
    else:
        screen.say(f"removed {_short(folder)}" if there else f"no demo in {_short(folder)}: nothing to do")
    return 0


def _copy_partly(running: Running, traffic: Traffic, screen: Screen, tally: Tally) -> None:
    """Show the copy until a good part of it is done.

    Traffic begins once rows are copied: the slot is there then, so every one of its changes is in the stream.
    """
    total = sum(screen.rows.values())

    began = 0.0

    def partly(now: Figures) -> bool:
        nonlocal began
        began = began or (time.monotonic() if now.state == "copying" else 0.0)
        if now.state in ("copying", "streaming") and any(now.copied.values()):
            traffic.start()
        return sum(now.copied.values()) >= _KILL_AT * total or not now.copying

    with screen.drawing():
        _until(running, partly, screen, traffic)
    tally.copy_seconds += time.monotonic() - began


def _copy(running: Running, traffic: Traffic, screen: Screen, tally: Tally) -> None:
    """Show the rest of the copy, until the tables are live with their indexes and foreign keys."""

    began = 0.0

    def copied(now: Figures) -> bool:
        nonlocal began
        began = began or (time.monotonic() if now.state == "copying" else 0.0)
        tally.copied = max(tally.copied, sum(now.copied.values()))
        return not now.copying

    with screen.drawing():
        _until(running, copied, screen, traffic)
        tally.copy_seconds += time.monotonic() - (began or time.monotonic())
        _until(running, lambda now: now.live, screen, traffic)
    # Indexes and foreign keys are made after the copy.
    wanted = running.place.shop.finished()
    with screen.drawing():
        _until(running, lambda now: running.place.copy.finished() == wanted, screen, traffic)


def _follow(running: Running, traffic: Traffic, screen: Screen, tally: Tally, seconds: float) -> None:
    first, end = time.time(), time.monotonic() + seconds
    with screen.drawing():
        _until(running, lambda now: time.monotonic() >= end, screen, traffic)
    tally.streamed.append((first, time.time()))


def _until(running: Running, condition: Callable[[Figures], bool], screen: Screen, traffic: Traffic) -> None:
    end = time.monotonic() + _LIMIT_SECONDS
    while True:
        figures = running.figures()
        screen.show(figures, traffic)
        if figures is not None and condition(figures):
            return
        if traffic.failure is not None:
            raise traffic.failure
        if time.monotonic() > end:
            raise CdcflowError(
                f"the demo waited {_LIMIT_SECONDS} s in vain",
                at=str(running.place.log),
                why=f"state {figures.state}, tables {figures.table_states}" if figures else "no answer over HTTP",
            )
        time.sleep(_POLL_SECONDS)


def _level(place: Place, running: Running, screen: Screen, traffic: Traffic) -> None:
    """Wait until everything that is committed in the source now is visible in the target: a mark tells, as commits
    arrive in their order."""
    mark = place.shop.mark()
    with screen.drawing():
        _until(running, lambda now: place.copy.has_event(mark), screen, traffic)


def _summary(
    screen: Screen, place: Place, traffic: Traffic, tally: Tally, differences: list[Difference], seconds: float
) -> None:
    late = lateness(place.shop, place.copy, tally.streamed)
    rate = tally.copied / tally.copy_seconds if tally.copy_seconds else 0
    wrong = sum(found.differing for found in differences)
    lines = [
        ("rows copied", f"{tally.copied:,} in {tally.copy_seconds:.1f} s ({rate:,.0f} rows/s)"),
        ("changes applied", f"{traffic.changes:,} in {traffic.transactions:,} transactions"),
        (
            "lag p50 / p99",
            f"{late[0] * 1000:.1f} / {late[1] * 1000:.1f} ms ({_since(place)} to visible, {late[3]:,} rows)"
            if late
            else "-",
        ),
        ("killed and restarted", f"{tally.kills} times, level again after {tally.back_seconds[-1]:.1f} s"),
        ("rows compared", f"{sum(found.rows for found in differences):,} in {len(differences)} tables"),
        ("differences", str(wrong)),
    ]
    screen.console.print()
    for name, text in lines:
        screen.console.print(f"  {name:22}{text}", style="bold" if name == "differences" else "", highlight=False)
    for found in differences:
        if found.differing:
            screen.say(f"{found.table}: {found.differing:,} rows differ, such as key {' and '.join(found.examples)}")
    config = _short(place.config)
    elsewhere = "" if place.folder == Path(places.DEFAULT_FOLDER).resolve() else f" {_short(place.folder)}"
    beside = Path(sys.executable).with_name("cdcflow")
    command = "cdcflow" if shutil.which("cdcflow") or not beside.exists() else _short(beside)
    commands = (
        (f"{command} run -c {config}", "follow again; Ctrl-C stops it"),
        (f"{command} status -c {config}", "how far it is"),
        (f"{command} demo --down{elsewhere}", "stop the demo's servers and remove everything"),
    )
    width = max(len(command) for command, _ in commands) + 3
    text = "\n".join(f"    {command:{width}}{meaning}" for command, meaning in commands)
    screen.console.print(
        f"\n  {seconds:.0f} s in all. The servers still run. Go on with:\n\n{text}\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _where(place: Place) -> str:
    if isinstance(place.source, MysqlServer):
        return f"{place.source.words} at {place.source.base.partition('://')[2].partition('/')[0]}"
    return f"PostgreSQL 18 at 127.0.0.1:{place.source.port}"


def _since(place: Place) -> str:
    # MySQL and MariaDB keep no time of commits that a query could read.
    return "insert" if isinstance(place.source, MysqlServer) else "commit"


def _short(path: Path) -> str:
    """Return the path as it is shortest from here."""
    with suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)
