"""Which servers the tests use, and where they come from: the environment, Docker, or processes of our own."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.servers import compose, trees
from tests.servers.bus_fleet import BusFleet
from tests.servers.cache import ServerMissing
from tests.servers.cluster import Cluster, StopMode
from tests.servers.external import External
from tests.servers.mysql_elsewhere import ComposeMysql, ExternalMysql
from tests.servers.mysql_server import MysqlServer
from tests.servers.mysql_trees import Flavour, tree_of
from tests.servers.postgis_tree import postgis_tree
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


class Removable(Protocol):
    """A server of any kind, at its end."""

    def remove(self) -> None: ...


class MysqlLike(Protocol):
    """What a test may do with a MySQL or MariaDB server."""

    flavour: str
    version: str
    port: int
    server_id: int

    def url(self, database: str = "", *, user: str = "root", password: str = "") -> str: ...
    def query(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]: ...
    def create_user(self, name: str, password: str = "", grants: Iterable[str] = ()) -> str: ...
    def log(self) -> str: ...
    def stop(self, mode: StopMode = "fast") -> None: ...
    def kill(self) -> None: ...
    def restart(self, mode: StopMode = "fast") -> None: ...
    def configure(self, **settings: str) -> None: ...
    def remove(self) -> None: ...

    @property
    def running(self) -> bool: ...

    def start(self) -> object: ...


# Which server a URL in the environment stands for.
URLS = {"source": "CDCFLOW_TEST_PG_SOURCE", "target": "CDCFLOW_TEST_PG_TARGET"}
# The usual versions: those that a test gets which asks for none, and that a URL in the environment stands for.
MYSQL, MARIADB, MARIADB_OTHERWISE = "9.7", "11.8", "11.4"


def left_out(name: str) -> bool:
    """Return whether the person asked to go without this server: `CDCFLOW_TEST_WITHOUT=pg14,pg17`."""
    return name in os.environ.get("CDCFLOW_TEST_WITHOUT", "").replace(" ", "").split(",")


def skip_if_left_out(flavour: str, version: str) -> None:
    """`CDCFLOW_TEST_WITHOUT=mysql,mariadb` leaves out every version, `mysql8.0` one."""
    for name in (flavour, f"{flavour}{version}"):
        if left_out(name):
            pytest.skip(f"CDCFLOW_TEST_WITHOUT leaves out {name}")


class Fleet:
    """The servers of one test process, by version and role.

    `told` says of each server where it came from.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self._session: Session | None = None
        self._shared: dict[tuple[int, str], PostgresServer] = {}
        self._shared_mysql: dict[tuple[Flavour, str, str], MysqlLike] = {}
        self._alone: list[Cluster | MysqlServer] = []
        self._numbers = itertools.count(1)
        self.bus = BusFleet(self._folder, self._tell, left_out)

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
        postgis: bool = False,
    ) -> Cluster:
        """Start a server for one test: always a process of our own, so that it may be broken.

        `contrib` asks for one that has the extensions (hstore, citext), `postgis` for one (of 18) that has that.
        """
        if left_out(f"pg{version}"):
            pytest.skip(f"CDCFLOW_TEST_WITHOUT leaves out pg{version}")
        tree = postgis_tree() if postgis else None
        cluster = self._process(version, durable=durable, settings=settings, contrib=contrib, tree=tree)
        self._alone.append(cluster)
        return cluster

    def mysql(self, version: str = MYSQL, role: str = "any") -> MysqlLike:
        """Return the running MySQL of a version and role.

        Raises:
            ServerMissing: it cannot be had; the test that needs it fails.
        """
        return self._mysql_like("mysql", version, role)

    def mariadb(self, role: str = "any", version: str = MARIADB) -> MysqlLike:
        """Return the running MariaDB of a role; the usual version may be an older one where it cannot be had.

        Raises:
            ServerMissing: it cannot be had; the test that needs it fails.
        """
        return self._mysql_like("mariadb", version, role)

    def mysql_alone(
        self,
        flavour: Flavour = "mysql",
        version: str = "",
        *,
        durable: bool = False,
        settings: Mapping[str, str | None] | None = None,
    ) -> MysqlServer:
        """Start a MySQL or MariaDB for one test: always a process of our own, so that it may be broken."""
        version = version or (MYSQL if flavour == "mysql" else MARIADB)
        skip_if_left_out(flavour, version)
        server = self._mysql_process(flavour, version, "alone", durable=durable, settings=settings)
        self._alone.append(server)
        return server

    def all_running(self) -> None:
        """Start again what a test left stopped, and remove what belonged to that test."""
        for server in self._shared.values():
            server.start()
        for mysql in self._shared_mysql.values():
            mysql.start()
        for alone in self._alone:
            alone.remove()
        self._alone.clear()
        self.bus.all_running()

    def end(self) -> None:
        """Remove every server."""
        everyone: list[Removable] = [*self._shared.values(), *self._shared_mysql.values(), *self._alone]
        for server in everyone:
            server.remove()
        self.bus.end()
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
        tree: tuple[Path, str] | None = None,
    ) -> Cluster:
        if tree is None:
            tree = trees.postgres_tree_with_contrib(version) if contrib else trees.postgres_tree(version)
        programs, origin = tree
        folder = self._folder(f"pg{version}-{role}")
        cluster = Cluster(programs, folder, version, durable=durable, settings=settings).start()
        if role != "alone":
            self._tell(f"pg{version} {role}: processes of our own from {origin}")
        return cluster

    def _mysql_like(self, flavour: Flavour, version: str, role: str) -> MysqlLike:
        skip_if_left_out(flavour, version)
        key = (flavour, version, role)
        if key not in self._shared_mysql:
            self._shared_mysql[key] = self._find_mysql(flavour, version, role)
        server = self._shared_mysql[key]
        server.start()
        return server

    def _find_mysql(self, flavour: Flavour, version: str, role: str) -> MysqlLike:
        variable = f"CDCFLOW_TEST_{flavour.upper()}_{role.upper()}"
        url = os.environ.get(variable) if version in (MYSQL, MARIADB) else None
        if url:
            external = ExternalMysql(url)
            self._tell(f"{flavour} {role}: {variable} ({external.flavour} {external.version})")
            return external
        if compose.answers():
            contained = ComposeMysql(flavour, version)
            try:
                contained.start()
                self._tell(f"{flavour} {version} {role}: docker compose")
                return contained
            except (compose.ComposeFailed, AssertionError) as error:
                self._tell(f"{flavour} {version} {role}: docker compose failed ({error}), going on without")
                with contextlib.suppress(compose.ComposeFailed):
                    contained.remove()
        return self._mysql_process(flavour, version, role)

    def _mysql_process(
        self,
        flavour: Flavour,
        version: str,
        role: str,
        *,
        durable: bool = False,
        settings: Mapping[str, str | None] | None = None,
    ) -> MysqlServer:
        try:
            tree = tree_of(flavour, version)
        except ServerMissing as missing:
            if (flavour, version) != ("mariadb", MARIADB):
                raise ServerMissing(
                    f"{missing}\nOr name running servers in CDCFLOW_TEST_{flavour.upper()}_SOURCE and _TARGET, "
                    f"or leave these tests out with CDCFLOW_TEST_WITHOUT={flavour}{version}"
                ) from missing
            self._tell(
                f"mariadb {version}: not to be had ({str(missing).splitlines()[0]}), {MARIADB_OTHERWISE} instead"
            )
            tree = tree_of(flavour, MARIADB_OTHERWISE)
        folder = self._folder(f"{flavour}-{tree.version}-{role}")
        server = MysqlServer(tree, folder, durable=durable, settings=settings)
        try:
            server.start()
        except BaseException:
            server.remove()  # nobody else knows of its process yet
            raise
        if role != "alone":
            self._tell(f"{flavour} {tree.version} {role}: processes of our own from {tree.origin}")
        return server

    def _folder(self, name: str) -> Path:
        if self._session is None:
            self._session = Session()
        return self._session.path / f"{name}-{next(self._numbers)}"

    def _tell(self, line: str) -> None:
        self.told.append(line)
