"""Connections to PostgreSQL whose session prints and reads every value the same way, whoever configured the server."""

from __future__ import annotations

import re
import select
import time
from typing import Literal
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import conninfo, pq

from cdcflow.engines.postgres.errors import from_result, translate
from cdcflow.errors import CdcflowError, ConfigError

Side = Literal["source", "target"]
SCHEMES = ("postgresql", "postgres")

# How long a server may take to answer one connection attempt, unless the URL says otherwise.
CONNECT_TIMEOUT_SECONDS = 10

# A peer that vanished (power, cable, firewall that forgot the connection) is noticed after about a minute
# when idle, and after two when we have sent something that it never acknowledged. The latter counts for a peer
# that lives and has stopped reading, too: a disk under load may stand still for longer than half a minute.
_LIVENESS = {
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "120000",
}

_WRONG_OPTION = re.compile(r'invalid (?:\w+ value: ".*?"|integer value ".*?" for connection option "\w+")')

# Sent in the startup packet, where they outrank what ALTER ROLE and ALTER DATABASE say, on replication
# connections too. Each decides how a value or a definition is printed or read, whether rows are hidden, or
# whether the server may cut a long copy short.
SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "search_path": "pg_catalog",
    "row_security": "off",  # an error instead of rows that are silently left out
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # When we vanish, the server ends what we had open, and its locks with it, after about a minute.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "client_min_messages": "warning",
    "jit": "off",  # compiling a statement costs more than any of ours runs
}


def connect(
    url: str,
    *,
    side: Side,
    application: str = "cdcflow",
    replication: bool = False,
    autocommit: bool = True,
) -> psycopg.Connection:
    """Open a connection with the session pinned (see `SESSION`).

    Args:
        url: `postgresql://` or `postgres://` with libpq's query options; several hosts are tried in turn.
        side: which end of the pipeline this is, for the error's class and words.
        application: what `pg_stat_activity` shows, unless the URL names something.
        replication: open a walsender session (`replication=database`), which speaks the simple protocol only.

    Raises:
        ConfigError: the URL is wrong.
        SourceUnavailable, TargetUnavailable: nobody answers, or the server is starting or stopping.
        AccessDenied: refused by password, pg_hba.conf, TLS, or because the database is missing.
    """
    settings = parameters(url, application=application, replication=replication)
    try:
        connection = psycopg.connect(conninfo.make_conninfo("", **settings), autocommit=autocommit)
    except psycopg.Error as error:
        raise _refused(error, side, url) from None
    try:
        _unlimit(connection.pgconn, side, url)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_raw(
    url: str,
    *,
    side: Side,
    application: str = "cdcflow",
    replication: bool = False,
) -> pq.abc.PGconn:
    """Open the same connection as `connect`, as a blocking libpq handle. The caller calls `finish`.

    Raises:
        As `connect`.
    """
    settings = parameters(url, application=application, replication=replication)
    at = safe_url(url)
    seconds = conninfo.timeout_from_conninfo(settings)
    failed: CdcflowError | None = None
    try:
        attempts = conninfo.conninfo_attempts(settings)
    except psycopg.Error as error:
        raise translate(error, side=side, at=at) from None
    for attempt in attempts:
        try:
            pgconn = _dial(conninfo.make_conninfo("", **attempt), seconds)
        except psycopg.Error as error:
            failed = _refused(error, side, url)
            continue
        try:
            _unlimit(pgconn, side, url)
        except BaseException:
            pgconn.finish()
            raise
        return pgconn
    assert failed is not None  # there is at least one attempt
    raise failed


