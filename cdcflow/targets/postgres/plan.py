"""How one shape of one table is written: column lists and statement texts, made once and run for every batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdcflow.engines.postgres.names import ident, qualified
from cdcflow.model.route import SOFT_DELETE_COLUMN, Route
from cdcflow.targets.postgres.catalog import TargetTable
from cdcflow.targets.postgres.equality import Equalities, Equality
from cdcflow.targets.sql import refusals
from cdcflow.targets.sql.columns import written
from cdcflow.targets.sql.frames import Kept

# Texts that a plan keeps. A table without a key has one for each pattern of NULLs in its rows.
_MOST_TEXTS = 256


@dataclass(slots=True)
class Plan(Kept):
    """Statements for rows of one frame shape.

    sources: for each written column its place in the frame; names: its quoted name in the target;
    types: its type there. key: places in the frame of the key columns.
    arbiter: a unique index finds the key, so `ON CONFLICT` works.
    """

    route: Route
    width: int
    target: str
    whole: str  # the target without inheritance children, as UPDATE, DELETE and SELECT name it
    sources: tuple[int, ...]
    names: tuple[str, ...]
    types: tuple[str, ...]
    equal: tuple[Equality, ...]  # how each written column is compared
    key: tuple[int, ...]
    arbiter: bool
    lacking: tuple[str, ...]  # columns that the rows have and the target should have, and has not
    fixed: frozenset[str]  # quoted names of GENERATED ALWAYS identity columns, which UPDATE may not touch
    number: int
    _texts: dict[object, str] = field(default_factory=dict)

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(self._name(place) for place in self.key)

    @property
    def key_types(self) -> tuple[str, ...]:
        return tuple(self.types[self.sources.index(place)] for place in self.key)

    @property
    def key_operators(self) -> tuple[str, ...]:
        return tuple(self._operator(place) for place in self.key)

    def _operator(self, place: int) -> str:
        # A key's type has an operator, or it could have no unique index.
        return self.equal[self.sources.index(place)].operator or "="

    def _name(self, place: int) -> str:
        return self.names[self.sources.index(place)]

    def require_columns(self) -> None:
        """Raise ConfigError where values would be left out that the rules do not leave out."""
        if self.lacking:
            raise refusals.no_columns(self.route.target, self.route.source.name, [ident(name) for name in self.lacking])

    # -- row by row: parameters are text, one a column

    def insert_row(self, *, replayed: bool = False) -> str:
        """Parameters: every written column. `replayed`: the row may be there already, and is overwritten."""
        over = replayed or self.may_hold_more
        return self._text(("insert", over), lambda: self._insert_row(self.on_conflict() if over else ""))

    def _insert_row(self, conflict: str) -> str:
        values = ", ".join(f"${number}" for number in range(1, len(self.names) + 1))
        return (
            f"INSERT INTO {self.target} ({', '.join(self.names)}) OVERRIDING SYSTEM VALUE VALUES ({values}){conflict}"
        )

    def on_conflict(self) -> str:
        """Return what overwrites the row of the same key: only for rows that may be in the target already. Else two
        rows of the source, whose keys the target holds for equal, would become one."""
        if not self.arbiter:
            return ""
        rest = [name for name in self.names if name not in self.key_names and name not in self.fixed]
        news = [f"{name} = EXCLUDED.{name}" for name in rest]
        if self.soft:
            news.append(f"{ident(SOFT_DELETE_COLUMN)} = NULL")
        action = f"DO UPDATE SET {', '.join(news)}" if news else "DO NOTHING"
        return f" ON CONFLICT ({', '.join(self.key_names)}) {action}"

    def delete_kept_row(self) -> str | None:
        """Delete the row that was kept under a key that another row moves to; None where the target keeps none.

        Parameters: the new key, then the old one, whose row is never deleted: the two may be equal in the target.
        """
        if not self.may_hold_more or self.append_only:
            return None
        return self._text("kept", self._delete_kept_row)

    def _delete_kept_row(self) -> str:
        old = self.where(len(self.key) + 1, None)
        kept = f" AND {ident(SOFT_DELETE_COLUMN)} IS NOT NULL" if self.keeps_only_marked else ""
        return f"DELETE FROM {self.whole} WHERE {self.where(1, None)} AND NOT ({old}){kept}"

    def update_row(self, places: tuple[int, ...], condition: tuple[bool, ...] | None = None) -> str:
        """Set the columns at `places`. Parameters: those columns, then the condition's (see `where`)."""
        return self._text(("update", places, condition), lambda: self._update_row(places, condition))

    def _update_row(self, places: tuple[int, ...], condition: tuple[bool, ...] | None) -> str:
        news = ", ".join(f"{self._name(place)} = ${number}" for number, place in enumerate(places, 1))
        return f"UPDATE {self.whole} SET {news} WHERE {self.where(len(places) + 1, condition)}"

    def delete_row(self, condition: tuple[bool, ...] | None = None) -> str:
        """Parameters: the condition's."""
        return self._text(("delete", condition), lambda: self._delete_row(condition))

    def _delete_row(self, condition: tuple[bool, ...] | None) -> str:
        where = self.where(1, condition)
        if self.soft:
            return f"UPDATE {self.whole} SET {ident(SOFT_DELETE_COLUMN)} = now() WHERE {where}"
        return f"DELETE FROM {self.whole} WHERE {where}"

    def where(self, first: int, condition: tuple[bool, ...] | None) -> str:
        """Return what finds the row. Parameters from `$first` on: the key's cells, or, for a table without a
        key (or a key that holds NULL), every written column that is not NULL. `condition` then says for each
        of those columns whether it is NULL."""
        if condition is None:
            pairs = zip(self.key_names, self.key_operators, strict=True)
            return " AND ".join(f"{name} {equal} ${number}" for number, (name, equal) in enumerate(pairs, first))
        parts: list[str] = []
        number = first
        places = self.key or self.sources
        for at, null in zip(map(self.sources.index, places), condition, strict=True):
            if null:
                parts.append(f"{self.names[at]} IS NULL")
                continue
            parts.append(self.equal[at].match(self.names[at], f"${number}", self.types[at]))
            number += 1
        # One row for each change, however many rows are equal.
        # A partition numbers its rows as every other does.
        place = "ctid" if self.whole != self.target else "(tableoid, ctid)"
        selected = place.strip("()")
        return f"{place} = (SELECT {selected} FROM {self.whole} WHERE {' AND '.join(parts)} LIMIT 1)"

    # -- sets of rows

    def copy_into(self) -> str:
        return f"COPY {self.target} ({', '.join(self.names)}) FROM STDIN"

    @property
    def stage(self) -> str:
        return f"pg_temp.cdcflow_stage_{self.number}"

    def create_stage(self) -> str:
        """A table of the target's types without its constraints; emptied by each commit."""
        columns = ", ".join(f"{name} AS c{number}" for number, name in enumerate(self.names))
        return (
            f"CREATE TEMP TABLE IF NOT EXISTS cdcflow_stage_{self.number} ON COMMIT DELETE ROWS"
            f" AS SELECT {columns} FROM {self.target} WITH NO DATA"
        )

    def _staged(self, places: tuple[int, ...]) -> str:
        return ", ".join(f"c{self.sources.index(place)}" for place in places)

    def copy_into_stage(self, places: tuple[int, ...]) -> str:
        return f"COPY {self.stage} ({self._staged(places)}) FROM STDIN"

    def update_from_stage(self, places: tuple[int, ...]) -> str:
        """Set the columns at `places` outside the key."""
        news = ", ".join(f"{self._name(place)} = s.c{self.sources.index(place)}" for place in self.settable(places))
        match = " AND ".join(
            f"t.{self._name(place)} {self._operator(place)} s.c{self.sources.index(place)}" for place in self.key
        )
        return f"UPDATE {self.whole} AS t SET {news} FROM {self.stage} AS s WHERE {match}"

    def settable(self, places: tuple[int, ...]) -> tuple[int, ...]:
        """Return the columns of `places` that an update which keeps the key may set."""
        return tuple(place for place in places if place not in self.key and self._name(place) not in self.fixed)

    def insert_from_stage(self) -> str:
        return (
            f"INSERT INTO {self.target} ({', '.join(self.names)}) OVERRIDING SYSTEM VALUE"
            f" SELECT {self._staged(self.sources)} FROM {self.stage}{self.on_conflict()}"
        )

    def delete_keys(self) -> str:
        """Parameters: an array literal for each key column."""
        if len(self.key) == 1:
            match = f"{self.key_names[0]} {self.key_operators[0]} ANY ($1::{self.key_types[0]}[])"
            if self.soft:
                return f"UPDATE {self.whole} SET {ident(SOFT_DELETE_COLUMN)} = now() WHERE {match}"
            return f"DELETE FROM {self.whole} WHERE {match}"
        arrays = ", ".join(f"${number}::text[]" for number in range(1, len(self.key) + 1))
        columns = ", ".join(f"k{number}" for number in range(len(self.key)))
        match = " AND ".join(
            f"t.{name} {equal} k.k{number}::{type_name}"
            for number, (name, equal, type_name) in enumerate(
                zip(self.key_names, self.key_operators, self.key_types, strict=True)
            )
        )
        keys = f"unnest({arrays}) AS k({columns}) WHERE {match}"
        if self.soft:
            return f"UPDATE {self.whole} AS t SET {ident(SOFT_DELETE_COLUMN)} = now() FROM {keys}"
        return f"DELETE FROM {self.whole} AS t USING {keys}"

    def _text(self, what: object, make: object) -> str:
        text = self._texts.get(what)
        if text is None:
            assert callable(make)
            if len(self._texts) >= _MOST_TEXTS:
                del self._texts[next(iter(self._texts))]
            text = self._texts[what] = str(make())
        return text


def plan(route: Route, frame_names: tuple[str, ...], table: TargetTable | None, number: int, equal: Equalities) -> Plan:
    """Make the plan for rows whose columns are `frame_names`.

    Columns that the frame lacks are not written: it may be older than the route. Nor are those that the target lacks:
    with `schema_changes: ignore` it stays behind; else `lacking` names them (see `Plan.require_columns`).

    Raises:
        ConfigError: the target table or one of its key columns is gone.
    """
    if table is None:
        raise refusals.no_table(route.target, route.source.name)
    found = written(route, frame_names, table.column, route.target)
    return Plan(
        route,
        len(frame_names),
        qualified(route.target),
        table.alone,
        found.places,
        tuple(ident(name) for _, name, _ in found.columns),
        tuple(there.type for _, _, there in found.columns),
        tuple(equal[name] for _, name, _ in found.columns),
        tuple(sorted(frame_names.index(name) for name in route.key)),  # as netting writes a key's cells
        bool(route.key) and table.finds_one_row_by(route.key_in_target),
        found.gone,
        frozenset(ident(column.name) for column in table.columns if column.identity == "always"),
        number,
    )
