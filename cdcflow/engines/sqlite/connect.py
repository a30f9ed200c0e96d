"""Connections to a SQLite file, and the lock that this process's writers take turns with."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from cdcflow.errors import ConfigError, TargetUnavailable

SCHEME: Final = "sqlite"

# How long a writer of another process (a shell, a backup) is waited for.
BUSY_SECONDS: Final = 15.0

# How long our own writers wait for one another: a large source transaction holds the file as long as it arrives.
TURN_SECONDS: Final = 600.0

# The log is copied into the file when it is this long: at 4 KiB a page, 32 MB. The default of 4 MB makes a copy of
# a large table write many pages twice.
_CHECKPOINT_PAGES: Final = 8000

_locks: dict[str, threading.Lock] = {}
_guard = threading.Lock()


def path_of(url: str, folder: Path | None = None) -> Path:
    """Return the file behind `sqlite:///relative.db` or `sqlite:////absolute/path.db`, as SQLAlchemy writes them.

    A relative path starts at `folder`, or at the working directory. What is percent-encoded is decoded.

    Raises:
        ConfigError: no file is named, or something stands behind it.
    """
    scheme, _, rest = url.partition("://")
    path = unquote(rest[1:])
    if scheme != SCHEME or not rest.startswith("/") or not path or path == ":memory:" or "\0" in path:
        what = "a SQLite URL names a file"
        raise ConfigError(what, at=url, do="write it as sqlite:///shop.db or sqlite:////var/lib/cdcflow/shop.db")
    if "?" in rest:
        do = "remove what follows the `?`; a question mark in the path itself is %3F"
        raise ConfigError("a SQLite URL takes no options", at=url, do=do)
    return (folder / path) if folder is not None else Path(path)


def connect(path: Path, *, make: bool) -> sqlite3.Connection:
    """Open the file in WAL mode, every commit waiting for the disk, without transactions of the driver's own.

    `make`: make the file where it is missing. The connection may be used by several threads, one at a time.

    Raises:
        sqlite3.Error: see `engines.sqlite.errors.translate`.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode={'rwc' if make else 'rw'}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        # A commit is durable when it returns: positions are acknowledged to the source by it.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
    except BaseException:
        connection.close()
        raise
    return connection


def write_lock(path: Path) -> threading.Lock:
    """Return this process's lock for writing to a file: one transaction at a time, whoever wants one.

    SQLite has such a lock too, but who waits for it sleeps and looks again, and gives up after `BUSY_SECONDS`.
    """
    name = os.path.realpath(path)
    with _guard:
        return _locks.setdefault(name, threading.Lock())


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold the write lock.

    Raises:
        TargetUnavailable: a large transaction holds it for too long.
    """
    lock = write_lock(path)
    take(lock, path)
    try:
        yield
    finally:
        lock.release()


def take(lock: threading.Lock, path: Path) -> None:
    """Wait for our turn. Raises TargetUnavailable as `turn` does."""
    if not lock.acquire(timeout=TURN_SECONDS):
        raise TargetUnavailable(
            "the file is being written to", at=str(path), why=f"one transaction takes more than {TURN_SECONDS:g} s"
        )
