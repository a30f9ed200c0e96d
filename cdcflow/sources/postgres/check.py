"""What `cdcflow check` looks at in a PostgreSQL source, and the statement that mends each finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import Connection

from cdcflow.engines.postgres.names import ident
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Route
from cdcflow.model.schema import Table
from cdcflow.sources.postgres import check_tables
from cdcflow.sources.postgres.config import Config

OLDEST, NEWEST = 14, 18

# Below this a status update every ten seconds may come too late for the server.
SHORTEST_SENDER_TIMEOUT_MS = 20_000

# A slot limit below this is reached by one bulk load while the pipeline is down.
SMALLEST_SLOT_LIMIT_MB = 1024


@dataclass(frozen=True, slots=True)
class _Server:
    """The server's settings and who we are there."""

    words: str
    version: int
    database: str
    user: str
    encoding: str
    standby: bool
    creates: bool
    superuser: bool
    replicates: bool
    settings: dict[str, str]

    @property
    def role(self) -> str:
        return ident(self.user)

    def number(self, name: str) -> int:
        """Return a setting in its own unit (see pg_settings.unit); -1 where the server does not know it."""
        return int(self.settings.get(name, "-1"))


_SERVER = """
SELECT current_setting('server_version'), current_setting('server_version_num')::int, current_database()::text,
       current_user::text, current_setting('server_encoding'), pg_is_in_recovery(),
       has_database_privilege(current_database(), 'CREATE'), r.rolsuper,
       r.rolsuper OR r.rolreplication OR coalesce(
         (SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = 'rds_replication'), false)
FROM pg_roles r WHERE r.rolname = current_user
"""

_SETTINGS = """
SELECT name, setting FROM pg_settings WHERE name IN ('wal_level', 'max_replication_slots', 'max_wal_senders',
  'max_slot_wal_keep_size', 'wal_sender_timeout', 'idle_replication_slot_timeout')
"""


def findings(
    connection: Connection, config: Config, routes: Sequence[Route], refused: Sequence[Table]
) -> list[Finding]:
    """Look at the server, the role, slot and publication, and every routed table; change nothing.

    Args:
        connection: an ordinary connection in autocommit mode.
        config: with the names of slot and publications filled in.
        routes: the tables that would be captured.
        refused: tables that the rules name and that must not be captured as they are.

    Raises psycopg's errors where it cannot even look.
    """
    row = connection.execute(_SERVER).fetchone()
    assert row is not None  # a session always has a role
    settings: dict[str, str] = dict(connection.execute(_SETTINGS).fetchall())
    server = _Server(*(*row, settings))
    found = [_version(server), _primary(server), _encoding(server), _wal_level(server), _replication(server)]
    found += _slots(connection, server, config.slot_name)
    found += _senders(connection, server)
    found += _keeping(server)
    found += _timeout(server)
    found += _publication(connection, server, config.publications[0])
    found += check_tables.findings(connection, server.role, config.publications, routes, refused)
    found += check_tables.unlogged(connection)
    return found


def _version(server: _Server) -> Finding:
    name, subject = "source.version", "server version"
    major = server.version // 10000
    if major < OLDEST:
        do = f"upgrade the source to PostgreSQL {OLDEST} or later"
        return Finding(Level.BLOCKER, name, subject, f"PostgreSQL {server.words} is too old", do)
    if major > NEWEST:
        found = f"PostgreSQL {server.words} is newer than what cdcflow is tested with ({OLDEST} to {NEWEST})"
        return Finding(Level.NOTE, name, subject, found)
    return _ok(name, subject, f"PostgreSQL {server.words}")


def _primary(server: _Server) -> Finding:
    name, subject = "source.primary", f"database {server.database}"
    if server.standby:
        found = "the server is a standby, where no publication can be made"
        return Finding(Level.BLOCKER, name, subject, found, "point source.url at the primary")
    return _ok(name, subject, "on a primary server")


def _encoding(server: _Server) -> Finding:
    name, subject = "source.encoding", "text encoding"
    if server.encoding == "SQL_ASCII":
        found = "SQL_ASCII: the server does not know which characters its bytes mean; they must be UTF-8"
        do = "make sure that all text is UTF-8; a value that is not is refused by the target"
        return Finding(Level.WARNING, name, subject, found, do)
    return _ok(name, subject, server.encoding)


def _wal_level(server: _Server) -> Finding:
    level = server.settings["wal_level"]
    if level == "logical":
        return _ok("source.wal_level", "wal_level", "logical")
    return Finding(
        Level.BLOCKER,
        "source.wal_level",
        "wal_level",
        f"{level}: the log does not hold what replication needs",
        "ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
    )


def _replication(server: _Server) -> Finding:
    name, subject = "source.replication", f"role {server.role}"
    if server.replicates:
        return _ok(name, subject, "may replicate")
    return Finding(Level.BLOCKER, name, subject, "may not replicate", f"ALTER ROLE {server.role} REPLICATION")


_SLOT = """
SELECT plugin::text, database::text, active, wal_status, to_jsonb(s) ->> 'invalidation_reason'
FROM pg_replication_slots s WHERE slot_name = %s
"""


