"""The lease in MySQL and MariaDB: a lock of the server's (GET_LOCK) on a connection of its own."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

import pymysql
import sqlalchemy as sa

from cdcflow.engines.mysql.connect import connect, safe_url
from cdcflow.engines.mysql.errors import translate
from cdcflow.engines.mysql.locks import lease_name, writer_name
from cdcflow.errors import TargetUnavailable
from cdcflow.state import lease as leases
from cdcflow.state.lease import Read

_POLL_SECONDS: Final = 0.1

# ER_NO_SUCH_THREAD, ER_KILL_DENIED_ERROR: it is gone already, or another user's.
_NOT_ENDED: Final = (1094, 1095)


class MysqlLease:
    """Implements `Lease`. The server frees the lock when the session ends, so a killed process leaves nothing behind.

    Used by one thread at a time.
    """

    def __init__(self, url: str, pipeline: str) -> None:
        self._url, self._at = url, safe_url(url)
        self._name, self._writer = lease_name(pipeline), writer_name(pipeline)
        self._application = f"cdcflow {pipeline} lease"
        self._connection: pymysql.connections.Connection[Any] | None = None
        self._session = 0  # the connection that held the lock for us last

    def take(self, patience: float) -> bool:
        """As `Lease.take`. Raises TargetUnavailable, AccessDenied."""
        first = not self._session
        if self._connection is None:
            self._connection = connect(
                self._url,
                side="target",
                application=self._application,
                database="",
                read_timeout=leases.ANSWER_SECONDS,
            )
            # A server that closes what is idle for some minutes would take the lease from a paused instance.
            self._ask("SET SESSION wait_timeout = 2147483")
            self._end_ours()
        deadline = time.monotonic() + patience
        # A lock is had as often as it is asked for: a second time would have to be given back twice.
        while not self._is_ours() and self._ask("SELECT GET_LOCK(%s, 0)", self._name) != 1:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        self._session = int(self._ask("SELECT CONNECTION_ID()") or 0)
        if first:
            self._end_writer()
        return True

    def lost(self) -> bool:
        """As `Lease.lost`."""
        if self._connection is None:
            return True
        try:
            return not self._is_ours()
        except TargetUnavailable:
            return True

    def give(self) -> None:
        """As `Lease.give`."""
        self._drop()
        self._session = 0

    def taken(self, read: Read) -> bool:
        """As `Lease.taken`."""
        rows = read(sa.text("SELECT IS_USED_LOCK(:name)").bindparams(name=self._name))
        return bool(rows) and rows[0][0] is not None

    def _is_ours(self) -> bool:
        return bool(self._ask("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()", self._name))

    def _end_ours(self) -> None:
        """End the session that held the lock for us, where it still does: after a restart of the server, its number is
        another's."""
        if self._session and self._ask("SELECT IS_USED_LOCK(%s)", self._name) == self._session:
            self._end(self._session)

    def _end_writer(self) -> None:
        """End an earlier instance's session that waits for a client that is gone: its locks would keep ours waiting
        until the server notices."""
        holder = self._ask("SELECT IS_USED_LOCK(%s)", self._writer)
        if holder is None:
            return
        idle = "SELECT 1 FROM information_schema.processlist WHERE id = %s AND command = 'Sleep'"
        if self._ask(idle, holder) == 1:
            self._end(int(holder))

    def _end(self, session: int) -> None:
        """End a session of ours, as far as it is there."""
        with suppress(_NotEnded):
            self._ask("KILL %s", session)

    def _ask(self, statement: str, *values: object) -> Any:
        """Return the first value of the answer, None where there is none. A failure breaks the connection."""
        connection = self._connection
        assert connection is not None
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                row = cursor.fetchone()
        except (pymysql.Error, OSError) as error:
            if error.args and error.args[0] in _NOT_ENDED:
                raise _NotEnded from None
            self._drop()
            raise translate(error, side="target", at=self._at) from None
        except BaseException:
            self._drop()
            raise
        return row[0] if row else None

    def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(pymysql.Error, OSError):
                connection.close()


class _NotEnded(Exception):  # noqa: N818 - an answer, not a failure
    """The session to be ended is not there."""
