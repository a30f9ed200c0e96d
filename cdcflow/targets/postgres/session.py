"""The apply session: one connection with its settings, statements one by one or pipelined, and COPY in blocks."""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import psycopg
from psycopg import errors, pq

from cdcflow.engines.postgres.connect import connect
from cdcflow.engines.postgres.doubt import Doubting
from cdcflow.engines.postgres.waiting import end_copy, last_result, put_copy
from cdcflow.model.schema import TableName
from cdcflow.targets.postgres import catalog
from cdcflow.targets.postgres.catalog import TargetTable

# Nested loops: a staging table has no statistics, and a hash join would read the whole target for each batch.
# synchronous_commit: what is not durable yet is not acknowledged (see `Applier.flush`).
_SETTINGS: Final = (
    "SET synchronous_commit = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET enable_seqscan = off",
    "SET work_mem = '32MB'",
    "SET temp_buffers = '64MB'",
    "SET lock_timeout = 0",
    "SET plan_cache_mode = force_generic_plan",
)
# Several instances write the same tables where the source is a bus. One that is stopped (SIGSTOP, a paused container)
# in a transaction keeps its locks, and the broker gives its shares to the others, who would wait while it sleeps.
BESIDE_OTHERS_SECONDS = 60
_TRIGGERS_OFF: Final = "SET session_replication_role = replica"

# What one pipeline holds at the most before its answers are read: the answers must fit the sockets' buffers,
# because a blocking libpq does not read while it sends.
PIPELINE_STATEMENTS: Final = 256

# How many prepared statements a session keeps: each holds its plan in the server's memory. More than one pipeline's
# worth, so that none is dropped in the pipeline that uses it.
PREPARED_STATEMENTS: Final = 512

_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE, pq.ExecStatus.PIPELINE_ABORTED)

Statement = tuple[str, Sequence[bytes | None]]