def _slots(connection: Connection, server: _Server, name: str) -> Iterator[Finding]:
    """The pipeline's own slot, and a free one to copy with (tables added later, an interrupted copy)."""
    row = connection.execute(_SLOT, (name,)).fetchone()
    used = connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone()
    most = server.number("max_replication_slots")
    free = most - (used[0] if used else 0)
    needed = 1 if row is None else 0
    words = f"{free} of {most} free, {needed + 1} needed (one of them only while tables are copied)"
    do = f"ALTER SYSTEM SET max_replication_slots = {most + needed + 1 - free}; then restart the server, or drop"
    do += " slots that nobody uses: SELECT slot_name FROM pg_replication_slots WHERE NOT active"
    if free < needed:
        yield Finding(Level.BLOCKER, "source.replication_slots", "max_replication_slots", words, do)
    elif free < needed + 1:
        yield Finding(Level.WARNING, "source.replication_slots", "max_replication_slots", words, do)
    else:
        yield _ok("source.replication_slots", "max_replication_slots", words)
    yield _slot(row, server, name)


def _slot(row: tuple[object, ...] | None, server: _Server, slot: str) -> Finding:
    name, subject = "source.slot", f"slot {slot}"
    if row is None:
        return _ok(name, subject, "will be made")
    plugin, database, active, status, reason = row
    if plugin != "pgoutput" or database != server.database:
        found = f"is there and is not ours (plugin {plugin}, database {database})"
        return Finding(Level.BLOCKER, name, subject, found, "give the pipeline another name: `pipeline:`")
    if status == "lost" or reason:
        found = f"is invalid: {reason or 'the server removed log that it needed'}"
        return Finding(Level.BLOCKER, name, subject, found, "cdcflow resync --all")
    if active:
        found = "is in use: another process reads from it now"
        return Finding(Level.NOTE, name, subject, found, "let only one instance of a pipeline run")
    if status == "unreserved":
        found = "is behind so far that the server may remove log that it needs any moment"
        return Finding(Level.WARNING, name, subject, found, "start the pipeline now, or raise max_slot_wal_keep_size")
    return _ok(name, subject, "is there and valid")


def _senders(connection: Connection, server: _Server) -> Iterator[Finding]:
    row = connection.execute("SELECT count(*) FROM pg_stat_replication").fetchone()
    most = server.number("max_wal_senders")
    free = most - (row[0] if row else 0)
    words = f"{free} of {most} free, 2 needed (one of them only while tables are copied)"
    do = f"ALTER SYSTEM SET max_wal_senders = {most + 2 - free}; then restart the server"
    if free >= 2:
        yield _ok("source.wal_senders", "max_wal_senders", words)
    else:
        level = Level.BLOCKER if free < 1 else Level.WARNING
        yield Finding(level, "source.wal_senders", "max_wal_senders", words, do)


def _keeping(server: _Server) -> Iterator[Finding]:
    """How much log the server keeps for a pipeline that is down, and what it does after that."""
    name, limit = "source.max_slot_wal_keep_size", server.number("max_slot_wal_keep_size")
    if limit < 0:
        found = "no limit: a pipeline that is down lets the source's log grow until its disk is full"
        do = "ALTER SYSTEM SET max_slot_wal_keep_size = '100GB' (what the disk can spare); SELECT pg_reload_conf()"
        yield Finding(Level.NOTE, name, "max_slot_wal_keep_size", found, do)
    elif limit < SMALLEST_SLOT_LIMIT_MB:
        found = f"{limit} MB: a pipeline that falls back further loses its slot and copies everything again"
        do = "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf()"
        yield Finding(Level.WARNING, name, "max_slot_wal_keep_size", found, do)
    else:
        yield _ok(name, "max_slot_wal_keep_size", f"{limit} MB of log are kept for a pipeline that is down")
    idle = server.number("idle_replication_slot_timeout")
    if idle > 0:
        found = f"a pipeline that is down for {idle} s loses its slot and copies everything again"
        do = "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf()"
        name = "source.idle_replication_slot_timeout"
        yield Finding(Level.WARNING, name, "idle_replication_slot_timeout", found, do)


def _timeout(server: _Server) -> Iterator[Finding]:
    name, subject = "source.wal_sender_timeout", "wal_sender_timeout"
    milliseconds = server.number("wal_sender_timeout")
    do = "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf()"
    if milliseconds == 0:
        found = "0: the server never notices that a reader vanished, and its slot stays in use"
        yield Finding(Level.NOTE, name, subject, found, do)
    elif milliseconds < SHORTEST_SENDER_TIMEOUT_MS:
        found = f"{milliseconds} ms: a short stall of the network ends the connection"
        yield Finding(Level.WARNING, name, subject, found, do)
    else:
        yield _ok(name, subject, f"{milliseconds} ms")


def _publication(connection: Connection, server: _Server, name: str) -> Iterator[Finding]:
    row = connection.execute(
        "SELECT pg_has_role(current_user, pubowner, 'USAGE'), puballtables, pubviaroot,"
        " pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication WHERE pubname = %s",
        (name,),
    ).fetchone()
    subject = f"publication {name}"
    if row is None:
        if server.creates:
            yield _ok("source.publication", subject, "will be made")
            return
        do = f"GRANT CREATE ON DATABASE {ident(server.database)} TO {server.role}"
        yield Finding(Level.BLOCKER, "source.publication", subject, "the role may not make it", do)
        return
    owned, everything, via_root, complete = row
    if not owned:
        do = f"ALTER PUBLICATION {ident(name)} OWNER TO {server.role}"
        yield Finding(Level.BLOCKER, "source.publication", subject, "belongs to another role", do)
    elif everything or not via_root or not complete:
        do = f"DROP PUBLICATION {ident(name)}; cdcflow makes it anew"
        yield Finding(Level.BLOCKER, "source.publication", subject, "is not as cdcflow makes it", do)
    else:
        yield _ok("source.publication", subject, "is there")


def _ok(name: str, subject: str, found: str) -> Finding:
    return Finding(Level.OK, name, subject, found)
