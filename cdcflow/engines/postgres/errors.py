"""What a PostgreSQL error means for the pipeline: by SQLSTATE, and by words where a connection failed without one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

import psycopg
from psycopg import errors, pq

from cdcflow.engines.postgres.names import ident
from cdcflow.errors import (
    AccessDenied,
    CdcflowError,
    ConfigError,
    Fenced,
    OperatorError,
    PositionLost,
    RowRejected,
    SourceUnavailable,
    TargetUnavailable,
    Unavailable,
)

Side = Literal["source", "target"]

# Raised by cdcflow's own SQL in the target (see `targets/sql/bookkeeping.py`) when the epoch is not ours.
FENCED_SQLSTATE = "CDC01"

# SQLSTATEs after which the same work, started again, can succeed. https://www.postgresql.org/docs/current/errcodes-appendix.html
_TEMPORARY = {
    "57P01": "the server is shutting down",
    "57P02": "the server crashed and is recovering",
    "57P03": "the server is starting up or shutting down",
    "57P05": "the server closed an idle session",
    "57014": "the server cancelled the statement",
    "25P03": "the server closed a session that was idle in a transaction",
    "25P04": "the server ended a transaction that took too long",
    "25006": "the server is read-only now, as a standby or during a failover",
    "53000": "the server lacks resources",
    "53100": "the server's disk is full",
    "53200": "the server is out of memory",
    "53300": "the server has no connection slot left",
    "55006": "what we need is in use by another session",
    "55P03": "a lock could not be had",
    "40001": "the transaction conflicted with another one",
    "40P01": "the transaction was in a deadlock with another one",
    "40003": "whether the statement completed is unknown",
    "58000": "the server met a system error",
    "58030": "the server met an I/O error",
}
_HOW_TO_WAIT = {
    "55P03": "SELECT pid, application_name, state FROM pg_stat_activity shows who is in a transaction, another instance"
    " that is stopped perhaps; cdcflow goes on by itself",
    "53100": "free space on the server's disk; cdcflow goes on by itself",
    "53300": "raise max_connections or close other sessions; cdcflow goes on by itself",
}

# What a row did wrong, in words of ours: the server's own for class 22 may repeat the value.
_ROW_FAULTS = {
    "22001": "a text is longer than its column",
    "22003": "a number is out of its column's range",
    "22007": "a date or time has a form that its column does not take",
    "22008": "a date or time is out of range",
    "22021": "a text is not valid in the database's encoding",
    "22P02": "a value is not valid for its column's type",
    "22P04": "a row does not have the columns that the table has",
    "22P05": "a character has no equivalent in the database's encoding",
    "23001": "another row refers to this one",
    "23502": "a column that must not be null would be",
    "23503": "a foreign key is not satisfied",
    "23505": "a unique constraint is not satisfied",
    "23514": "a check constraint is not satisfied",
    "23P01": "an exclusion constraint is not satisfied",
}

_COPY_CONTEXT = re.compile(r"COPY .*?, line (\d+)(?:, column (.+?))?(?::|$)")
_NO_ROUTE = ("could not translate host name", "failed to resolve host")
_TLS = ("certificate", "support SSL", "SSL was required", "does not match host name", "tlsv1", "sslv3", "wrong version")
_BAD_OPTION = ("invalid connection option", "invalid URI", "bad value for connect_timeout")


@dataclass(frozen=True, slots=True)
class _Report:
    """The parts of a server's error that may be shown: no detail, no hint, no context, which hold values."""

    state: str
    message: str
    schema: str = ""
    table: str = ""
    column: str = ""
    constraint: str = ""
    line: int | None = None


def translate(exc: Exception, *, side: Side, at: str, relation: str = "") -> CdcflowError:
    """Return the error that a driver's error stands for. Never raises; one of ours is returned as it is.

    Data errors (classes 22 and 23) become RowRejected naming table, column and constraint. A caller that can
    do better with them (the exact-order retry, the key of the row) looks at `exc.sqlstate` first.

    Args:
        side: which end of the pipeline the connection leads to.
        at: the URL without password (`safe_url`), from which the role's name is taken for GRANTs.
        relation: the table that the statement was about, quoted and qualified: the server's words about a
            missing privilege name it without its schema.
    """
    if isinstance(exc, CdcflowError):
        return exc
    if not isinstance(exc, psycopg.Error):
        return _lost(side, at, type(exc).__name__) if isinstance(exc, OSError) else CdcflowError(str(exc), at=at)
    report = _read(exc)
    if not report.state:
        return _without_state(exc, side, at)
    return _with_state(report, side, at, relation)


