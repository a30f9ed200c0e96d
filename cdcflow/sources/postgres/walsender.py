"""A replication connection in COPY BOTH: bytes in, in gulps while there is a backlog, and status updates out.

Protocol: https://www.postgresql.org/docs/current/protocol-replication.html
"""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Sequence

import psycopg
from psycopg import pq

from cdcflow.engines.postgres import libpq_cy
from cdcflow.engines.postgres.connect import connect_raw, safe_url
from cdcflow.engines.postgres.errors import from_connection, from_result
from cdcflow.engines.postgres.names import ident, literal
from cdcflow.errors import CdcflowError, SourceUnavailable
from cdcflow.sources.postgres.position import Lsn

# One gulp at the most: larger ones did not raise throughput and delay the hand-over.
GULP_BYTES = 1024 * 1024

# What the server has sent by itself is told at least this often; wal_sender_timeout is 60 s by default and
# may be set to a few seconds.
STATUS_SECONDS = 5.0

# A server that has sent nothing for so long is asked for a sign of life with each status update; one that does
# not answer either is gone, though its connection looks alive (a firewall that forgot it, a frozen host).
ASK_AFTER_SECONDS = 10.0
SILENCE_SECONDS = 60.0

# How soon the server hears of a new acknowledgement, so that it can recycle log and that whoever waits for
# confirmed_flush_lsn does not wait for us.
ACK_SECONDS = 0.1

# How long to look away when a backlog pauses: the server is reading or sorting a transaction.
LULL_SECONDS = 0.003

_STATUS = struct.Struct(">cQQQqB")
_POSTGRES_EPOCH_SECONDS = 946_684_800


