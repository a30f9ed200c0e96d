"""The `cdcflow run` of the demo: a process of its own, watched through its metrics page as anybody would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from cdcflow.demo.place import Place
from cdcflow.errors import CdcflowError

_TIMEOUT_SECONDS: Final = 2


@dataclass(slots=True)
class Figures:
    """What one look at the metrics page showed; tables are named without their schema."""

    state: str = ""
    copied: dict[str, int] = field(default_factory=dict)
    table_states: dict[str, str] = field(default_factory=dict)
    applied: int = 0
    visible_seconds: float = 0.0
    visible_batches: int = 0
    lag_seconds: float = 0.0

    @property
    def copying(self) -> bool:
        return not self.table_states or any(state in ("pending", "copying") for state in self.table_states.values())

    @property
    def live(self) -> bool:
        return bool(self.table_states) and all(state == "live" for state in self.table_states.values())


@dataclass(slots=True)
class Running:
    """One `cdcflow run`. Its log goes on in the demo's folder."""

    place: Place
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, place: Place) -> Running:
        with place.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "cdcflow", "run", "-c", str(place.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C reaches the whole terminal's group; the demo decides what its process gets.
                start_new_session=True,
                env={**os.environ, "NO_COLOR": "1"},
            )
        return cls(place, process)

    def figures(self) -> Figures | None:
        """Return what the metrics page says now, None while it does not answer. Raises where the process ended."""
        if self.process.poll() is not None:
            raise CdcflowError(
                f"`cdcflow run` ended with {self.process.returncode} in the middle of the demo",
                at=str(self.place.log),
                why="\n".join(self.place.log.read_text(errors="replace").splitlines()[-8:]),
            )
        page = HTTPConnection("127.0.0.1", self.place.http_port, timeout=_TIMEOUT_SECONDS)
        try:
            page.request("GET", "/metrics")
            return _read(page.getresponse().read().decode())
        except (OSError, HTTPException):
            return None
        finally:
            page.close()

    def kill(self) -> None:
        """SIGKILL: no chance to finish anything."""
        self.process.kill()
        self.process.wait()

    def stop(self, limit_seconds: float = 30) -> int:
        """SIGTERM, as a service manager does. Returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise CdcflowError("`cdcflow run` did not end after SIGTERM", at=str(self.place.log)) from None


def _read(page: str) -> Figures:
    found = Figures()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            table = sample.labels.get("table", "").rpartition(".")[2]
            match sample.name:
                case "cdcflow_pipeline_state" if sample.value:
                    found.state = sample.labels["state"]
                case "cdcflow_table_state" if sample.value:
                    found.table_states[table] = sample.labels["state"]
                case "cdcflow_snapshot_rows":
                    found.copied[table] = int(sample.value)
                case "cdcflow_applied_rows_total":
                    found.applied += int(sample.value)
                case "cdcflow_commit_to_visible_seconds_sum":
                    found.visible_seconds = sample.value
                case "cdcflow_commit_to_visible_seconds_count":
                    found.visible_batches = int(sample.value)
                case "cdcflow_lag_seconds":
                    found.lag_seconds = sample.value
    return found
