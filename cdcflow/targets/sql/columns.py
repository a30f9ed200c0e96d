"""Which columns of a frame are written, and where they stand in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from cdcflow.errors import SchemaStop
from cdcflow.model.route import Route, SchemaChanges
from cdcflow.model.schema import Column
from cdcflow.model.widening import holds
from cdcflow.targets.sql import refusals


class Existing(Protocol):
    """A column that the target has."""

    @property
    def generated(self) -> bool | str: ...


C = TypeVar("C", bound=Existing)


@dataclass(frozen=True, slots=True)
class Written(Generic[C]):
    """The columns that are written, in the route's order.

    places: where each one's cell is in the frame. columns: the source's column, its name in the target by the rules,
    and the target's own column. gone: names that the rows have and the target should have, and has not.
    """

    places: tuple[int, ...]
    columns: tuple[tuple[Column, str, C], ...]
    gone: tuple[str, ...]


def written(route: Route, frame_names: tuple[str, ...], find: Callable[[str], C | None], target: object) -> Written[C]:
    """Choose the columns for rows whose cells are `frame_names`.

    Columns that the frame lacks are not written: it may be older than the route. Nor are those that the target lacks:
    with `schema_changes: ignore` it stays behind; else `gone` names them.

    Args:
        find: gives the target's column of a name.
        target: the table's name, for messages.

    Raises:
        ConfigError: a column of the key is gone.
    """
    places: list[int] = []
    columns: list[tuple[Column, str, C]] = []
    gone: list[str] = []
    for column, name in route.columns:
        there = find(name)
        if there is None and column.name in frame_names and route.schema_changes is not SchemaChanges.IGNORE:
            gone.append(name)
        if column.name in frame_names and there is not None and not there.generated:
            places.append(frame_names.index(column.name))
            columns.append((column, name, there))
    lacking = [name for name in route.key if name not in frame_names or frame_names.index(name) not in places]
    if lacking:
        raise refusals.no_key(target, route.source.name, lacking)
    return Written(tuple(places), tuple(columns), tuple(gone))


def refuse_narrower(old: Route, new: Route) -> None:
    """Refuse a change after which a column of a table that only its messages tell of would hold less: which of two
    shapes is the newer one is not told there, and nothing would bring its values back.

    Raises:
        SchemaStop: it would.
    """
    if not new.source.described:
        return
    now = {column.name: column for column in new.source.columns}
    for column in old.source.columns:
        if column.name in now and not holds(now[column.name], column):
            raise SchemaStop(
                f"column {column.name} of {new.source.name} would no longer hold what it holds",
                at=f"target table {new.target}",
                why=f"it is {column.type.text}, and a message says {now[column.name].type.text}",
                do="start cdcflow again; it takes the wider type then",
            )