def from_result(result: pq.abc.PGresult, *, side: Side, at: str, relation: str = "") -> CdcflowError:
    """Return the error that a failed libpq result stands for (see `translate`)."""
    return translate(errors.error_from_result(result), side=side, at=at, relation=relation)


def from_connection(pgconn: pq.abc.PGconn, *, side: Side, at: str) -> CdcflowError:
    """Return the error for a libpq connection that broke, from its last message."""
    return translate(psycopg.OperationalError(pgconn.get_error_message()), side=side, at=at)


def copy_place(exc: psycopg.Error) -> tuple[int | None, str]:
    """Return the line (from 1) and the column at which a COPY failed; None and '' where the server did not say."""
    report = _read(exc)
    return report.line, report.column


def _read(exc: psycopg.Error) -> _Report:
    diag = exc.diag
    found = _COPY_CONTEXT.match(diag.context or "")
    line, column = (int(found[1]), found[2] or "") if found else (None, "")
    return _Report(
        exc.sqlstate or diag.sqlstate or "",
        diag.message_primary or "",
        diag.schema_name or "",
        diag.table_name or "",
        diag.column_name or column,
        diag.constraint_name or "",
        line,
    )


def _with_state(report: _Report, side: Side, at: str, relation: str) -> CdcflowError:
    state, message = report.state, report.message
    if state == FENCED_SQLSTATE:
        return fenced(at, message)
    if state in _TEMPORARY:
        return _unavailable(side)(
            f"the {side} cannot go on now: {_TEMPORARY[state]}", at=at, why=message, do=_HOW_TO_WAIT.get(state, "")
        )
    if state[:2] == "08":
        return _lost(side, at, message)
    if state[:2] in ("22", "23"):
        return _rejected(report, side, at)
    if state[:2] == "28" or state in ("3D000", "42501"):
        return _denied(message, side, at, relation)
    if side == "source" and _log_is_gone(state, message):
        return PositionLost(
            "the source no longer has the log that follows the checkpoint",
            at=at,
            why=message,
            do="cdcflow resync --all",
        )
    if state == "53400":
        return OperatorError(f"the {side} has no replication slot left", at=at, why=message, do=_SLOTS)
    if state == "55000" and "wal_level" in message:
        return OperatorError(
            f"the {side} does not log what replication needs",
            at=at,
            why=message,
            do="ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
        )
    # A function or trigger of the user may put anything into its message, and XX000 is a defect of the
    # server: neither may leak a value, so only the code is told.
    silent = state[:2] in ("P0", "HV") or not message
    why = f"SQLSTATE {state}" if silent else f"{message} (SQLSTATE {state})"
    return OperatorError(f"the {side} refused a statement", at=at, why=why)


def fenced(at: str, why: str) -> Fenced:
    """Return the error for a write that found another epoch than ours in the target."""
    return Fenced(
        "this instance no longer holds the lease of the pipeline",
        at=at,
        why=f"{why}; nothing of ours was written",
        do="let one instance of a pipeline run: `cdcflow status` says which one holds the lease",
    )


_SLOTS = (
    "drop unused slots (SELECT slot_name, active FROM pg_replication_slots),"
    " or ALTER SYSTEM SET max_replication_slots and restart the server"
)


def _log_is_gone(state: str, message: str) -> bool:
    if state == "42704":
        return message.startswith("replication slot ")
    words = ("can no longer", "has already been removed", "invalidated", "cannot read from logical replication slot")
    return state in ("55000", "58P01", "XX000") and any(word in message for word in words)


def _rejected(report: _Report, side: Side, at: str) -> RowRejected:
    place = ".".join(part for part in (report.schema, report.table) if part)
    parts = [f"table {place}"] if place else []
    if report.column:
        parts.append(f"column {report.column}")
    if report.constraint:
        parts.append(f"constraint {report.constraint}")
    what = _ROW_FAULTS.get(report.state, "a value or row is not acceptable")
    return RowRejected(
        f"the {side} rejects a row: {what}",
        at=", ".join([*parts, at] if at else parts),
        why=f"SQLSTATE {report.state}",
    )


def _without_state(exc: psycopg.Error, side: Side, at: str) -> CdcflowError:
    """Place an error that the client library raised, or a connection attempt that failed."""
    text = _plain(str(exc))
    if isinstance(exc, psycopg.ProgrammingError) or any(words in text for words in _BAD_OPTION):
        return ConfigError(f"the {side} cannot be asked this way", at=at, why=text)
    if any(words in text for words in _NO_ROUTE):
        return _unavailable(side)(f"the {side}'s host name cannot be found", at=at, why=text)
    if _speaks_of_access(text):
        return _denied(text, side, at)
    if "sorry, too many clients already" in text or "remaining connection slots" in text:
        return _unavailable(side)(f"the {side} has no connection slot left", at=at, why=text, do=_HOW_TO_WAIT["53300"])
    if any(words in text for words in _TLS):
        return AccessDenied(
            f"the {side} and cdcflow do not agree on TLS",
            at=at,
            why=text,
            do="set sslmode, sslrootcert, sslcert or sslkey in the URL",
        )
    return _lost(side, at, text)


