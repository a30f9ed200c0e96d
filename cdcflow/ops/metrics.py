"""A pipeline's figures in Prometheus' words: `cdcflow_` prefix, base units, one registry a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

TABLE_STATES: Final = ("pending", "copying", "catching_up", "live", "failed")
PIPELINE_STATES: Final = ("starting", "copying", "streaming", "waiting", "stopping", "stopped")

_SECONDS_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_ROWS_BUCKETS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
_BYTES_BUCKETS: Final = tuple(float(4**power) for power in range(4, 16))  # 256 B to 1 GiB


class Metrics:
    """The figures of one pipeline. An observer; `exposition` gives the page that Prometheus reads."""

    def __init__(self, pipeline: str, *, version: str = "") -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._lock = Lock()
        self._pipeline = pipeline
        self._tables: set[str] = set()
        own = ("pipeline",)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, (*own, *labels), registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, (*own, *labels), registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, own, buckets=buckets, registry=self.registry)

        self._rows = counter("cdcflow_applied_rows_total", "Row changes applied.", "table", "operation")
        self._bytes = counter("cdcflow_applied_bytes_total", "Bytes of row images applied.").labels(pipeline)
        self._transactions = counter("cdcflow_applied_transactions_total", "Source transactions applied.").labels(
            pipeline
        )
        self._apply = histogram("cdcflow_apply_seconds", "Time to apply one batch.", _SECONDS_BUCKETS).labels(pipeline)
        self._batch_rows = histogram("cdcflow_batch_rows", "Row changes in a batch.", _ROWS_BUCKETS).labels(pipeline)
        self._batch_bytes = histogram("cdcflow_batch_bytes", "Bytes in a batch.", _BYTES_BUCKETS).labels(pipeline)
        self._end_to_end = histogram(
            "cdcflow_commit_to_visible_seconds",
            "Age of a batch's last commit when it was visible in the target.",
            _SECONDS_BUCKETS,
        ).labels(pipeline)
        self._lag_seconds = gauge(
            "cdcflow_lag_seconds", "Age of the oldest commit that is not durable in the target; 0 when none waits."
        ).labels(pipeline)
        self._lag_bytes = gauge("cdcflow_lag_bytes", "Bytes of log between the source's end and the durable position.")
        self._lag_messages = gauge("cdcflow_lag_messages", "Messages that wait at the broker for this instance.")
        self._retained = gauge("cdcflow_retained_log_bytes", "Bytes of log that the source keeps for this pipeline.")
        self._moved = gauge(
            "cdcflow_last_progress_timestamp_seconds", "When the pipeline last showed life, seconds since 1970."
        ).labels(pipeline)
        self._restarts = counter(
            "cdcflow_restarts_total", "Times that the pipeline went on from its checkpoint."
        ).labels(pipeline)
        self._copy_rows = gauge("cdcflow_snapshot_rows", "Rows of a table's initial copy that are durable.", "table")
        self._copy_bytes = gauge("cdcflow_snapshot_bytes", "Bytes of a table's initial copy that are durable.", "table")
        self._copy_size = gauge(
            "cdcflow_snapshot_estimated_bytes", "Size of a table at the source, to scale by.", "table"
        )
        self._table_state = gauge("cdcflow_table_state", "1 for the state that a table is in.", "table", "state")
        self._state = gauge("cdcflow_pipeline_state", "1 for the state that the pipeline is in.", "state")
        Info("cdcflow_build", "Which cdcflow this is.", registry=self.registry).info({"version": version})
        self.state("starting")

    def exposition(self) -> tuple[str, bytes]:
        """Return content type and body of the metrics page."""
        return CONTENT_TYPE_LATEST, generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the families without their `_created` samples, which say nothing and double the page."""
        for family in self.registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family

    def table_state(self, name: str, state: str, reason: str = "") -> None:
        with self._lock:
            if state == "dropped":
                if name in self._tables:
                    self._tables.remove(name)
                    for known in TABLE_STATES:
                        self._table_state.remove(self._pipeline, name, known)
                return
            self._tables.add(name)
            for known in TABLE_STATES:
                self._table_state.labels(self._pipeline, name, known).set(known == state)

    def copy_progress(self, name: str, rows: int, nbytes: int, total_bytes_estimate: int) -> None:
        with self._lock:
            self._copy_rows.labels(self._pipeline, name).set(rows)
            self._copy_bytes.labels(self._pipeline, name).set(nbytes)
            self._copy_size.labels(self._pipeline, name).set(total_bytes_estimate)

    def applied(
        self, rows: Mapping[tuple[str, str], int], nbytes: int, transactions: int, seconds: float, lag_seconds: float
    ) -> None:
        total = 0
        for (table, operation), count in rows.items():
            self._rows.labels(self._pipeline, table, operation).inc(count)
            total += count
        self._bytes.inc(nbytes)
        self._transactions.inc(transactions)
        self._apply.observe(seconds)
        self._batch_rows.observe(total)
        self._batch_bytes.observe(nbytes)
        self._end_to_end.observe(max(0.0, lag_seconds))

    def position(self, durable: str, lag_bytes: int | None, lag_seconds: float) -> None:
        if lag_bytes is not None:
            self._lag_bytes.labels(self._pipeline).set(max(0, lag_bytes))
        self._lag_seconds.set(max(0.0, lag_seconds))

    def waiting(self, messages: int) -> None:
        self._lag_messages.labels(self._pipeline).set(messages)

    def retained(self, nbytes: int) -> None:
        self._retained.labels(self._pipeline).set(max(0, nbytes))

    def restarted(self, reason: str) -> None:
        self._restarts.inc()

    def state(self, state: str) -> None:
        with self._lock:
            for known in PIPELINE_STATES:
                self._state.labels(self._pipeline, known).set(known == state)

    def alive(self) -> None:
        self._moved.set_to_current_time()
