"""MySQL and MariaDB servers that are not processes of our own: named by a URL, or in a container."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import pytest

from tests.servers import compose
from tests.servers.cluster import StopMode, free_port
from tests.servers.mysql_server import START_LIMIT_SECONDS, create_user, settings_of
from tests.servers.mysql_session import connect_to, rows
from tests.servers.waiting import until

FILE = Path(__file__).parents[2] / "compose" / "mysql-test.yaml"
# Made at a first start in a container, which also makes its data folder.
FIRST_START_LIMIT_SECONDS = 2 * START_LIMIT_SECONDS


class ExternalMysql:
    """Used, never stopped: a test that has to stop its server is left out, because the person named this one."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.port = parts.port or 3306
        with connect_to(url) as connection:
            ((version, self.server_id),) = rows(connection, "SELECT @@version, @@server_id")
        self.flavour = "mariadb" if "MariaDB" in version else "mysql"
        self.version = ".".join(version.split(".")[:2])
        self._url = urlunsplit(parts._replace(scheme=self.flavour))

    def __repr__(self) -> str:
        return f"<{self.flavour} {self.version} of the environment, port {self.port}>"

    def url(self, database: str = "", *, user: str = "root", password: str = "") -> str:
        """Return the URL with another database, and with another login when one is named."""
        parts = urlsplit(self._url)
        netloc = parts.netloc
        if user != "root":
            secret = f":{quote(password, safe='')}" if password else ""
            netloc = f"{user}{secret}@{netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=netloc, path=f"/{database}"))

    @property
    def running(self) -> bool:
        """It is not ours to ask."""
        return True

    def log(self) -> str:
        """Not ours to read."""
        return ""

    def query(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Run SQL in a session of its own and return the rows."""
        with connect_to(self.url()) as connection:
            return rows(connection, sql, params)

    def create_user(self, name: str, password: str = "", grants: Iterable[str] = ()) -> str:
        """Create a login with privileges such as `REPLICATION SLAVE ON *.*`; return its URL."""
        create_user(self.query, name, password, grants)
        return self.url(user=name, password=password)

    def start(self) -> ExternalMysql:
        """Nothing to do."""
        return self

    def stop(self, mode: StopMode = "fast") -> None:
        """Leave the test out."""
        pytest.skip(f"{self} is not ours to stop")

    def kill(self) -> None:
        """Leave the test out."""
        self.stop("kill")

    def restart(self, mode: StopMode = "fast") -> None:
        """Leave the test out."""
        self.stop(mode)

    def configure(self, **settings: str) -> None:
        """Leave the test out."""
        pytest.skip(f"{self} is not ours to configure")

    def remove(self) -> None:
        """Leave it as it is."""


class ComposeMysql:
    """One container with a project name and a port of its own (compose/mysql-test.yaml)."""

    def __init__(self, flavour: str, version: str, *, settings: Mapping[str, str | None] | None = None) -> None:
        self.flavour, self.version = flavour, version
        self.port = free_port()
        self.server_id = random.randint(1_000_000, 2**31)
        self._settings = settings_of(flavour, settings=settings)
        self._project = f"cdcflow-test-{os.getpid()}-{self.port}"

    def __repr__(self) -> str:
        return f"<{self.flavour} {self.version} in {self._project}, port {self.port}>"

    def url(self, database: str = "", *, user: str = "root", password: str = "") -> str:
        """Return the URL of one of its databases."""
        secret = f":{quote(password, safe='')}" if password else ""
        return f"{self.flavour}://{user}{secret}@127.0.0.1:{self.port}/{database}"

    @property
    def running(self) -> bool:
        """Whether the container runs."""
        return bool(self._compose("ps", "-q", "--status", "running").strip())

    def log(self) -> str:
        """Return what the server has logged."""
        return self._compose("logs", "--no-log-prefix")

    def query(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Run SQL as root in a session of its own and return the rows."""
        with connect_to(self.url()) as connection:
            return rows(connection, sql, params)

    def create_user(self, name: str, password: str = "", grants: Iterable[str] = ()) -> str:
        """Create a login with privileges such as `REPLICATION SLAVE ON *.*`; return its URL."""
        create_user(self.query, name, password, grants)
        return self.url(user=name, password=password)

    def start(self) -> ComposeMysql:
        """Start it and wait until it takes connections."""
        if not self.running:
            self._compose("up", "-d")
            # Its first start serves no network until the data folder is made.
            until(lambda: self.query("SELECT 1"), limit=FIRST_START_LIMIT_SECONDS, what=f"{self} takes connections")
        return self

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it; `immediate` and `kill` are crashes."""
        if self.running:
            self._compose("kill", "-s", "SIGKILL" if mode in ("immediate", "kill") else "SIGTERM")
            until(lambda: not self.running, limit=60, what=f"{self} stops")

    def kill(self) -> None:
        """Crash it."""
        self.stop("kill")

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def configure(self, **settings: str) -> None:
        """Set global variables until the next restart."""
        for name, value in settings.items():
            self.query(f"SET GLOBAL {name} = {value}")

    def remove(self) -> None:
        """Remove the container and its data."""
        self._compose("down", "-v", "-t", "1")

    def _compose(self, *arguments: str) -> str:
        return compose.run(
            self._project,
            FILE,
            *arguments,
            SERVER_IMAGE=f"{self.flavour}:{self.version}",
            SERVER_PORT=str(self.port),
            SERVER_SETTINGS=" ".join([f"--server-id={self.server_id}", *self._settings]),
        )
