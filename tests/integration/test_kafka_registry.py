"""Avro, Protobuf and registered JSON into Kafka: what Confluent's readers find, and what a registry's failures do."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from cdcflow.bus.formats import proto_schema
from tests.integration.kafka_world import World, make_world
from tests.servers.commands import Running
from tests.servers.database import Database
from tests.servers.kafka_server import Kafka
from tests.servers.proxy import Proxy
from tests.servers.registry_server import SchemaRegistry

Cdcflow = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]
NewWorld = Callable[..., World]
Read = Callable[[bytes, MessageField], dict[str, Any]]
FORMATS = ("avro", "protobuf", "json")

DRAIN = """
CREATE TABLE drain (id bigint PRIMARY KEY, quantity int NOT NULL, name text NOT NULL, price numeric(12,2) NOT NULL,
    currency char(3) NOT NULL, note text, tags text[] NOT NULL, detail jsonb NOT NULL,
    created_at timestamptz NOT NULL, updated_at timestamp NOT NULL);
INSERT INTO drain SELECT n, n % 1000, 'product ' || n, n / 100.0, 'EUR', nullif('note ' || n % 5, 'note 0'),
    ARRAY['red', 'tag ' || n % 7, 'x,y'], jsonb_build_object('sku', n), '2024-01-01 00:00:00Z'::timestamptz
    + n * interval '1 second', timestamp '2024-01-01 00:00:00.000001' + n * interval '1 second'
    FROM generate_series(1, 300) n
"""
TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE types (id int PRIMARY KEY, b bool, i2 int2, i8 int8, n numeric(10,3), f4 float4, f8 float8, t text,
    vc varchar(20), by bytea, d date, ti time, ts timestamp, tz timestamptz, iv interval, u uuid, j json, m mood,
    bt bit(3), vb varbit, ia int[], ta text[], ip inet);
INSERT INTO types VALUES (1, true, -5, -9223372036854775808, -123.450, 0.5, 1e20, 'häl"', 'v', '\\xdeadbeef',
    '2024-02-29', '12:34:56.7', '1960-03-15 01:02:03.000001', '2024-01-02 03:04:05.678+00', '1 year 2 mons 3 days',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": 1}', 'ok', '101', '1', '{1,2,NULL}', '{a,"b c",NULL}',
    '10.0.0.1');
INSERT INTO types VALUES (2)
"""


@pytest.fixture
def new_world(kafka: Kafka, schema_registry: SchemaRegistry, source_db: Database, tmp_path: Path) -> NewWorld:
    """`new_world("avro")`: a pipeline that writes that format; further keys are the registry's."""

    def make(name: str, **registry: Any) -> World:
        world = make_world(kafka, source_db, tmp_path)
        return world.configure(format=name, registry={"url": schema_registry.url, **registry})

    return make


@pytest.fixture
def client(schema_registry: SchemaRegistry) -> SchemaRegistryClient:
    return Described({"url": schema_registry.url})


def confluents(name: str, client: SchemaRegistryClient, topic: str) -> Read:
    """Return how Confluent's own deserializer of that format reads messages of a topic, as a dict."""
    if name == "avro":
        avro = AvroDeserializer(client)
        return lambda message, part: dict(avro(message, SerializationContext(topic, part)))

    if name == "json":  # which looks whether the registered schema is true of the message, too
        plain = JSONDeserializer(None, schema_registry_client=client)
        return lambda message, part: dict(plain(message, SerializationContext(topic, part)))
    readers: dict[bytes, Any] = {}

    def made(message: bytes) -> Any:
        # Its reader wants a class of the message, as a compiler would make it of the schema.
        file = _file(client.get_schema(int.from_bytes(message[1:5], "big")))
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        first = pool.FindMessageTypeByName(f"{file.package}.{file.message_type[0].name}")
        return ProtobufDeserializer(message_factory.GetMessageClass(first), {"use.deprecated.format": False}, client)

    def read(message: bytes, part: MessageField) -> dict[str, Any]:
        if message[:5] not in readers:
            readers[message[:5]] = made(message)
        found = readers[message[:5]](message, SerializationContext(topic, part))
        said: dict[str, Any] = json_format.MessageToDict(found, preserving_proto_field_name=True)
        return said

    return read


