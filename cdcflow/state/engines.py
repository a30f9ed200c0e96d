"""Engines for the state's two homes, the errors that they raise in our words, and how long they may be silent."""

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
from cdcflow.errors import CdcflowError, OperatorError, TargetUnavailable
from cdcflow.state.tables import SCHEMA

# A transaction of the state's takes milliseconds, and waits for a predecessor's lock for some seconds at most.
_ANSWER_SECONDS: Final = 45

# SQLSTATEs of a state that was never made.
_MISSING: Final = ("42P01", "3F000")


@contextmanager
def limited(connection: sa.Connection) -> Iterator[None]:
    """Hang up when the server has not been done with a transaction for long: its connection has gone deaf, and the
    driver would wait for ever."""
    driver: Any = connection.connection.dbapi_connection
    if not isinstance(driver, psycopg.Connection):
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
    text = str(cause)
    if "no such table" in text:
        return _no_state(at)
    if isinstance(cause, sqlite3.OperationalError):
        return TargetUnavailable("the state's file cannot be used now", at=at, why=text)
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


def sqlite_engine(path: Path) -> sa.Engine:
    """Return an engine over a file."""
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        hide_parameters=True,
        connect_args={"timeout": 15, "isolation_level": None},
        execution_options={"schema_translate_map": {SCHEMA: None}},
    )

    # One writer at a time from the first statement on: SQLite has no row locks for the fence to take.
    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
