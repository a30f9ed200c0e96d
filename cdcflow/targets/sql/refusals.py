"""What an applier says of a row, or of a table, that it cannot write: the same words for every SQL target."""

from __future__ import annotations

from cdcflow.errors import ConfigError, OperatorError
from cdcflow.model.schema import Table, TableName


def no_table(target: object, source: TableName) -> ConfigError:
    """The target's table is not there."""
    return ConfigError(
        f"target table {target} does not exist",
        at=f"rows of {source}",
        why="it was dropped or renamed since it was copied",
        do=f"cdcflow resync {source}",
    )


def no_key(target: object, source: TableName, lacking: list[str]) -> ConfigError:
    """Columns of the key are not there."""
    return ConfigError(
        f"target table {target} has no key column {', '.join(lacking)}",
        at=f"rows of {source}",
        do=f"cdcflow resync {source}",
    )


def no_columns(target: object, source: TableName, lacking: list[str]) -> ConfigError:
    """Columns, named as the target quotes them, are not there, and the rules do not leave them out."""
    return ConfigError(
        f"target table {target} has no column {', '.join(lacking)}",
        at=f"rows of {source}",
        why="it was dropped or renamed at the target since the table was copied",
        do=f"cdcflow resync {source}, which makes it again; or leave it out with `columns: exclude`",
    )


def incomplete(source: Table, what: str) -> OperatorError:
    """The log does not hold what a change needs to find its row, or to make it."""
    if source.engine == "postgresql":
        why = "its replica identity was changed, or the rule's key is not in it"
        do = f"ALTER TABLE {source.name} REPLICA IDENTITY FULL; then cdcflow resync {source.name}"
    else:
        why = "the source logs less of its rows than this table needs, or the rule's key is not in it"
        do = f"SET GLOBAL binlog_row_image = FULL at the source; then cdcflow resync {source.name}"
    return OperatorError(what, at=f"table {source.name}", why=why, do=do)


def no_old_row(*, keyed: bool) -> str:
    """Say what `incomplete` is about, of a change that cannot find its row."""
    if keyed:
        return "the log does not hold the key of a changed row"
    return "a row of a table without a key changed, and the log does not hold the old row"


def gone(target: object, source: TableName, place: str) -> OperatorError:
    """A row that was changed is not in the target, and the log cannot make it again."""
    return OperatorError(
        f"a row of {target} is missing in the target",
        at=f"table {target} {place}",
        why="the source changed it without writing its large unchanged values to the log, so it cannot be made again",
        do=f"cdcflow resync {source}",
    )