class Described(SchemaRegistryClient):
    """Gives Protobuf schemas as descriptors, which Confluent's registry does when it is asked and this one does not."""

    def get_schema(
        self,
        schema_id: int,
        subject_name: str | None = None,
        fmt: str | None = None,
        reference_format: str | None = None,
    ) -> Schema:
        found = super().get_schema(schema_id, subject_name)
        if fmt != "serialized" or found.schema_type != "PROTOBUF":
            return found
        return Schema(base64.b64encode(_file(found).SerializeToString()).decode(), "PROTOBUF")


def _file(schema: Schema) -> descriptor_pb2.FileDescriptorProto:
    text = schema.schema_str or ""
    try:
        return descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except ValueError:
        # The registry gives the language. What stands for `optional` in descriptors is a oneof of one field.
        made = proto_schema.parse(text)[0]
        for message in made.message_type:
            _with_oneofs(message)
        return made


def _with_oneofs(message: descriptor_pb2.DescriptorProto) -> None:
    for inner in message.nested_type:
        _with_oneofs(inner)
    for field in message.field:
        if field.proto3_optional and not field.HasField("oneof_index"):
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")


@pytest.mark.parametrize("name", FORMATS)
def test_confluents_reader_finds_the_rows_of_the_source(
    name: str, new_world: NewWorld, client: SchemaRegistryClient, cdcflow: Cdcflow
) -> None:
    world = new_world(name)
    world.source.execute(DRAIN)
    cdcflow("run", "--until-caught-up", exit_code=0)
    world.source.execute("UPDATE drain SET quantity = quantity + 1 WHERE id <= 100; DELETE FROM drain WHERE id > 290")
    cdcflow("run", "--until-caught-up", exit_code=0)
    read = confluents(name, client, world.topic("drain"))
    held: dict[int, dict[str, Any]] = {}
    ops: dict[str, int] = {}
    for message in world.messages("drain"):
        key = int(read(message.key or b"", MessageField.KEY)["id"])
        if message.value is None:
            assert key not in held
            continue
        event = read(message.value, MessageField.VALUE)
        ops[event["op"]] = ops.get(event["op"], 0) + 1
        if event["op"] == "d":
            del held[key]
        else:
            held[key] = event["after"]
    assert ops == {"r": 300, "u": 100, "d": 10}
    rows = world.source.query(
        "SELECT id, quantity, name, price::text, currency, note, tags, detail::text,"
        " (extract(epoch FROM updated_at) * 1000000)::bigint, created_at FROM drain ORDER BY id"
    )
    assert sorted(held) == [row[0] for row in rows]
    for number, quantity, label, price, currency, note, tags, detail, updated, created in rows:
        after = held[number]
        assert int(after.get("quantity", 0)) == quantity
        said = [after["name"], after["price"], after["currency"], after.get("note"), json.loads(after["detail"])]
        assert said == [label, price, currency, note, json.loads(detail)]
        assert _elements(after["tags"]) == tags
        assert _micros(after["updated_at"]) == updated
        assert datetime.fromisoformat(after["created_at"]).astimezone(UTC) == created


