"""What Debezium's engine wrote (recorded in tests/fixtures/debezium) becomes the rows that its source had."""

from __future__ import annotations

import itertools
import json
import os
import struct
import urllib.request
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest

from cdcflow.bus.config import Decoding
from cdcflow.bus.formats.opening import open_format
from cdcflow.errors import DecodeError
from cdcflow.model.frame import cells
from tests.fixtures.debezium.recordings import Form, Message, Part, messages, rows
from tests.servers.commands import Commands, PipelineFolder
from tests.servers.database import Database
from tests.servers.kafka_server import Kafka
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.registry_server import SchemaRegistry

FIXTURES = Path(__file__).parent.parent / "fixtures" / "debezium"
_numbers = itertools.count(1)

# What Debezium does not say in full, by recording, so that nobody can have it back.
_MONTHS = {"c_interval"}  # a month is 30.4375 days
_BITS = {"c_varbit"}  # leading zeros of bits without a fixed number
_MILLISECONDS = {"c_time", "c_time6", "c_timestamp", "c_datetime6", "a_timestamp"}  # Connect's own types
_WRAPPED = {"c_big_u"}  # unsigned numbers beyond 2**63
_TEXT_OF_BYTES = {"c_bytea", "a_bytea", "c_binary", "c_varbinary", "c_tinyblob", "c_blob", "c_longblob"}  # hex, base64
_SCALE = {"c_numeric_5_m2"}  # numeric(5,-2) is written with a scale of 2046: the same number, with as many zeros
LOST = {
    "postgresql_defaults": _MONTHS | _BITS,
    "postgresql_texts": _BITS | _TEXT_OF_BYTES | _SCALE,
    "postgresql_connect": _MONTHS | _BITS | _MILLISECONDS,
    "mysql_defaults": set[str](),
    "mysql_texts": _WRAPPED | _TEXT_OF_BYTES,
    "mysql_connect": _WRAPPED | _MILLISECONDS,
}
# Their dates and times are beyond what Debezium can say: see the test of edges.
LEFT_OUT = {"edges"}
# How a column is compared where its type in the target is not the source's.
AS = {
    "json": "({0})::jsonb",
    "real": "({0})::text",
    "double precision": "({0})::text",
    "time with time zone": "({0}) AT TIME ZONE 'UTC'",
}


