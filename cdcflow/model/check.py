"""What `cdcflow check` finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"  # works, and the person may want to know
    WARNING = "warning"  # works now, may not later
    BLOCKER = "blocker"  # `run` would refuse or fail


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what was looked at, what is so, and the exact statement or edit that mends it.

    `name` is a stable identifier for scripts (`source.wal_level`, `table.identity`).
    """

    level: Level
    name: str
    subject: str
    found: str
    do: str = ""
