"""One table's way to the target: what the rules that match it say together, checked against its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cdcflow.model.route import SOFT_DELETE_COLUMN, Mode, OnDelete, OnTruncate, Route, SchemaChanges, ZeroDates
from cdcflow.model.schema import Column, ReplicaIdentity, Table
from cdcflow.rules.document import Document, Place, Steps
from cdcflow.rules.file import Defaults, TableRule
from cdcflow.rules.name import Pattern, Template
from cdcflow.rules.problem import Problem, nearest


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `tables:`, with its pattern read and its place known."""

    pattern: Pattern
    keys: dict[str, Any]  # only those that the file sets; `columns` as `columns.exclude` and `columns.rename`
    document: Document = field(repr=False)
    steps: Steps

    @classmethod
    def of(cls, model: TableRule, document: Document, steps: Steps) -> Rule:
        """Make a rule of the file's model."""
        keys = {name: getattr(model, name) for name in model.model_fields_set - {"match", "columns"}}
        keys |= {f"columns.{name}": getattr(model.columns, name) for name in model.columns.model_fields_set}
        return cls(Pattern.parse(model.match), keys, document, steps)

    def place(self, key: str) -> Place:
        """Return where the rule sets `key`."""
        return self.document.key_place((*self.steps, *key.split(".")))


@dataclass(frozen=True, slots=True)
class Said:
    """A key's value and the rule that set it."""

    value: Any
    rule: Rule


@dataclass(slots=True)
class Resolution:
    """The rules' word on one table.

    said: the last rule's word for each key. `missing`: columns that a pattern's rule names and this table has not.
    past: whether the table has another shape by now, so that rules may well name columns that it has not.
    """

    table: Table
    past: bool = False
    said: dict[str, Said] = field(default_factory=dict)
    matched: list[Rule] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    missing: list[tuple[Place, str]] = field(default_factory=list)

    @property
    def excluded(self) -> Rule | None:
        """The rule that leaves the table out, if one does."""
        said = self.said.get("exclude")
        return said.rule if said is not None and said.value else None

    def value(self, key: str, default: Any) -> Any:
        """Return what was said last, else `default`."""
        said = self.said.get(key)
        return default if said is None else said.value

    def complain(self, key: str, what: str, why: str = "", do: str = "") -> None:
        """Note a problem where `key` was set, or at the last rule that matched."""
        said = self.said.get(key)
        place = said.rule.place(key) if said is not None else self.matched[-1].place("match")
        self.problems.append(Problem(place, what, why, do))


def resolve(table: Table, rules: Sequence[Rule], *, past: bool = False) -> Resolution:
    """Collect what the rules say of a table: later ones over earlier ones, key by key."""
    found = Resolution(table, past)
    for rule in rules:
        if rule.pattern.matches(table.name, table.engine):
            found.matched.append(rule)
            found.said.update({key: Said(value, rule) for key, value in rule.keys.items()})
    return found


def route(found: Resolution, defaults: Defaults) -> Route | None:
    """Make the route of a matched table; None when it is excluded, or when there are problems."""
    if not found.matched or found.excluded:
        return None
    table = found.table
    columns = _columns(found)
    key = _key(found)
    _check_names(found, columns)
    for column in key:
        _check_key_column(found, column, {kept.name for kept, _ in columns})
    mode: Mode = found.value("mode", Mode.MIRROR)
    on_delete: OnDelete = found.value("on_delete", defaults.on_delete)
    on_truncate: OnTruncate = found.value("on_truncate", defaults.on_truncate)
    schema_changes: SchemaChanges = found.value("schema_changes", defaults.schema_changes)
    zero_dates: ZeroDates = found.value("zero_dates", defaults.zero_dates)
    if mode is Mode.APPEND:
        on_delete, on_truncate = OnDelete.IGNORE, OnTruncate.IGNORE
    if on_delete is OnDelete.SOFT and SOFT_DELETE_COLUMN in {target for _, target in columns}:
        found.complain(
            "on_delete",
            f'{table.name} has a column {SOFT_DELETE_COLUMN} already, which "on_delete: soft" would set in the target',
            do="rename it under `columns: {rename: ...}`",
        )
    if found.problems:
        return None
    target = Template.parse(found.value("to", "{schema}.{table}")).fill(table.name)
    return Route(table, target, columns, key, on_delete, on_truncate, schema_changes, mode, zero_dates)


def _columns(found: Resolution) -> tuple[tuple[Column, str], ...]:
    exclude: list[str] = found.value("columns.exclude", [])
    rename: dict[str, str] = found.value("columns.rename", {})
    for key, names in (("columns.exclude", exclude), ("columns.rename", list(rename))):
        for name in names:
            if name not in found.table.column_names:
                _missing_column(found, key, name)
    return tuple(
        (column, rename.get(column.name, column.name))
        for column in found.table.columns
        if column.name not in exclude and not column.generated
    )


def _missing_column(found: Resolution, key: str, name: str) -> None:
    rule = found.said[key].rule
    if rule.pattern.exact and not found.past:
        found.complain(key, f'{found.table.name} has no column "{name}" ({key})', do=_offer(found, name))
    else:
        found.missing.append((rule.place(key), name))


def _key(found: Resolution) -> tuple[str, ...]:
    """Choose the key: the table's own, else the rule's; a rule for just this table may replace the table's own
    where the log holds the old values of every column."""
    table = found.table
    said = found.said.get("key")
    if said is None:
        return table.key
    asked = tuple(said.value)
    if not table.key or set(asked) == set(table.key):
        return asked if not table.key else table.key
    if not said.rule.pattern.exact:
        return table.key
    mirrored = found.value("mode", Mode.MIRROR) is Mode.MIRROR
    if mirrored and table.identity is not ReplicaIdentity.FULL and set(asked) <= set(table.column_names):
        found.complain(
            "key",
            f"{table.name} is logged by its key ({', '.join(table.key)}), not by ({', '.join(asked)})",
            why="an UPDATE or DELETE in the log holds the old values of that key only",
            do='remove "key", or set REPLICA IDENTITY FULL on the table',
        )
    return asked


def _check_key_column(found: Resolution, name: str, kept: set[str]) -> None:
    table = found.table
    if name in kept:
        return
    if name not in table.column_names:
        found.complain("key", f'{table.name} has no column "{name}" (key)', do=_offer(found, name))
    elif table.column(name).generated:
        found.complain(
            "key" if name in found.value("key", []) else "match",
            f'{table.name}: key column "{name}" is generated, and the log does not hold generated columns',
            do='set "key" to other columns, or exclude the table',
        )
    else:
        found.complain(
            "columns.exclude",
            f'{table.name}: key column "{name}" is excluded',
            why="without its key a row cannot be found again in the target",
            do=f'remove "{name}" from columns.exclude, or exclude the table',
        )


def _check_names(found: Resolution, columns: tuple[tuple[Column, str], ...]) -> None:
    table = found.table
    if not columns:
        found.complain("columns.exclude", f"{table.name}: no column is left", do="exclude the table instead")
    sources: dict[str, str] = {}
    for column, target in columns:
        if target in sources:
            found.complain(
                "columns.rename",
                f'{table.name}: columns "{sources[target]}" and "{column.name}" both go to "{target}"',
                do="rename one of them to something else, or exclude it",
            )
        sources[target] = column.name


def _offer(found: Resolution, name: str) -> str:
    close = nearest(name, found.table.column_names)
    if close:
        return f'did you mean "{close}"?'
    names = found.table.column_names
    return f"its columns: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"
