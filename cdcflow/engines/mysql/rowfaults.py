"""What a row did wrong, by the number and the words of a MySQL or MariaDB error.

Numbers: see `engines.mysql.errors`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import pymysql

# What a row did wrong, in words of ours: the server's own repeat the value.
_ROW_FAULTS: Final = {
    1048: "a column that must not be null would be",
    1062: "a unique constraint is not satisfied",
    1169: "a unique constraint is not satisfied",
    1586: "a unique constraint is not satisfied",
    1216: "a foreign key is not satisfied",
    1452: "a foreign key is not satisfied",
    1217: "another row refers to this one",
    1451: "another row refers to this one",
    1263: "a column that must not be null would be",
    1264: "a number is out of its column's range",
    1265: "a value is not valid for its column's type, or would be cut",
    1292: "a value is not valid for its column's type",
    1300: "a text is not valid in its column's character set",
    1364: "a column without a default has no value",
    1366: "a value is not valid for its column's type or character set",
    1367: "a value is not valid for its column's type",
    1406: "a text or a byte string is longer than its column",
    1411: "a value is not valid for its column's type",
    1416: "a value is no geometry",
    1426: "a number has more digits than its column",
    1441: "a date or time is out of range",
    1526: "no partition takes it",
    1690: "a number is out of range",
    1748: "no partition of those named takes it",
    3037: "a value is no geometry",
    3140: "a text is not valid JSON",
    3141: "a text is not valid JSON",
    3144: "a binary string cannot be JSON",
    3157: "a JSON document is nested too deeply",
    3616: "a longitude is out of range",
    3617: "a latitude is out of range",
    3669: "a value is out of range",
    3643: "a geometry has another SRID than its column",
    3732: "a geometry's coordinate is out of range",
    3819: "a check constraint is not satisfied",
    4025: "a check constraint is not satisfied",
    4036: "a text is not valid JSON",  # these of MariaDB are warnings that stand beside 4025, or alone
    4037: "a text is not valid JSON",
    4038: "a text is not valid JSON",
    4039: "a text is not valid JSON",
    4040: "a JSON document is nested too deeply",
    6134: "a text is longer than its column",
}

_TABLE: Final = re.compile(r"`((?:[^`]|``)+)`\.`((?:[^`]|``)+)`(?!\.)")
_FULL_COLUMN: Final = re.compile(r"column `((?:[^`]|``)+)`\.`((?:[^`]|``)+)`\.`((?:[^`]|``)+)`")
_COLUMN: Final = re.compile(r"(?:[Cc]olumn|[Ff]ield) '([^']+)'(?: at row|$| cannot| doesn't)")
_ROW: Final = re.compile(r"at row (\d+)")
_KEY: Final = re.compile(r"for key '([^']+)'$")
_CONSTRAINT: Final = re.compile(r"CONSTRAINT `((?:[^`]|``)+)`|[Cc]heck constraint '([^']+)'")


@dataclass(frozen=True, slots=True)
class RowFault:
    """Why a row was refused, without its values. Empty where the server did not say.

    `table` is `database.table`. `row` counts from 1 within the statement or the LOAD DATA. `unique` tells that
    another row holds the same key (`constraint`) already.
    """

    code: int
    words: str
    table: str = ""
    column: str = ""
    constraint: str = ""
    row: int | None = None

    @property
    def unique(self) -> bool:
        return self.code in (1062, 1169, 1586)

    @property
    def foreign(self) -> bool:
        return self.code in (1216, 1217, 1451, 1452)


def code(exc: BaseException) -> int:
    """Return a driver error's number, 0 where it has none."""
    first = exc.args[0] if isinstance(exc, pymysql.Error) and exc.args else 0
    return first if isinstance(first, int) else 0


def row_fault(exc: BaseException) -> RowFault | None:
    """Return why a row was refused; None where the error is about something else."""
    number = code(exc)
    if number not in _ROW_FAULTS:
        return None
    message = message_of(exc)
    full, key = _FULL_COLUMN.search(message), _KEY.search(message)
    # What an application put between quotes could look like a name: `at row`, or the end, must follow.
    table = _TABLE.search(message) if number in (1216, 1217, 1451, 1452, 4025) else None
    constraint = _CONSTRAINT.search(message)
    column = _COLUMN.search(message)
    row = _ROW.search(message)
    names = [_plain_name(part) for part in full.groups()] if full else []
    return RowFault(
        number,
        _ROW_FAULTS[number],
        ".".join(names[:2]) or (".".join(map(_plain_name, table.groups())) if table else ""),
        names[2] if names else (column[1] if column else ""),
        key[1] if key else (_plain_name(constraint[1] or constraint[2]) if constraint else ""),
        int(row[1]) if row else None,
    )


def message_of(exc: BaseException) -> str:
    """Return a driver error's words in one line, '' where it has none."""
    return one_line(str(exc.args[1])) if len(exc.args) > 1 else ""


def one_line(text: str) -> str:
    """Return a text with its white space as single blanks."""
    return " ".join(text.split())


def _plain_name(quoted: str) -> str:
    return quoted.replace("``", "`")
