"""Connections to MySQL and MariaDB whose session prints and reads every value the same way, whoever configured the
server."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT

from cdcflow.engines.mysql.errors import translate
from cdcflow.errors import AccessDenied, CdcflowError, ConfigError
from cdcflow.rules.problem import nearest

Side = Literal["source", "target"]
Engine = Literal["mysql", "mariadb"]
SCHEMES: Final = ("mysql", "mariadb")
DEFAULT_PORT: Final = 3306

# How long a server may take to answer one connection attempt, unless the URL says otherwise.
CONNECT_TIMEOUT_SECONDS: Final = 10

_PARAMETERS: Final = ("ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "connect_timeout", "socket")
# By MySQL's own names: https://dev.mysql.com/doc/refman/9.4/en/connection-options.html#option_general_ssl-mode
_TLS_MODES: Final = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")

# A peer that vanished (power, cable, firewall that forgot the connection) is noticed after about a minute when idle,
# and after two when we have sent something that it never acknowledged. The latter counts for a peer that lives and
# has stopped reading, too: a disk under load may stand still for longer than half a minute.
_LIVENESS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)

# What a statement may find is decided by the application's own settings at the source, so ours adds nothing. In the
# target nothing may be cut or replaced silently; a zero as key is a zero; and dates that MySQL calls invalid (31
# February, zero dates in a column's default) are the source's to have.
SQL_MODES: Final[dict[Side, str]] = {
    "source": "NO_ENGINE_SUBSTITUTION",
    "target": "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,"
    "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES",
}

# Each decides how a value is printed or read, or whether the server may cut a long copy or a long wait short. SQL text.
SESSION: Final = {
    "time_zone": "'+00:00'",
    "autocommit": "1",
    "completion_type": "0",
    "sql_select_limit": "18446744073709551615",
    "sql_safe_updates": "0",
    "sql_big_selects": "1",
    "group_concat_max_len": "1073741824",
    "lc_time_names": "'en_US'",
    "div_precision_increment": "4",
    "net_read_timeout": "600",  # how long the server waits for the rest of a statement, and for us to take its rows
    "net_write_timeout": "600",
    "wait_timeout": "86400",
    "lock_wait_timeout": "60",  # for a table's definition; the default of a year would hold a pipeline for ever
    "innodb_lock_wait_timeout": "50",
}
_OF_ENGINE: Final[dict[Engine, dict[str, str]]] = {
    "mysql": {"max_execution_time": "0"},  # milliseconds, of a SELECT
    "mariadb": {"max_statement_time": "0"},
}


@dataclass(frozen=True, slots=True, order=True)
class Flavour:
    """Which server it is: `Flavour("mysql", (9, 7, 4))`, `Flavour("mariadb", (11, 4, 5))`."""

    engine: Engine
    version: tuple[int, ...]

    def __str__(self) -> str:
        name = "MySQL" if self.engine == "mysql" else "MariaDB"
        return f"{name} {'.'.join(map(str, self.version))}"


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart. `socket` is a Unix socket's path, '' for TCP."""

    scheme: str
    user: str
    password: str = field(repr=False)
    host: str
    port: int
    database: str
    socket: str
    tls_mode: str
    tls_ca: str
    tls_cert: str
    tls_key: str
    connect_timeout: float


def connect(
    url: str,
    *,
    side: Side,
    application: str = "cdcflow",
    database: str | None = None,
    autocommit: bool = True,
    read_timeout: float | None = None,
    write_timeout: float | None = None,
    local_infile: bool = False,
    multi_statements: bool = False,
) -> Connection:
    """Open a connection with the session pinned (see `SESSION`).

    Statements report the rows that they matched, not the rows that they changed (CLIENT_FOUND_ROWS). The isolation
    level is REPEATABLE READ.

    Args:
        url: `mysql://` or `mariadb://user:password@host:3306/database`; see `address`.
        side: which end of the pipeline this is, for the error's class and words, and for the sql_mode.
        application: `program_name` among the connection attributes (performance_schema.session_connect_attrs).
        database: instead of the URL's.
        read_timeout, write_timeout: seconds without a byte after which the connection counts as lost; None for
            no limit but that of the network (`_LIVENESS`).
        local_infile: let LOAD DATA LOCAL ask this process for its rows.
        multi_statements: let one query hold several statements.

    Raises:
        ConfigError: the URL is wrong.
        SourceUnavailable, TargetUnavailable: nobody answers, or the server is starting or stopping.
        AccessDenied: refused by password, host or TLS, or because the database is missing.
    """
    place = address(url)
    at = safe_url(url)
    context = _tls(place, side, at)
    connection = Connection(
        user=place.user or None,
        password=place.password.encode(),
        host=place.host,
        port=place.port,
        unix_socket=place.socket or None,
        database=(place.database if database is None else database) or None,
        charset="utf8mb4",
        autocommit=autocommit,
        connect_timeout=place.connect_timeout,
        # Until it has let us in; a server that accepts and stays deaf is none.
        read_timeout=place.connect_timeout,
        write_timeout=place.connect_timeout,
        local_infile=local_infile,
        client_flag=CLIENT.FOUND_ROWS | (CLIENT.MULTI_STATEMENTS if multi_statements else 0),
        program_name=application,
        ssl=context,
        ssl_disabled=context is None or None,
        defer_connect=True,
    )
    if place.tls_mode == "PREFERRED":
        setattr(connection, "_ssl_required", False)  # noqa: B010 - a server without TLS is taken, as by its own clients
    try:
        connection.connect(_dial(place))
        _pin(connection, side, autocommit)
    except (pymysql.Error, OSError, ValueError) as error:
        _abandon(connection)
        raise _refused(error, place, side, at) from None
    except BaseException:
        _abandon(connection)
        raise
    for name, value in (("_read_timeout", read_timeout), ("_write_timeout", write_timeout)):
        setattr(connection, name, value)
    return connection