class Replayed:
    """A recording in topics of its own, and the pipeline that reads them."""

    def __init__(self, kafka: Kafka, target: Database, commands: Commands, folder: Path) -> None:
        self.kafka, self.target, self.commands, self.folder = kafka, target, commands, folder
        self.registry: SchemaRegistry | None = None
        self.numbers: dict[tuple[str, str], int] = {}

    def run(self, recording: str, form: Form, **source: Any) -> None:
        """Put the messages into topics, and let the pipeline read them."""
        prefix = f"d{os.getpid()}_{next(_numbers)}"
        made: set[str] = set()
        for message in messages(recording):
            # Without schemas a column that was dropped is not told from one whose value was not logged.
            if message.table in LEFT_OUT or (form == "plain" and message.table == "evolving"):
                continue
            topic = prefix + message.topic.removeprefix("dbz")
            if topic not in made:
                made.add(self.kafka.create_topic(topic))
            key, value = self.part(f"{topic}-key", message.key, form), self.part(f"{topic}-value", message.value, form)
            self.kafka.produce(topic, key, value, message.headers, 0)
        pipeline = PipelineFolder(self.folder, prefix, self.kafka.url(), self.target.url)
        pipeline.write_config(source={"url": self.kafka.url(), "topics": [f"{prefix}.*"], **source})
        pipeline.write_rules("*.*")
        self.commands.call("run", "--until-caught-up", exit_code=0)

    def part(self, subject: str, part: Part | None, form: Form) -> bytes | None:
        """Return a key or a value as it is on the wire."""
        if part is None:
            return None
        if form == "avro":
            return self.registered(subject, part)
        return part.json if form == "json" else part.plain

    def registered(self, subject: str, part: Part) -> bytes:
        """Return a value in Avro behind the number that the registry has for its schema."""
        assert self.registry is not None
        schema = json.dumps({"schema": part.avro_schema}).encode()
        known = self.numbers.get((subject, part.avro_schema))
        if known is None:
            asked = urllib.request.Request(
                f"{self.registry.url}/subjects/{subject}/versions", schema, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(asked, timeout=30) as answer:
                known = self.numbers[subject, part.avro_schema] = json.load(answer)["id"]
        return b"\0" + struct.pack(">I", known) + part.avro

    def differences(self, engine: str, table: str, lost: AbstractSet[str]) -> list[str]:
        """Return the cells that are not as the source had them."""
        columns, expected = rows(engine)[table]
        schema = "public" if engine == "postgresql" else "shop"
        types = dict(
            self.target.query(
                "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0",
                [f"{schema}.{table}"],
            )
        )

        found = []
        assert self.target.value(f"SELECT count(*) FROM {schema}.{table}") == len(expected)
        key = [name for name, _ in columns[:2]] if table in ("composite", "keyless") else ["id"]
        for row in expected:
            cells = dict(zip((name for name, _ in columns), row, strict=True))
            for name, kind in columns:
                if name in lost:
                    continue
                wanted = as_target(cells[name], kind)
                compare = AS.get(types[name], "({0})")
                sql = (
                    f"SELECT {compare.format(name)} IS NOT DISTINCT FROM {compare.format('%s::text::' + types[name])},"
                    f" {name}::text FROM {schema}.{table} WHERE "
                ) + " AND ".join(f"{each}::text = %s" for each in key)
                ((same, there),) = self.target.query(sql, [wanted, *(cells[each] for each in key)])
                if not same:
                    at = f"{table}.{name} {types[name]} of {[cells[each] for each in key]}"
                    found.append(f"{at}: {there!r:.150} is not {wanted!r:.150}")
        return found

    def same(self, recording: str, lost: AbstractSet[str] = frozenset()) -> None:
        """Assert that the target has what the source had, but for what Debezium lost."""
        engine = recording.partition("_")[0]
        found = []
        for table in rows(engine):
            if table not in LEFT_OUT:
                found += self.differences(engine, table, LOST[recording] | lost)
        assert not found, "\n".join(found)


def as_target(text: str | None, kind: str) -> str | None:
    """Return a recorded text as the target holds it that was made from what Debezium says."""
    if text is None:
        return None
    if kind == "bpchar":
        return text.ljust(5)
    if kind == "inet":
        return text.removesuffix("/128")
    if kind in ("_json", "_jsonb"):
        return json.dumps([text[2:-2].replace('\\"', '"')] if text != "{}" else [])
    if kind == "point" and text.startswith("("):
        return (b"\x01" + struct.pack("<Idd", 1, *map(float, text[1:-1].split(",")))).hex().upper()
    if kind in ("point", "geometry"):
        srid, _, wkb = text.partition(";")
        return wkb if srid == "0" else f"01{'010000'}20{struct.pack('<I', int(srid)).hex().upper()}{wkb[10:]}"
    return text


@pytest.fixture
def replayed(kafka: Kafka, target_db: Database, commands: Commands, tmp_path: Path) -> Replayed:
    return Replayed(kafka, target_db, commands, tmp_path)


@pytest.mark.parametrize("recording", LOST)
def test_rows_arrive_from_json(replayed: Replayed, recording: str) -> None:
    replayed.run(recording, "json")
    replayed.same(recording)


@pytest.mark.parametrize("recording", ["postgresql_defaults", "mysql_defaults"])
def test_rows_arrive_from_avro(replayed: Replayed, schema_registry: SchemaRegistry, recording: str) -> None:
    replayed.registry = schema_registry
    replayed.run(recording, "avro", format="avro", registry={"url": schema_registry.url})
    replayed.same(recording, {"a_numeric", "a_json", "a_jsonb"})  # arrays of records and of documents become JSON


def test_rows_arrive_from_json_without_schemas_as_far_as_it_tells_types(replayed: Replayed) -> None:
    replayed.run("postgresql_texts", "plain")
    for table in ("composite", "emptied"):
        assert replayed.differences("postgresql", table, set()) == []


# Where cdcflow writes another schema or value than Debezium's defaults: docs/bus-debezium.md has the reasons.
DIFFERENT = {
    "postgresql": {
        *("c_numeric", "c_numeric_10_2", "c_numeric_38", "c_numeric_5_m2", "c_money", "c_domain"),
        *("c_time3", "c_timestamp0", "c_timestamp3", "c_timetz", "c_interval"),
        *("c_ltree", "c_hstore", "c_varbit", "c_point", "c_tsvector"),
    },
    "mysql": {
        *("c_big_u", "c_decimal", "c_decimal_65", "c_decimal_u"),
        *("c_time", "c_time6", "c_datetime", "c_datetime3", "c_year"),
        *("c_point", "c_point_4326"),
    },
}


def fields_of(value: bytes) -> dict[str, tuple[Any, Any, Any]]:
    """Return of each column of the new row: type and name of its schema, and its value."""
    message = json.loads(value)
    (row,) = (field for field in message["schema"]["fields"] if field["field"] == "after")
    values = message["payload"]["after"]
    return {
        field["field"]: (field["type"], field.get("name"), field.get("parameters"), values[field["field"]])
        for field in row["fields"]
    }


def test_rows_of_postgresql_are_written_as_debezium_writes_them(
    new_server: Callable[..., Any], kafka: Kafka, commands: Commands, tmp_path: Path
) -> None:
    server = new_server(18, contrib=True)
    source = Database(server, "postgres")
    for statement in (FIXTURES / "postgresql_before.sql").read_text().split(";\n"):
        if statement.strip():
            source.execute(statement)
    source.close()
    compare("postgresql", source.url, kafka, commands, tmp_path)


def test_rows_of_mysql_are_written_as_debezium_writes_them(
    mysql_source_db: MysqlDatabase, kafka: Kafka, commands: Commands, tmp_path: Path
) -> None:
    mysql_source_db.execute("SET time_zone = '+00:00'")
    for statement in (FIXTURES / "mysql_before.sql").read_text().split(";\n"):
        if statement.strip():
            mysql_source_db.execute(statement.replace("%", "%%"))
    compare("mysql", mysql_source_db.url, kafka, commands, tmp_path)


def compare(engine: str, source: str, kafka: Kafka, commands: Commands, folder: Path) -> None:
    name = f"d{os.getpid()}_{next(_numbers)}"
    pipeline = PipelineFolder(folder, name, source, kafka.url())
    pipeline.write_config(
        target={"url": kafka.url(), "partitions": 1, "schemas": True, "topic": "{pipeline}.{table}"}
    ).write_rules({"match": "*.types"})
    commands.call("run", "--until-caught-up", exit_code=0)
    ours = {json.loads(each.key or b"")["payload"]["id"]: each.value for each in kafka.read(f"{name}.types")}
    theirs = [each for each in messages(f"{engine}_defaults") if each.table == "types"][:2]
    different = {}
    for each in theirs:
        assert each.key is not None
        assert each.value is not None
        here = fields_of(ours[json.loads(each.key.plain)["id"]] or b"")
        there = fields_of(each.value.json)
        assert list(here) == list(there)
        different |= {column: (here[column], there[column]) for column in there if here[column] != there[column]}
    found = [f"{column}: {here!s:.200} | {there!s:.200}" for column, (here, there) in different.items()]
    assert set(different) == DIFFERENT[engine], "\n".join(found)


def read_edges(recording: str) -> list[str]:
    """Return of each row whose dates and times are extreme what becomes of it: nothing, or the field that stops."""
    found = []
    for message in messages(recording):
        if message.table in LEFT_OUT and message.key is not None and message.value is not None:
            opened = open_format(Decoding())
            value = message.value.json
            table = opened.described(message.topic, message.key.json, value)
            try:
                opened.reader(table, opened.mark(value)).read(message.key.json, value, {})
                found.append("")
            except DecodeError as error:
                found.append(error.at.rpartition(" ")[2])
    return found


def test_a_date_that_debezium_cannot_say_stops_instead_of_becoming_another() -> None:
    # PostgreSQL's infinity is a day of the year -5877611, and MySQL's TIME more than a day.
    assert read_edges("postgresql_defaults") == ["", "", "c_date", ""]
    assert read_edges("mysql_defaults") == ["c_time", "c_time"]


LOWEST = {
    "postgresql_defaults": b"-9223372036832400000",
    "postgresql_connect": b"-9223372036832400",
    "postgresql_texts": b'"-290308-12-21T19:59:27.6Z"',
}


@pytest.mark.parametrize("recording", LOWEST)
def test_infinities_of_timestamps_stay_what_they_are(recording: str) -> None:
    """Beside a date that can be said: the recorded row has an infinite one, which Debezium makes another day of."""
    (message,) = [each for each in messages(recording) if each.table == "edges" and b"294247" in spelled(each)]
    assert message.key is not None
    assert message.value is not None
    said = message.value.json
    change = json.loads(said)["payload"]["after"]
    day = json.dumps(change["c_date"]).encode()
    said = said.replace(b'"c_date":' + day, b'"c_date":' + (b'"2000-01-01Z"' if day.startswith(b'"') else b"0"))
    opened = open_format(Decoding())
    table = opened.described(message.topic, message.key.json, said)
    places = [table.column_names.index(name) for name in ("c_timestamp", "c_timestamptz")]

    def cells_of(value: bytes) -> list[object]:
        _, _, after = opened.reader(table, opened.mark(value)).read(b"", value, {})
        assert after is not None
        found = cells(after, 0, len(table.columns))
        return [found[place] for place in places]

    assert cells_of(said) == [b"infinity", b"infinity"]
    now = json.dumps(change["c_timestamp"]).encode()
    low = {
        "defaults": b"-9223372036832400000",
        "connect": b"-9223372036832400",
        "texts": b'"-290308-12-21T19:59:27.6Z"',
    }
    said = said.replace(b'"c_timestamp":' + now, b'"c_timestamp":' + low[recording.partition("_")[2]])
    assert cells_of(said)[0] == b"-infinity"


def spelled(message: Message) -> bytes:
    """Return the change with the timestamp that stands for infinity as a year."""
    assert message.value is not None
    return message.value.json.replace(b"9223372036825200", b"294247")
