"""A schema registry for tests: Apicurio Registry with the API of Confluent's."""

from __future__ import annotations

import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.servers.bus_trees import REGISTRY, registry_tree
from tests.servers.cluster import free_port
from tests.servers.java import SMALL, class_archive, java
from tests.servers.runs import OwnProcess, Runs
from tests.servers.server import Server

START_LIMIT_SECONDS = 120
CONFLUENT = "/apis/ccompat/v7"


class SchemaRegistry(Server):
    """A registry whose schemas are kept in memory: what was registered is lost when it is stopped or killed."""

    def __init__(self, url: str, runs: Runs) -> None:
        super().__init__(runs, limit=START_LIMIT_SECONDS, ready="answers")
        self.url = url

    def __repr__(self) -> str:
        return f"<schema registry at {self.url}>"

    @property
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(self.url).port or 80

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def registry_process(folder: Path, *, port: int | None = None) -> tuple[SchemaRegistry, str]:
    """Return a registry as a process of our own, not started yet, and where it came from in words.

    Raises:
        ServerMissing: its programs or Java cannot be had.
    """
    options = class_archive(f"apicurio-{REGISTRY}", _record)
    return _process(folder, options, port), registry_tree()[1]


def _record(folder: Path, option: str) -> None:
    registry = _process(folder, [option])
    try:
        registry.start().stop()
    finally:
        registry.remove()


def _process(folder: Path, options: Sequence[str], port: int | None = None) -> SchemaRegistry:
    tree, _ = registry_tree()
    listening = port or free_port()
    command = [
        java(),
        "-Xmx320m",
        *SMALL,
        *options,
        "-Dquarkus.http.host=127.0.0.1",
        f"-Dquarkus.http.port={listening}",
        f"-Djava.io.tmpdir={folder}",
        "-cp",
        f"{next(tree.glob('*-runner.jar'))}:{tree / 'lib'}/*",
        "io.quarkus.runner.GeneratedMain",
    ]
    return SchemaRegistry(f"http://127.0.0.1:{listening}{CONFLUENT}", OwnProcess(folder, command))
