"""Which servers the tests use, and where they come from: the environment, Docker, or processes of our own."""

from __future__ import annotations

import itertools
import os
from typing import Protocol

import pytest

from tests.servers import compose, trees
from tests.servers.cluster import Cluster, StopMode
from tests.servers.external import External
from tests.servers.session import Session


class PostgresServer(Protocol):
    """What a test may do with a server."""

    version: int
    port: int

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str = "") -> str: ...
    def log(self) -> str: ...
    def stop(self, mode: StopMode = "fast") -> None: ...
    def restart(self, mode: StopMode = "fast") -> None: ...
    def configure(self, **settings: str) -> None: ...
    def remove(self) -> None: ...

    @property
    def running(self) -> bool: ...

    def start(self) -> object: ...


# Which server a URL in the environment stands for.
URLS = {"source": "CDCFLOW_TEST_PG_SOURCE", "target": "CDCFLOW_TEST_PG_TARGET"}


def left_out(name: str) -> bool:
    """Return whether the person asked to go without this server: `CDCFLOW_TEST_WITHOUT=pg14,pg17`."""
    return name in os.environ.get("CDCFLOW_TEST_WITHOUT", "").replace(" ", "").split(",")


class Fleet:
    """The servers of one test process, by version and role.

    `told` says of each server where it came from.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self._session: Session | None = None
        self._shared: dict[tuple[int, str], PostgresServer] = {}
        self._alone: list[PostgresServer] = []
        self._numbers = itertools.count(1)

    def postgres(self, version: int, role: str = "any") -> PostgresServer:
        """Return the running server of a version and role.

        Raises:
            ServerMissing: it cannot be had; the test that needs it fails.
        """
        if left_out(f"pg{version}"):
            pytest.skip(f"CDCFLOW_TEST_WITHOUT leaves out pg{version}")
        key = (version, role)
        if key not in self._shared:
            self._shared[key] = self._find(version, role)
        server = self._shared[key]
        server.start()
        return server

    def alone(
        self,
        version: int = 18,
        *,
        durable: bool = False,
        settings: dict[str, str] | None = None,
        contrib: bool = False,
    ) -> Cluster:
        """Start a server for one test: always a process of our own, so that it may be broken.

        `contrib` asks for one that has the extensions (hstore, citext).
        """
        if left_out(f"pg{version}"):
            pytest.skip(f"CDCFLOW_TEST_WITHOUT leaves out pg{version}")
        cluster = self._process(version, durable=durable, settings=settings, contrib=contrib)
        self._alone.append(cluster)
        return cluster

    def all_running(self) -> None:
        """Start again what a test left stopped, and remove what belonged to that test."""
        for server in self._shared.values():
            server.start()
        for server in self._alone:
            server.remove()
        self._alone.clear()

    def end(self) -> None:
        """Remove every server."""
        for server in [*self._shared.values(), *self._alone]:
            server.remove()
        if self._session is not None:
            self._session.remove()

    def _find(self, version: int, role: str) -> PostgresServer:
        url = os.environ.get(URLS.get(role, ""), "") if version == 18 else ""
        if url:
            external = External(url)
            self._tell(f"pg{version} {role}: {URLS[role]} (PostgreSQL {external.version})")
            return external
        if compose.answers():
            try:
                server: PostgresServer = compose.ComposeServer(version).start()
                self._tell(f"pg{version} {role}: docker compose")
                return server
            except compose.ComposeFailed as error:
                self._tell(f"pg{version} {role}: docker compose failed ({error}), going on without")
        return self._process(version, role=role)

    def _process(
        self,
        version: int,
        *,
        role: str = "alone",
        durable: bool = False,
        settings: dict[str, str] | None = None,
        contrib: bool = False,
    ) -> Cluster:
        tree, origin = trees.postgres_tree_with_contrib(version) if contrib else trees.postgres_tree(version)
        if self._session is None:
            self._session = Session()
        folder = self._session.path / f"pg{version}-{role}-{next(self._numbers)}"
        cluster = Cluster(tree, folder, version, durable=durable, settings=settings).start()
        if role != "alone":
            self._tell(f"pg{version} {role}: processes of our own from {origin}")
        return cluster

    def _tell(self, line: str) -> None:
        self.told.append(line)