def _speaks_of_access(text: str) -> bool:
    return any(
        words in text
        for words in (
            "password authentication failed",
            "no password supplied",
            "authentication failed for user",
            "no pg_hba.conf entry",
            "pg_hba.conf rejects",
            "does not exist",
            "is not permitted to log in",
            "permission denied",
            "must be superuser or replication role",
            "is not currently accepting connections",
        )
    ) and not ("file" in text and "does not exist" in text)


def _denied(message: str, side: Side, at: str, relation: str = "") -> AccessDenied:
    what, do = _mend(message, side, _role(at), relation)
    return AccessDenied(what, at=at, why=message, do=do)


def _mend(message: str, side: Side, role: str, relation: str) -> tuple[str, str]:
    """Say what was denied, and the statement or edit that grants it."""

    def named(kind: str, name: str) -> str:
        return relation if kind == "TABLE" and relation else ident(name)

    if found := re.search(r'database "(.+)" does not exist', message):
        return f"the {side} has no such database", f"CREATE DATABASE {ident(found[1])}, or correct the URL"
    if found := re.search(r'permission denied for database "(.+?)".* CONNECT', message):
        return f"the user may not connect to the {side}", f"GRANT CONNECT ON DATABASE {ident(found[1])} TO {role}"
    if "password" in message or "authentication failed" in message:
        return f"the {side} refused user or password", "correct the user or the password in the URL"
    if "pg_hba.conf" in message:
        kind = "replication user and " if "replication" in message else ""
        return f"the {side} does not let {kind}this host in", "add a line for it to pg_hba.conf and reload the server"
    if found := re.search(r'role "(.+)" (does not exist|is not permitted to log in)', message):
        verb = "CREATE" if found[2] == "does not exist" else "ALTER"
        return f"the {side} has no such user", f"{verb} ROLE {ident(found[1])} LOGIN PASSWORD '...', or correct the URL"
    if "WAL sender" in message or "replication role" in message or "use replication slots" in message:
        return f"the user may not replicate from the {side}", f"ALTER ROLE {role} REPLICATION"
    if found := re.search(r'row-level security policy for table "(.+)"', message):
        return f"row-level security hides rows of table {found[1]}", f"ALTER ROLE {role} BYPASSRLS"
    if found := re.search(r'set parameter "(.+)"', message):
        return f"the user may not set {found[1]}", f"GRANT SET ON PARAMETER {found[1]} TO {role}"
    if found := re.search(r"permission denied for (schema|table|relation|view|sequence|database|type) (.+)", message):
        kind = "TABLE" if found[1] in ("relation", "view") else found[1].upper()
        return (
            f"the user lacks a privilege on {found[1]} {found[2]} of the {side}",
            f"GRANT {_privileges(kind, side)} ON {kind} {named(kind, found[2].strip())} TO {role}",
        )
    if found := re.search(r"must be (?:the )?owner of (\w+) (.+)", message):
        return (
            f"the user does not own {found[1]} {found[2]} of the {side}",
            f"ALTER {found[1].upper()} {named(found[1].upper(), found[2])} OWNER TO {role},"
            f" or GRANT the owner's role TO {role}",
        )
    return f"the user lacks a privilege on the {side}", f"grant role {role} what the server's words name"


def _privileges(kind: str, side: Side) -> str:
    if kind == "TABLE":
        return "SELECT" if side == "source" else "SELECT, INSERT, UPDATE, DELETE, TRUNCATE"
    if kind == "SCHEMA":
        return "USAGE" if side == "source" else "USAGE, CREATE"
    if kind == "SEQUENCE":
        return "SELECT" if side == "source" else "USAGE, UPDATE"
    return {"DATABASE": "CREATE", "TYPE": "USAGE"}[kind]


def _role(at: str) -> str:
    found = re.search(r"://([^@/]+)@", at)
    return ident(unquote(found[1])) if found else "CURRENT_USER"


def _lost(side: Side, at: str, why: str) -> Unavailable:
    do = "see that the server runs and can be reached, and that host and port in the URL are right; `run` waits for it"
    return _unavailable(side)(f"the connection to the {side} failed", at=at, why=_plain(why), do=do)


def _unavailable(side: Side) -> type[SourceUnavailable] | type[TargetUnavailable]:
    return SourceUnavailable if side == "source" else TargetUnavailable


def _plain(text: str) -> str:
    """Return a driver's message on one line."""
    return " ".join(text.split())
