"""What a person sees while rows move."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cdcflow.cli import display
from cdcflow.cli.display import Bars, total_share
from cdcflow.cli.tally import CopyOf, Rate, Tally, human_bytes, human_seconds
from cdcflow.ops import logs


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def drawn(bars: Bars, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None).print(bars)
    return out.getvalue()


def copying(tables: int = 3) -> Tally:
    tally = Tally()
    tally.state("copying")
    for number in range(tables):
        tally.table_state(f"public.t{number}", "copying")
        tally.copy_progress(f"public.t{number}", 1000 * number, 500 * number, 1000)
    return tally


def test_each_table_that_is_copied_has_a_line_and_the_total_is_last() -> None:
    tally = copying()
    tally.table_state("public.t0", "live")
    lines = drawn(Bars(tally)).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("public.t1")
    assert "50%" in lines[0]
    assert "1,000 rows" in lines[0]
    assert lines[-1].startswith("1 of 3 tables")
    assert "rows/s" in lines[-1]


def test_many_tables_do_not_fill_the_screen() -> None:
    lines = drawn(Bars(copying(40))).splitlines()
    assert len(lines) == 10
    assert "and 32 more" in lines[-2]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    tally = copying()
    tally.copy_progress("a_long_schema_name_of_sixty_three_bytes.a_long_table_name", 10**12, 10**13, 10**14)
    assert max(map(len, drawn(Bars(tally), width).splitlines())) <= width
    for name in list(tally.copies):
        tally.table_state(name, "live")
    tally.state("streaming")
    tally.position("FFFFFFFF/FFFFFFFF", 10**12, 86400.0)
    assert max(map(len, drawn(Bars(tally), width).splitlines())) <= width


def test_a_stream_shows_lag_rate_tables_and_position() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.table_state("public.t", "live")
    tally.state("streaming")
    bars = Bars(tally)
    drawn(bars)
    tally.applied({("public.t", "insert"): 500}, 10_000, 5, 0.1, 0.2)
    tally.position("0/5A3F210", 2_500_000, 0.25)
    clock.now += 2
    (line,) = drawn(bars, 200).splitlines()
    assert line.split("  ", 1)[0] == "streaming"
    assert "lag 0.2 s (2.5 MB)" in line
    assert "250 rows/s" in line
    assert "500 changes" in line
    assert "1 live" in line
    assert "at 0/5A3F210" in line


def test_a_server_that_is_away_is_named() -> None:
    tally = Tally()
    tally.state("waiting")
    tally.restarted("the target refused the connection")
    assert "waiting  the target refused the connection" in drawn(Bars(tally))


def test_no_table_is_full_before_it_says_so_however_wrong_the_estimate_was() -> None:
    assert CopyOf("t", "copying", 5, 5000, 1000).share < 1
    assert CopyOf("t", "live", 5, 10, 1000).share == 1
    assert CopyOf("t", "copying", 5, 10, 0).share == 0


def test_the_total_weighs_tables_by_their_size() -> None:
    copies = [CopyOf("big", "copying", 0, 0, 900), CopyOf("small", "live", 1, 100, 100)]
    assert total_share(copies) == pytest.approx(0.1)
    assert total_share([]) == 0


def test_a_rate_forgets_what_is_older_than_its_window() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.per_second == 0
    for total in (0, 1000, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000):
        rate.note(total)
        clock.now += 1
    assert rate.per_second == 0


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (10**16, "10000.0 TB")]
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (9.94, "9.9 s"), (12, "12 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


def test_a_line_has_the_rate_since_the_last_look(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    tally = Tally(clock)

    class Looks:
        """Lets the loop look twice: after 200 changes in 5 seconds, and after 1,000 more in 10."""

        steps = iter([(5, 200), (10, 1000)])

        def wait(self, seconds: float) -> bool:
            step = next(self.steps, None)
            if step is not None:
                clock.now += step[0]
                tally.changes += step[1]
            return step is None

    logs.configure("text", "info")
    display._lines(tally, Looks())  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert [line.split("rows_per_second=")[1].split()[0] for line in said.splitlines()] == ["40", "100"]
