"""A table's next shape: what a DDL statement out of the log makes of the shape before it.

The statement is worked out without asking the server, which may be days ahead of the log. Where that is not
certain, `Outcome.doubts` say why, and of a doubtful column or key what the server shows now is taken; it remains to
be seen whether the server shows all of the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cdcflow.engines.mysql.names import table_id
from cdcflow.model.schema import Column, Logical, NativeType, ReplicaIdentity, Table, TableName
from cdcflow.sources.mysql import types
from cdcflow.sources.mysql.ddl_charsets import Charsets
from cdcflow.sources.mysql.ddl_defaults import default_of
from cdcflow.sources.mysql.ddl_effect import Effect, effect
from cdcflow.sources.mysql.ddl_intents import (
    AddColumn,
    AddKey,
    Change,
    ChangeColumn,
    ConvertCharset,
    CreateTable,
    Default,
    DefaultCharset,
    Definition,
    DropColumn,
    DropKey,
    KeyPart,
    NotUnderstood,
    Place,
    Position,
    RenameColumn,
    RenameKey,
    RenameTo,
    SetDefault,
    Unsure,
)
from cdcflow.sources.mysql.ddl_keys import Keys
from cdcflow.sources.mysql.ddl_tokens import Flavour
from cdcflow.sources.mysql.ddl_types import SIZES, resolve, sized, with_implicit

__all__ = ["Effect", "Outcome", "Server", "TableExtras", "apply", "create", "effect", "renamed"]

# What a MariaDB table under system versioning has beside its own columns.
_PERIOD = ("ROW START", "ROW END")

Read = Callable[[], Table | None]


@dataclass(frozen=True, slots=True)
class Server:
    """What the meaning of a statement depends on besides the table.

    `database_collation` is the default of the table's database (CREATE TABLE and CONVERT TO .. DEFAULT);
    `explicit_timestamps` the session's `explicit_defaults_for_timestamp`; `partial_images` is true where
    binlog_row_image is not FULL.
    """

    flavour: Flavour
    charsets: Charsets
    database_collation: str = ""
    explicit_timestamps: bool = True
    partial_images: bool = False


@dataclass(frozen=True, slots=True)
class TableExtras:
    """What of a table's shape only DDL needs: its default collation, and the highest column number ever given."""

    collation: str
    top: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The shape behind a statement. `table` is the one before where nothing of it changed.

    `doubts` is empty where the shape is certain; else each says what is not.
    """

    table: Table
    extras: TableExtras
    doubts: tuple[str, ...] = ()

    @property
    def uncertain(self) -> bool:
        return bool(self.doubts)


def apply(
    table: Table, changes: Sequence[Change], read: Read | None = None, *, extras: TableExtras, server: Server
) -> Outcome:
    """Return the shape behind ALTER TABLE's `changes`.

    Columns of `table` without numbers get 1..n. One that stays keeps its number, whatever its new name; one that
    is added gets a number that no column of this table had.
    """
    draft = _Draft(table, extras, server)
    for change in changes:
        draft.note(change)
    draft.place()
    return draft.outcome(read)


def create(
    wanted: CreateTable, read: Read | None = None, *, server: Server, like: Table | None = None, collation: str = ""
) -> Outcome:
    """Return the shape behind CREATE TABLE.

    `like` and `collation` are the shape and default collation of the table that LIKE names; with a LIKE whose
    shape is not known the outcome has no columns and a doubt.
    """
    identity = ReplicaIdentity.DEFAULT if server.partial_images else ReplicaIdentity.FULL
    empty = Table(wanted.name, table_id(wanted.name), (), identity=identity, engine=server.flavour.engine)
    if like is not None:
        shape = replace(
            like, name=wanted.name, id=empty.id, foreign_keys=(), version=0, partition_of=None, partitioned=False
        )
        columns = tuple(replace(column, number=number) for number, column in enumerate(like.columns, 1))
        return Outcome(replace(shape, columns=columns, collation=collation), TableExtras(collation, len(columns)))
    doubts = list(wanted.doubts)
    if wanted.like is not None:
        doubts.append(f"the shape of {wanted.like} is not known")
    try:
        _, default = server.charsets.resolve(wanted.charset, wanted.collation, False, server.database_collation)
    except KeyError:
        doubts.append("its default charset is not one that is known")
        default = server.database_collation
    draft = _Draft(empty, TableExtras(default), server)
    draft.structural.extend(doubts)
    for key in (key for key in wanted.keys if key.primary):
        draft.note(key)
    for name, definition in wanted.columns:
        draft.note(AddColumn(name, definition))
    for key in (key for key in wanted.keys if not key.primary):
        draft.note(key)
    draft.place()
    return draft.outcome(read)


def renamed(table: Table, name: TableName) -> Table:
    """Return the table under another name: the same rows, so its columns keep their numbers."""
    return replace(
        table, name=name, id=table_id(name), indexes=Keys(table).indexes(name, table.columns), version=table.version + 1
    )


def _same(one: str, other: str) -> bool:
    """Whether both name one column or index: case does not matter."""
    return one == other or one.lower() == other.lower()


class _Draft:
    """One ALTER TABLE under way. All names in its clauses are those from before it, but AFTER's."""

    def __init__(self, table: Table, extras: TableExtras, server: Server) -> None:
        self.table, self.server = table, server
        numbered = all(column.number for column in table.columns)
        self.before = [column if numbered else replace(column, number=at) for at, column in enumerate(table.columns, 1)]
        self.top = max([extras.top, *(column.number for column in self.before)])
        self.collation = extras.collation
        self.name = table.name
        # Each column before by number: what becomes of it (None: dropped), and where those go that move.
        self.after: dict[int, Column | None] = {column.number: column for column in self.before}
        self.moves: list[tuple[Column, Position]] = []
        self.charsets: list[ConvertCharset | DefaultCharset] = []
        self.convert: ConvertCharset | None = None
        self.keys = Keys(table)
        self.columns: list[Column] = []
        self.structural: list[str] = []
        self.doubts: dict[int, tuple[str, ...]] = {}
        self.defined: list[tuple[int, str, Definition]] = []
        self.defaults: list[tuple[int, Default | None]] = []
        if any(column.generated and column.default in _PERIOD for column in table.columns):
            self.structural.append("a system-versioned table")

    def note(self, change: Change) -> None:
        """Take up one clause."""
        match change:
            case AddColumn():
                self._add(change)
            case ChangeColumn():
                self._change(change)
            case DropColumn():
                found = self._find(change.name, change.if_exists)
                if found:
                    self.after[found.number] = None
                    self.keys.drop_column(found.name)
            case RenameColumn():
                found = self._find(change.old, change.if_exists)
                if found:
                    self.after[found.number] = replace(self.after[found.number] or found, name=change.new)
            case SetDefault():
                self._set_default(change)
            case ConvertCharset() | DefaultCharset():
                self.charsets.append(change)
            case RenameTo():
                self.name = change.new
            case AddKey():
                self.keys.add(change)
            case DropKey():
                self.keys.drop(change)
            case RenameKey():
                self.keys.rename(change)
            case Unsure():
                self.structural.append(change.what)
            case NotUnderstood():
                self.structural.append("a clause that is not understood")
            case _:
                pass

    def place(self) -> None:
        """Bring the columns into the order that the server gives them."""
        self._settle_charset()
        for number, name, definition in self.defined:
            self._resolve(number, name, definition)
        for number, default in self.defaults:
            self._apply_default(number, default)
        moving = {column.number for column, _ in self.moves}
        for column in self.before:
            now = self.after[column.number]
            if now is not None and column.number not in moving:
                self.columns.append(now)
        for column, position in self.moves:
            self._put(self.after[column.number] or column, position)
        if self.convert:
            self.columns = [self._converted(column) for column in self.columns]
        names = {was.name: now.name for was in self.before if (now := self.after[was.number]) is not None}
        self.keys.rename_columns(names)
        self.keys.settle(self.columns)
        required = {name.lower() for name in self.keys.primary()}
        self.columns = [
            with_implicit(replace(column, nullable=False)) if column.name.lower() in required else column
            for column in self.columns
        ]

    def outcome(self, read: Read | None) -> Outcome:
        """Return the new shape; what is doubtful of it comes from `read` where it has the same column."""
        columns = tuple(self.columns)
        key, primary = self.keys.found(columns)
        doubts = [*self.structural, *self.keys.doubts]
        for column in columns:
            doubts.extend(f"column {column.name}: {why}" for why in self.doubts.get(column.number, ()))
        current = read() if doubts and read is not None else None
        if current is not None:
            self._take_over(current)
            columns = tuple(self.columns)
            key, primary = self.keys.found(columns)
        indexes = self.keys.indexes(self.name, columns)
        if current is not None and self.keys.doubts:
            indexes, key, primary = current.indexes, current.key, current.primary_key
        shape = replace(
            self.table,
            name=self.name,
            id=self.table.id if self.name == self.table.name else table_id(self.name),
            columns=columns,
            key=key,
            primary_key=primary,
            identity=self.table.identity if key else ReplicaIdentity.FULL,
            indexes=indexes,
            collation=self.collation,
        )
        changed = shape != self.table or [c.number for c in columns] != [c.number for c in self.table.columns]
        if changed or (shape.indexes, shape.collation) != (self.table.indexes, self.table.collation):
            shape = replace(shape, version=self.table.version + 1)
        else:
            shape = self.table
        return Outcome(shape, TableExtras(self.collation, self.top), tuple(dict.fromkeys(doubts)))

    def _find(self, name: str, optional: bool) -> Column | None:
        for column in self.before:
            if _same(column.name, name):
                return column
        if not optional:
            self.structural.append(f"there is no column {name}")
        return None

    def _add(self, change: AddColumn) -> None:
        if change.if_not_exists and any(_same(column.name, change.name) for column in self.before):
            return
        self.top += 1
        self._define(self.top, change.name, change.definition)
        placeholder = Column(change.name, NativeType("?"), Logical.OTHER, number=self.top)
        self.after[self.top] = placeholder
        self.moves.append((placeholder, change.position))

    def _change(self, change: ChangeColumn) -> None:
        found = self._find(change.old, change.if_exists)
        if found is None:
            return
        self._define(found.number, change.new, change.definition)
        self.after[found.number] = replace(found, name=change.new)
        if change.position.place is not Place.KEPT:
            self.moves.append((found, change.position))

    def _define(self, number: int, name: str, definition: Definition) -> None:
        self.defined.append((number, name, definition))
        if definition.key:
            primary = definition.key == "primary"
            self.keys.add(AddKey("PRIMARY" if primary else "", (KeyPart(name),), primary))

    def _resolve(self, number: int, name: str, definition: Definition) -> None:
        found = resolve(
            name,
            definition,
            self.server.flavour,
            self.server.charsets,
            self.collation,
            number=number,
            explicit_timestamps=self.server.explicit_timestamps,
        )
        self.after[number] = found.column
        doubts = found.doubts
        if self.convert and types.base(found.column.type.text) in types.TEXTS and definition.type.charset:
            doubts = (*doubts, "CONVERT TO CHARACTER SET beside a charset of its own")
        if doubts:
            self.doubts[number] = doubts

    def _set_default(self, change: SetDefault) -> None:
        found = self._find(change.column, change.if_exists)
        if found is not None:
            self.defaults.append((found.number, change.default))

    def _apply_default(self, number: int, default: Default | None) -> None:
        now = self.after[number]
        if now is None:
            return
        kept = default_of(default, now.type, self.server.flavour)
        self.after[number] = with_implicit(replace(now, default=kept.text, missing=kept.missing))
        if kept.doubt:
            self.doubts[number] = (kept.doubt,)

    def _settle_charset(self) -> None:
        """Find the table's default collation from all clauses about it."""
        if not self.charsets:
            return
        named = {change.charset for change in self.charsets if change.charset}
        collations = {change.collation for change in self.charsets if change.collation}
        self.convert = next((change for change in self.charsets if isinstance(change, ConvertCharset)), None)
        orders = [bool(change.charset) for change in self.charsets]
        if orders == sorted(orders) and len(set(orders)) > 1:  # MySQL 8.0.15 forgets the collation then, 9.7 does not
            self.structural.append("a charset behind a collation")
        if len(named) > 1 or len(collations) > 1 or (self.convert and len(self.charsets) > 1):
            self.structural.append("several charsets")
        if self.server.flavour.engine == "mariadb" and any(
            not change.charset and (not change.collation or change is self.convert) for change in self.charsets
        ):
            self.structural.append("the database's charset as MariaDB means it")
        self._default_charset(next(iter(named), ""), next(iter(collations), ""))

    def _default_charset(self, charset: str, collation: str) -> None:
        try:
            if not charset and not collation:
                self.collation = self.server.database_collation
                if not self.collation:
                    raise KeyError("the database's")
                return
            _, self.collation = self.server.charsets.resolve(charset, collation, False, self.collation)
        except KeyError:
            self.structural.append("a default charset that is not known")

    def _put(self, column: Column, position: Position) -> None:
        if position.place is Place.FIRST:
            self.columns.insert(0, column)
            return
        if position.place is Place.AFTER:
            for at, other in enumerate(self.columns):
                if _same(other.name, position.column):
                    self.columns.insert(at + 1, column)
                    return
            self.structural.append(f"there is no column {position.column} to stand behind")
        self.columns.append(column)

    def _converted(self, column: Column) -> Column:
        native = column.type
        base = types.base(native.text)
        if not native.charset:
            return column
        charsets = self.server.charsets
        charset = charsets.charset_of[self.collation]
        text = native.text
        if base.endswith("text") and charset != native.charset:
            held = SIZES[base[:-4]] // charsets.widths[native.charset]
            text = text.replace(base, sized("text", held * charsets.widths[charset]), 1)
        return replace(column, type=replace(native, text=text, charset=charset, collation=self.collation))

    def _take_over(self, current: Table) -> None:
        """Take from the server what is doubtful of a column, where its shape of now still has it.

        It may be days ahead: where the doubt is about the statement, what was worked out stays, and counts if the
        server shows the same.
        """
        theirs = {column.name.lower(): column for column in current.columns}
        for at, column in enumerate(self.columns):
            other = theirs.get(column.name.lower())
            if other is None:
                continue
            if column.number in self.doubts:
                self.columns[at] = replace(other, number=column.number)
            elif _is_computed(column) and _is_computed(other) and column.type == other.type:
                self.columns[at] = replace(column, default=other.default)  # in the server's own words


def _is_computed(column: Column) -> bool:
    return column.default is not None and column.missing is None
