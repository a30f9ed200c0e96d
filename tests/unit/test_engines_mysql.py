"""URLs, names and errors of MySQL and MariaDB, without a server."""

from __future__ import annotations

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cdcflow.engines.mysql.connect import Flavour, address, parse_version, safe_url
from cdcflow.engines.mysql.errors import translate
from cdcflow.engines.mysql.names import ident, literal, qualified, table_id
from cdcflow.engines.mysql.rowfaults import row_fault
from cdcflow.errors import (
    AccessDenied,
    ConfigError,
    OperatorError,
    PositionLost,
    RowRejected,
    SourceChanged,
    SourceUnavailable,
    TargetUnavailable,
)
from cdcflow.model.schema import TableName
from cdcflow.sources.mysql.config import Config, chosen_id

AT = "mysql://repl@db1:3306/shop"


def test_url_is_taken_apart_and_decoded():
    found = address(
        "mysql://re%40pl:p%3A%2F%3F%23%E2%82%AC@[::1]:3307/sh%2Bop"
        "?ssl-mode=verify_identity&ssl-ca=/etc/ca%20x.pem&connect_timeout=3"
    )
    assert (found.user, found.password, found.host, found.port) == ("re@pl", "p:/?#€", "::1", 3307)
    assert (found.database, found.tls_mode, found.tls_ca) == ("sh+op", "VERIFY_IDENTITY", "/etc/ca x.pem")
    assert found.connect_timeout == 3
    assert "€" not in repr(found)


def test_url_needs_no_more_than_a_host_or_a_socket():
    found = address("MariaDB://db1")
    assert (found.scheme, found.user, found.password, found.host, found.port) == ("mariadb", "", "", "db1", 3306)
    assert (found.database, found.tls_mode, found.connect_timeout) == ("", "PREFERRED", 10)
    assert address("mysql://u@/shop?socket=/run/mysqld.sock").socket == "/run/mysqld.sock"
    assert address("mysql://db1?ssl_ca=/ca.pem").tls_mode == "VERIFY_CA"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:s3cr3t@db1/shop", "not a MySQL or MariaDB URL"),
        ("mysql:/u:s3cr3t@db1/shop", "not a MySQL or MariaDB URL"),
        ("mysql://u:s3cr3t@db1:port/shop", "cannot be read"),
        ("mysql://u:s3@cr3t@db1/shop/more", "cannot be read"),
        ("mysql://u:s3cr3t@db1,db2/shop", "cannot be read"),
        ("mysql://u:s3cr3t%ff@db1/shop", "cannot be read"),
        ("mysql://u:s3cr3t#x@db1/shop", "cannot be read"),
        ("mysql://u:s3cr3t@/shop", "names no host"),
        ("mysql://u:s3cr3t@db1/shop?socket=/x", "names a host and a socket"),
        ("mysql://u:s3cr3t@db1/shop?ssl-mod=REQUIRED", "unknown parameter ssl-mod; ssl-mode?"),
        ("mysql://u:s3cr3t@db1/shop?s3cr3t%20x=1", r"unknown parameter \(not shown\)"),
        ("mysql://u:s3cr3t@db1/shop?ssl-mode=REQUIRE", "ssl-mode is none that there is; REQUIRED?"),
        ("mysql://u:s3cr3t@db1/shop?ssl-mode=REQUIRED&ssl-ca=/x", "ssl-ca, which ssl-mode=REQUIRED does not use"),
        ("mysql://u:s3cr3t@db1/shop?ssl-key=/x", "ssl-key without ssl-cert"),
        ("mysql://u:s3cr3t@db1/shop?ssl-mode=", "empty or given twice"),
        ("mysql://u:s3cr3t@db1/shop?ssl-mode=DISABLED&ssl_mode=DISABLED", "empty or given twice"),
        ("mysql://u:s3cr3t@db1/shop?connect_timeout=soon", "no number of seconds"),
        ("mysql://u:s3cr3t@db1/shop?connect_timeout=0", "no number of seconds"),
    ],
)
def test_url_that_cannot_be_used_is_refused_without_its_password(url: str, said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        address(url)
    assert "s3cr3t" not in caught.value.report()
    assert "s3cr3t" not in safe_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mysql://u:s@db1:3307/shop?ssl-key=/k", "mysql://u@db1:3307/shop"),
        ("mariadb://db1", "mariadb://db1/"),
        ("mysql://u%40x:s@[::1]/a%2Fb", "mysql://(not readable)"),
        ("mysql://u%40x:s@[::1]/ab", "mysql://u%40x@[::1]/ab"),
        ("mysql://u:s@/d?socket=/run/s", "mysql://u@/d?socket=/run/s"),
        ("mysql://u:s@db1:x/d", "mysql://(not readable)"),
        ("postgresql://u:s@db1/d", "postgresql://(not shown)"),
        ("secret", "(not a URL)"),
    ],
)
def test_url_for_messages(url: str, shown: str):
    assert safe_url(url) == shown


