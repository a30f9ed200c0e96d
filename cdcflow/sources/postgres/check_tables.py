"""What `cdcflow check` looks at in each table of a PostgreSQL source, and the statement that mends each finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import Connection

from cdcflow.engines.postgres.names import ident, qualified
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Mode, Route
from cdcflow.model.schema import ReplicaIdentity, Table
from cdcflow.sources.postgres import publication

_TABLES = """
SELECT c.oid::int8, c.relpersistence::text, pg_has_role(current_user, c.relowner, 'USAGE'),
       pg_get_userbyid(c.relowner)::text, has_schema_privilege(c.relnamespace, 'USAGE'), row_security_active(c.oid),
       has_table_privilege(c.oid, 'SELECT'),
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
             AND NOT a.attisdropped AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT') ORDER BY a.attnum),
       EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
               WHERE r.prrelid = c.oid AND p.pubname = ANY (%s::text[]))
FROM pg_class c WHERE c.oid = ANY(%s::oid[])
"""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the catalog says of one table."""

    oid: int
    persistence: str
    owned: bool
    owner: str
    schema_usable: bool
    rows_hidden: bool
    readable: bool
    unreadable: list[str]
    published: bool


def findings(
    connection: Connection,
    role: str,
    publications: Sequence[str],
    routes: Sequence[Route],
    refused: Sequence[Table],
) -> Iterator[Finding]:
    """Look at every table that the rules name. `role` is ours, quoted; the rest as in `check.findings`."""
    kept = {route.source.id for route in routes}
    tables = [*(route.source for route in routes), *(table for table in refused if table.id not in kept)]
    rows = connection.execute(_TABLES, (list(publications), [table.id for table in tables]))
    facts = {row[0]: _Facts(*row) for row in rows}
    by_id = {route.source.id: route for route in routes}
    fine = 0
    for table in tables:
        found = list(_table(role, table, by_id.get(table.id), facts.get(table.id)))
        fine += not any(each.level is Level.BLOCKER for each in found)
        yield from found
    if tables:
        yield Finding(
            Level.OK if fine == len(tables) else Level.NOTE,
            "source.tables",
            "tables",
            f"{fine} of {len(tables)} tables that the rules name can be copied and followed",
        )


def _table(role: str, table: Table, route: Route | None, facts: _Facts | None) -> Iterator[Finding]:
    subject, quoted = str(table.name), qualified(table.name)
    if facts is None:
        yield Finding(Level.WARNING, "table.exists", subject, "was dropped a moment ago", "run cdcflow check again")
        return
    if facts.persistence == "u":
        do = f"ALTER TABLE {quoted} SET LOGGED, or exclude it in the rules"
        yield Finding(Level.BLOCKER, "table.logged", subject, "is unlogged: its changes are not in the log", do)
    if not facts.schema_usable:
        do = f"GRANT USAGE ON SCHEMA {ident(table.name.schema)} TO {role}"
        yield Finding(Level.BLOCKER, "table.schema", subject, "the role may not look into its schema", do)
    unreadable = [column.name for column, _ in route.columns if column.name in facts.unreadable] if route else []
    if not facts.readable and (unreadable or not route):
        do = f"GRANT SELECT ON {quoted} TO {role}"
        yield Finding(Level.BLOCKER, "table.select", subject, "the role may not read it", do)
    if facts.rows_hidden:
        do = f"ALTER ROLE {role} BYPASSRLS"
        found = "row-level security hides rows from the role, so a copy would lack them"
        yield Finding(Level.BLOCKER, "table.row_security", subject, found, do)
    if not facts.owned and not facts.published:
        do = f"GRANT {ident(facts.owner)} TO {role}"
        found = f"only its owner ({facts.owner}) may put it into a publication"
        yield Finding(Level.BLOCKER, "table.owner", subject, found, do)
    yield from _identity(table, route)


def _identity(table: Table, route: Route | None) -> Iterator[Finding]:
    """Say whether updates and deletes can be followed; `route` is None for a table that was refused."""
    if route is not None:
        refusal = publication.refusal(table, route)
    else:
        refusal = publication.refusal(table, Route(table, table.name, (), table.key)) or Finding(
            Level.BLOCKER,
            "table.identity",
            str(table.name),
            "the log does not hold the old values of all columns that the rules make its key",
            f"ALTER TABLE {qualified(table.name)} REPLICA IDENTITY FULL, or drop `key` from the rule",
        )
    if refusal is not None:
        yield refusal
    elif (
        route is not None and table.identity is ReplicaIdentity.FULL and not route.key and route.mode is not Mode.APPEND
    ):
        found = "has no key: each change finds its row by all columns, which is slow in a large table"
        do = f"ALTER TABLE {qualified(table.name)} ADD PRIMARY KEY (...), or `key: [...]` in the rules"
        yield Finding(Level.NOTE, "table.identity", str(table.name), found, do)


_UNLOGGED = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'u' ORDER BY 1
"""


def unlogged(connection: Connection) -> Iterator[Finding]:
    """Name the tables that no rule can reach, because their changes are never in the log."""
    for (name,) in connection.execute(_UNLOGGED).fetchall():
        yield Finding(
            Level.NOTE,
            "table.logged",
            name,
            "is unlogged: its changes are not in the log, and no rule matches it",
            f"ALTER TABLE {name} SET LOGGED, if it should be replicated",
        )
