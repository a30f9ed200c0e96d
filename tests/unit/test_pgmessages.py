"""Messages that are not rows are parsed whole or refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.codecs import pgmessages
from cdcflow.codecs.pgmessages import RelationColumn
from cdcflow.codecs.pgoutput_cy import MessageError

RELATION = (
    struct.pack(">I", 77) + b"public\0or\xc3\xa9\0" + b"d" + struct.pack(">H", 2)
    + b"\1id\0" + struct.pack(">Ii", 20, -1) + b"\0n\0" + struct.pack(">Ii", 1700, 655366)
)  # fmt: skip
TRUNCATE = struct.pack(">IBII", 2, 3, 77, 78)
MESSAGE = struct.pack(">BQ", 1, 99) + b"prefix\0" + struct.pack(">I", 3) + b"\0\1\2"


def test_a_relation_has_its_columns_and_identity() -> None:
    relation = pgmessages.relation(RELATION)
    assert (relation.oid, relation.schema, relation.table, relation.identity) == (77, "public", "oré", "d")
    assert relation.columns == (RelationColumn(True, "id", 20, -1), RelationColumn(False, "n", 1700, 655366))


def test_an_empty_schema_is_pg_catalog() -> None:
    assert pgmessages.relation(RELATION.replace(b"public", b"")).schema == "pg_catalog"


def test_a_truncate_has_its_tables_and_options() -> None:
    found = pgmessages.truncation(TRUNCATE)
    assert (found.oids, found.cascade, found.restart_identity) == ((77, 78), True, True)


def test_a_logical_message_has_its_prefix_and_content() -> None:
    found = pgmessages.logical_message(MESSAGE)
    assert (found.transactional, found.lsn, found.prefix, found.content) == (True, 99, "prefix", b"\0\1\2")


@pytest.mark.parametrize(
    ("parse", "body"),
    [(pgmessages.relation, RELATION), (pgmessages.truncation, TRUNCATE), (pgmessages.logical_message, MESSAGE)],
    ids=["relation", "truncate", "message"],
)
def test_every_cut_of_a_message_is_refused(parse: object, body: bytes) -> None:
    assert callable(parse)
    for size in range(len(body)):
        with pytest.raises(MessageError):
            parse(body[:size])


@given(st.binary(max_size=80))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    for parse in (pgmessages.relation, pgmessages.truncation, pgmessages.logical_message):
        try:
            parse(body)
        except MessageError:
            pass
