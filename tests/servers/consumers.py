"""Readers of Debezium's topics for tests: Flink SQL, and Kafka Connect with Debezium's JDBC sink."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.servers.cluster import free_port
from tests.servers.consumer_trees import clickhouse_packages, connect_tree, flink_tree
from tests.servers.java import SMALL, java
from tests.servers.runs import OwnProcess
from tests.servers.server import Server
from tests.servers.waiting import until

RUN_LIMIT_SECONDS = 120
START_LIMIT_SECONDS = 90
# What Flink itself hands to Java 17 and newer.
_OPENED: Final = tuple(
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        *("java.lang", "java.lang.reflect", "java.net", "java.io", "java.nio", "java.text", "java.time", "java.util"),
        *("java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks", "sun.nio.ch"),
    )
)
_LOCAL: Final = """\
execution: {target: local}
parallelism: {default: 1}
table: {dml-sync: true, local-time-zone: UTC}
"""
_LOGGING: Final = """\
appender.c.type = Console
appender.c.name = c
appender.c.layout.type = PatternLayout
appender.c.layout.pattern = %d %p %m (%c)%n
rootLogger.level = WARN
rootLogger.appenderRef.c.ref = c
"""
# It runs the statements in a process of its own, as ClickHouse is a large library.
_CLICKHOUSE: Final = """\
import sys
from chdb import session
with session.Session() as database:
    for statement in sys.stdin.read().split(";\\n"):
        if statement.strip():
            print(database.query(statement, "JSONEachRow").data(), end="")
"""


class FlinkSql(Server):
    """Flink SQL by its gateway; jobs run in the process of that."""

    def __init__(self, folder: Path) -> None:
        libs = flink_tree() / "libs"
        port = free_port()
        command = [java(), "-Xmx768m", *SMALL, *_OPENED, f"-Djava.io.tmpdir={folder}"]
        command += [f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}", "-cp", f"{libs}/*"]
        command += ["org.apache.flink.table.gateway.SqlGateway"]
        command += ["-Dsql-gateway.endpoint.rest.address=127.0.0.1", f"-Dsql-gateway.endpoint.rest.port={port}"]
        runs = OwnProcess(folder, command, {"FLINK_CONF_DIR": str(folder)})
        (folder / "config.yaml").write_text(_LOCAL)
        (folder / "log4j2.properties").write_text(_LOGGING)
        super().__init__(runs, limit=START_LIMIT_SECONDS, ready="answers")
        self._url = f"http://127.0.0.1:{port}/v1"

    def __repr__(self) -> str:
        return "<Flink SQL>"

    def run(self, statements: Sequence[str]) -> None:
        """Run statements in a session of their own, each to its end; also the jobs that write.

        Raises:
            FlinkRefused: one fails; with Flink's own words.
        """
        session = f"/sessions/{self._asked('/sessions', {})['sessionHandle']}"
        for statement in statements:
            handle = self._asked(f"{session}/statements", {"statement": statement})["operationHandle"]
            operation = f"{session}/operations/{handle}"
            until(partial(self._ended, operation), limit=RUN_LIMIT_SECONDS, what=f"Flink ends {statement[:50]!r}")
            self._asked(f"{operation}/result/0")  # it is there that a failure is told

    def _ended(self, operation: str) -> bool:
        return self._asked(f"{operation}/status")["status"] not in ("INITIALIZED", "PENDING", "RUNNING")

    def _asked(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=RUN_LIMIT_SECONDS) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            said = "\n".join(json.load(error).get("errors", []))
            raise FlinkRefused(f"{said}\n{self.log()}") from None

    def _ready(self) -> bool:
        return "version" in self._asked("/info")


class FlinkRefused(Exception):
    """A statement or job that failed."""


class Connect(Server):
    """One Kafka Connect with its connectors, each of one task."""

    def __init__(self, folder: Path, worker: Mapping[str, str], connectors: Sequence[Mapping[str, str]]) -> None:
        libs = connect_tree() / "libs"
        port = free_port()
        command = [java(), "-Xmx384m", *SMALL, f"-Djava.io.tmpdir={folder}"]
        command += [f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}", "-cp", f"{libs}/*"]
        command += ["org.apache.kafka.connect.cli.ConnectStandalone"]
        settings = {"worker": worker, **{f"connector-{n}": each for n, each in enumerate(connectors)}}
        command += [str(folder / f"{name}.properties") for name in settings]
        super().__init__(OwnProcess(folder, command), limit=START_LIMIT_SECONDS, ready="runs its connectors")
        self._url = f"http://127.0.0.1:{port}/connectors"
        self._names = [each["name"] for each in connectors]
        settings["worker"] = {
            "listeners": f"http://127.0.0.1:{port}",
            "offset.storage.file.filename": str(folder / "offsets"),
            "offset.flush.interval.ms": "1000",
            **worker,
        }
        (folder / "log4j2.properties").write_text(_LOGGING)
        for name, properties in settings.items():
            lines = "".join(f"{each}={text}\n" for each, text in properties.items())
            (folder / f"{name}.properties").write_text(lines)

    def __repr__(self) -> str:
        return "<Kafka Connect>"

    def states(self) -> list[str]:
        """Return the state of each connector's task, `RUNNING` or `FAILED`."""
        return [task["state"] for name in self._names for task in self._tasks(name)]

    def _tasks(self, name: str) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self._url}/{name}/status", timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["tasks"]
            return found

    def _ready(self) -> bool:
        return len(self.states()) == len(self._names)


def clickhouse(statements: Sequence[str]) -> list[dict[str, Any]]:
    """Run statements in one ClickHouse and return the rows of those that have any.

    Raises:
        AssertionError: a statement fails.
        ServerMissing: ClickHouse cannot be had.
    """
    environment = {**os.environ, "PYTHONPATH": str(clickhouse_packages())}
    done = subprocess.run(
        [sys.executable, "-c", _CLICKHOUSE],
        input=";\n".join(statements),
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_SECONDS,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
