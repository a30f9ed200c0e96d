"""The keys of rules.yaml: what each may hold and what it means. The JSON Schema is made from this."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from cdcflow.model.route import Mode, OnDelete, OnTruncate, SchemaChanges, ZeroDates
from cdcflow.rules.name import Pattern, Template, reserved
from cdcflow.rules.problem import invalid, nearest

LATER = "is not available yet in this version"


def _later(_: Any) -> Any:
    raise invalid(LATER, do="remove it")


def _mode(value: Any) -> Any:
    if value == Mode.HISTORY:
        raise invalid(f'"history" {LATER}', do="use mirror or append")
    if isinstance(value, str) and value not in ("mirror", "append"):
        close = nearest(value, ("mirror", "append"))
        raise invalid(f'must be mirror or append, not "{value}"', do=f'did you mean "{close}"?' if close else "")
    return value


def _pattern(value: Any) -> Any:
    if isinstance(value, str):
        try:
            Pattern.parse(value)
        except ValueError as error:
            hint = '"schema.table" (MySQL: "database.table"), where * is any text; put "..." around a name with a dot'
            raise invalid(str(error), do=f"write {hint}") from None
    return value


def _template(value: Any) -> Any:
    if isinstance(value, str):
        try:
            template = Template.parse(value)
        except ValueError as error:
            raise invalid(str(error), do="write schema.table, for example sales.{table}") from None
        if reserved("".join(template.schema)):
            raise invalid(f"names the reserved schema {template.schema[0]}", do="choose another schema")
    return value


def _key(value: Any) -> Any:
    if isinstance(value, list) and len(set(map(str, value))) < len(value):
        raise invalid("names a column twice", do="remove one")
    return value


def _zero_dates(value: Any) -> Any:
    return ZeroDates.NULL if value is None else value


# Known keys whose time comes later: an editor marks them, and the loader says so instead of "unknown key".
Later = Annotated[
    Any, BeforeValidator(_later), WithJsonSchema({"description": "Not available yet in this version.", "not": {}})
]
Name = Annotated[str, Field(min_length=1)]


class Columns(BaseModel):
    """Which columns go over, and under which names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exclude: list[Name] = Field(default=[], description="Columns that stay behind. A key column cannot.")
    rename: dict[Name, Name] = Field(default={}, description="Source column: its name in the target.")
    mask: Later = None


class Defaults(BaseModel):
    """What holds for every table unless a rule says otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_delete: OnDelete = Field(
        default=OnDelete.DELETE,
        description="What a DELETE at the source does in the target: `delete` the row, `soft`: keep it and set "
        "`cdcflow_deleted_at`, `ignore`: keep it.",
    )
    on_truncate: OnTruncate = Field(
        default=OnTruncate.TRUNCATE,
        description="What a TRUNCATE at the source does in the target: `truncate` or `ignore`.",
    )
    schema_changes: SchemaChanges = Field(
        default=SchemaChanges.APPLY,
        description="What a changed table shape does: `apply` it to the target, `stop`, or `ignore` new columns.",
    )
    zero_dates: Annotated[
        ZeroDates,
        BeforeValidator(_zero_dates),
        WithJsonSchema({"enum": [*(each.value for each in ZeroDates), None]}),
    ] = Field(
        default=ZeroDates.NULL,
        description="What a zero or partial date of MySQL (`0000-00-00`, `2024-00-10`) becomes in the target: `null`, "
        "`epoch` (1970-01-01), or `fail`: the row is rejected.",
    )


class TableRule(Defaults):
    """One rule. Every rule that matches a table counts; of two that set the same key, the later one wins."""

    match: Annotated[
        str,
        BeforeValidator(_pattern),
        Field(
            description='Glob over "schema.table" (MySQL: "database.table"): `*`, `?`, `[abc]`. Case matters. '
            'A name in "..." is literal.'
        ),
    ]
    exclude: bool = Field(
        default=False, description="Leave the tables out. A later rule with `exclude: false` takes one in."
    )
    to: Annotated[
        str, BeforeValidator(_template), Field(description="Target table; {schema} and {table} are filled in.")
    ] = "{schema}.{table}"
    key: Annotated[list[Name], BeforeValidator(_key)] = Field(
        [], description="Columns that find one row, for a table that has no primary key.", min_length=1
    )
    columns: Columns = Field(default=Columns(), description="Which columns go over, and under which names.")
    where: Later = None
    mode: Annotated[
        Mode,
        BeforeValidator(_mode),
        WithJsonSchema({"type": "string", "enum": ["mirror", "append"]}),
    ] = Field(default=Mode.MIRROR, description="`mirror` every change, or `append`: inserts only.")


class RulesFile(BaseModel):
    """The sync rules: which tables go where, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="cdcflow rules")

    version: Literal[1] = Field(default=1, description="The version of this file's format.")
    defaults: Defaults = Field(
        default=Defaults(), description="What holds for every table unless a rule says otherwise."
    )
    tables: list[TableRule] = Field(
        description="The rules, in order: later ones override earlier ones, key by key.", min_length=1
    )