def parameters(url: str, *, application: str = "cdcflow", replication: bool = False) -> dict[str, str | int | None]:
    """Return libpq's connection parameters for a URL, with the session and the time limits in them.

    Raises:
        ConfigError: another scheme, an unknown option, or a URL that cannot be taken apart. The message never
            repeats the URL: where it goes wrong is often where a password was not percent-encoded.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise ConfigError(
            "not a PostgreSQL URL",
            at=safe_url(url),
            do="write it as postgresql://user:password@host:5432/database",
        )
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        raise _unreadable(url) from None
    ports = str(given.get("port", "")).split(",")
    if any(port and not port.isdigit() for port in ports) or "@" in str(given.get("host", "")):
        raise _unreadable(url)
    settings: dict[str, str | int | None] = {"connect_timeout": str(CONNECT_TIMEOUT_SECONDS), **_LIVENESS}
    if "," in str(given.get("host", "")) or "," in str(given.get("hostaddr", "")):
        settings["target_session_attrs"] = "read-write"  # of a failover group we want the primary
    settings["application_name"] = application
    settings.update(given)
    settings["client_encoding"] = "UTF8"
    pinned = " ".join(f"-c {name}={_escape(value)}" for name, value in SESSION.items())
    settings["options"] = f"{given.get('options', '')} {pinned}".strip()
    if replication:
        settings["replication"] = "database"
    return settings


def safe_url(url: str) -> str:
    """Return the URL for messages: scheme, user, hosts, ports and database; no password, no options."""
    scheme = url.split(":", 1)[0] if "://" in url else ""
    if scheme not in SCHEMES:
        return f"{scheme}://(not shown)" if scheme.isalnum() else "(not a URL)"
    try:
        given = {name: str(value) for name, value in conninfo.conninfo_to_dict(url).items()}
    except psycopg.Error:
        return "postgresql://(not readable)"
    hosts = given.get("host", given.get("hostaddr", "")).split(",")
    ports = given.get("port", "").split(",")
    if any(port and not port.isdigit() for port in ports) or any("@" in host for host in hosts):
        return "postgresql://(not readable)"
    user = quote(given["user"], safe="") + "@" if "user" in given else ""
    database = quote(given.get("dbname", ""), safe="")
    if hosts[0].startswith(("/", "@")):  # a Unix socket's folder
        port = f"&port={ports[0]}" if ports[0] else ""
        return f"postgresql://{user}/{database}?host={hosts[0]}{port}"
    if len(ports) < len(hosts):
        ports = [ports[0]] * len(hosts)
    names = [f"[{host}]" if ":" in host else host for host in hosts]
    places = ",".join(f"{name}:{port}" if port else name for name, port in zip(names, ports, strict=False))
    return f"postgresql://{user}{places}/{database}"


def _refused(error: psycopg.Error, side: Side, url: str) -> CdcflowError:
    """Return the error for a connection that was not made. An option's wrong value is found by libpq only now."""
    wrong = _WRONG_OPTION.search(str(error)) if error.sqlstate is None else None
    if wrong is None:
        return translate(error, side=side, at=safe_url(url))
    return ConfigError(f"the {side}'s URL has an option with a wrong value: {wrong[0]}", at=safe_url(url))


def _unreadable(url: str) -> ConfigError:
    return ConfigError(
        "the PostgreSQL URL cannot be read",
        at=safe_url(url),
        why="a part of it is not valid, or an option in it is unknown",
        do="write it as postgresql://user:password@host:5432/database and percent-encode what is special in"
        " user and password: @ as %40, : as %3A, / as %2F, % as %25, # as %23",
    )


def _escape(value: str) -> str:
    """Escape one value of the `options` startup parameter, in which blanks separate arguments."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _dial(info: str, seconds: float) -> pq.abc.PGconn:
    """Connect with libpq's asynchronous calls, which (unlike PQconnectdb) leave other threads running."""
    deadline = time.monotonic() + seconds
    pgconn = pq.PGconn.connect_start(info.encode())
    try:
        while True:
            status = pgconn.connect_poll() if pgconn.status != pq.ConnStatus.BAD else pq.PollingStatus.FAILED
            if status == pq.PollingStatus.OK:
                pgconn.nonblocking = 0
                return pgconn
            if status == pq.PollingStatus.FAILED:
                raise psycopg.OperationalError(f"connection failed: {pgconn.get_error_message()}")
            poll = select.poll()
            poll.register(pgconn.socket, select.POLLIN if status == pq.PollingStatus.READING else select.POLLOUT)
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise psycopg.errors.ConnectionTimeout("connection timeout expired")
    except BaseException:
        pgconn.finish()
        raise


def _unlimit(pgconn: pq.abc.PGconn, side: Side, url: str) -> None:
    """Lift `transaction_timeout`, which servers before 17 do not know and so cannot be sent at startup."""
    if pgconn.server_version < 170000:
        return
    blocking = pgconn.nonblocking == 0
    pgconn.nonblocking = 0
    result = pgconn.exec_(b"SET transaction_timeout = 0")
    pgconn.nonblocking = 0 if blocking else 1
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise from_result(result, side=side, at=safe_url(url))
