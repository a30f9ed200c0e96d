"""Engines for the state's homes, the errors that they raise in our words, and how long they may be silent."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa

from cdcflow.engines.postgres.connect import connect
from cdcflow.engines.postgres.errors import translate
from cdcflow.engines.sqlite import connect as sqlite
from cdcflow.engines.sqlite import errors as sqlite_errors
from cdcflow.errors import CdcflowError, OperatorError
from cdcflow.state.tables import SCHEMA

# A transaction of the state's takes milliseconds, and waits for a predecessor's lock for some seconds at most.
_ANSWER_SECONDS: Final = 45

# A session of the state's that says nothing within a transaction for so long has a client that is gone without a word,
# and its locks would keep the next instance out: the server ends it. Less than the waits for a predecessor's lock.
_SILENT_SECONDS: Final = 10

# MySQL's wait for a row's lock: a predecessor's last transaction may still be committing.
_MYSQL_LOCK_SECONDS: Final = 15

# SQLSTATEs of a state that was never made; MySQL's numbers: ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE.
_MISSING: Final = ("42P01", "3F000")
_MYSQL_MISSING: Final = (1049, 1146)


@contextmanager
def limited(connection: sa.Connection) -> Iterator[None]:
    """Hang up when the server has not been done with a transaction for long: its connection has gone deaf, and the
    driver would wait for ever."""
    driver: Any = connection.connection.dbapi_connection
    if not isinstance(driver, psycopg.Connection):  # PyMySQL waits no longer than it was told to
        yield
        return
    over, lock = False, threading.Lock()

    def hang_up() -> None:
        with lock:
            if not over and not driver.closed:
                with socket.socket(fileno=os.dup(driver.fileno())) as line, suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_ANSWER_SECONDS, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            over = True


class NoStateError(OperatorError):
    """The state's tables are not there."""


def ours(error: sa.exc.DBAPIError, at: str) -> CdcflowError:
    """Return the error for what the driver raised; NoStateError where the tables were never made."""
    cause = error.orig
    if isinstance(cause, psycopg.Error):
        if cause.sqlstate in _MISSING:
            return _no_state(at)
        return translate(cause, side="target", at=at)
    if isinstance(cause, Exception) and type(cause).__module__.startswith("pymysql"):
        from cdcflow.engines.mysql import errors as mysql_errors

        if cause.args and cause.args[0] in _MYSQL_MISSING:
            return _no_state(at)
        return mysql_errors.translate(cause, side="target", at=at)
    if isinstance(cause, sqlite3.Error):
        missing = sqlite_errors.code(cause) == sqlite_errors.CANTOPEN
        if "no such table" in str(cause) or (missing and not sqlite.path_of(at).exists()):
            return _no_state(at)
        return sqlite_errors.translate(cause, at=at)
    return CdcflowError("the state refused a statement", at=at, why=type(cause).__name__)


def _no_state(at: str) -> NoStateError:
    return NoStateError(
        f"the target has no {SCHEMA} tables", at=at, why="nothing is remembered of any pipeline", do="cdcflow run"
    )


def postgres_engine(url: str) -> sa.Engine:
    """Return an engine over connections of our own making (see `engines.postgres.connect`)."""

    def dial() -> psycopg.Connection:
        connection = connect(url, side="target", application="cdcflow state", autocommit=True)
        # What is on record here is acted upon at the source at once, whatever the server's default is.
        connection.execute("SET synchronous_commit = on")
        connection.execute(f"SET idle_in_transaction_session_timeout = '{_SILENT_SECONDS}s'".encode())
        connection.autocommit = False
        return connection

    # No pool: statements are rare, and a connection that was idle for an hour may have gone deaf.
    return sa.create_engine(
        "postgresql+psycopg://",
        creator=dial,
        poolclass=sa.NullPool,
        hide_parameters=True,
        use_native_hstore=False,
    )


def mysql_engine(url: str) -> sa.Engine:
    """Return an engine over connections of our own making (see `engines.mysql.connect`), MariaDB's too."""

    # Who has no MySQL target need not load its driver.
    from cdcflow.engines.mysql.connect import connect as connect_mysql

    def dial() -> Any:
        connection = connect_mysql(
            url, side="target", application="cdcflow state", database="", autocommit=False, read_timeout=_ANSWER_SECONDS
        )
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {_MYSQL_LOCK_SECONDS}")
            cursor.execute(f"SET SESSION wait_timeout = {_SILENT_SECONDS}")
        return connection

    return sa.create_engine("mysql+pymysql://", creator=dial, poolclass=sa.NullPool, hide_parameters=True)


def sqlite_engine(path: Path) -> sa.Engine:
    """Return an engine over a file that is there. Transactions read; with the execution option `writes` they hold
    the file from the first statement on: SQLite has no row locks for the fence to take."""
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        creator=lambda: sqlite.connect(path, make=False),
        poolclass=sa.NullPool,
        hide_parameters=True,
    )

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