class Walsender:
    """The log from `start` on as length-prefixed CopyData payloads. One thread, except `acknowledge`."""

    def __init__(self, url: str, slot: str, publications: Sequence[str], start: Lsn | None) -> None:
        """Connect and start the stream at `start` of the slot; with None, at the log's end of a temporary slot
        of that name, made now, which ends with the connection. `start` then says where that was.

        Raises:
            SourceUnavailable, AccessDenied, PositionLost, OperatorError: see `engines.postgres.errors`.
        """
        self._at = safe_url(url)
        self._pgconn = connect_raw(url, side="source", application="cdcflow stream", replication=True)
        self._nap = Nap()
        self._told = 0
        self._told_at = 0.0
        self._heard_at = time.monotonic()
        try:
            self.start = start or self._temporary(slot)
            self._start(slot, publications, self.start)
        except BaseException:
            self._pgconn.finish()
            raise
        self._received = self.start.value
        # Nothing yet, which the server passes over: a copy may need the log from before the start.
        self._acknowledged = 0
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)

    def _temporary(self, slot: str) -> Lsn:
        """Make a slot that the server drops with the connection; return where its log begins."""
        result = self._pgconn.exec_(f"CREATE_REPLICATION_SLOT {ident(slot)} TEMPORARY LOGICAL pgoutput".encode())
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise from_result(result, side="source", at=self._at)
        return Lsn.parse((result.get_value(0, 1) or b"").decode())  # slot_name, consistent_point, ...

    def _start(self, slot: str, publications: Sequence[str], start: Lsn) -> None:
        names = literal(",".join(ident(name) for name in publications))
        command = f"START_REPLICATION SLOT {ident(slot)} LOGICAL {start} (proto_version '1', publication_names {names})"
        result = self._pgconn.exec_(command.encode())
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise from_result(result, side="source", at=self._at)

    def receive(self, wait: float, *, lagging: bool) -> bytes:
        """Return what has arrived, empty after `wait` seconds without anything.

        While lagging the socket is left to fill up for a moment between two gulps: a server that finds the
        reader asleep sends large pieces, one that wakes it for every row spends more than half of its time
        on that.

        Raises:
            SourceUnavailable: the server ended the stream or the connection is gone.
        """
        self._tell(force=False)
        if lagging:
            self._nap.take()
        deadline = time.monotonic() + wait
        while True:
            buffer, code = libpq_cy.gulp(self._pgconn, GULP_BYTES)
            if buffer:
                self._heard_at = time.monotonic()
                self._nap.brought(len(buffer), lagging=lagging)
                return buffer
            if code == libpq_cy.EMPTY:
                self._listen()
                left = deadline - time.monotonic()
                if left <= 0:
                    return b""
                if lagging:
                    # Woken by the first row, this thread would take the log row by row.
                    time.sleep(min(left, LULL_SECONDS))
                    self._tell(force=False)
                    continue
                pause = min(left, ACK_SECONDS if self._acknowledged != self._told else STATUS_SECONDS)
                self._poll.poll(max(1, int(pause * 1000)))
                self._tell(force=False)
                continue
            if code != libpq_cy.MORE:
                raise self._ended(code)

    def _listen(self) -> None:
        """Notice a server that is silent although it was asked. Called when the socket is empty."""
        if time.monotonic() - self._heard_at > SILENCE_SECONDS:
            raise SourceUnavailable(
                f"the source has been silent for {SILENCE_SECONDS:.0f} seconds",
                at=self._at,
                why="it was asked for a sign of life and sent none; the connection is given up",
            )

    def progress(self, received: int) -> None:
        """Note how far the log was read, for the status updates."""
        self._received = max(self._received, received)

    def acknowledge(self, upto: Lsn) -> None:
        """Note what is durable; any thread."""
        if upto.value > self._acknowledged:
            self._acknowledged = upto.value

    def tell(self, *, force: bool) -> None:
        """Send a status update when it is time, or at once."""
        self._tell(force=force)

    def _tell(self, *, force: bool) -> None:
        now = time.monotonic()
        since = now - self._told_at
        news = self._acknowledged != self._told and since >= ACK_SECONDS
        if not force and not news and since < STATUS_SECONDS:
            return
        acknowledged = self._acknowledged
        asking = 1 if now - self._heard_at > ASK_AFTER_SECONDS else 0
        stamp = int((time.time() - _POSTGRES_EPOCH_SECONDS) * 1_000_000)
        update = _STATUS.pack(b"r", max(self._received, acknowledged), acknowledged, acknowledged, stamp, asking)
        try:
            self._pgconn.put_copy_data(update)
            self._pgconn.flush()
        except psycopg.Error:
            raise from_connection(self._pgconn, side="source", at=self._at) from None
        self._told = acknowledged
        self._told_at = now

    def _ended(self, code: int) -> CdcflowError:
        if code == libpq_cy.DONE:
            result = self._pgconn.get_result()
            if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
                return from_result(result, side="source", at=self._at)
            return SourceUnavailable(
                "the source ended the replication stream",
                at=self._at,
                why="the server is shutting down or the walsender was ended",
            )
        return from_connection(self._pgconn, side="source", at=self._at)

    def close(self) -> None:
        """Tell the server the last acknowledgement, as well as that goes, and disconnect."""
        try:
            if self._acknowledged != self._told:
                self._tell(force=True)
        except CdcflowError:
            pass  # it was only a courtesy: the checkpoint is what counts
        self._pgconn.finish()


class Nap:
    """How long to let the socket fill up between two gulps.

    Longer is better only as long as gulps grow with it: where the kernel's buffer is small (a Unix socket) a
    long nap only delays. So each step of the ladder is tried, kept while it brings clearly more than the one
    below, and tried again now and then.
    """

    LADDER = (0.0, 0.001, 0.003, 0.007, 0.020)
    ENOUGH_BYTES = 768 * 1024
    FORGET_AFTER = 200  # gulps

    def __init__(self) -> None:
        self._step = 0
        self._sizes = [0.0] * len(self.LADDER)
        self._gulps = 0

    def take(self) -> None:
        """Sleep for the current step."""
        if self._step:
            time.sleep(self.LADDER[self._step])

    def brought(self, size: int, *, lagging: bool) -> None:
        """Learn from the size of a gulp."""
        if not lagging:
            self._step = 0
            return
        self._gulps += 1
        if self._gulps % self.FORGET_AFTER == 0:
            self._sizes = [0.0] * len(self.LADDER)
        step = self._step
        known = self._sizes[step]
        self._sizes[step] = float(size) if known == 0.0 else 0.7 * known + 0.3 * size
        mean = self._sizes[step]
        if step and (mean >= 1.3 * self.ENOUGH_BYTES or mean < 1.2 * self._sizes[step - 1]):
            self._step = step - 1
        elif (
            mean < self.ENOUGH_BYTES
            and step + 1 < len(self.LADDER)
            and (self._sizes[step + 1] == 0.0 or self._sizes[step + 1] > 1.2 * mean)
        ):
            self._step = step + 1
