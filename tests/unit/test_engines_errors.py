"""What is made of an error that comes without a server: by its words or its SQLSTATE alone."""

import psycopg
import pytest
from psycopg import errors

from cdcflow.engines.postgres.errors import translate
from cdcflow.errors import (
    AccessDenied,
    CdcflowError,
    ConfigError,
    Fenced,
    OperatorError,
    PositionLost,
    RowRejected,
    SourceUnavailable,
    TargetUnavailable,
)

AT = "postgresql://app@db2:5432/warehouse"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("connection failed: Connection refused", TargetUnavailable),
        ("server closed the connection unexpectedly", TargetUnavailable),
        ("SSL SYSCALL error: EOF detected", TargetUnavailable),
        ("SSL error: unexpected eof while reading", TargetUnavailable),
        ("SSL connection has been closed unexpectedly", TargetUnavailable),
        ("connection timeout expired", TargetUnavailable),
        ('could not translate host name "x" to address', TargetUnavailable),
        ("the connection is closed", TargetUnavailable),
        ("FATAL:  sorry, too many clients already", TargetUnavailable),
        ("FATAL:  the database system is starting up", TargetUnavailable),
        ('session is read-only: connection to server at "db2" failed', TargetUnavailable),
        ('FATAL:  password authentication failed for user "app"', AccessDenied),
        ("fe_sendauth: no password supplied", AccessDenied),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', AccessDenied),
        ('FATAL:  database "warehouse" does not exist', AccessDenied),
        ('FATAL:  role "app" is not permitted to log in', AccessDenied),
        ("server does not support SSL, but SSL was required", AccessDenied),
        ("SSL error: certificate verify failed", AccessDenied),
        ('server certificate for "db" does not match host name "db2"', AccessDenied),
        ('root certificate file "/x/root.crt" does not exist', AccessDenied),
        ('invalid connection option "sslmod"', ConfigError),
    ],
)
def test_a_failed_connection_is_placed_by_its_words(words: str, kind: type[CdcflowError]) -> None:
    error = translate(psycopg.OperationalError(words), side="target", at=AT)
    assert type(error) is kind
    assert error.at == AT


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (errors.AdminShutdown, SourceUnavailable),
        (errors.CannotConnectNow, SourceUnavailable),
        (errors.TooManyConnections, SourceUnavailable),
        (errors.DiskFull, SourceUnavailable),
        (errors.SerializationFailure, SourceUnavailable),
        (errors.DeadlockDetected, SourceUnavailable),
        (errors.LockNotAvailable, SourceUnavailable),
        (errors.ReadOnlySqlTransaction, SourceUnavailable),
        (errors.ObjectInUse, SourceUnavailable),
        (errors.ConnectionFailure, SourceUnavailable),
        (errors.QueryCanceled, SourceUnavailable),
        (errors.InvalidPassword, AccessDenied),
        (errors.InsufficientPrivilege, AccessDenied),
        (errors.InvalidCatalogName, AccessDenied),
        (errors.ConfigurationLimitExceeded, OperatorError),
        (errors.UndefinedTable, OperatorError),
        (errors.NumericValueOutOfRange, RowRejected),
        (errors.CheckViolation, RowRejected),
    ],
)
def test_a_server_error_is_placed_by_its_sqlstate(raised: type[psycopg.Error], kind: type[CdcflowError]) -> None:
    assert type(translate(raised("words"), side="source", at=AT)) is kind


@pytest.mark.parametrize(
    "kind", [errors.InvalidTextRepresentation, errors.NumericValueOutOfRange, errors.RaiseException]
)
def test_words_of_the_server_that_may_hold_a_value_are_not_repeated(kind: type[psycopg.Error]) -> None:
    error = translate(kind('invalid input syntax for type integer: "s3cr3t"'), side="target", at=AT)
    assert "s3cr3t" not in error.report()


def test_one_of_our_own_errors_stays_as_it_is() -> None:
    ours = PositionLost("gone")
    assert translate(ours, side="source", at=AT) is ours


def test_errors_of_a_pipelines_end_say_which_end() -> None:
    lost = psycopg.OperationalError("server closed the connection unexpectedly")
    assert isinstance(translate(lost, side="source", at=AT), SourceUnavailable)
    assert isinstance(translate(ConnectionResetError(), side="target", at=AT), TargetUnavailable)


def test_only_an_operator_ends_a_lost_lease() -> None:
    assert Fenced("x").exit_code == 5
