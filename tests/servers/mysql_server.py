"""A MySQL or MariaDB server as a plain process of this machine: made, started, stopped, crashed, removed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.servers.cache import account
from tests.servers.cluster import StopMode, free_port
from tests.servers.mysql_session import connect_to, rows
from tests.servers.mysql_trees import Tree, template
from tests.servers.waiting import until

START_LIMIT_SECONDS = 150
STOP_LIMIT_SECONDS = 150
# There is no stop between an orderly one and a crash.
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGTERM, "immediate": signal.SIGKILL, "kill": signal.SIGKILL}

SETTINGS: dict[str, str] = {
    "log-bin": "binlog",
    "binlog-format": "ROW",
    "binlog-row-image": "FULL",
    "binlog-row-metadata": "FULL",
    "max-connections": "200",
    "local-infile": "1",
    "skip-name-resolve": "1",
    # Small and quick.
    "performance-schema": "0",
    "innodb-buffer-pool-size": "32M",
    # A machine has so many requests of asynchronous I/O (fs.aio-max-nr) that two dozen servers take them all, and the
    # next does not start.
    "innodb-use-native-aio": "OFF",
    "key-buffer-size": "1M",
    "table-open-cache": "400",
    "table-definition-cache": "400",
    # Not the defaults, so that a session of cdcflow that is not pinned reads and writes values that differ.
    "default-time-zone": "+05:45",
    "sql-mode": "ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES",
    "character-set-server": "latin1",
    "collation-server": "latin1_german2_ci",
    "transaction-isolation": "READ-COMMITTED",
    "lc-time-names": "de_DE",
    "div-precision-increment": "7",
    "group-concat-max-len": "64",
}
OF_FLAVOUR: dict[str, dict[str, str]] = {
    "mysql": {
        "gtid-mode": "ON",
        "enforce-gtid-consistency": "ON",
        "mysqlx": "0",
        # Unknown to 8.0.15.
        "loose-innodb-redo-log-capacity": "32M",
        "loose-innodb-log-writer-threads": "OFF",
    },
    "mariadb": {
        "gtid-strict-mode": "1",
        "innodb-log-file-size": "8M",
        "aria-pagecache-buffer-size": "1M",
        # With TLS and no key it makes one at each start, which takes up to 16 s.
        "ssl": "0",
    },
}
# A killed server has lost nothing even so (the system has what it wrote); one whose machine fails has. The
# doublewrite buffer stays: SIGKILL can tear the write of a page that is larger than the system's.
NOT_DURABLE = {"sync-binlog": "0", "innodb-flush-log-at-trx-commit": "2"}
DURABLE = {"sync-binlog": "1", "innodb-flush-log-at-trx-commit": "1"}


def settings_of(flavour: str, *, durable: bool = False, settings: Mapping[str, str | None] | None = None) -> list[str]:
    """Return the options of a test server, as on a command line; a setting that is None is left to the server."""
    chosen: dict[str, str | None] = {
        **SETTINGS,
        **OF_FLAVOUR[flavour],
        **(DURABLE if durable else NOT_DURABLE),
        **{name.replace("_", "-"): value for name, value in (settings or {}).items()},
    }
    return [f"--{name}={value}" for name, value in chosen.items() if value is not None]


class MysqlServer:
    """One server with its own data folder, port, server id and, for MySQL, server uuid.

    `settings` are options without the dashes in front: `{"binlog-row-image": "MINIMAL"}`; None takes one of the
    defaults out.
    """

    def __init__(
        self,
        tree: Tree,
        folder: Path,
        *,
        durable: bool = False,
        settings: Mapping[str, str | None] | None = None,
        port: int | None = None,
    ) -> None:
        self.tree, self.folder = tree, folder
        self.flavour: str = tree.flavour
        self.version = tree.version
        self.port = port or free_port()
        self.server_id = random.randint(1_000_000, 2**31)
        self._settings = settings_of(tree.flavour, durable=durable, settings=settings)
        self._account = account()
        self._process: subprocess.Popen[bytes] | None = None
        self._data = folder / "data"
        self._log = folder / "log"
        self._copy_template()

    def __repr__(self) -> str:
        return f"<{self.flavour} {self.version} on port {self.port}>"

    def url(self, database: str = "", *, user: str = "root", password: str = "") -> str:
        """Return the URL of one of its databases."""
        secret = f":{quote(password, safe='')}" if password else ""
        return f"{self.flavour}://{user}{secret}@127.0.0.1:{self.port}/{database}"

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return what the server has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def query(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Run SQL as root in a session of its own and return the rows."""
        with connect_to(self.url()) as connection:
            return rows(connection, sql, params)

    def start(self) -> MysqlServer:
        """Start it and wait until it takes connections."""
        if not self.running:
            until(self._try_start, limit=START_LIMIT_SECONDS, what=f"{self} takes connections")
        return self

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it and wait until it is gone; `immediate` and `kill` are crashes."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(SIGNALS[mode])
        self._process.wait(timeout=STOP_LIMIT_SECONDS)
        self._process = None

    def kill(self) -> None:
        """Crash it."""
        self.stop("kill")

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def configure(self, **settings: str) -> None:
        """Set global variables until the next restart; `settings=` of a new server is for those that need one."""
        for name, value in settings.items():
            self.query(f"SET GLOBAL {name} = {value}")

    def change(self, settings: Mapping[str, str]) -> None:
        """Change options of its command line, which count from its next start on."""
        self._settings += [f"--{name}={value}" for name, value in settings.items()]  # the last one counts

    def create_user(self, name: str, password: str = "", grants: Iterable[str] = ()) -> str:
        """Create a login for loopback with privileges such as `REPLICATION SLAVE ON *.*`; return its URL."""
        create_user(self.query, name, password, grants)
        return self.url(user=name, password=password)

    def remove(self) -> None:
        """Stop it for good and remove its files."""
        self.stop("kill")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _copy_template(self) -> None:
        self.folder.mkdir(parents=True)
        self._account.own(self.folder)
        # `cp` keeps holes: most of the undo and redo logs is empty.
        subprocess.run(["cp", "-r", "--sparse=always", "--", template(self.tree), self._data], check=True)
        for parent, folders, files in os.walk(self._data):
            for name in [".", *folders, *files]:
                self._account.own(Path(parent) / name)

    def _try_start(self) -> bool:
        if not self.running:
            self._spawn()
        try:
            ((found,),) = self.query("SELECT @@server_id")
        except Exception as error:
            raise RuntimeError(f"{error}\n{self.log()[-3000:]}") from error
        if found != self.server_id:
            self.stop("kill")
            raise RuntimeError(f"port {self.port} was taken by another server, {found}")
        return True

    def _spawn(self) -> None:
        command = [
            *self.tree.server(),
            f"--datadir={self._data}",
            f"--tmpdir={self.folder}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            "--socket=s",  # in the data folder: a whole path may be too long for a socket
            "--pid-file=pid",
            f"--server-id={self.server_id}",
            *self._settings,
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                # The person's Ctrl-C is for pytest; the servers are stopped by it in order.
                start_new_session=True,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                **self._account.popen_arguments(),  # type: ignore[call-overload]
            )


def create_user(query: Any, name: str, password: str, grants: Iterable[str]) -> None:
    """Create a login for any address with privileges such as `SELECT ON shop.*`."""
    query(f"CREATE USER '{name}'@'%%' IDENTIFIED BY %s", [password])
    for grant in grants:
        query(f"GRANT {grant} TO '{name}'@'%'")
