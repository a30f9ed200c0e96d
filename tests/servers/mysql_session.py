"""Connections of the tests to MySQL and MariaDB, pinned against the servers' odd defaults."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT

# MySQL's own default; MariaDB knows every word of it too.
SQL_MODE = (
    "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION"
)
SESSION = f"SET time_zone = '+00:00', sql_mode = '{SQL_MODE}'"
CONNECT_LIMIT_SECONDS = 30


def connect_to(url: str, *, autocommit: bool = True, **arguments: Any) -> Connection[Any]:
    """Open a connection to `mysql://user:password@host:port/database`; `arguments` are PyMySQL's.

    It takes several statements at once, and reads and writes UTC and utf8mb4.
    """
    parts = urlsplit(url)
    defaults: dict[str, Any] = {
        "connect_timeout": CONNECT_LIMIT_SECONDS,
        "charset": "utf8mb4",
        "client_flag": CLIENT.MULTI_STATEMENTS,
        "init_command": SESSION,
        "local_infile": True,
    }
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        database=parts.path.lstrip("/") or None,
        autocommit=autocommit,
        **{**defaults, **arguments},
    )


def rows(connection: Connection[Any], sql: str, params: Any = None) -> list[tuple[Any, ...]]:
    """Run one or several statements and return the rows of the last one that has any."""
    found: list[tuple[Any, ...]] = []
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        while True:
            if cursor.description is not None:
                found = list(cursor.fetchall())
            if not cursor.nextset():
                return found
