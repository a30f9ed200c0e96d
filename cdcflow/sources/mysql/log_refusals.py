"""What is said where the log cannot be read on, and what to do about it."""

from __future__ import annotations

from cdcflow.codecs.binlog_cy import MessageError
from cdcflow.codecs.binlogrow_cy import MissingValue, PartialValue, UnrealDate
from cdcflow.errors import DecodeError


def unreadable(error: MessageError, engine: str, at: str) -> DecodeError | None:
    """Return the error for a row that the source can mend; None for anything else, which is ours to mend.

    at: the source, and the position behind which the row stands.
    """
    table = getattr(error, "table", "")
    whole = f"SET {'PERSIST' if engine == 'mysql' else 'GLOBAL'} binlog_row_image = 'FULL'"
    if isinstance(error, PartialValue):
        why = "PARTIAL_JSON in binlog_row_value_options needs binlog_row_image = FULL"
        do = f"{whole} at the source (and in every session), then cdcflow resync {table}"
    elif isinstance(error, MissingValue):
        why = "binlog_row_image = MINIMAL leaves out what a default decides"
        do = f"{whole} at the source (and in every session), then cdcflow resync {table}"
    elif isinstance(error, UnrealDate):
        why = "the rules say zero_dates: fail"
        do = f"mend the row at the source, or choose zero_dates: null or epoch; then cdcflow resync {table}"
    else:
        return None
    return DecodeError(
        f"a row in the log does not say what it holds: {error}"
        if not isinstance(error, UnrealDate)
        else f"a row is refused: {error}",
        at=at,
        why=why,
        do=do,
    )


def undecodable(what: str, at: str) -> DecodeError:
    """Return the error for a log that says what we do not know. `at`: as of `unreadable`."""
    return DecodeError(
        f"the log cannot be decoded: {what}",
        at=at,
        why="nothing behind that position was applied",
        do="report this with the server's version; cdcflow resync --all copies again from now",
    )


def statement_based(kind: str, table: str, at: str) -> DecodeError:
    """Return the error for rows that a statement changed, of which the log holds no row. `at`: as of `unreadable`."""
    return DecodeError(
        f"rows were changed by a statement that the log holds as text ({kind})",
        at=at + (f", table {table}" if table else ""),
        why="what the statement did to which rows cannot be known from its text",
        do="SET GLOBAL binlog_format = 'ROW' at the source (and in every session), then "
        + (f"cdcflow resync {table}" if table else "cdcflow resync --all"),
    )
