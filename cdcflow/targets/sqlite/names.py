"""How tables and columns are named in a SQLite file, which knows no schemas and no case."""

from __future__ import annotations

from typing import Final

from cdcflow.errors import ConfigError
from cdcflow.model.route import Route

# Names that are the file's own, and the state's.
_RESERVED: Final = ("sqlite_", "cdcflow_")


def ident(name: str) -> str:
    """Return the identifier quoted. Raises ValueError on an empty name or U+0000, which a file cannot hold."""
    if not name or "\0" in name:
        raise ValueError("an identifier is neither empty nor holds U+0000")
    return '"' + name.replace('"', '""') + '"'


def folded(name: str) -> str:
    """Return what SQLite compares names by: A to Z without case."""
    return "".join(char.lower() if char.isascii() else char for char in name)


def table_of(route: Route) -> str:
    """Return the table of a route: its name without the schema."""
    return route.target.table


def refuse_names(route: Route) -> None:
    """Raise ConfigError for names that the file cannot have beside one another."""
    table = table_of(route)
    at = f"target table {table}, from {route.source.name}"
    if folded(table).startswith(_RESERVED):
        why = "names that begin so are SQLite's own, or cdcflow's"
        raise ConfigError(f"a table cannot be called {table} in a SQLite file", at=at, why=why, do=_to(route))
    seen: dict[str, str] = {}
    for _, name in route.columns:
        other = seen.setdefault(folded(name), name)
        if other != name:
            do = f"rename or exclude one of them in the rules of {route.source.name} (`columns:`)"
            raise ConfigError(f"columns {other} and {name} are one in SQLite, which knows no case", at=at, do=do)


def collision(route: Route, other: str) -> ConfigError:
    """Return the error for two tables of one name; `other` says whose the other is."""
    return ConfigError(
        f"two tables would be called {table_of(route)} in the file",
        at=f"{route.source.name} and {other}",
        why="SQLite knows neither schemas nor case: the target's table is the name alone",
        do=_to(route),
    )


def _to(route: Route) -> str:
    name = route.source.name
    return f"give {name} another name in the rules, for example `to: {name.schema}.{name.schema}_{name.table}`"
