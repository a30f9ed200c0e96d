"""A session that has not answered for long: is the server at work, or has the connection gone deaf?

Keepalives show that the other end's kernel lives, and a proxy that has lost its far side acknowledges all we send. So
the server is asked over a new connection what the session is doing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NoReturn

import psycopg
from psycopg import pq

from cdcflow.engines.postgres.connect import Side, connect
from cdcflow.errors import CdcflowError

# A statement of ours rarely takes longer; one that does costs a look each time.
DOUBT_SECONDS: Final = 20.0

# too_many_connections, cannot_connect_now: the server answers, if not with what was asked.
_BUSY: Final = ("53300", "57P03")

_DOING: Final = "SELECT state, wait_event FROM pg_stat_activity WHERE pid = %s"


class Doubting:
    """Implements `waiting.Doubt` for one session at a time."""

    seconds = DOUBT_SECONDS

    def __init__(self, url: str, side: Side) -> None:
        self._url, self._side = url, side
        self._idle: int | None = None  # the session that had nothing to do when it was looked at last

    def settle(self, pgconn: pq.abc.PGconn) -> None:
        """See `waiting.Doubt`. A session that waits for us while we wait for it is given one more turn: its answer
        may be on the way."""
        pid = pgconn.backend_pid
        try:
            with connect(self._url, side=self._side, application="cdcflow doubt") as connection:
                doing = connection.execute(_DOING, [pid]).fetchone()
        except CdcflowError as error:
            cause = error.__context__
            if isinstance(cause, psycopg.Error) and cause.sqlstate in _BUSY:
                return
            _end(pgconn, f"the server has been silent, and {error.what}")
        except psycopg.Error:
            _end(pgconn, "the server has been silent, on a new connection too")
        if doing is None:
            _end(pgconn, "the server no longer has the session")
        state, waits_for = doing
        if state == "active" and waits_for != "ClientRead":
            self._idle = None
        elif self._idle == pid:
            _end(pgconn, "the server waits for us, and its answer never came")
        else:
            self._idle = pid


def _end(pgconn: pq.abc.PGconn, why: str) -> NoReturn:
    with suppress(psycopg.Error):
        pgconn.finish()
    raise psycopg.OperationalError(why)