class Session:
    """One connection for one thread. Every failure is a psycopg error with the server's SQLSTATE.

    `triggers_off`: whether the role may switch triggers and foreign keys off; else they fire.
    """

    def __init__(self, url: str, application: str) -> None:
        self._connection = connect(url, side="target", application=application)
        # Its own prepared statements would be dropped with ours, and it would not know.
        self._connection.prepare_threshold = None
        self._pgconn = self._connection.pgconn
        self._pgconn.nonblocking = 0
        self._doubt = Doubting(url, "target")
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)
        self._prepared: dict[str, bytes] = {}
        self._number = 0
        self._beside_others = False
        try:
            for setting in _SETTINGS:
                self.run(setting)
            self.triggers_off = self._pgconn.exec_(_TRIGGERS_OFF.encode()).status == pq.ExecStatus.COMMAND_OK
        except BaseException:
            self._connection.close()
            raise

    @property
    def in_transaction(self) -> bool:
        return self._pgconn.transaction_status not in (pq.TransactionStatus.IDLE, pq.TransactionStatus.UNKNOWN)

    def table(self, name: TableName) -> TargetTable | None:
        """Read a table's shape, as this session's transaction sees it."""
        return catalog.table(self._connection, name)

    @property
    def connection(self) -> psycopg.Connection:
        """For catalog queries only; it shares the transaction."""
        return self._connection

    def run(self, sql: str, parameters: Sequence[bytes | None] | None = None) -> pq.abc.PGresult:
        """Execute one statement and return its result; rows in a transaction that the caller opened."""
        if parameters is None:
            self._pgconn.send_query(sql.encode())
        else:
            self._pgconn.send_query_params(sql.encode(), parameters)
        return _checked(last_result(self._pgconn, self._doubt))

    def copy_in(self, sql: str, produce: Callable[[Callable[[bytes], None]], int]) -> int:
        """COPY what `produce` writes; return the rows that the server counted.

        A failure while data is under way is noticed at the end, or when the socket says so: the server is
        silent during a COPY unless it failed.
        """
        self._pgconn.send_query(sql.encode())
        result = last_result(self._pgconn, self._doubt)
        if result.status != pq.ExecStatus.COPY_IN:
            _checked(result)
            raise psycopg.OperationalError("the server did not answer COPY with copy-in")

        def write(block: bytes) -> None:
            put_copy(self._pgconn, block)

        try:
            produce(write)
        except BaseException:
            with suppress(psycopg.Error):
                end_copy(self._pgconn, b"stopped by cdcflow")
                last_result(self._pgconn, self._doubt)
            raise
        end_copy(self._pgconn)
        return int(_checked(last_result(self._pgconn, self._doubt)).command_tuples or 0)

    def pipeline(self, statements: Sequence[Statement]) -> list[pq.abc.PGresult]:
        """Send prepared statements and read all answers; return the result of each.

        The first failure is raised after all answers were read; the server has skipped the statements behind it.
        """
        if not statements:
            return []
        self._pgconn.enter_pipeline_mode()
        try:
            results: list[pq.abc.PGresult] = []
            for start in range(0, len(statements), PIPELINE_STATEMENTS):
                window = statements[start : start + PIPELINE_STATEMENTS]
                failure = self._window(window, results)
                if failure is not None:
                    raise failure
            return results
        finally:
            with suppress(psycopg.Error):
                self._pgconn.exit_pipeline_mode()

    def _window(self, window: Sequence[Statement], results: list[pq.abc.PGresult]) -> psycopg.Error | None:
        made: list[str] = []
        expected: list[bool] = []  # for each command sent: is it a statement whose result is wanted
        for sql, parameters in window:
            name = self._prepared.pop(sql, None)
            if name is None:
                if len(self._prepared) >= PREPARED_STATEMENTS:
                    self._pgconn.send_query_params(b"DEALLOCATE " + self._longest_unused(), None)
                    expected.append(False)
                self._number += 1
                name = b"cdcflow_%d" % self._number
                self._pgconn.send_prepare(name, sql.encode())
                made.append(sql)
                expected.append(False)
            self._prepared[sql] = name  # at the end: the first is the one that was not used for longest
            self._pgconn.send_query_prepared(name, parameters)
            expected.append(True)
        self._pgconn.pipeline_sync()
        failure: psycopg.Error | None = None
        for wanted in expected:
            result = self._result()
            if result is None:
                failure = failure or self._lost()
                break
            if result.status in _FAILED:
                if failure is None:
                    failure = errors.error_from_result(result)
            elif wanted:
                results.append(result)
            self._result()  # the empty one that ends a command
        else:
            self._result()  # the sync
        if failure is not None:
            for sql in made:  # which of them the server has is not known
                self._prepared.pop(sql, None)
        return failure

    def _longest_unused(self) -> bytes:
        return self._prepared.pop(next(iter(self._prepared)))

    def forget_statements(self) -> None:
        """Drop all prepared statements: a table's shape changed."""
        if self._prepared:
            self.run("DEALLOCATE ALL")
            self._prepared.clear()

    def write_beside_others(self) -> None:
        """Let other instances of the pipeline go on when this one is stopped: the server ends its open transaction. And
        wait for a lock of another no longer than that, so that it is told."""
        if not self._beside_others:
            for setting in ("lock_timeout", "idle_in_transaction_session_timeout"):
                self.run(f"SET {setting} = '{BESIDE_OTHERS_SECONDS}s'")
            self._beside_others = True

    def rollback(self) -> None:
        """End an open transaction, as well as that goes: a broken connection rolls back by itself."""
        if self.in_transaction:
            with suppress(psycopg.Error):
                self.run("ROLLBACK")

    def alive(self) -> bool:
        return self._pgconn.status == pq.ConnStatus.OK

    def close(self) -> None:
        self._connection.close()

    def _result(self) -> pq.abc.PGresult | None:
        """Return the next result; wait for it without the interpreter's lock, which `get_result` would keep. A
        server that is silent for long is asked about: the connection may have gone deaf."""
        while self._pgconn.is_busy():
            if self._poll.poll(self._doubt.seconds * 1000):
                self._pgconn.consume_input()
            else:
                self._doubt.settle(self._pgconn)
        return self._pgconn.get_result()

    def _lost(self) -> psycopg.Error:
        return psycopg.OperationalError(self._pgconn.get_error_message())


def _checked(result: pq.abc.PGresult) -> pq.abc.PGresult:
    if result.status in _FAILED:
        raise errors.error_from_result(result)
    return result
