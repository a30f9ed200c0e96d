"""What an account may do, read from SHOW GRANTS."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cdcflow.engines.mysql.names import literal
from cdcflow.targets.mysql.session import Session, text

_LINE = re.compile(r"^GRANT (?P<what>.+?) ON (?:TABLE )?(?P<where>\*\.\*|`(?:[^`]|``)+`\.\*) TO ")
_ALL = ("ALL PRIVILEGES", "ALL")


@dataclass(frozen=True, slots=True)
class Grants:
    """`unsure`: there are roles or other grants whose effect is not known here. Scopes are patterns of LIKE, '' for all
    databases."""

    account: str
    held: tuple[tuple[str, frozenset[str]], ...]
    unsure: bool

    def lacking(self, needed: Iterable[str], database: str) -> list[str]:
        """Return which privileges the account does not have on a whole database."""
        have: set[str] = set()
        for scope, privileges in self.held:
            if not scope or _like(scope).fullmatch(database):
                have |= privileges
        if have & set(_ALL):
            return []
        return [name for name in needed if name not in have]


def read(session: Session) -> Grants:
    """Read the account's grants, with those of its active roles where the server lists them."""
    ((who,),) = session.query("SELECT CURRENT_USER()")
    user, _, host = text(who).rpartition("@")
    held, unsure = [], False
    for (line,) in session.query("SHOW GRANTS"):
        found = _LINE.match(text(line))
        if not found:
            unsure = True
            continue
        names = frozenset(re.sub(r"\s*\([^)]*\)", "", name).strip().upper() for name in found["what"].split(","))
        where = found["where"]
        held.append(("" if where == "*.*" else where[1:-3].replace("``", "`"), names))
    return Grants(f"{literal(user)}@{literal(host)}", tuple(held), unsure)


def _like(pattern: str) -> re.Pattern[str]:
    """Return a database pattern of GRANT: `%` and `_` stand for any, a backslash takes that away."""
    made, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and at + 1 < len(pattern):
            at += 1
            made.append(re.escape(pattern[at]))
        else:
            made.append({"%": ".*", "_": "."}.get(char, re.escape(char)))
        at += 1
    return re.compile("".join(made), re.DOTALL)
