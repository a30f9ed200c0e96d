"""A MySQL or MariaDB for the demo: a private process made from the tests' cache, or a server that a person named."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pymysql.connections import Connection

from cdcflow.demo.cluster import account, can, free_port, give
from cdcflow.demo.programs import Programs
from cdcflow.engines.mysql.connect import connect, flavour
from cdcflow.errors import CdcflowError, SourceUnavailable, UsageError

_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 60
_USER: Final = "root"

# What following needs, and little memory. `loose-`: of one of the two servers, or of some versions only.
_SETTINGS: Final = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "1",
    "log-bin": "binlog",
    "sync-binlog": "1",
    "binlog-format": "ROW",
    "binlog-row-image": "FULL",
    "binlog-row-metadata": "FULL",
    "character-set-server": "utf8mb4",
    "performance-schema": "0",
    "innodb-buffer-pool-size": "128M",
    # Of the machine's requests of asynchronous I/O the servers that are there already may have all.
    "innodb-use-native-aio": "OFF",
}
_OF_FLAVOUR: Final = {
    "mysql": {
        "gtid-mode": "ON",
        "enforce-gtid-consistency": "ON",
        "mysqlx": "0",
        "loose-innodb-redo-log-capacity": "128M",
    },
    # With TLS and no key of its own it makes one at each start, which takes up to 16 s.
    "mariadb": {"gtid-strict-mode": "1", "ssl": "0", "innodb-log-file-size": "128M"},
}


@dataclass(frozen=True, slots=True)
class MysqlServer:
    """A server and who may do everything in it. `base` is its URL without user, password and database.

    `home` holds `data/` and `log` of a process of ours; None for a server that a person named.
    """

    base: str
    user: str
    password: str = field(repr=False)
    home: Path | None = None

    def url(self, database: str = "", *, password: str | None = None) -> str:
        """Return the URL of a database. `password` may be a placeholder that a config file fills in."""
        parts = urlsplit(self.base)
        secret = quote(self.password, safe="") if password is None else password
        who = quote(self.user, safe="") + (f":{secret}" if self.password else "")
        return urlunsplit((parts.scheme, f"{who}@{parts.netloc}", f"/{quote(database, safe='')}", parts.query, ""))

    def connect(self, database: str = "") -> Connection:
        """Open a connection; its session is pinned to UTC and utf8mb4."""
        return connect(self.url(database), side="source", application="cdcflow demo")

    @property
    def words(self) -> str:
        """What it is: `MySQL 9.7.4`."""
        with self.connect() as connection:
            return str(flavour(connection))

    @property
    def running(self) -> bool:
        return self.home is not None and _pid(self.home) is not None

    def stop(self) -> None:
        """Stop a process of ours and wait; does nothing where it is not running, or not ours."""
        if self.home is not None:
            _stop(self.home, signal.SIGTERM)

    def remove(self) -> None:
        """Stop a process of ours and delete everything it had."""
        if self.home is not None:
            remove(self.home)


def named(url: str) -> tuple[MysqlServer, str]:
    """Return the server that a person's URL names, and the database in it, '' for none."""
    parts = urlsplit(url)
    base = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", parts.query, ""))
    user, password = unquote(parts.username or _USER), unquote(parts.password or "")
    return MysqlServer(base, user, password), unquote(parts.path.strip("/"))


def start(programs: Programs, home: Path, settings: Mapping[str, str] | None = None, *, port: int = 0) -> MysqlServer:
    """Make a server under `home` (which must not exist) and start it. Its root has a random password.

    Raises:
        UsageError: the server's account cannot work in that folder.
        CdcflowError: it did not start, with the end of its log.
    """
    home = home.resolve()
    home.mkdir(parents=True, mode=0o755)
    give(home)
    if not can(["test", "-w", str(home)]):
        raise UsageError(
            f"the server's own account cannot write to {home}",
            why="no server runs as root, so it runs as nobody, who cannot reach that folder",
            do="choose a folder that everybody may enter, such as one under /var/tmp",
        )
    # `cp` keeps holes: most of the undo and redo logs is empty.
    subprocess.run(["cp", "-r", "--sparse=always", "--", str(programs.template), str(home / "data")], check=True)  # noqa: S603, S607
    for parent, folders, files in os.walk(home / "data"):
        for name in (".", *folders, *files):
            give(Path(parent) / name)
    password = secrets.token_urlsafe(18)
    # Every account of the machine can reach a loopback port.
    word = home / "first.sql"
    word.touch(mode=0o600)
    hosts = ("127.0.0.1", "localhost")
    # Not for the log, or whoever follows it has the password too.
    word.write_text(
        "SET SESSION sql_log_bin = 0;\n"
        + "".join(f"ALTER USER IF EXISTS {_USER}@'{host}' IDENTIFIED BY '{password}';\n" for host in hosts)
    )
    give(word)
    port = port or free_port()
    chosen = {**_SETTINGS, **_OF_FLAVOUR[programs.flavour], **(settings or {})}
    server = MysqlServer(f"{programs.flavour}://127.0.0.1:{port}", _USER, password, home)
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(  # type: ignore[call-overload]  # noqa: S603 - programs of the cache
            [
                *programs.command,
                *(f"--datadir={home / 'data'}", f"--tmpdir={home}", f"--port={port}", "--socket=s"),
                *(f"--pid-file={home / 'pid'}", f"--init-file={word}", f"--server-id={port}"),
                *(f"--{name}={value}" for name, value in chosen.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            start_new_session=True,  # it outlives the demo, and the terminal's Ctrl-C
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            **account(),
        )
    try:
        _wait(server, process, home)
    except BaseException:
        process.kill()
        process.wait()
        raise
    word.unlink()
    return server


def remove(home: Path) -> None:
    """Stop the server under `home` at once, if it runs, and delete the folder."""
    if home.exists():
        _stop(home, signal.SIGKILL)
        shutil.rmtree(home)


def _wait(server: MysqlServer, process: subprocess.Popen[bytes], home: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            server.connect().close()
        except CdcflowError as error:
            # Before its first file is read, nobody has the password.
            if process.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
                continue
            tail = (home / "log").read_text(errors="replace").splitlines()[-5:]
            raise CdcflowError(
                "the embedded server did not start", at=str(home / "log"), why="\n".join(tail) or str(error)
            ) from None
        return


def _pid(home: Path) -> int | None:
    """Return the process of the server under `home`; None where it does not run.

    A number alone proves nothing: after the machine's restart it may be somebody else's.
    """
    try:
        pid = int((home / "pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if f"--datadir={home / 'data'}".encode() in words else None


def _stop(home: Path, how: signal.Signals) -> None:
    pid = _pid(home)
    if pid is None:
        return
    os.kill(pid, how)
    end = time.monotonic() + _STOP_SECONDS
    while _pid(home) == pid:
        with suppress(ChildProcessError):  # it may be our own child, or that of a demo of before
            os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > end:
            raise SourceUnavailable("the embedded server did not stop", at=str(home))
        time.sleep(0.05)
