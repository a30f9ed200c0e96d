"""What `cdcflow check` looks at in a MySQL or MariaDB source, and the statement that mends each finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import pymysql
from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Route
from cdcflow.model.schema import Table
from cdcflow.sources.mysql import check_tables, keeping
from cdcflow.sources.mysql.check_server import Server, read
from cdcflow.sources.mysql.config import Config
from cdcflow.sources.mysql.log_end import rows

# Oldest that works, oldest and newest that the tests run against.
VERSIONS: Final = {
    "mysql": ((5, 7), (8, 0), (9, 7)),
    "mariadb": ((10, 5), (10, 6), (11, 8)),
}


def findings(
    connection: Connection, flavour: Flavour, config: Config, routes: Sequence[Route], refused: Sequence[Table]
) -> list[Finding]:
    """Look at the server, the account, the log and every routed table; change nothing.

    Args:
        connection: an ordinary connection in autocommit mode.
        config: with the server id filled in.
        routes: the tables that would be captured.
        refused: tables that the rules name and that must not be captured as they are.

    Raises pymysql's errors where it cannot even look.
    """
    server = read(connection, flavour)
    found = [_version(server), _log(server)]
    if server.settings.get("log_bin") == "ON":
        found += _format(connection, server)
        found += _row_image(server)
        found.append(_metadata(server))
        found.append(_gtids(server))
        found += keeping.settings(server)
        found.append(_durability(server))
        found += _compression(server)
        found += _replica(connection, server)
    found += _privileges(server)
    found.append(_server_id(connection, server, config.reader_id))
    log = check_tables.Log(
        _filters(connection, server),
        cascades=check_tables.cascades_logged(flavour, server.settings),
        labels=server.settings.get("binlog_row_metadata") == "FULL",
        gtids=server.settings.get("gtid_mode", "ON") == "ON",
        views=not server.mysql,
    )
    found += check_tables.findings(connection, server.grants, log, routes, refused)
    return found


def _version(server: Server) -> Finding:
    name, subject = "source.version", "server version"
    flavour = server.flavour
    oldest, tested, newest = VERSIONS[flavour.engine]
    words = "MySQL" if server.mysql else "MariaDB"
    if flavour.version[:2] < oldest:
        do = f"upgrade the source to {words} {tested[0]}.{tested[1]} or later"
        return Finding(Level.BLOCKER, name, subject, f"{flavour} is too old", do)
    if flavour.version[:2] < tested:
        found = f"{flavour} is older than what cdcflow is tested with ({words} {tested[0]}.{tested[1]} and later)"
        return Finding(Level.WARNING, name, subject, found, f"upgrade to {words} {tested[0]}.{tested[1]} or later")
    if flavour.version[:2] > newest:
        found = f"{flavour} is newer than what cdcflow is tested with (up to {newest[0]}.{newest[1]})"
        return Finding(Level.NOTE, name, subject, found)
    return _ok(name, subject, str(flavour))


def _log(server: Server) -> Finding:
    if server.settings.get("log_bin") == "ON":
        return _ok("source.log_bin", "log_bin", "ON")
    found = "OFF: the server writes no binary log"
    do = "set log_bin = binlog in the server's configuration and restart it"
    return Finding(Level.BLOCKER, "source.log_bin", "log_bin", found, do)


def _format(connection: Connection, server: Server) -> Iterator[Finding]:
    name, subject = "source.binlog_format", "binlog_format"
    kind = server.settings.get("binlog_format", "ROW")
    if kind != "ROW":
        found = f"{kind}: the log holds statements where it must hold rows"
        do = server.set("binlog_format", "'ROW'") + "; sessions that are open keep what they have: reconnect them"
        yield Finding(Level.BLOCKER, name, subject, found, do)
        return
    yield _ok(name, subject, "ROW")
    others = 0
    with suppress(pymysql.Error):  # only who may see it, and only where performance_schema is on
        query = "SELECT COUNT(*) FROM performance_schema.variables_by_thread"
        ((others,),) = rows(connection, f"{query} WHERE variable_name = 'binlog_format' AND variable_value <> 'ROW'")
    if others:
        found = f"{others} open sessions write statements, not rows; the stream stops at the first such change"
        yield Finding(Level.BLOCKER, name, subject, found, "reconnect these sessions")


def _row_image(server: Server) -> Iterator[Finding]:
    name, image = "source.binlog_row_image", server.settings.get("binlog_row_image", "FULL")
    if image.startswith("FULL"):
        yield _ok(name, "binlog_row_image", image)
    else:
        found = (
            f"{image}: works; a rule's `key` cannot replace a table's own, and an insert needs the source's defaults"
        )
        yield Finding(Level.NOTE, name, "binlog_row_image", found, server.set("binlog_row_image", "'FULL'"))


def _metadata(server: Server) -> Finding:
    name, subject = "source.binlog_row_metadata", "binlog_row_metadata"
    kind = server.settings.get("binlog_row_metadata")
    if kind == "FULL":
        return _ok(name, subject, "FULL")
    found = (
        f"{kind or 'unknown to this server'}: works; the log does not name columns, so every ALTER must be understood"
    )
    do = server.set("binlog_row_metadata", "'FULL'") if kind else ""
    return Finding(Level.NOTE, name, subject, found, do)


def _gtids(server: Server) -> Finding:
    name = "source.gtid_mode"
    mode = server.settings.get("gtid_mode", "ON")
    if not server.mysql:
        return _ok(name, "GTIDs", "every transaction has one")
    if mode == "ON":
        return _ok(name, "gtid_mode", "ON")
    found = f"{mode}: the pipeline cannot go on from another server after a failover"
    do = (
        "SET PERSIST enforce_gtid_consistency = ON; then step by step SET PERSIST gtid_mode = OFF_PERMISSIVE,"
        " ON_PERMISSIVE, ON"
    )
    return Finding(Level.WARNING, name, "gtid_mode", found, do)


def _durability(server: Server) -> Finding:
    name, subject = "source.sync_binlog", "sync_binlog"
    if server.number("sync_binlog") == 1 and server.number("innodb_flush_log_at_trx_commit") in (1, -1):
        return _ok(name, subject, "1: what is in the log outlives a crash of the source")
    found = (
        f"sync_binlog = {server.number('sync_binlog'):.0f}, innodb_flush_log_at_trx_commit ="
        f" {server.number('innodb_flush_log_at_trx_commit'):.0f}: a crash of the source's machine may lose transactions"
        " that the target has already, and then the pipeline stops"
    )
    do = f"{server.set('sync_binlog', '1')}; {server.set('innodb_flush_log_at_trx_commit', '1')}"
    return Finding(Level.NOTE, name, subject, found, do)


def _compression(server: Server) -> Iterator[Finding]:
    for variable in ("binlog_transaction_compression", "log_bin_compress"):
        if server.settings.get(variable) == "ON":
            yield Finding(Level.NOTE, f"source.{variable}", variable, "ON: works; unpacking takes time of cdcflow's")


def _replica(connection: Connection, server: Server) -> Iterator[Finding]:
    """A replica logs what it applies only where it is told to."""
    if "ON" in (server.settings.get("log_replica_updates"), server.settings.get("log_slave_updates")):
        return
    newer = server.flavour.version >= ((8, 0, 22) if server.mysql else (10, 5, 1))
    try:
        channels = rows(connection, "SHOW REPLICA STATUS" if newer else "SHOW SLAVE STATUS")
    except pymysql.Error:
        return  # it takes a privilege of its own (MariaDB: SLAVE MONITOR)
    if channels:
        found = "OFF on a server that is a replica: what it gets from its own source is not in its log"
        do = "set log_slave_updates = ON (MySQL: log_replica_updates) in its configuration and restart it, or point"
        name = "source.log_replica_updates"
        yield Finding(Level.BLOCKER, name, "log_replica_updates", found, f"{do} source.url at the primary")


def _privileges(server: Server) -> Iterator[Finding]:
    held, account = server.grants, server.grants.account
    client = "REPLICATION CLIENT" if server.mysql else "BINLOG MONITOR"
    missing = [
        shown
        for privilege, shown in (("REPLICATION SLAVE", "REPLICATION SLAVE"), ("REPLICATION CLIENT", client))
        if not held.has(privilege)
    ]
    if missing:
        words = " and ".join(missing)
        do = f"GRANT {', '.join(missing)} ON *.* TO {account}"
        yield Finding(Level.BLOCKER, "source.replication", f"user {account}", f"lacks {words}", do)
    else:
        yield _ok("source.replication", f"user {account}", "may read the binary log")


def _server_id(connection: Connection, server: Server, ours: int) -> Finding:
    name, subject = "source.server_id", f"server_id {ours}"
    do = "set source.server_id in the configuration to a number that no replica of this source has"
    if server.number("server_id") == ours:
        return Finding(Level.BLOCKER, name, subject, "is the source's own", do)
    if server.number("server_id") == 0:
        found = "the source has server_id 0 and refuses every reader of its log"
        return Finding(Level.BLOCKER, name, "server_id", found, server.set("server_id", "1"))
    taken: list[tuple[Any, ...]] = []
    # Older ones of MySQL crash when a reader that is listed has gone without a word (seen on 8.0.15): not asked.
    if not server.mysql or server.flavour.version >= (8, 0, 22):
        with suppress(pymysql.Error):  # MariaDB asks for REPLICATION MASTER ADMIN
            taken = rows(connection, "SHOW REPLICAS" if server.mysql else "SHOW SLAVE HOSTS")
    if any(int(row[0]) == ours for row in taken):
        found = "is in use: another process reads the log under it now"
        do = f"let only one instance of a pipeline run; or {do}"
        return Finding(Level.NOTE, name, subject, found, do)
    return _ok(name, subject, "is not known to be in use")


def _filters(connection: Connection, server: Server) -> check_tables.Filters:
    newer = server.mysql and server.flavour.version >= (8, 2)
    try:
        found = rows(connection, "SHOW BINARY LOG STATUS" if newer else "SHOW MASTER STATUS")
    except pymysql.Error:
        found = []
    if not found:
        return check_tables.Filters((), ())
    only, without = (tuple(part for part in str(found[0][at] or "").split(",") if part) for at in (2, 3))
    return check_tables.Filters(only, without)


def _ok(name: str, subject: str, found: str) -> Finding:
    return Finding(Level.OK, name, subject, found)