def flavour(connection: Connection) -> Flavour:
    """Return which server a connection leads to, from its greeting."""
    return parse_version(str(getattr(connection, "server_version", "")))


def parse_version(text: str) -> Flavour:
    """Read a server's own version text: `9.7.4-log`, `5.5.5-10.6.18-MariaDB`, `11.8.9-MariaDB-deb12`.

    MariaDB before 11 puts `5.5.5-` in front for replicas that knew nothing newer than MySQL 5.5.
    """
    engine: Engine = "mariadb" if "mariadb" in text.lower() else "mysql"
    if engine == "mariadb":
        text = text.removeprefix("5.5.5-")
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return Flavour(engine, tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0))


def address(url: str) -> Address:
    """Take a URL apart.

    `mysql://user:password@host:port/database?ssl-mode=REQUIRED&ssl-ca=FILE&ssl-cert=FILE&ssl-key=FILE`
    `&connect_timeout=SECONDS&socket=PATH`; what is special in a part is percent-encoded there.

    Raises:
        ConfigError: another scheme, an unknown parameter, or a URL that cannot be taken apart. The message never
            repeats the URL: where it goes wrong is often where a password was not percent-encoded.
    """
    scheme = url.split(":", 1)[0].lower() if "://" in url else ""
    if scheme not in SCHEMES:
        raise ConfigError(
            "not a MySQL or MariaDB URL",
            at=safe_url(url),
            do="write it as mysql://user:password@host:3306/database",
        )
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
        user, password = unquote(parts.username or "", errors="strict"), unquote(parts.password or "", errors="strict")
        database = unquote(parts.path.removeprefix("/"), errors="strict")
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), errors="strict")
    except (ValueError, UnicodeError):
        raise _unreadable(url) from None
    host = unquote(parts.hostname or "")
    if "@" in host or "/" in database or "," in host or parts.fragment or "\0" in user + password + database + host:
        raise _unreadable(url)
    options = _options(url, given)
    path = options.get("socket", "")
    if bool(host) == bool(path):
        raise ConfigError(
            "the URL names no host" if not host else "the URL names a host and a socket",
            at=safe_url(url),
            do=f"write it as {scheme}://user:password@host:3306/database, or with ?socket=/path and no host",
        )
    timeout = _seconds(url, options.get("connect_timeout"))
    mode = options.get("ssl-mode", "").upper().replace("-", "_")
    given_ca = options.get("ssl-ca", "")
    if mode and mode not in _TLS_MODES:
        near = nearest(mode, _TLS_MODES)
        raise ConfigError(
            "the URL's ssl-mode is none that there is" + (f"; {near}?" if near else ""),
            at=safe_url(url),
            do=f"one of {', '.join(_TLS_MODES)}",
        )
    if given_ca and mode not in ("", "VERIFY_CA", "VERIFY_IDENTITY"):
        raise ConfigError(
            f"the URL has ssl-ca, which ssl-mode={mode} does not use",
            at=safe_url(url),
            do="ssl-mode=VERIFY_CA or VERIFY_IDENTITY, or leave ssl-ca out",
        )
    if options.get("ssl-key") and not options.get("ssl-cert"):
        raise ConfigError("the URL has ssl-key without ssl-cert", at=safe_url(url), do="add ssl-cert=FILE")
    return Address(
        scheme,
        user,
        password,
        host,
        port,
        database,
        path,
        mode or ("VERIFY_CA" if given_ca else "PREFERRED"),
        given_ca,
        options.get("ssl-cert", ""),
        options.get("ssl-key", ""),
        timeout,
    )


