"""Waiting for libpq without the interpreter's lock, so that other threads go on while a server takes its time.

The driver's `exec_` and `exec_params` let the lock go; `get_result`, `put_copy_data` and `put_copy_end` keep it
while they wait, and one slow commit would then stop the thread that keeps the stream alive.
"""

from __future__ import annotations

import select
import time
from typing import Final, Protocol

import psycopg
from psycopg import pq

from cdcflow.engines.postgres import libpq_cy

_COPYING: Final = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)


class Silent(Exception):  # noqa: N818 - a state, not a fault: the caller says what it means
    """The server said nothing until the deadline."""


class Doubt(Protocol):
    """Asks, in another way, about a server that has not answered for `seconds`."""

    seconds: float

    def settle(self, pgconn: pq.abc.PGconn) -> None:
        """Return where waiting on makes sense. Raises psycopg.OperationalError where not, with `pgconn` closed."""


def result(
    pgconn: pq.abc.PGconn, *, deadline: float | None = None, doubt: Doubt | None = None
) -> pq.abc.PGresult | None:
    """Return the next result of what was sent, None when there is none left.

    Args:
        deadline: until when to wait, on the monotonic clock; for ever without one.
        doubt: what to do each time that the server has been silent for long. Not together with a deadline.

    Raises:
        psycopg.OperationalError: the connection is gone.
        Silent: the deadline passed.
    """
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    while pgconn.is_busy():
        left = None if doubt is None else doubt.seconds * 1000
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic()) * 1000
        if poll.poll(left):
            pgconn.consume_input()
        elif doubt is not None:
            doubt.settle(pgconn)
        else:
            raise Silent
    return pgconn.get_result()


def last_result(pgconn: pq.abc.PGconn, doubt: Doubt | None = None) -> pq.abc.PGresult:
    """Return the last result of what was sent.

    Raises:
        psycopg.OperationalError: the connection is gone.
    """
    last = None
    while (found := result(pgconn, doubt=doubt)) is not None:
        last = found
        if pgconn.status != pq.ConnStatus.OK or found.status in _COPYING:
            break
    if last is None:
        raise psycopg.OperationalError(pgconn.get_error_message())
    return last


def put_copy(pgconn: pq.abc.PGconn, block: bytes) -> None:
    """Send a block of COPY IN data over a blocking connection.

    Raises:
        psycopg.OperationalError: the connection is gone.
    """
    if libpq_cy.direct():
        libpq_cy.put_copy(pgconn, block)
        return
    pgconn.nonblocking = 1
    pgconn.put_copy_data(block)
    _flush(pgconn)
    pgconn.nonblocking = 0


def end_copy(pgconn: pq.abc.PGconn, complaint: bytes | None = None) -> None:
    """End COPY IN over a blocking connection; with a complaint the server rolls it back.

    Raises:
        psycopg.OperationalError: the connection is gone.
    """
    pgconn.nonblocking = 1
    pgconn.put_copy_end(complaint)
    _flush(pgconn)
    pgconn.nonblocking = 0


def _flush(pgconn: pq.abc.PGconn) -> None:
    """Send what libpq holds; take in what the server says meanwhile, or both would wait for one another."""
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN | select.POLLOUT)
    while pgconn.flush():
        if any(events & ~select.POLLOUT for _, events in poll.poll()):
            pgconn.consume_input()
