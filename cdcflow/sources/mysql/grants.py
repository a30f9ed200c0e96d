"""What the session's account may do, read from SHOW GRANTS with its active roles."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.engines.mysql.names import literal
from cdcflow.sources.mysql.log_end import rows

_GRANT: Final = re.compile(r"GRANT (.+?) ON (?:(\*\.\*)|`((?:[^`]|``)+)`\.\*) TO ", re.DOTALL)
# One privilege under several names: MariaDB has had its own since 10.5.2.
_NAMES: Final = {
    "REPLICATION CLIENT": ("REPLICATION CLIENT", "BINLOG MONITOR", "SUPER"),
    "REPLICATION SLAVE": ("REPLICATION SLAVE", "REPLICATION REPLICA"),
}


class Grants:
    """The privileges of one account, on everything and on databases."""

    def __init__(self, account: str, lines: Iterable[str]) -> None:
        self.account = account
        self._everywhere: set[str] = set()
        self._databases: dict[str, set[str]] = defaultdict(set)
        for line in lines:
            found = _GRANT.match(line)
            if found is None:
                continue
            named = {part.strip() for part in re.sub(r"\(.*?\)", "", found[1]).split(",")}
            if found[2]:
                self._everywhere |= named
            else:
                self._databases[found[3].replace("``", "`")] |= named

    def has(self, privilege: str, database: str = "") -> bool:
        """Return whether the account has a privilege everywhere, or on a database."""
        names = (*_NAMES.get(privilege, (privilege,)), "ALL PRIVILEGES")
        if not self._everywhere.isdisjoint(names):
            return True
        return any(_matches(pattern, database) and not held.isdisjoint(names) for pattern, held in self._here(database))

    def _here(self, database: str) -> Iterable[tuple[str, set[str]]]:
        return self._databases.items() if database else ()


def read(connection: Connection, flavour: Flavour) -> Grants:
    """Ask the server. Raises pymysql's errors."""
    ((who, role),) = rows(connection, "SELECT CURRENT_USER(), CURRENT_ROLE()")
    user, _, host = str(who).rpartition("@")
    statement = "SHOW GRANTS"
    if flavour.engine == "mysql" and role and role != "NONE":
        statement += f" FOR CURRENT_USER() USING {role}"  # MariaDB shows what a role gives without being asked
    lines = [str(row[0]) for row in rows(connection, statement)]
    return Grants(f"{literal(user)}@{literal(host)}", lines)


def _matches(pattern: str, database: str) -> bool:
    r"""Compare a database's name with a grant's, in which `_` and `%` are wild and `\` takes that away."""
    expression = re.sub(
        r"\\(.)|([_%])|(.)",
        lambda found: (
            re.escape(found[1]) if found[1] else {"_": ".", "%": ".*"}[found[2]] if found[2] else re.escape(found[3])
        ),
        pattern,
        flags=re.DOTALL,
    )
    return re.fullmatch(expression, database, re.DOTALL) is not None