def _micros(said: Any) -> int:
    """Return a moment in microseconds since 1970: Avro's reader makes a datetime of it."""
    if isinstance(said, datetime):
        since = said.replace(tzinfo=said.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        return since // timedelta(microseconds=1)
    return int(said)


def _elements(said: Any) -> Any:
    """Return an array's elements: Protobuf has each in a message, which can be without a value."""
    return [each.get("value") for each in said["items"]] if isinstance(said, dict) else said


@pytest.mark.parametrize("name", FORMATS)
def test_confluents_reader_finds_values_of_many_types(
    name: str, new_world: NewWorld, client: SchemaRegistryClient, cdcflow: Cdcflow
) -> None:
    world = new_world(name)
    world.source.execute(TYPES)
    cdcflow("run", "--until-caught-up", exit_code=0)
    world.source.execute("INSERT INTO types SELECT id + 10, " + _COLUMNS + " FROM types")
    cdcflow("run", "--until-caught-up", exit_code=0)
    read = confluents(name, client, world.topic("types"))
    images = [read(message.value or b"", MessageField.VALUE)["after"] for message in world.messages("types")]
    held = {int(image["id"]): image for image in images}
    assert sorted(held) == [1, 2, 11, 12]
    for number in (1, 11):
        row = held[number]
        said = {column: row[column] for column in ("b", "f4", "f8", "n", "t", "vc", "tz", "iv", "j", "m", "vb", "ip")}
        assert said == SAID
        assert (int(row["i2"]), int(row["i8"]), str(row["u"])) == (
            -5,
            -(1 << 63),
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        )
        assert (_bytes(row["by"]), _bytes(row["bt"])) == (b"\xde\xad\xbe\xef", b"\x05")
        assert (_elements(row["ta"]), row["ia"] is not None) == (["a", "b c", None], True)
        assert _micros(row["ts"]) == world.source.value(
            "SELECT (extract(epoch FROM ts) * 1000000)::bigint FROM types WHERE id = 1"
        )
    for number in (2, 12):
        assert all(held[number].get(column) is None for column in _COLUMNS.split(", "))


def _bytes(said: Any) -> bytes:
    return said if isinstance(said, bytes) else base64.b64decode(said)


SAID = {
    "b": True,
    "f4": 0.5,
    "f8": 1e20,
    "n": "-123.450",
    "t": 'häl"',
    "vc": "v",
    "tz": "2024-01-02T03:04:05.678Z",
    "iv": "P1Y2M3DT0H0M0S",
    "j": '{"a": 1}',
    "m": "ok",
    "vb": "1",
    "ip": "10.0.0.1",
}
_COLUMNS = "b, i2, i8, n, f4, f8, t, vc, by, d, ti, ts, tz, iv, u, j, m, bt, vb, ia, ta, ip"


def test_check_says_that_the_registry_does_not_answer(
    new_world: NewWorld, proxy: Callable[..., Proxy], schema_registry: SchemaRegistry, cdcflow: Cdcflow
) -> None:
    world = new_world("avro")
    registry_proxy = proxy(schema_registry)
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    assert "the registry takes its schemas" in _found(cdcflow("check", "--json", exit_code=0), "target.schema")
    world.configure(registry={"url": registry_proxy.through(schema_registry.url)})
    registry_proxy.refuse()
    found = _found(cdcflow("check", "--json", exit_code=3), "target.registry")
    assert "cannot be reached" in found


def _found(ended: subprocess.CompletedProcess[str], name: str) -> str:
    """Return what `check` found under a name, as text."""
    said = json.loads(ended.stdout)
    return json.dumps([each for each in said["findings"] if each["name"] == name])


@pytest.mark.parametrize("name", FORMATS)
def test_an_incompatible_shape_stops_with_its_subject_and_goes_on_under_a_new_one_if_wished(
    name: str, new_world: NewWorld, client: SchemaRegistryClient, cdcflow: Cdcflow
) -> None:
    world = new_world(name, compatibility="FULL")
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    subject = f"{world.topic('t')}-value"
    registered = client.get_versions(subject)
    world.source.execute("ALTER TABLE t ALTER v TYPE int USING 5; INSERT INTO t VALUES (2, 7)")
    checked = _found(cdcflow("check", "--json", exit_code=3), "target.schema")
    assert subject in checked
    assert "new_subject" in checked
    assert client.get_versions(subject) == registered
    ended = cdcflow("run", "--until-caught-up", exit_code=5)
    assert subject in ended.stderr
    assert "incompatible" in ended.stderr
    assert len(world.messages("t")) == 1
    registry = {**world.settings["registry"], "incompatible": "new_subject"}
    world.configure(registry=registry)
    cdcflow("check", exit_code=0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    read = confluents(name, client, world.topic("t"))
    rows = [read(each.value, MessageField.VALUE).get("after") for each in world.messages("t")[1:] if each.value]
    assert [int(row["v"]) for row in rows if row and int(row["id"]) == 2][-1:] == [7]
    assert client.get_versions(f"{subject}-v2") == [1]


def test_a_column_that_is_added_is_compatible_with_what_a_registry_asks_for_by_default(
    new_world: NewWorld, client: SchemaRegistryClient, cdcflow: Cdcflow
) -> None:
    """As JSON, where it is compatible only if rows have no columns that their schema does not name."""
    world = new_world("json", compatibility="BACKWARD")
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    world.source.execute("ALTER TABLE t ADD w int; UPDATE t SET w = 7")
    cdcflow("check", exit_code=0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert len(client.get_versions(f"{world.topic('t')}-value")) == 2
    read = confluents("json", client, world.topic("t"))
    assert [read(each.value or b"", MessageField.VALUE)["after"] for each in world.messages("t")] == [
        {"id": 1, "v": "a"},
        {"id": 1, "v": "a", "w": 7},
    ]
    world.source.execute("ALTER TABLE t DROP v; UPDATE t SET w = 8")
    assert "incompatible" in cdcflow("run", "--until-caught-up", exit_code=5).stderr
