"""A PostgreSQL server as a plain process of this machine: made, started, stopped, crashed, removed."""

from __future__ import annotations

import contextlib
import fcntl
import random
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import IO, Literal

import psycopg

from tests.servers.cache import ServerMissing, account, cache_folder
from tests.servers.waiting import until

StopMode = Literal["smart", "fast", "immediate", "kill"]
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}
START_LIMIT_SECONDS = 150
STOP_LIMIT_SECONDS = 150

SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "wal_level": "logical",
    "max_connections": "200",
    "max_wal_senders": "50",
    "max_replication_slots": "50",
    "max_prepared_transactions": "10",
    "shared_buffers": "'32MB'",
    "max_wal_size": "'1GB'",
    # Not the defaults, so that a session of cdcflow that is not pinned prints values that differ.
    "timezone": "'America/St_Johns'",
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "'sql_standard'",
    "bytea_output": "'escape'",
    "extra_float_digits": "0",
}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
# The superuser needs no password; any other role does, so that a wrong one can be tried.
HBA = """\
host all postgres 127.0.0.1/32 trust
host replication postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""


# Not `random` itself, which Hypothesis seeds alike in every test process.
_any = random.SystemRandom()
_given: set[int] = set()
_claims: IO[bytes] | None = None


def free_port() -> int:
    """Return a port that nobody listens on, below the range that the kernel gives to clients.

    A server binds it only seconds later, so no other test process is given it while this one lives, nor this one twice.
    """
    while True:
        port = _any.randint(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _claim(port)
                _given.add(port)
                return port


def _claim(port: int) -> None:
    """Lock the byte of this number in a file that all test processes share. Raises OSError: another one holds it."""
    global _claims
    if _claims is None:
        _claims = (cache_folder() / "ports.lock").open("ab")  # kept open: the locks go with it
    fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)


class Cluster:
    """One server with its own data folder on a free loopback port.

    `durable` keeps fsync on: for tests that crash the server and count on what it promised.
    """

    def __init__(
        self, tree: Path, folder: Path, version: int, *, durable: bool = False, settings: dict[str, str] | None = None
    ) -> None:
        self.tree, self.folder, self.version = tree, folder, version
        self.port = free_port()
        self._account = account()
        self._process: subprocess.Popen[bytes] | None = None
        self._data = folder / "data"
        self._log = folder / "log"
        self._initialise({**SETTINGS, **({} if durable else NOT_DURABLE), **(settings or {})})

    def __repr__(self) -> str:
        return f"<PostgreSQL {self.version} on port {self.port}>"

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str = "") -> str:
        """Return the URL of one of its databases."""
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return what the server has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> Cluster:
        """Start it and wait until it takes connections."""
        if self.running:
            return self
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

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop it for good and remove its files."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def configure(self, **settings: str) -> None:
        """Set server parameters (written as in postgresql.conf); those that need it take effect at a restart."""
        with (self._data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in settings.items())
        if self.running:
            assert self._process is not None
            self._process.send_signal(signal.SIGHUP)

    def _initialise(self, settings: dict[str, str]) -> None:
        self.folder.mkdir(parents=True)
        self._account.own(self.folder)
        initdb: list[Path | str] = [
            self.tree / "bin" / "initdb",
            "-D",
            self._data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        done = self._spawn([*initdb, "--locale=C", "--no-sync", "--no-instructions"], subprocess.PIPE)
        output, _ = done.communicate(timeout=START_LIMIT_SECONDS)
        if done.returncode != 0:
            raise ServerMissing(f"initdb of PostgreSQL {self.version} failed:\n{output.decode(errors='replace')}")
        (self._data / "pg_hba.conf").write_text(HBA)
        self.configure(port=str(self.port), **settings)

    def _spawn(self, arguments: list[Path | str], output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            # The person's Ctrl-C is for pytest; the servers are stopped by it in order.
            start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            **self._account.popen_arguments(),  # type: ignore[call-overload]
        )
        return process

    def _try_start(self) -> bool:
        if not self.running:
            # After a kill the children need a moment to notice; until then a new server refuses to start.
            with self._log.open("ab") as log:
                self._process = self._spawn([self.tree / "bin" / "postgres", "-D", self._data], log)
        try:
            with psycopg.connect(self.url(), connect_timeout=5) as connection:
                ((found,),) = connection.execute("SHOW data_directory").fetchall()
        except psycopg.OperationalError as error:
            raise RuntimeError(f"{error}\n{self.log()[-3000:]}") from error
        if found != str(self._data):
            self.stop("kill")
            raise RuntimeError(f"port {self.port} was taken by another server, of {found}")
        return True
