"""The lease: one instance of a pipeline at a time, and a number that tells its writes from a predecessor's."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import psycopg
import sqlalchemy as sa
from psycopg import pq

from cdcflow.engines.postgres import waiting
from cdcflow.engines.postgres.connect import connect_raw, safe_url
from cdcflow.engines.postgres.errors import from_connection, from_result
from cdcflow.engines.postgres.names import literal
from cdcflow.errors import AccessDenied, TargetUnavailable

# A killed instance's session ends within a moment where its socket was closed by the kernel; the server may
# be busy, though.
PATIENCE_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1

# A server that says nothing for this long is taken for unreachable.
ANSWER_SECONDS: Final = 10.0


Read = Callable[[sa.Executable], Sequence[sa.Row[Any]]]


class Lease(Protocol):
    """Holds one pipeline's lock as long as the process lives; the epoch is the `Store`'s business."""

    def take(self, patience: float) -> bool:
        """Try to get the lock for so many seconds; True when it is ours now (or was already)."""

    def lost(self) -> bool:
        """Whether the lock must be taken again: the session that held it is gone."""

    def give(self) -> None:
        """Give the lock back. Safe to call twice."""

    def taken(self, read: Read) -> bool:
        """Whether some session holds the lock now. `read` asks the state's home."""


def lock_key(pipeline: str) -> int:
    """Return the advisory lock's number for a pipeline: signed 64 bits, the same in every process."""
    return int.from_bytes(blake2b(f"cdcflow lease {pipeline}".encode(), digest_size=8).digest(), "big", signed=True)


class PostgresLease:
    """A session-level advisory lock on a connection of its own.

    The server frees it when the session ends, so a killed process leaves nothing behind. Used by one thread
    at a time.
    """

    def __init__(self, url: str, pipeline: str) -> None:
        self._url, self._at = url, safe_url(url)
        self._pipeline = pipeline
        self._application = f"cdcflow {pipeline} lease"
        self._key = lock_key(pipeline)
        self._pgconn: pq.abc.PGconn | None = None
        self._backend = 0  # the server process that held the lock for us last

    def take(self, patience: float) -> bool:
        """As `Lease.take`. Raises TargetUnavailable, AccessDenied."""
        if self._pgconn is None:
            self._pgconn = connect_raw(self._url, side="target", application=self._application)
            self._end_predecessor()
        deadline = time.monotonic() + patience
        while self._ask(f"SELECT pg_try_advisory_lock({self._key})") != "t":
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        self._backend = self._pgconn.backend_pid
        self._end_writers()
        return True

    def lost(self) -> bool:
        if self._pgconn is None:
            return True
        try:
            self._ask("SELECT 1")
        except TargetUnavailable:
            return True
        return False

    def give(self) -> None:
        self._drop()
        self._backend = 0

    def taken(self, read: Read) -> bool:
        wanted = sa.text(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
            " AND classid = :high AND objid = :low"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return bool(read(wanted.bindparams(high=(self._key >> 32) & 0xFFFFFFFF, low=self._key & 0xFFFFFFFF)))

    def _end_predecessor(self) -> None:
        """End our own earlier session where the server has not noticed that it broke (a proxy in between)."""
        if self._backend:
            high, low = (self._key >> 32) & 0xFFFFFFFF, self._key & 0xFFFFFFFF
            self._ask(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                f" AND classid = {high} AND objid = {low} AND objsubid = 1 AND pid = {self._backend}"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            self._backend = 0

    def _end_writers(self) -> None:
        """End an earlier instance's sessions that wait in a transaction for a client that is gone: their locks would
        keep ours waiting until the server notices."""
        names = ", ".join(literal(f"cdcflow {self._pipeline}{part}") for part in ("", " copy"))
        self._ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
            f" AND application_name IN ({names}) AND state <> 'idle' AND wait_event = 'ClientRead'"
        )

    def _ask(self, statement: str) -> str:
        """Return the first value of the answer. An unanswered question breaks the connection."""
        pgconn = self._pgconn
        assert pgconn is not None
        try:
            pgconn.send_query(statement.encode())
            deadline = time.monotonic() + ANSWER_SECONDS
            value, failed = "", None
            while (result := waiting.result(pgconn, deadline=deadline)) is not None:
                if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
                    failed = from_result(result, side="target", at=self._at)
                elif result.ntuples:
                    value = (result.get_value(0, 0) or b"").decode()
            if failed is not None:
                raise failed
        except waiting.Silent:
            self._drop()
            raise TargetUnavailable(
                "the target does not answer", at=self._at, why=f"nothing came for {ANSWER_SECONDS:g} seconds"
            ) from None
        except psycopg.Error:
            error = from_connection(pgconn, side="target", at=self._at)
            self._drop()
            raise error from None
        except BaseException:
            self._drop()
            raise
        return value

    def _drop(self) -> None:
        if self._pgconn is not None:
            self._pgconn.finish()
            self._pgconn = None


class FileLease:
    """A lock on a file beside a SQLite database. Freed when the process ends.

    The lock file stays: who removes it could take it from under another instance that opened it just now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def take(self, patience: float) -> bool:
        """As `Lease.take`. Raises AccessDenied."""
        if self._file is not None:
            return True
        try:
            file = self._path.open("ab")
        except OSError as error:
            raise AccessDenied(
                "the lock file cannot be made",
                at=str(self._path),
                why=error.strerror or type(error).__name__,
                do="let the user that runs cdcflow write to the folder",
            ) from None
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.close()
                    return False
                time.sleep(_POLL_SECONDS)
            else:
                self._file = file
                return True

    def lost(self) -> bool:
        return self._file is None

    def give(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def taken(self, read: Read) -> bool:
        try:
            with self._path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False
