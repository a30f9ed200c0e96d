"""The page that Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from cdcflow.ops.metrics import Metrics


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    _, body = metrics.exposition()
    return {
        (sample.name, frozenset((name, value) for name, value in sample.labels.items() if name != "pipeline")):
        sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }  # fmt: skip


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, frozenset(labels.items())]


def test_an_applied_batch_counts_rows_by_table_and_operation() -> None:
    metrics = Metrics("shop")
    metrics.applied({("public.orders", "insert"): 7, ("public.orders", "delete"): 2}, 900, 3, 0.02, 0.5)
    metrics.applied({("public.orders", "insert"): 1}, 100, 1, 0.02, 0.5)
    assert value(metrics, "cdcflow_applied_rows_total", table="public.orders", operation="insert") == 8
    assert value(metrics, "cdcflow_applied_rows_total", table="public.orders", operation="delete") == 2
    assert value(metrics, "cdcflow_applied_bytes_total") == 1000
    assert value(metrics, "cdcflow_applied_transactions_total") == 4
    assert value(metrics, "cdcflow_apply_seconds_count") == 2
    assert value(metrics, "cdcflow_batch_rows_sum") == 10


def test_lags_are_never_negative() -> None:
    metrics = Metrics("shop")
    metrics.position("0/10", -5, -0.25)
    assert value(metrics, "cdcflow_lag_bytes") == 0
    assert value(metrics, "cdcflow_lag_seconds") == 0


def test_an_unknown_lag_in_bytes_is_left_out_rather_than_reported_as_none_waiting() -> None:
    metrics = Metrics("shop")
    metrics.position("0/10", None, 0.0)
    assert not [name for name, _ in samples(metrics) if name == "cdcflow_lag_bytes"]


def test_exactly_one_state_of_a_table_is_set_and_a_dropped_table_disappears() -> None:
    metrics = Metrics("shop")
    metrics.table_state("public.orders", "copying")
    metrics.table_state("public.orders", "live")
    assert value(metrics, "cdcflow_table_state", table="public.orders", state="live") == 1
    assert value(metrics, "cdcflow_table_state", table="public.orders", state="copying") == 0
    metrics.table_state("public.orders", "dropped")
    metrics.table_state("public.unknown", "dropped")
    assert not [name for name, _ in samples(metrics) if name == "cdcflow_table_state"]


def test_every_figure_has_the_prefix_a_base_unit_and_a_help_text() -> None:
    metrics = Metrics("shop", version="1.2.3")
    metrics.copy_progress("public.orders", 10, 100, 1000)
    metrics.retained(5)
    metrics.restarted("source away")
    metrics.alive()
    _, body = metrics.exposition()
    for family in text_string_to_metric_families(body.decode()):
        if family.name.startswith(("process_", "python_")):
            continue
        assert family.name.startswith("cdcflow_"), family.name
        assert family.documentation, family.name
        assert not family.name.endswith(("_ms", "_kb", "_mb", "_milliseconds"))
    assert value(metrics, "cdcflow_build_info", version="1.2.3") == 1
    assert value(metrics, "cdcflow_restarts_total") == 1
    assert value(metrics, "cdcflow_snapshot_rows", table="public.orders") == 10


def test_two_pipelines_in_one_process_do_not_share_figures() -> None:
    one, two = Metrics("one"), Metrics("two")
    one.restarted("x")
    assert value(two, "cdcflow_restarts_total") == 0