@pytest.mark.parametrize(
    ("text", "flavour"),
    [
        ("9.7.4-2", Flavour("mysql", (9, 7, 4))),
        ("8.0.15", Flavour("mysql", (8, 0, 15))),
        ("8.0.36-28.1-log", Flavour("mysql", (8, 0, 36))),
        ("5.5.5-10.6.18-MariaDB-log", Flavour("mariadb", (10, 6, 18))),
        ("11.8.9-MariaDB-4 from Debian", Flavour("mariadb", (11, 8, 9))),
        ("?", Flavour("mysql", (0, 0, 0))),
    ],
)
def test_server_is_known_by_its_greeting(text: str, flavour: Flavour):
    assert parse_version(text) == flavour


def test_names_are_quoted():
    assert ident("a`b") == "`a``b`"
    assert qualified(TableName("my db", "select")) == "`my db`.`select`"
    assert literal("it's \\ \0 \x1a\n") == "'it''s \\\\ \\0 \\Z\n'"
    for wrong in ("", "a\0b"):
        with pytest.raises(ValueError, match="identifier"):
            ident(wrong)


@given(st.text(), st.text())
def test_table_id_is_a_number_of_63_bits_that_only_the_name_decides(schema: str, table: str):
    name = TableName(schema, table)
    assert 0 <= table_id(name) < 1 << 63
    assert table_id(name) == table_id(TableName(schema, table))


def test_table_id_stays_what_it_is():
    assert table_id(TableName("shop", "orders")) == 5799016102194269868


def test_server_id_is_made_from_the_pipelines_name_and_may_be_chosen():
    config = Config(url="mysql://db1")
    assert config.named("shop").reader_id == chosen_id("shop") == 2926178213
    assert config.named("shop").reader_id != config.named("shop2").reader_id
    assert all(1 << 31 <= chosen_id(str(number)) < 1 << 32 for number in range(100))
    assert Config(url="mysql://db1", server_id=7).named("shop").reader_id == 7
    for wrong in (0, 1 << 32, "x"):
        with pytest.raises(ValidationError):
            Config(url="mysql://db1", server_id=wrong)  # type: ignore[arg-type]
    assert "s3cr3t" not in repr(Config(url="mysql://u:s3cr3t@db1"))


def error(number: int, message: str) -> pymysql.Error:
    return pymysql.err.OperationalError(number, message)


@pytest.mark.parametrize(
    ("number", "message", "kind", "what", "do"),
    [
        (
            1045,
            "Access denied for user 'repl'@'h' (using password: YES)",
            AccessDenied,
            "refused user or password",
            "URL",
        ),
        (1698, "Access denied for user 'root'@'localhost'", AccessDenied, "refused user or password", "URL"),
        (1049, "Unknown database 'shop'", AccessDenied, "has no such database", "CREATE DATABASE `shop`"),
        (
            1044,
            "Access denied for user 'repl'@'%' to database 'shop'",
            AccessDenied,
            "may not use database shop",
            "GRANT SELECT ON `shop`.* TO 'repl'@'%'",
        ),
        (
            1142,
            "SELECT command denied to user 'repl'@'10.0.0.1' for table `shop`.`orders`",
            AccessDenied,
            "lacks SELECT on `shop`.`orders`",
            "GRANT SELECT ON `shop`.`orders` TO 'repl'@'10.0.0.1'",
        ),
        (
            1142,
            "SELECT, LOCK TABLES command denied to user 'repl'@'h' for table 'orders'",
            AccessDenied,
            "lacks SELECT, LOCK TABLES on `shop`.`orders`",
            "GRANT SELECT, LOCK TABLES ON `shop`.`orders` TO 'repl'@'h'",
        ),
        (
            1227,
            "Access denied; you need (at least one of) the REPLICATION SLAVE privilege(s) for this operation",
            AccessDenied,
            "lacks the privilege REPLICATION SLAVE",
            "GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%'",
        ),
        (
            1227,
            "Access denied; you need (at least one of) the SUPER, BINLOG MONITOR privilege(s) for this operation",
            AccessDenied,
            "lacks the privilege BINLOG MONITOR",
            "GRANT BINLOG MONITOR ON *.* TO 'repl'@'%'",
        ),
        (1130, "Host '10.0.0.9' is not allowed to connect", AccessDenied, "does not let this host in", "CREATE USER"),
        (1862, "Your password has expired.", AccessDenied, "has expired", "ALTER USER 'repl'@'%'"),
        (3159, "Connections using insecure transport are prohibited", AccessDenied, "do not agree on TLS", "ssl-mode"),
        (2061, "Authentication plugin 'x' not configured", AccessDenied, "a way to log in", "caching_sha2_password"),
        (2003, "Can't connect (timed out)", SourceUnavailable, "connection to the source failed", "host and port"),
        (2003, "[Errno -2] Name or service not known", SourceUnavailable, "host name cannot be found", ""),
        (2013, "Lost connection to MySQL server during query", SourceUnavailable, "connection to the source", ""),
        (1040, "Too many connections", SourceUnavailable, "no connection left", "max_connections"),
        (1053, "Server shutdown in progress", SourceUnavailable, "is shutting down", ""),
        (1205, "Lock wait timeout exceeded", SourceUnavailable, "a lock could not be had", ""),
        (1213, "Deadlock found when trying to get lock", SourceUnavailable, "was in a deadlock", ""),
        (1114, "The table 't' is full", SourceUnavailable, "disk is full", "free space"),
        (
            1030,
            "Got error 28 - 'No space left on device' from storage engine",
            SourceUnavailable,
            "disk is full",
            "free",
        ),
        (1290, "running with the --read-only option", SourceUnavailable, "such as read_only", "primary"),
        (1290, "running with the --secure-file-priv option", OperatorError, "refused a statement", ""),
        (
            1153,
            "Got a packet bigger than 'max_allowed_packet' bytes",
            OperatorError,
            "no packet as large",
            "SET GLOBAL",
        ),
        (1146, "Table 'shop.orders' doesn't exist", OperatorError, "refused a statement", ""),
    ],
)
def test_error_says_what_is_so_and_what_to_do(number: int, message: str, kind: type, what: str, do: str):
    found = translate(error(number, message), side="source", at=AT, relation="`shop`.`orders`")
    assert type(found) is kind
    assert what in found.what
    assert do in found.do
    assert found.at == AT


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            "Cannot replicate because the source purged required binary logs. The missing transactions are 'u:1'",
            PositionLost,
        ),
        ("Could not find first log file name in binary log index file", PositionLost),
        ("could not find next log; the first event '' at 4", PositionLost),
        ("Client requested source to start replication from impossible position", PositionLost),
        (
            "Error: connecting slave requested to start from GTID 0-1-5, which is not in the master's binlog",
            SourceChanged,
        ),
        (
            "Error: connecting slave requested to start from GTID 0-1-5, which is not in the master's binlog. Since the"
            " master's binlog contains GTIDs with higher sequence numbers, the slave has diverged",
            PositionLost,
        ),
        ("Could not find GTID state requested by slave in any binlog files", PositionLost),
        ("Replica has more GTIDs than the source has, using the source's SERVER_UUID", SourceChanged),
        ("A replica with the same server_uuid/server_id as this replica has connected to the source", OperatorError),
        ("A slave with the same server_uuid/server_id as this slave has connected to the master", OperatorError),
        ("log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source", OperatorError),
        ("Binary log is not open", OperatorError),
        ("bogus data in log event", OperatorError),
    ],
)
def test_end_of_a_dump_tells_why(message: str, kind: type):
    found = translate(error(1236, message), side="source", at=AT)
    assert type(found) is kind
    assert found.why == message
    assert (found.do == "cdcflow resync --all") == (kind is not OperatorError)


