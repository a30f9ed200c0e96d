"""What a user may not do at a MySQL or MariaDB server, and the statement or edit that permits it.

Numbers: see `engines.mysql.errors`.
"""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import unquote

from cdcflow.engines.mysql.names import ident, literal

Side = Literal["source", "target"]

# The database of the pipeline's state at a target, where rows are staged too.
_STATE: Final = "cdcflow"

_WHO: Final = re.compile(r"'([^']*)'@'([^']*)'")

# Numbers of errors about users and privileges.
# fmt: off
DENIED: Final = frozenset((
    1044, 1045, 1049, 1130, 1131, 1132, 1133, 1141, 1142, 1143, 1147, 1227, 1251, 1275, 1370, 1396, 1410, 1449, 1524,
    1698, 1820, 1862, 1873, 2049, 2059, 2061, 3118, 3162, 3955, 4151, 4166,
))
# fmt: on


def denied_words(number: int, message: str, side: Side, at: str, relation: str, user: str) -> tuple[str, str]:
    """Return what is not permitted, and the statement or edit that permits it."""
    account = _account(message, at, user)
    if number == 1049:
        found = re.search(r"Unknown database '(.+)'", message)
        make = f"CREATE DATABASE {ident(found[1])}, or " if found else ""
        return f"the {side} has no such database", f"{make}correct the database in the URL"
    if number in (1045, 1698, 1524, 1873):
        return f"the {side} refused user or password", "correct the user or the password in the URL"
    if number in (1820, 1862):
        return f"the user's password at the {side} has expired", f"ALTER USER {account} IDENTIFIED BY '...'"
    if number in (3118, 4151):
        return f"the user is locked at the {side}", f"ALTER USER {account} ACCOUNT UNLOCK"
    if number == 1130:
        return f"the {side} does not let this host in", f"CREATE USER '{_name(at, user)}'@'%' IDENTIFIED BY '...'"
    if number in (1251, 2049, 2059, 2061, 1275):
        return f"the {side} asks for a way to log in that cdcflow does not know", (
            f"ALTER USER {account} IDENTIFIED WITH caching_sha2_password BY '...' (MariaDB: mysql_native_password)"
        )
    if number == 1044 and (found := re.search(r"to database '(.+)'", message)):
        return (
            f"the user may not use database {found[1]} of the {side}",
            f"GRANT {privileges(side, found[1])} ON {ident(found[1])}.* TO {account}",
        )
    if number == 1227:
        found = re.search(r"\(at least one of\) the (.+?) privilege", message)
        choices = re.split(r", *| or ", found[1]) if found else []
        needed = next((each for each in choices if each != "SUPER"), "SUPER")  # never more than it takes
        return f"the user lacks the privilege {needed} at the {side}", f"GRANT {needed} ON *.* TO {account}"
    if number in (1142, 1143):
        verb = message.split(" command denied", 1)[0]
        found = re.search(r"for table ['`](.+?)['`](?:\.`(.+?)`)?$", message)
        if found and found[2]:
            place = f"{ident(found[1])}.{ident(found[2])}"
        else:
            place = relation or (f"{ident(found[1])}" if found else "*.*")
        named = verb if re.fullmatch(r"[A-Z, ]{2,60}", verb) else privileges(side)
        return f"the user lacks {named} on {place} of the {side}", f"GRANT {named} ON {place} TO {account}"
    if number == 1370:
        return f"the user lacks a privilege on a routine of the {side}", f"GRANT EXECUTE ON *.* TO {account}"
    return f"the user lacks a privilege on the {side}", f"grant {account} what the server's words name"


def privileges(side: Side, database: str = "") -> str:
    """Return the privileges on tables that a connector needs, as they stand in a GRANT."""
    if side == "source":
        return "SELECT"
    staging = ", CREATE TEMPORARY TABLES" if database == _STATE else ""
    return f"SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES{staging}"


def _account(message: str, at: str, user: str) -> str:
    found = _WHO.search(message)
    name, host = (found[1], found[2]) if found else (_name(at, user), "%")
    return f"{literal(name)}@{literal(host)}"


def _name(at: str, user: str) -> str:
    found = re.search(r"://([^@/]+)@", at)
    return user or (unquote(found[1]) if found else "...")
