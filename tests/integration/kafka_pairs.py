"""A database, a Kafka, a database: one pipeline publishes, any number of instances of another apply."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.commands import Commands, PipelineFolder, Running
from tests.servers.kafka_server import Kafka

_numbers = itertools.count(1)


@dataclass(slots=True)
class Through:
    """Two pipelines with topics between them. `partitions` of each topic of a table."""

    kafka: Kafka
    name: str
    source: Any
    target: Any
    out: PipelineFolder
    into: PipelineFolder
    publishing: Commands
    applying: Commands
    running: list[Running] = field(default_factory=list)

    def topic(self, table: str) -> str:
        """Return the topic of a table `public.t`."""
        return f"{self.name}.{table}"

    def publish(self) -> None:
        """Publish everything that was committed before."""
        self.publishing.call("run", "--until-caught-up", exit_code=0)

    def apply(self, exit_code: int = 0) -> str:
        """Apply everything that was published before; return what the command printed."""
        done = self.applying.call("run", "--until-caught-up", exit_code=exit_code)
        return done.stdout + done.stderr

    def instance(self) -> Running:
        """Start one more instance that applies."""
        started = self.applying.start("run")
        self.running.append(started)
        return started

    def end(self) -> None:
        """End every process."""
        self.applying.end()
        self.publishing.end()


def through(
    folder: Path,
    kafka: Kafka,
    source: Any,
    target: Any,
    *,
    partitions: int = 4,
    match: str = "public.*",
    out: Mapping[str, Any] | None = None,
    into: Mapping[str, Any] | None = None,
    outward: Mapping[str, Any] | None = None,
) -> Through:
    """Write both configurations. `out`, `into`: keys of the publisher's target and of the other's source. `outward`:
    keys of the publisher's rules for all tables."""
    name = f"between{os.getpid()}_{next(_numbers)}"
    (folder / "out").mkdir(parents=True)
    (folder / "into").mkdir()
    publisher = PipelineFolder(folder / "out", name, source.url, kafka.url())
    publisher.write_config(target={"url": kafka.url(), "partitions": partitions, **(out or {})})
    publisher.write_rules({"match": match, **(outward or {})})
    applier = PipelineFolder(folder / "into", f"{name}in", kafka.url(), target.url)
    applier.write_config(source={"url": kafka.url(), "topics": [f"{name}.*"], **(into or {})})
    applier.write_rules(match)
    return Through(
        kafka,
        name,
        source,
        target,
        publisher,
        applier,
        Commands(folder / "out"),
        Commands(folder / "into"),
    )
