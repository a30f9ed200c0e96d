"""What one run of a pipeline is put together from."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from cdcflow.flow.inbox import Fill
from cdcflow.flow.progress import Fanout, Observer, Report
from cdcflow.flow.retries import OUTAGE_SECONDS
from cdcflow.model.ports import Source, Store, Target
from cdcflow.rules import Rules

# How often new tables, dropped tables, rewrites and the retained log are looked for.
LOOK_EVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run may be told.

    read_ahead_bytes: how much is read and not applied at most. workers: connections of the initial copy on each
    side. owner: who we are, for the lease (host, process, ...).
    """

    pipeline: str
    fill: Fill = field(default_factory=Fill)
    read_ahead_bytes: int = 48 * 1024 * 1024
    workers: int = 2
    owner: Mapping[str, str] = field(default_factory=dict)
    look_every: float = LOOK_EVERY_SECONDS
    outage: float = OUTAGE_SECONDS

    @classmethod
    def within(
        cls,
        memory_bytes: int,
        *,
        pipeline: str,
        max_rows: int,
        max_bytes: int,
        max_delay: float,
        workers: int,
        owner: Mapping[str, str],
    ) -> Settings:
        """Divide the memory budget.

        A batch is there twice while it is joined and a third time as statements at the target, so it gets an
        eighth; what is read ahead gets three sixteenths (48 of 256 MB).
        """
        return cls(
            pipeline,
            Fill(max_rows, min(max_bytes, memory_bytes // 8), max_delay),
            memory_bytes * 3 // 16,
            workers,
            owner,
        )


@dataclass(slots=True)
class Parts:
    """The connectors, the rules, who watches, and the sign to end."""

    settings: Settings
    source: Source
    target: Target
    store: Store
    rules: Rules
    observer: Observer = field(default_factory=Fanout)
    stop: threading.Event = field(default_factory=threading.Event)
    report: Report = field(default_factory=Report)
