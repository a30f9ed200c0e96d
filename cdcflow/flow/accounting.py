"""What a batch that was applied adds to the report, and what whoever watches is told of it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from cdcflow.flow.parts import Parts
from cdcflow.model.change import ChangeBatch, Rows, Truncate
from cdcflow.model.frame import DELETE, INSERT, UPDATE

_OPERATIONS: Final = {INSERT: "insert", UPDATE: "update", DELETE: "delete"}


def account(parts: Parts, batch: ChangeBatch, seconds: float) -> None:
    """Count a batch that took so many seconds to apply."""
    rows: Counter[tuple[str, str]] = Counter()
    for step in batch.steps:
        if isinstance(step, Rows):
            for frame in step.frames.values():
                name = str(frame.route.source.name)
                for op, word in _OPERATIONS.items():
                    if count := frame.ops.count(op):
                        rows[name, word] += count
        elif isinstance(step, Truncate):
            rows.update((str(route.source.name), "truncate") for route in step.routes)
    report = parts.report
    report.changes_applied += batch.rows
    report.transactions += batch.transactions
    report.batches += 1
    age = max(0.0, time.time() - batch.commit_time) if batch.commit_time else 0.0
    parts.observer.applied(rows, batch.nbytes, batch.transactions, seconds, age)
