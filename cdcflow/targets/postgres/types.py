"""The user types and extensions that a table needs, as statements that make what the target lacks of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cdcflow.engines.postgres.names import ident, literal, qualified
from cdcflow.errors import ConfigError, OperatorError
from cdcflow.model.schema import TableName, UserType
from cdcflow.targets.postgres.catalog import Shape, TargetType

_KINDS = {"enum": "e", "domain": "d", "composite": "c", "range": "r"}
_LABEL = re.compile(r"'((?:[^']|'')*)'")


def labels(definition: str) -> tuple[str, ...]:
    """Return the labels in an enum's definition: `AS ENUM ('new', 'it''s')`."""
    return tuple(found.replace("''", "'") for found in _LABEL.findall(definition))


def statements(types: Sequence[UserType], shape: Shape) -> list[str]:
    """Return what makes the types and extensions that the target lacks, in the order of their needs.

    Each is made under its source's name, so that the source's own words for a column's type hold here too.

    Raises:
        ConfigError: a type of the same name means something else at the target.
        OperatorError: an extension stands in another schema.
    """
    made: list[str] = []
    schemas = set(shape.schemas)
    for each in in_order(types):
        if each.kind == "extension":
            new = _extension(each, shape)
        elif each.name in shape.types:
            made += _existing(each, shape.types[each.name])
            continue
        else:
            word = "DOMAIN" if each.kind == "domain" else "TYPE"
            new = f"CREATE {word} {qualified(each.name)} {each.definition}"
        if new:
            if each.name.schema not in schemas:
                made.append(f"CREATE SCHEMA {ident(each.name.schema)}")
                schemas.add(each.name.schema)
            made.append(new)
    return made


def new_labels(types: Sequence[UserType], there: Mapping[TableName, TargetType]) -> list[str]:
    """Return only what adds labels to enums that are there.

    A row may use a new label only after the transaction that added it has committed, so these run on their own,
    ahead of the batch that brings the rows.
    """
    found: list[str] = []
    for each in types:
        if each.kind == "enum" and each.name in there:
            found += _existing(each, there[each.name])
    return found


def in_order(types: Sequence[UserType]) -> list[UserType]:
    """Return the types with those that others require first. A circle is left in the given order."""
    by_name = {each.name: each for each in types}
    placed: dict[TableName, UserType] = {}
    visiting: set[TableName] = set()

    def place(each: UserType) -> None:
        if each.name in placed or each.name in visiting:
            return
        visiting.add(each.name)
        for name in each.requires:
            if name in by_name:
                place(by_name[name])
        placed[each.name] = each

    for each in sorted(types, key=lambda one: one.kind != "extension"):
        place(each)
    return list(placed.values())


def _extension(wanted: UserType, shape: Shape) -> str:
    name, schema = wanted.name.table, wanted.name.schema
    there = shape.extensions.get(name)
    if there is None:
        place = "" if schema == "pg_catalog" else f" SCHEMA {ident(schema)}"
        return f"CREATE EXTENSION IF NOT EXISTS {ident(name)}{place}"
    if there[0] != schema:
        move = f"ALTER EXTENSION {ident(name)} SET SCHEMA {ident(schema)}"
        again = f"DROP EXTENSION {ident(name)}; CREATE EXTENSION {ident(name)} SCHEMA {ident(schema)}"
        raise OperatorError(
            f"extension {ident(name)} stands in another schema at the target",
            why=f"the source has it in schema {ident(schema)}, the target in {ident(there[0])}",
            do=move if there[1] else f"{again} (it cannot be moved; DROP refuses while something uses it)",
        )
    return ""


def _existing(wanted: UserType, there: TargetType) -> list[str]:
    """Compare one type with what the target has under its name; return the labels to add."""
    if there.kind != _KINDS.get(wanted.kind, there.kind):
        raise ConfigError(
            f"the target has another type named {qualified(wanted.name)}",
            why=f"it is a {wanted.kind} at the source",
            do=f"ALTER TYPE {qualified(wanted.name)} RENAME TO {ident(wanted.name.table[:58] + '_old')}",
        )
    if wanted.kind != "enum":
        return []
    want = labels(wanted.definition)
    missing = [label for label in want if label not in there.labels]
    strange = [label for label in there.labels if label not in want]
    if missing and strange:
        raise ConfigError(
            f"enum {qualified(wanted.name)} has other labels at the target",
            why=f"the source has {', '.join(map(literal, missing))}, the target {', '.join(map(literal, strange))}",
            do=f"ALTER TYPE {qualified(wanted.name)} RENAME VALUE {literal(strange[0])} TO {literal(missing[0])}",
        )
    return [f"ALTER TYPE {qualified(wanted.name)} ADD VALUE IF NOT EXISTS {place}" for place in _places(want, missing)]


def _places(want: tuple[str, ...], missing: list[str]) -> list[str]:
    """Say where each missing label goes so that the target sorts as the source does."""
    places = []
    for label in missing:
        at = want.index(label)
        if at > 0:
            places.append(f"{literal(label)} AFTER {literal(want[at - 1])}")
        else:
            later = next((other for other in want if other not in missing), None)
            places.append(f"{literal(label)}" + (f" BEFORE {literal(later)}" if later is not None else ""))
    return places
