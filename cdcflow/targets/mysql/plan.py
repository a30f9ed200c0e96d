"""How one shape of one table is written: column lists and statement texts, made once and run for every batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cdcflow.codecs import mysqlliterals as cells
from cdcflow.codecs.mysqldocuments import MARK
from cdcflow.engines.mysql.names import ident, qualified
from cdcflow.model.route import SOFT_DELETE_COLUMN, OnDelete, Route
from cdcflow.targets.mysql import types
from cdcflow.targets.mysql.bookkeeping import STATE_DATABASE
from cdcflow.targets.mysql.catalog import Outline, TargetColumn, TargetTable
from cdcflow.targets.sql import refusals
from cdcflow.targets.sql.columns import written
from cdcflow.targets.sql.frames import Kept

_NOW = "UTC_TIMESTAMP(6)"


@dataclass(frozen=True, slots=True)
class Into:
    """Where rows go: a table, the quoted names of its columns, how their cells are written and read."""

    table: str
    names: tuple[str, ...]
    kinds: bytes
    readers: tuple[str, ...]  # the expression that LOAD DATA needs for each column, '' for none
    infile: bool = True  # whether LOAD DATA can write them: a document with types takes a literal

    def load(self, verb: str = "") -> str:
        """Return LOAD DATA LOCAL. `verb` is what to do with a key that is there: '' or `REPLACE`."""
        fields = [f"@c{number}" if reader else name for number, (name, reader) in enumerate(self._pairs())]
        sets = [
            f"{name} = {reader.format(f'@c{number}')}" for number, (name, reader) in enumerate(self._pairs()) if reader
        ]
        verb = f"{verb} " if verb else ""
        return (
            f"LOAD DATA LOCAL INFILE 'cdcflow' {verb}INTO TABLE {self.table} CHARACTER SET binary"
            " FIELDS TERMINATED BY '\\t' ENCLOSED BY '' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' STARTING BY ''"
            f" ({', '.join(fields)})" + (f" SET {', '.join(sets)}" if sets else "")
        )

    def insert(self, verb: str = "") -> bytes:
        """Return INSERT or REPLACE up to the rows."""
        return f"{verb or 'INSERT'} INTO {self.table} ({', '.join(self.names)}) VALUES ".encode()

    def _pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.names, self.readers, strict=True))


@dataclass(slots=True)
class Plan(Kept):
    """Statements for rows of one frame shape.

    sources: for each written column its place in the frame; names, columns and kinds: its quoted name in the target,
    what the target says of it, and how its cells are written. key: places in the frame of the key columns.
    replaceable: nothing but the key keeps rows apart, every column is written and no trigger looks on, so that
    REPLACE does what an update or an insert would. outline: of the table that this is said of, which a person may
    alter at any time (see `bulk.settled`).
    lacking: columns that the rows have and the target should have, and has not.
    """

    route: Route
    width: int
    target: str
    sources: tuple[int, ...]
    names: tuple[str, ...]
    columns: tuple[TargetColumn, ...]
    kinds: bytes
    readers: tuple[str, ...]
    key: tuple[int, ...]
    replaceable: bool
    lacking: tuple[str, ...]
    number: int
    infile: bool = True  # see `Into`
    outline: Outline = frozenset()

    def for_rows(self, *images: bytes) -> Plan:
        """Return the plan for writing these: one that does without LOAD DATA where a document has types."""
        if self.has_documents and any(MARK in each for each in images):
            return self.by_literals()
        return self

    @property
    def has_documents(self) -> bool:
        """Whether a row may have to be written without LOAD DATA."""
        return cells.DOCUMENT in self.kinds

    def by_literals(self) -> Plan:
        """Return the plan that does without LOAD DATA."""
        return replace(self, infile=False)

    def can_write(self, row: list[bytes | None]) -> bool:
        """Whether each cell of a row of the frame has a literal in its column."""
        try:
            for place in self.sources:
                self.literal(place, row[place])
        except cells.ImageError:
            return False
        return True

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(self.name(place) for place in self.key)

    def at(self, place: int) -> int:
        """Return which of the written columns stands at a place in the frame."""
        return self.sources.index(place)

    def name(self, place: int) -> str:
        return self.names[self.at(place)]

    def require_columns(self) -> None:
        """Raise ConfigError where values would be left out that the rules do not leave out."""
        if self.lacking:
            raise refusals.no_columns(self.route.target, self.route.source.name, [ident(name) for name in self.lacking])

    # -- row by row

    def literal(self, place: int, cell: bytes | None) -> bytes:
        """Return a cell as an SQL literal for its column."""
        if cell is None:
            return b"NULL"
        return cells.literal(self.kinds[self.at(place)], cell)

    def insert_row(self, image: list[bytes | None]) -> bytes:
        return self.into.insert() + b"(" + b",".join(map(self.literal, self.sources, image)) + b")"

    def upsert_row(self, image: list[bytes | None], where: bytes) -> list[bytes]:
        """Return what makes the row of a key so, whether it is there or not."""
        names = [name.encode() for name in self.names]
        values = list(map(self.literal, self.sources, image))
        news = [b"%s = %s" % pair for pair in zip(names, values, strict=True)]
        if self.soft:
            news.append(f"{ident(SOFT_DELETE_COLUMN)} = NULL".encode())
        target = self.target.encode()
        update = b"UPDATE " + target + b" SET " + b", ".join(news) + b" WHERE " + where
        insert = (
            b"INSERT INTO " + target + b" (" + b", ".join(names) + b") SELECT " + b", ".join(values)
            + b" FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM " + target + b" WHERE " + where + b")"
        )  # fmt: skip
        return [update, insert]

    def update_row(self, places: tuple[int, ...], after: list[bytes | None], where: bytes) -> bytes:
        """Set the columns at `places` (of the frame) to the cells of `after`, one for each place."""
        news = [b"%s = %s" % (self.name(p).encode(), self.literal(p, c)) for p, c in zip(places, after, strict=True)]
        news += [each.encode() for each in self.kept_as_is(places)]
        return b"UPDATE " + self.target.encode() + b" SET " + b", ".join(news) + b" WHERE " + where

    def kept_as_is(self, places: tuple[int, ...], table: str = "") -> list[str]:
        """Return what keeps the server from renewing columns (ON UPDATE) that an update of others does not have: at
        the source they were not changed."""
        left = [
            ident(column.name)
            for place, column in zip(self.sources, self.columns, strict=True)
            if column.renewed and place not in places
        ]
        return [f"{table}{name} = {table}{name}" for name in left]

    def delete_row(self, where: bytes, *, kept: bool = True) -> bytes:
        """Delete a row; with `on_delete: soft` it stays and is marked, unless it goes to another key (`kept`)."""
        target = self.target.encode()
        if self.soft and kept:
            news = ", ".join([f"{ident(SOFT_DELETE_COLUMN)} = {_NOW}", *self.kept_as_is(())])
            return b"UPDATE " + target + f" SET {news} WHERE ".encode() + where
        return b"DELETE FROM " + target + b" WHERE " + where

    def delete_kept_row(self, new: bytes, old: bytes) -> bytes | None:
        """Return what deletes the row that was kept under a key that another row moves to; None where none is kept."""
        if not self.may_hold_more or self.append_only:
            return None
        kept = f" AND {ident(SOFT_DELETE_COLUMN)} IS NOT NULL".encode() if self.keeps_only_marked else b""
        return b"DELETE FROM " + self.target.encode() + b" WHERE " + new + b" AND NOT (" + old + b")" + kept

    def where_key(self, key: list[bytes | None]) -> bytes:
        """Return what finds the row of a key without NULL."""
        parts = []
        for place, cell in zip(self.key, key, strict=True):
            at = self.at(place)
            assert cell is not None
            parts.append(self.names[at].encode() + b" = " + types.comparable(self.columns[at], self.kinds[at], cell))
        return b" AND ".join(parts)

    def where_all(self, places: tuple[int, ...], row: list[bytes | None]) -> bytes:
        """Return what finds one row that holds just these cells, however many rows are equal."""
        parts = []
        for place, cell in zip(places, row, strict=True):
            at = self.at(place)
            name = self.names[at]
            if cell is None:
                parts.append(f"{name} IS NULL".encode())
            else:
                parts.append(types.matches(name, self.columns[at], self.kinds[at], cell))
        return b" AND ".join(parts) + b" LIMIT 1"

    # -- sets of rows

    @property
    def into(self) -> Into:
        return Into(self.target, self.names, self.kinds, self.readers, self.infile)

    @property
    def listable(self) -> bool:
        """Whether keys can be told in a list of literals."""
        return len(self.key) == 1 and types.is_listable(self.columns[self.at(self.key[0])])

    def delete_listed(self, keys: bytes) -> bytes:
        """Delete the rows of keys written as `1,2,3`. Only where `listable`."""
        return self.delete_row(self.key_names[0].encode() + b" IN (" + keys + b")")

    @property
    def stage(self) -> str:
        return f"{STATE_DATABASE}.`cdcflow_stage_{self.number}`"

    def create_stage(self) -> str:
        """A table of the target's types without its constraints, of this session only."""
        return f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.stage} ({stage_columns(self.columns)}) ENGINE=InnoDB"

    def into_stage(self, places: tuple[int, ...]) -> Into:
        at = [self.at(place) for place in places]
        return Into(
            self.stage,
            tuple(f"c{number}" for number in at),
            bytes(self.kinds[number] for number in at),
            tuple(self.readers[number] for number in at),
            self.infile,
        )

    def _match(self) -> str:
        return " AND ".join(f"t.{self.name(place)} = s.c{self.at(place)}" for place in self.key)

    def update_from_stage(self, places: tuple[int, ...], *, revive: bool = False) -> str:
        """Set the columns at `places` outside the key. Stage first: a row of it finds its target by the key."""
        news = [f"t.{self.name(place)} = s.c{self.at(place)}" for place in self.settable(places)]
        if revive and self.soft:
            news.append(f"t.{ident(SOFT_DELETE_COLUMN)} = NULL")
        news += self.kept_as_is(places, "t.")
        return f"UPDATE {self.stage} AS s STRAIGHT_JOIN {self.target} AS t ON {self._match()} SET {', '.join(news)}"

    def settable(self, places: tuple[int, ...]) -> tuple[int, ...]:
        """Return the columns of `places` that an update which keeps the key may set."""
        return tuple(place for place in places if place not in self.key)

    def insert_from_stage(self) -> str:
        """Insert the staged rows whose key is not there."""
        columns = ", ".join(f"s.c{self.at(place)}" for place in self.sources)
        return (
            f"INSERT INTO {self.target} ({', '.join(self.names)}) SELECT {columns} FROM {self.stage} AS s"
            f" LEFT JOIN {self.target} AS t ON {self._match()} WHERE t.{self.key_names[0]} IS NULL"
        )

    def delete_staged(self) -> str:
        """Delete the rows whose keys are staged."""
        joined = f"{self.stage} AS s STRAIGHT_JOIN {self.target} AS t ON {self._match()}"
        if self.soft:
            news = ", ".join([f"t.{ident(SOFT_DELETE_COLUMN)} = {_NOW}", *self.kept_as_is((), "t.")])
            return f"UPDATE {joined} SET {news}"
        return f"DELETE t FROM {joined}"


