"""The publications of a pipeline: exactly the tables that are captured, and never one that must not be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from contextlib import suppress

import psycopg

from cdcflow.engines.postgres.names import ident, literal, qualified
from cdcflow.errors import TableRefused
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Mode, Route
from cdcflow.model.schema import ReplicaIdentity, Table, TableName
from cdcflow.sources.postgres.config import Config

# Temporary slots of somebody who only looks at the log are named this and the pipeline's name.
LOOKING = "cdcflow_look_"

_FULL = ReplicaIdentity.FULL

# What each publication carries. TRUNCATE needs no replica identity.
_ALL, _APPEND = "insert, update, delete, truncate", "insert, truncate"

_MEMBERS = """
SELECT r.prrelid::int8, n.nspname, c.relname
FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = %s
"""


def existing(connection: psycopg.Connection, config: Config) -> list[str]:
    """Return those of the pipeline's publications that exist."""
    rows = connection.execute(
        "SELECT pubname::text FROM pg_publication WHERE pubname = ANY (%s) ORDER BY pubname",
        [list(config.publications)],
    )
    return [name for (name,) in rows]


def numbers(connection: psycopg.Connection, config: Config) -> list[int]:
    """Return the object numbers of the pipeline's publications, in the order of their names."""
    rows = connection.execute(
        "SELECT oid::int8 FROM pg_publication WHERE pubname = ANY (%s) ORDER BY pubname", [list(config.publications)]
    )
    return [number for (number,) in rows]


def include(connection: psycopg.Connection, config: Config, routes: Sequence[Route]) -> None:
    """Make the publications, where missing, and let them carry exactly these tables.

    Both are always made: one that comes later than the slot cannot be named for what was logged before it.

    Raises:
        TableRefused: a table to be added must stay out (see `refusal`). Nothing was changed.
    """
    there = existing(connection, config)
    appended = [route.source for route in routes if route.mode is Mode.APPEND]
    mirrored = [route.source for route in routes if route.mode is not Mode.APPEND]
    with connection.transaction():
        for name, tables, carries in zip(config.publications, (mirrored, appended), (_ALL, _APPEND), strict=True):
            if name not in there:
                _admissible(routes, {table.id for table in tables})
                _create(connection, name, tables, carries)
                continue
            members = {oid: TableName(schema, table) for oid, schema, table in connection.execute(_MEMBERS, [name])}
            wanted = {table.id: table.name for table in tables}
            _admissible(routes, wanted.keys() - members.keys())
            # Out first: a table may be in one publication only for a moment, and never in both for long.
            _alter(connection, name, "DROP", [members[oid] for oid in members.keys() - wanted.keys()])
            _alter(connection, name, "ADD", [wanted[oid] for oid in wanted.keys() - members.keys()])


def _admissible(routes: Sequence[Route], fresh: Set[int]) -> None:
    """Look a last time at tables before the publication holds them, whoever asked for it."""
    for route in routes:
        if route.source.id in fresh and (found := refusal(route.source, route)) is not None:
            raise TableRefused(f"table {route.source.name} cannot be captured as it is", why=found.found, do=found.do)


def _create(connection: psycopg.Connection, name: str, tables: Sequence[Table], carries: str) -> None:
    listed = f" FOR TABLE {_list(table.name for table in tables)}" if tables else ""
    connection.execute(
        _raw(
            f"CREATE PUBLICATION {ident(name)}{listed} WITH (publish = '{carries}', publish_via_partition_root = true)"
        )
    )


def _alter(connection: psycopg.Connection, name: str, action: str, tables: Sequence[TableName]) -> None:
    if tables:
        connection.execute(_raw(f"ALTER PUBLICATION {ident(name)} {action} TABLE {_list(sorted(tables))}"))


def _list(names: Iterable[TableName]) -> str:
    return ", ".join(f"ONLY {qualified(name)}" for name in names)


def _raw(text: str) -> bytes:
    """Names may hold `%`: without parameters psycopg takes the text as it is."""
    return text.encode()


def drop(connection: psycopg.Connection, config: Config) -> list[str]:
    """Drop the pipeline's publications; return what was dropped."""
    dropped = []
    for name in existing(connection, config):
        connection.execute(_raw(f"DROP PUBLICATION {ident(name)}"))
        dropped.append(f'publication "{name}"')
    return dropped


def sweep(connection: psycopg.Connection) -> None:
    """Drop what a killed `cdcflow read` left: publications of its own that no slot of its own reads.

    A forgotten publication costs nothing until a table in it loses its key; then its UPDATEs fail.
    """
    rows = connection.execute(
        "SELECT pubname::text FROM pg_publication p"
        " WHERE pubname ~ '^cdcflow_read_[0-9]+_[0-9a-f]{6}(_append)?$'"
        " AND NOT EXISTS (SELECT FROM pg_replication_slots"
        " WHERE starts_with(slot_name, %s || regexp_replace(p.pubname, '^cdcflow_|_append$', '', 'g')))",
        [LOOKING],
    )
    for (name,) in rows.fetchall():
        with suppress(psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject):
            connection.execute(_raw(f"DROP PUBLICATION {ident(name)}"))


def refusal(table: Table, route: Route) -> Finding | None:
    """Say why the table must stay out of the publication; None when it may be in.

    A published table whose UPDATE or DELETE has no replica identity refuses them: the application would break.
    """
    if route.mode is Mode.APPEND:
        return None
    name = qualified(table.name)
    mend = (
        f"ALTER TABLE {name} ADD PRIMARY KEY (...);\n"
        f"or ALTER TABLE {name} REPLICA IDENTITY FULL;\n"
        f'or in the rules: {{match: "{table.name}", exclude: true}} or {{match: "{table.name}", mode: append}}'
    )
    if table.partitioned and (table.identity is ReplicaIdentity.NOTHING or not (table.key or table.identity is _FULL)):
        return _refused(
            table,
            "has partitions without a replica identity that fits its key, so UPDATE and DELETE on them would fail"
            " once published",
            _each_partition(table, "REPLICA IDENTITY " + ("DEFAULT" if table.key else "FULL"))
            + "\n"
            + mend.splitlines()[-1],
        )
    if table.identity is ReplicaIdentity.NOTHING:
        if table.primary_key:
            mend = f"ALTER TABLE {name} REPLICA IDENTITY DEFAULT;\n" + mend.split("\n", 1)[1]
        return _refused(table, "has REPLICA IDENTITY NOTHING, so its UPDATE and DELETE would fail once published", mend)
    if table.identity is not ReplicaIdentity.FULL and not table.key:
        return _refused(
            table,
            "has no primary key and no replica identity, so its UPDATE and DELETE would fail once published",
            mend,
        )
    if table.identity is not ReplicaIdentity.FULL and not set(route.key) <= set(table.key):
        return _refused(
            table,
            f"the rule's key ({', '.join(route.key)}) is not in what the log holds of old rows"
            f" ({', '.join(table.key)})",
            f"ALTER TABLE {name} REPLICA IDENTITY FULL; or drop `key` from the rule",
        )
    return None


def _each_partition(table: Table, action: str) -> str:
    """Return a statement for psql that alters every partition: what is set on the root stays on the root."""
    tree = f"pg_partition_tree({literal(qualified(table.name))})"
    return f"SELECT format('ALTER TABLE %s {action}', relid) FROM {tree} WHERE isleaf \\gexec"


def _refused(table: Table, found: str, do: str) -> Finding:
    return Finding(Level.BLOCKER, "table.identity", f"table {table.name}", found, do)
