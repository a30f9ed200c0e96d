"""How one shape of one table is written: statement texts, made once and run for every batch.

Parameters are numbered by the written columns (`?1` is the first), so that one tuple of values fits an insert and an
update alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cdcflow.model.route import SOFT_DELETE_COLUMN, Mode, OnDelete, OnTruncate, Route
from cdcflow.targets.sql import refusals
from cdcflow.targets.sql.columns import written
from cdcflow.targets.sqlite.catalog import FileTable
from cdcflow.targets.sqlite.names import ident, table_of
from cdcflow.targets.sqlite.types import kinds

# As `now()` of PostgreSQL in canonical text.
_NOW = "strftime('%Y-%m-%d %H:%M:%f+00', 'now')"

# Texts that a plan keeps: there is one for each set of columns that an update has.
_MOST_TEXTS = 256


@dataclass(slots=True)
class Plan:
    """Statements for rows of one frame shape.

    sources: for each written column its place in the frame; names: its quoted name in the file; kinds: how its values
    are stored. key: places of the key's columns within `names`. null_keys: a key column may hold NULL.
    arbiter: a unique index finds the key, so `ON CONFLICT` works.
    """

    route: Route
    width: int
    table: str
    sources: tuple[int, ...]
    names: tuple[str, ...]
    kinds: bytes
    key: tuple[int, ...]
    null_keys: bool
    arbiter: bool
    lacking: tuple[str, ...]
    _texts: dict[object, str] = field(default_factory=dict)

    @property
    def soft(self) -> bool:
        return self.route.on_delete is OnDelete.SOFT

    @property
    def append_only(self) -> bool:
        return self.route.mode is Mode.APPEND

    @property
    def may_hold_more(self) -> bool:
        """The target may hold rows that the source has no longer, so any new key may be taken."""
        kept = self.route.on_delete is not OnDelete.DELETE or self.route.on_truncate is OnTruncate.IGNORE
        return kept or self.append_only

    @property
    def keeps_only_marked(self) -> bool:
        """Every row that the source has no longer says so itself."""
        return self.soft and self.route.on_truncate is OnTruncate.TRUNCATE

    @property
    def key_sources(self) -> tuple[int, ...]:
        """Where the key's columns are in the frame; for a table without one, every written column."""
        return tuple(self.sources[place] for place in self.finding)

    @property
    def key_kinds(self) -> bytes:
        return bytes(self.kinds[place] for place in self.finding)

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(self.names[place] for place in self.key)

    @property
    def finding(self) -> tuple[int, ...]:
        """Places within `names` of what finds a row."""
        return self.key or tuple(range(len(self.names)))

    def require_columns(self) -> None:
        """Raise ConfigError where values would be left out that the rules do not leave out."""
        if self.lacking:
            raise refusals.no_columns(
                table_of(self.route), self.route.source.name, [ident(name) for name in self.lacking]
            )

    def insert(self, *, over: bool) -> str:
        """Parameters: every written column. `over`: the row of the same key is overwritten."""
        return self._text(("insert", over), lambda: self._insert(over=over))

    def _insert(self, *, over: bool) -> str:
        if not self.names:
            return f"INSERT INTO {self.table} DEFAULT VALUES"
        values = ", ".join(f"?{number}" for number in range(1, len(self.names) + 1))
        text = f"INSERT INTO {self.table} ({', '.join(self.names)}) VALUES ({values})"
        if not over or not self.arbiter:
            return text
        news = [f"{name} = excluded.{name}" for name in self.names if name not in self.key_names]
        if self.soft:
            news.append(f"{ident(SOFT_DELETE_COLUMN)} = NULL")
        action = f"DO UPDATE SET {', '.join(news)}" if news else "DO NOTHING"
        return f"{text} ON CONFLICT ({', '.join(self.key_names)}) {action}"

    def update(self) -> str | None:
        """Set every column but the key's. Parameters: every written column. None where there is no other."""
        rest = [place for place in range(len(self.names)) if place not in self.key]
        if not self.key or not rest:
            return None
        news = ", ".join(f"{self.names[place]} = ?{place + 1}" for place in rest)
        return self._text("update", lambda: f"UPDATE {self.table} SET {news} WHERE {self._where(self.key)}")

    def update_some(self, places: tuple[int, ...]) -> str:
        """Set the columns at `places`. Parameters: those, then what finds the row as it was."""
        return self._text(("some", places), lambda: self._update_some(places))

    def _update_some(self, places: tuple[int, ...]) -> str:
        news = ", ".join(f"{self.names[place]} = ?{number}" for number, place in enumerate(places, 1))
        return f"UPDATE {self.table} SET {news} WHERE {self._found(len(places) + 1)}"

    def delete(self) -> str:
        """Parameters: what finds the row."""
        return self._text("delete", lambda: self._delete(self._found(1)))

    def _delete(self, where: str) -> str:
        if self.soft:
            return f"UPDATE {self.table} SET {ident(SOFT_DELETE_COLUMN)} = {_NOW} WHERE {where}"
        return f"DELETE FROM {self.table} WHERE {where}"

    def remove(self) -> str:
        """Delete a row for good, whatever the rules say of deletes. Parameters: what finds the row."""
        return self._text("remove", lambda: f"DELETE FROM {self.table} WHERE {self._found(1)}")

    def remove_kept(self) -> str | None:
        """Delete the row that was kept under a key that another row moves to; None where the target keeps none.

        Parameters: the new key.
        """
        if not self.may_hold_more or self.append_only or not self.key:
            return None
        kept = f" AND {ident(SOFT_DELETE_COLUMN)} IS NOT NULL" if self.keeps_only_marked else ""
        return self._text("kept", lambda: f"DELETE FROM {self.table} WHERE {self._found(1)}{kept}")

    def truncate(self) -> str | None:
        """Empty the table, or mark every row; None where its rows stay."""
        if self.soft:
            column = ident(SOFT_DELETE_COLUMN)
            return f"UPDATE {self.table} SET {column} = {_NOW} WHERE {column} IS NULL"
        return f"DELETE FROM {self.table}" if self.route.on_delete is OnDelete.DELETE else None

    def _found(self, first: int) -> str:
        """Return what finds the row: one row, however many are equal. Parameters from `?first` on."""
        equal = "IS" if not self.key or self.null_keys else "="
        where = " AND ".join(
            f"{self.names[place]} {equal} ?{number}" for number, place in enumerate(self.finding, first)
        )
        if self.key and not self.null_keys:
            return where
        return f"rowid = (SELECT rowid FROM {self.table}{' WHERE ' if where else ''}{where} LIMIT 1)"

    def _where(self, places: tuple[int, ...]) -> str:
        return " AND ".join(f"{self.names[place]} = ?{place + 1}" for place in places)

    def _text(self, what: object, make: object) -> str:
        text = self._texts.get(what)
        if text is None:
            assert callable(make)
            if len(self._texts) >= _MOST_TEXTS:
                del self._texts[next(iter(self._texts))]
            text = self._texts[what] = str(make())
        return text


def plan(route: Route, frame_names: tuple[str, ...], table: FileTable | None) -> Plan:
    """Make the plan for rows whose columns are `frame_names`.

    Columns that the frame lacks are not written: it may be older than the route. Nor are those that the file lacks:
    with `schema_changes: ignore` it stays behind; else `lacking` names them (see `Plan.require_columns`).

    Raises:
        ConfigError: the table or one of its key columns is gone.
    """
    if table is None or table.kind != "table":
        raise refusals.no_table(table_of(route), route.source.name)
    found = written(route, frame_names, table.column, table_of(route))
    columns = [column for column, _, _ in found.columns]
    places = {column.name: place for place, column in enumerate(columns)}
    if route.columns and not columns:
        raise refusals.no_key(table_of(route), route.source.name, [])
    return Plan(
        route,
        len(frame_names),
        ident(table.name),
        found.places,
        tuple(ident(there.name) for _, _, there in found.columns),
        kinds(columns),
        tuple(places[name] for name in route.key),
        any(columns[places[name]].nullable for name in route.key),
        bool(route.key) and table.finds_one_row_by(route.key_in_target),
        found.gone,
    )