def safe_url(url: str) -> str:
    """Return the URL for messages: scheme, user, host, port and database; no password, no options."""
    scheme = url.split(":", 1)[0].lower() if "://" in url else ""
    if scheme not in SCHEMES:
        return f"{scheme}://(not shown)" if scheme.isalnum() else "(not a URL)"
    unreadable = f"{scheme}://(not readable)"
    try:
        parts = urlsplit(url)
        port, host, user = parts.port, unquote(parts.hostname or ""), parts.username
        database = unquote(parts.path.removeprefix("/"))
        path = dict(parse_qsl(parts.query)).get("socket", "")
    except ValueError:
        return unreadable
    if "@" in host or "/" in database or "," in host or parts.fragment:
        return unreadable
    name = f"[{host}]" if ":" in host else host
    who = f"{quote(unquote(user), safe='')}@" if user else ""
    place = f"{name}:{port}" if port else name
    return f"{scheme}://{who}{place}/{quote(database, safe='')}" + (f"?socket={path}" if path and not host else "")


def _options(url: str, given: list[tuple[str, str]]) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in given:
        # Underscores are what other tools write.
        known = name if name in _PARAMETERS else next((p for p in _PARAMETERS if p.replace("-", "_") == name), None)
        if known is None:
            near = nearest(name, _PARAMETERS)
            shown = name if re.fullmatch(r"[A-Za-z_-]{1,40}", name) else "(not shown)"
            raise ConfigError(
                f"the URL has an unknown parameter {shown}" + (f"; {near}?" if near else ""),
                at=safe_url(url),
                do=f"cdcflow knows {', '.join(_PARAMETERS)}",
            )
        if not value or known in options:
            raise ConfigError(f"the URL's parameter {known} is empty or given twice", at=safe_url(url))
        options[known] = value
    return options


def _seconds(url: str, text: str | None) -> float:
    if text is None:
        return CONNECT_TIMEOUT_SECONDS
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 3600:
        raise ConfigError("the URL's connect_timeout is no number of seconds from 1 to 3600", at=safe_url(url))
    return int(text)


def _unreadable(url: str) -> ConfigError:
    return ConfigError(
        "the MySQL URL cannot be read",
        at=safe_url(url),
        why="a part of it is not valid",
        do="write it as mysql://user:password@host:3306/database and percent-encode what is special in user and"
        " password: @ as %40, : as %3A, / as %2F, % as %25, # as %23, ? as %3F",
    )


def _tls(place: Address, side: Side, at: str) -> ssl.SSLContext | None:
    """Return how to speak TLS; None where it must not be spoken."""
    if place.tls_mode == "DISABLED" or (place.socket and place.tls_mode == "PREFERRED"):
        return None
    checked = place.tls_mode in ("VERIFY_CA", "VERIFY_IDENTITY")
    try:
        context = ssl.create_default_context(cafile=place.tls_ca or None)
        # What MySQL makes for itself lacks extensions that Python asks for from 3.13 on.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = place.tls_mode == "VERIFY_IDENTITY"
        context.verify_mode = ssl.CERT_REQUIRED if checked else ssl.CERT_NONE
        if place.tls_cert:
            context.load_cert_chain(place.tls_cert, place.tls_key or None, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"a certificate or key in the {side}'s URL cannot be used",
            at=at,
            why=str(error),
            do="see that ssl-ca, ssl-cert and ssl-key name readable PEM files that belong together",
        ) from None
    return context


def _no_password() -> str:
    """Without this, OpenSSL asks on the terminal."""
    raise ValueError("the key is encrypted; cdcflow needs one without a passphrase")


def _dial(place: Address) -> socket.socket:
    if place.socket:
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            plain.settimeout(place.connect_timeout)
            plain.connect(place.socket)
        except BaseException:
            plain.close()
            raise
        return plain
    made = socket.create_connection((place.host, place.port), place.connect_timeout)
    for level, option, value in _LIVENESS:
        made.setsockopt(level, option, value)
    return made


def _pin(connection: Connection, side: Side, autocommit: bool) -> None:
    engine = flavour(connection).engine
    settings = {
        **SESSION,
        **_OF_ENGINE[engine],
        "autocommit": "1" if autocommit else "0",
        "sql_mode": f"'{SQL_MODES[side]}'",
    }
    pinned = ", ".join(f"SESSION {name} = {value}" for name, value in settings.items())
    with connection.cursor() as cursor:
        cursor.execute(f"SET {pinned}")
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE")


def _refused(error: Exception, place: Address, side: Side, at: str) -> CdcflowError:
    """Return the error for a connection that was not made."""
    if isinstance(error, ssl.SSLError) or isinstance(getattr(error, "original_exception", None), ssl.SSLError):
        return AccessDenied(
            f"the {side} and cdcflow do not agree on TLS",
            at=at,
            why=str(getattr(error, "original_exception", error)),
            do="set ssl-mode, ssl-ca, ssl-cert or ssl-key in the URL",
        )
    if isinstance(error, ValueError):
        return ConfigError(f"the {side}'s URL cannot be used", at=at, why=type(error).__name__)
    return translate(error, side=side, at=at, user=place.user)


def _abandon(connection: Connection) -> None:
    with suppress(Exception):
        connection.close()
