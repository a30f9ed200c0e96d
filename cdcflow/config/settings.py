"""The keys of cdcflow.yaml: what each may hold and what it means. The JSON Schema is made from this."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from cdcflow.model.quantity import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size
from cdcflow.rules.file import Defaults, TableRule
from cdcflow.rules.problem import invalid

# A value that is filled in is checked when the file is loaded; an editor must let it stand.
_OR_FILLED: Final = r"|\$\{"

# The slot is `cdcflow_` and this; PostgreSQL allows 63 characters of a-z, 0-9 and _ in its name.
PIPELINE_PATTERN: Final = r"^[a-z0-9_]{1,40}$"

_LISTEN = re.compile(r"(?:(?P<name>[A-Za-z0-9._-]*)|\[(?P<six>[0-9A-Fa-f:.]+)\]):(?P<port>[0-9]{1,5})", re.ASCII)


def _size(value: Any) -> int:
    try:
        return parse_size(value)
    except ValueError as error:
        raise invalid(str(error)) from None


def _enough(value: int) -> int:
    if value < 32_000_000:
        raise invalid("must be at least 32MB")
    return value


def _duration(value: Any) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise invalid(str(error)) from None


def _pipeline(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(PIPELINE_PATTERN.strip("^$"), value):
        usable = re.sub(r"[^a-z0-9]+", "_", value.lower()).strip("_")[:40]
        raise invalid(
            "must be 1 to 40 characters of a-z, 0-9 and _",
            why="it names the replication slot and the publication",
            do=f"pipeline: {usable}" if usable else "pipeline: shop",
        )
    return value


def _listen(value: Any) -> Any:
    if isinstance(value, str):
        found = _LISTEN.fullmatch(value)
        if found is None or int(found["port"]) > 65535:
            raise invalid("must be address:port", do="listen: 127.0.0.1:9187")
    return value


Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"type": ["string", "integer"], "pattern": SIZE_PATTERN + _OR_FILLED, "minimum": 0}),
]
"""Bytes, written `64MB` or `1GiB`."""

Duration = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema(
        {"type": ["string", "integer"], "pattern": DURATION_PATTERN + _OR_FILLED, "maximum": 0, "minimum": 0}
    ),
]
"""Seconds, written `500ms` or `5s`."""


class Batch(BaseModel):
    """When an open batch is closed at the latest. At rest a transaction is applied at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_rows: int = Field(default=50_000, ge=1, description="Close the batch at so many rows.")
    max_bytes: Size = Field(
        default=64_000_000, ge=1, description="Close the batch at this size.", json_schema_extra={"default": "64MB"}
    )
    max_delay: Duration = Field(
        default=0.0,
        description="Wait so long to fill a batch; 0 applies what is there as soon as the target is free.",
        json_schema_extra={"default": "0ms"},
    )


class Http(BaseModel):
    """Metrics, health and status over HTTP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: Annotated[str, BeforeValidator(_listen)] = Field(
        description="address:port, for example 127.0.0.1:9187. An empty address is 127.0.0.1.",
        examples=["127.0.0.1:9187"],
    )


class State(BaseModel):
    """Where the pipeline's state is kept when the target cannot hold it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(repr=False, description="Database URL: sqlite:///, postgresql://, mysql:// or mariadb://.")


class Settings(BaseModel):
    """One pipeline: from where, to where, by which rules."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="cdcflow configuration")

    pipeline: Annotated[str, BeforeValidator(_pipeline)] = Field(
        description="Names slot and publication of a PostgreSQL source (cdcflow_<pipeline>), chooses the server id"
        " of a MySQL one, and names the state.",
        json_schema_extra={"pattern": PIPELINE_PATTERN + _OR_FILLED},
    )
    source: dict[str, Any] = Field(description="The database to follow.")
    target: dict[str, Any] = Field(description="The database to write to.")
    rules: str = Field(
        default="",
        description="The rules file; its path starts at this file's folder. Not needed where the target is a bus:"
        " every table is published then.",
        min_length=1,
    )
    defaults: Defaults = Field(default=Defaults(), description="As in the rules file, with `tables` here.")
    tables: list[TableRule] = Field(
        default=[], description="The rules themselves, instead of a rules file.", min_length=1
    )
    batch: Batch = Field(default=Batch(), description="When an open batch is closed at the latest.")
    memory: Annotated[Size, AfterValidator(_enough)] = Field(
        default=256_000_000,
        description="The whole process stays inside this; past it, data is spilled to disk or waits.",
        json_schema_extra={"default": "256MB"},
    )
    http: Http | None = Field(default=None, description="Metrics, health and status; leave out for none.")
    state: State | None = Field(
        default=None,
        description="Where the state is kept when the target cannot hold it (amqp://): by default the SQLite file"
        " <pipeline>.state.db beside this one.",
    )
