"""What a SQLite error means for the pipeline, by its code: https://www.sqlite.org/rescode.html"""

from __future__ import annotations

import sqlite3
from typing import Final

from cdcflow.errors import (
    AccessDenied,
    CdcflowError,
    ConfigError,
    Fenced,
    OperatorError,
    RowRejected,
    TargetUnavailable,
)

# Primary codes: the low eight bits of the extended code.
BUSY, LOCKED, READONLY, IOERR, CORRUPT, FULL, CANTOPEN = 5, 6, 8, 10, 11, 13, 14
TOOBIG, CONSTRAINT, MISMATCH, PERM, AUTH, NOTADB, NOMEM = 18, 19, 20, 3, 23, 26, 7

_CONSTRAINTS: Final = {
    "NOT NULL": "a column that must not be null would be",
    "UNIQUE": "a unique index is not satisfied",
    "CHECK": "a check constraint is not satisfied",
    "FOREIGN KEY": "a foreign key is not satisfied",
}


def code(error: sqlite3.Error) -> int:
    """Return an error's primary code, 0 where the driver raised it by itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_about_a_row(error: sqlite3.Error) -> bool:
    """Whether the file refused what a row holds."""
    return code(error) in (CONSTRAINT, TOOBIG, MISMATCH) or isinstance(error, sqlite3.DataError)


def translate(error: sqlite3.Error | OSError, *, at: str) -> CdcflowError:
    """Return the error that a driver's error stands for. Never raises, never shows a value."""
    if isinstance(error, OSError):
        return AccessDenied("the file cannot be used", at=at, why=error.strerror or type(error).__name__)
    words = str(error)
    match code(error):
        case 5 | 6:
            return TargetUnavailable(
                "the file is locked by another process",
                at=at,
                why=words,
                do="end the other program's transaction; cdcflow goes on by itself",
            )
        case 13:
            return TargetUnavailable(
                "the disk is full", at=at, why=words, do="free space on the disk; cdcflow goes on by itself"
            )
        case 8 | 3 | 23:
            do = "let the user that runs cdcflow write the file and its folder"
            return AccessDenied("the file cannot be written", at=at, why=words, do=do)
        case 14:
            do = "make its folder, and let the user that runs cdcflow write to it"
            return AccessDenied("the file cannot be opened or made", at=at, why=words, do=do)
        case 10 | 7:
            return TargetUnavailable("the system could not read or write the file", at=at, why=words)
        case 26:
            do = "name another file in target.url, or move that one away"
            return ConfigError("the file is not a SQLite database", at=at, why=words, do=do)
        case 11:
            do = "move it and its -wal and -shm files away and start cdcflow again, which copies everything anew"
            return OperatorError("the file is damaged", at=at, why=words, do=do)
        case 19 | 18 | 20:
            return RowRejected(*_row(error))
    return CdcflowError("SQLite refused a statement", at=at, why=words)


def _row(error: sqlite3.Error) -> tuple[str]:
    words = str(error)
    for mark, said in _CONSTRAINTS.items():
        if words.startswith(mark):
            return (said,)
    if code(error) == TOOBIG:
        return ("a value or a row is larger than SQLite takes (1 GB)",)
    return ("a value is not valid for its column",)


def column_of(error: sqlite3.Error) -> str:
    """Return the columns that a constraint's error names, `orders.id, orders.line`; '' where it names none."""
    kind, _, rest = str(error).partition(" constraint failed: ")
    return rest if kind in _CONSTRAINTS and "'" not in rest else ""


def fenced(at: str, why: str) -> Fenced:
    """Return the error for a write that found another epoch than ours in the file."""
    return Fenced(
        "this instance no longer holds the lease of the pipeline",
        at=at,
        why=f"{why}; nothing of ours was written",
        do="let one instance of a pipeline run: `cdcflow status` says which one holds the lease",
    )
