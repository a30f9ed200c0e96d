"""The demo reads a pipeline's metrics page as anybody would: what it shows is what the page says."""

from __future__ import annotations

from cdcflow.demo import process
from cdcflow.ops.metrics import Metrics


def figures(metrics: Metrics) -> process.Figures:
    return process._read(metrics.exposition()[1].decode())


def test_a_page_of_a_running_copy_gives_bars() -> None:
    metrics = Metrics("shop")
    metrics.state("copying")
    metrics.table_state("public.orders", "copying")
    metrics.table_state("public.events", "live")
    metrics.copy_progress("public.orders", 10, 500, 1000)
    found = figures(metrics)
    assert found.state == "copying"
    assert found.table_states == {"orders": "copying", "events": "live"}
    assert found.copied == {"orders": 10}
    assert found.copying
    assert not found.live


def test_a_page_of_a_running_stream_gives_changes_and_lag() -> None:
    metrics = Metrics("shop")
    metrics.state("streaming")
    metrics.table_state("public.orders", "live")
    metrics.applied({("public.orders", "insert"): 3, ("public.orders", "update"): 4}, 70, 2, 0.01, 0.25)
    metrics.position("0/10", 0, 0.5)
    found = figures(metrics)
    assert found.live
    assert not found.copying
    assert (found.applied, found.visible_seconds, found.visible_batches) == (7, 0.25, 1)
    assert found.lag_seconds == 0.5


def test_a_page_from_before_the_first_table_counts_as_copying() -> None:
    assert figures(Metrics("shop")).copying
