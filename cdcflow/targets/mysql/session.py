"""A session of the target: one connection with its settings, statements one by one or many at once, and LOAD DATA from
memory."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pymysql
from pymysql.connections import MySQLResult
from pymysql.constants import COMMAND, CR
from pymysql.protocol import LoadLocalPacketWrapper, OKPacketWrapper

from cdcflow.codecs.mysqlliterals import ImageError
from cdcflow.engines.mysql.connect import connect, flavour
from cdcflow.engines.mysql.names import literal
from cdcflow.errors import CdcflowError

# What a statement of several may have at the most, however much the server allows: it is kept whole in its memory.
MOST_STATEMENT_BYTES: Final = 4 * 1024 * 1024

# A server that says nothing for so long is asked over another connection what the session is doing.
_DOUBT_SECONDS: Final = 20.0

# Warnings that say nothing of the rows: deprecated syntax, unsafe for statement-based logs, there already, not there.
_HARMLESS: Final = frozenset((1007, 1050, 1051, 1287, 1592, 1681, 3719, 4166))

# Once per connection. foreign_key_checks: rows of several tables are written in another order than the source's, and
# the source has checked them; nothing cascades either, whose rows the source has logged. READ COMMITTED takes no
# locks on gaps, where a loader and the applier would wait for one another.
_SETTINGS: Final = "SET SESSION foreign_key_checks = 0, SESSION sql_notes = 1"
_ISOLATION: Final = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"

# Of the rows of a load. A packet must fit the server's max_allowed_packet, whose least useful size is larger.
_PACKET_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Done:
    """What a statement did: rows that it found (UPDATE), or wrote; REPLACE counts what it replaced too."""

    affected: int = 0
    warnings: int = 0
    message: str = ""
    rows: Sequence[tuple[Any, ...]] = field(default=())


class Session:
    """One connection for one thread. Every failure is a PyMySQL error.

    `infile`: whether the server takes LOAD DATA LOCAL. `most_bytes`: of one statement.
    """

    def __init__(self, url: str, application: str) -> None:
        self._url = url
        self._packet_bytes = sys.maxsize  # before it is known
        self._connection = connect(
            url, side="target", application=application, database="", local_infile=True, multi_statements=True
        )
        try:
            self.flavour = flavour(self._connection)
            self.run(_SETTINGS)
            with suppress(pymysql.Error):  # MariaDB wants one for `DELETE t FROM ..`; it is there once the state is
                self.run("USE cdcflow")
            ((infile, packet, log_bin, binlog_format, flush, lower),) = self.query(
                "SELECT @@local_infile, @@max_allowed_packet, @@log_bin, @@binlog_format,"
                " @@innodb_flush_log_at_trx_commit, @@lower_case_table_names"
            )
            if not log_bin or str(binlog_format).upper() != "STATEMENT":
                self.run(_ISOLATION)
        except BaseException:
            self.close()
            raise
        self.infile = bool(infile)
        self._packet_bytes = int(packet)
        self.most_bytes = min(int(packet) - 1024, MOST_STATEMENT_BYTES)
        self.syncs = int(flush) == 1
        self.folds_names = int(lower) != 0
        self.in_transaction = False

    def run(self, statement: str | bytes) -> Done:
        """Execute one statement.

        Raises:
            pymysql.Error: the server refused it, or warned that a value was changed or a row left out.
        """
        done = self._read(self._ask(statement))
        self._checked(done)
        return done

    def define(self, statement: str) -> None:
        """Execute DDL, whose warnings say nothing of rows: what would change one is refused."""
        self._ask(statement)

    def query(self, statement: str) -> Sequence[tuple[Any, ...]]:
        """Return a query's rows."""
        return self._read(self._ask(statement)).rows

    def many(self, statements: Sequence[bytes]) -> list[Done]:
        """Execute statements in as few round trips as packets allow; return what each did.

        The first that fails is raised; those behind it were not executed, or are of no effect after a rollback.
        Warnings cannot be told apart any more: the caller looks at their number.
        """
        found: list[Done] = []
        start = 0
        while start < len(statements):
            size, stop = 0, start
            while stop < len(statements) and (stop == start or size + len(statements[stop]) < self.most_bytes):
                size += len(statements[stop]) + 1
                stop += 1
            result = self._ask(b";".join(statements[start:stop]))
            found.append(self._read(result))
            while result.has_next:
                result = self._next()
                found.append(self._read(result))
            start = stop
        return found

    def load(self, statement: str, produce: Callable[[Callable[[bytes, int], None]], int]) -> Done:
        """LOAD DATA LOCAL what `produce` writes.

        The server makes errors of a LOCAL load into warnings and goes on; here each is raised.

        Raises:
            pymysql.Error: the server refused it, or warned.
        """
        connection: Any = self._connection
        connection._execute_command(COMMAND.COM_QUERY, statement.encode())
        self._wait()
        packet = connection._read_packet()
        if not packet.is_load_local_packet():
            raise pymysql.OperationalError(CR.CR_COMMANDS_OUT_OF_SYNC, "the server did not ask for the rows")
        LoadLocalPacketWrapper(packet)

        def write(block: bytes, _rows: int) -> None:
            for start in range(0, len(block), _PACKET_BYTES):
                connection.write_packet(block[start : start + _PACKET_BYTES])

        try:
            produce(write)
        except ImageError:
            # The load ends early, and the caller rolls back: what was sent must not count as the whole.
            connection.write_packet(b"")
            self._wait()
            connection._read_packet()
            raise
        except BaseException:
            self.close()
            raise
        connection.write_packet(b"")
        self._wait()
        answer = OKPacketWrapper(connection._read_packet())
        done = Done(answer.affected_rows, answer.warning_count, answer.message.decode(errors="replace"))
        self._checked(done)
        return done

    def begin(self) -> None:
        self.run("BEGIN")
        self.in_transaction = True

    def commit(self) -> None:
        self.run("COMMIT")
        self.in_transaction = False

    def rollback(self) -> None:
        """End an open transaction, as well as that goes: a broken connection rolls back by itself."""
        if self.in_transaction:
            self.in_transaction = False
            with suppress(pymysql.Error, OSError):
                self.run("ROLLBACK")

    def alive(self) -> bool:
        return bool(self._connection.open)

    def close(self) -> None:
        with suppress(pymysql.Error, OSError):
            getattr(self._connection, "_force_close")()  # noqa: B009 - without waiting for a deaf server

    @property
    def number(self) -> int:
        """The server's number for the session."""
        connection: Any = self._connection
        return int(connection.thread_id())

    # -- packets

    def _ask(self, statement: str | bytes) -> MySQLResult:
        connection: Any = self._connection
        text = statement.encode() if isinstance(statement, str) else statement
        if len(text) >= self._packet_bytes:  # the server would close the connection without a word
            words = f"a statement of {len(text)} bytes is larger than max_allowed_packet, {self._packet_bytes} bytes"
            raise pymysql.OperationalError(1153, words)
        connection._execute_command(COMMAND.COM_QUERY, text)
        self._wait()
        return self._next()

    def _next(self) -> MySQLResult:
        connection: Any = self._connection
        result = MySQLResult(connection)
        result.read()
        return result

    def _read(self, result: MySQLResult) -> Done:
        made: Any = result
        message = made.message.decode(errors="replace") if made.message else ""
        return Done(made.affected_rows or 0, made.warning_count or 0, message, made.rows or ())

    def _checked(self, done: Done) -> None:
        """Raise what the server only warned of."""
        if not done.warnings or done.rows:
            return
        for _, code, message in self.query("SHOW WARNINGS"):
            if int(code) not in _HARMLESS and "deprecated" not in str(message):
                raise pymysql.DataError(int(code), str(message))

    def _wait(self) -> None:
        """Wait for the server's first word. Keepalives show only that its kernel lives, and a proxy that lost its far
        side acknowledges all that is sent: so the server is asked on another connection."""
        line: Any = getattr(self._connection, "_sock")  # noqa: B009
        if line is None:
            raise pymysql.InterfaceError(0, "the connection is closed")
        poll = select.poll()
        poll.register(line, select.POLLIN)
        idle = False
        while not poll.poll(_DOUBT_SECONDS * 1000):
            doing = self._doing()
            if doing is None or (doing == "Sleep" and idle):
                self.close()
                raise pymysql.OperationalError(CR.CR_SERVER_LOST, "the server has been silent")
            idle = doing == "Sleep"  # its answer may be on the way

    def _doing(self) -> str | None:
        """Return what the server says that this session does; None where it does not know it, or does not answer."""
        query = f"SELECT command FROM information_schema.processlist WHERE id = {self.number}"
        try:
            with (
                connect(self._url, side="target", application="cdcflow doubt", database="", read_timeout=10) as other,
                other.cursor() as cursor,
            ):
                cursor.execute(query)
                row = cursor.fetchone()
        except (CdcflowError, pymysql.Error, OSError):
            return None
        return str(row[0]) if row else None


def text(value: Any) -> str:
    """Return what a catalog query gave as text: MySQL prints some of it as bytes."""
    return value.decode() if isinstance(value, bytes) else "" if value is None else str(value)


__all__ = ["MOST_STATEMENT_BYTES", "Done", "Session", "literal", "text"]