@pytest.mark.parametrize(
    ("number", "message", "place"),
    [
        (1062, "Duplicate entry 's3cr3t' for key 'orders.email'", "constraint orders.email"),
        (1062, "Duplicate entry 'x' for key 'PRIMARY'' for key 'orders.email'", "constraint orders.email"),
        (1406, "Data too long for column 'email' at row 3", "column email"),
        (1264, "Out of range value for column 'n' at row 1", "column n"),
        (1366, "Incorrect integer value: 's3cr3t' for column 'n' at row 1", "column n"),
        (1292, "Incorrect date value: 's3cr3t' for column `shop`.`t`.`d` at row 1", "table shop.t, column d"),
        (1048, "Column 'email' cannot be null", "column email"),
        (1364, "Field 'email' doesn't have a default value", "column email"),
        (
            1452,
            "Cannot add or update a child row: a foreign key constraint fails (`shop`.`t`, CONSTRAINT `fk1` FOREIGN KEY"
            " (`a`) REFERENCES `p` (`id`))",
            "table shop.t, constraint fk1",
        ),
        (3819, "Check constraint 'positive' is violated.", "constraint positive"),
        (4025, "CONSTRAINT `positive` failed for `shop`.`t`", "table shop.t, constraint positive"),
    ],
)
def test_row_that_is_refused_is_named_by_its_place_and_never_by_its_values(number: int, message: str, place: str):
    found = translate(error(number, message), side="target", at=AT)
    assert type(found) is RowRejected
    assert found.at == f"{place}, {AT}"
    assert "s3cr3t" not in found.report()
    fault = row_fault(error(number, message))
    assert fault is not None
    assert fault.unique == (number == 1062)
    assert fault.foreign == (number == 1452)


def test_words_of_the_user_and_pieces_of_a_statement_are_not_shown():
    for number in (1644, 1064):
        found = translate(error(number, "near 's3cr3t'"), side="target", at=AT)
        assert "s3cr3t" not in found.report()
        assert str(number) in found.why


def test_error_of_the_system_is_a_lost_connection_and_one_of_ours_stays():
    assert type(translate(ConnectionResetError(104, "reset"), side="target", at=AT)) is TargetUnavailable
    assert type(translate(pymysql.err.InterfaceError(0, ""), side="target", at=AT)) is TargetUnavailable
    ours = PositionLost("x")
    assert translate(ours, side="source", at=AT) is ours