def stage_columns(columns: tuple[TargetColumn, ...]) -> str:
    """Return column definitions c0, c1, .. of the target's types."""
    lines = []
    for number, column in enumerate(columns):
        line = f"c{number} {column.type}"
        if column.charset and column.charset != "binary":
            line += f" CHARACTER SET {column.charset} COLLATE {column.collation}"
        lines.append(f"{line} NULL")
    return ", ".join(lines)


def plan(
    route: Route,
    frame_names: tuple[str, ...],
    table: TargetTable | None,
    number: int,
    *,
    mariadb: bool,
    outline: Outline = frozenset(),
) -> Plan:
    """Make the plan for rows whose columns are `frame_names`.

    Columns that the frame lacks are not written: it may be older than the route. Nor are those that the target lacks:
    with `schema_changes: ignore` it stays behind; else `lacking` names them (see `Plan.require_columns`).

    Raises:
        ConfigError: the target table or one of its key columns is gone.
    """
    if table is None:
        raise refusals.no_table(route.target, route.source.name)
    found = written(route, frame_names, table.column, route.target)
    columns = tuple(there for _, _, there in found.columns)
    key = tuple(sorted(frame_names.index(name) for name in route.key))  # as netting writes a key's cells
    return Plan(
        route,
        len(frame_names),
        qualified(route.target),
        found.places,
        tuple(ident(column.name) for column in columns),
        columns,
        bytes(types.cell_kind(column, there) for column, _, there in found.columns),
        tuple(types.read_as(column, mariadb=mariadb) for column in columns),
        key,
        is_replaceable(route, table, {column.name for column in columns}),
        found.gone,
        number,
        outline=outline,
    )


def is_replaceable(route: Route, table: TargetTable, written: set[str]) -> bool:
    """Whether REPLACE leaves the table as an update or an insert of the row would. See `Plan`."""
    soft = SOFT_DELETE_COLUMN if route.on_delete is OnDelete.SOFT else ""
    return (
        bool(route.key)
        and table.only_key(route.key_in_target)
        and not table.triggers
        and all(column.name in written or column.generated or column.name == soft for column in table.columns)
    )
