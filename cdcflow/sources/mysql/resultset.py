"""A SELECT's rows straight from the socket, as blocks of PostgreSQL COPY text.

The driver makes the connection and sends the query; what comes back it would take apart value by value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.constants import COMMAND
from pymysql.err import raise_mysql_exception

from cdcflow.codecs import mysqltext_cy as mysqltext

# One block handed on: large enough that a Python call for each does not count.
BLOCK_BYTES = 1024 * 1024

# What the socket brings at once, at most.
_GULP_BYTES = 256 * 1024


def blocks(connection: Connection, query: str, result: mysqltext.Result, wait: float) -> Iterator[bytes]:
    """Send a query and yield its rows, about `BLOCK_BYTES` at once: whole lines, or pieces of a large one.

    Unless it ends by itself the connection is in the middle of an answer and must be closed.

    Args:
        wait: seconds without a byte from the server after which the connection counts as lost.

    Raises:
        pymysql.Error: the server refused the query or broke it off, or the connection was lost.
        OSError: the connection was lost.
        MessageError, NoDateError: see `mysqltext.Result.feed`.
    """
    # The driver's types leave these out; `_execute_command` is what its own queries use.
    driver: Any = connection
    driver._execute_command(COMMAND.COM_QUERY, query)
    sock = driver._sock
    sock.settimeout(wait)
    driver._current_timeout = wait  # it remembers, so that it sets its own again for its next answer
    buffer = bytearray(_GULP_BYTES)
    room = memoryview(buffer)
    while True:
        size = sock.recv_into(room)  # waits without the interpreter's lock
        if size == 0:
            raise pymysql.err.OperationalError(2013, "Lost connection to the server during query")
        state = result.feed(buffer, size)
        if state == mysqltext.HEADER:
            state = result.feed(buffer, 0)
        if state == mysqltext.FAILED:
            number, message = result.error()
            raise_mysql_exception(_error_packet(number, message))
        if result.pending() >= BLOCK_BYTES or (state == mysqltext.DONE and result.pending()):
            yield result.take()
        if state == mysqltext.DONE:
            return


def _error_packet(number: int, message: str) -> bytes:
    """Return an ERR packet, by which the driver finds the class of its exception."""
    return b"\xff" + number.to_bytes(2, "little") + b"#HY000" + message.encode()
