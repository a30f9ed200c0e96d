"""Record the corpus from a real server: `python -m tests.fuzz.record postgresql://postgres@host/database`.

Makes a schema, a publication and temporary slots in that database (superuser; `wal_level = logical`), runs
statements that bring every message type of protocol version 1, keeps each group of them as one stream, and what
the decoders make of it as the inputs of the later steps. The schema is dropped at the end.
"""

from __future__ import annotations

import struct
import sys
from array import array

import psycopg
from psycopg import pq

from cdcflow.codecs import pgmessages
from cdcflow.codecs.copytext_cy import offsets
from cdcflow.codecs.net_cy import net
from cdcflow.codecs.pgoutput_cy import Decoder
from cdcflow.model.frame import DELETE
from tests.fuzz.decoders import buffer
from tests.fuzz.exercise import CORPUS
from tests.fuzz.packed import Input, pack

SCHEMA = """
DROP PUBLICATION IF EXISTS fuzz;
DROP SCHEMA IF EXISTS fuzz CASCADE;
CREATE SCHEMA fuzz;
SET search_path = fuzz;
CREATE TYPE mood AS ENUM ('sad', 'fine');
CREATE TYPE point2 AS (x int, y text);
CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(10, 2), at timestamptz, data bytea, tags text[]);
CREATE TABLE line (a int, b text, note text, PRIMARY KEY (b, a));
CREATE TABLE whole (id int, big text, note text);
CREATE TABLE typed (id bigint PRIMARY KEY, m mood, p point2, ok bool, doc jsonb, f float8, span int4range);
CREATE TABLE big (id int PRIMARY KEY, big text, other text, n int);
CREATE TABLE nokey (v text);
CREATE TABLE picked (id int, code text NOT NULL, v text);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);
CREATE TABLE "Odd name" ("a ""b" int PRIMARY KEY, "ä" text);
CREATE UNIQUE INDEX picked_code ON picked (code);
ALTER TABLE whole REPLICA IDENTITY FULL;
ALTER TABLE picked REPLICA IDENTITY USING INDEX picked_code;
ALTER TABLE big ALTER big SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL;
ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;
CREATE PUBLICATION fuzz FOR ALL TABLES;
"""

# By group; each statement is a transaction of its own unless it says otherwise.
STATEMENTS: dict[str, list[str]] = {
    "rows": [
        "INSERT INTO item VALUES (1, 'one', 1.5, '2024-01-01Z', '\\x00ff', '{a,b}'), (2, '', NULL, NULL, '', NULL)",
        "INSERT INTO item VALUES (3, E'tab\\there\\nline \\\\ back\\r', -0.01, 'infinity', NULL, NULL)",
        "UPDATE item SET name = name || '!' WHERE id < 3",
        "UPDATE item SET id = 10 WHERE id = 1",
        "DELETE FROM item WHERE id IN (2, 10)",
        "INSERT INTO item (id, name) SELECT g, 'again' FROM generate_series(11, 15) g",
    ],
    "keys": [
        "INSERT INTO line VALUES (1, 'x', 'n'), (2, 'x', NULL), (1, E'y\\\\\"', 'q')",
        "UPDATE line SET note = 'changed'",
        "UPDATE line SET a = a + 10 WHERE b = 'x'",
        "DELETE FROM line WHERE a > 10",
        "INSERT INTO picked VALUES (1, 'c1', 'v'), (2, 'c2', NULL)",
        "UPDATE picked SET code = 'c3' WHERE id = 1",
        "DELETE FROM picked",
        "INSERT INTO \"Odd name\" VALUES (1, 'é')",
    ],
    "full": [
        "INSERT INTO whole VALUES (1, repeat('b', 2100), 'n'), (NULL, NULL, NULL)",
        "UPDATE whole SET note = 'changed' WHERE id = 1",
        "DELETE FROM whole",
    ],
    "toast": [
        "INSERT INTO big VALUES (1, repeat('x', 2100), 'small', 0)",
        "UPDATE big SET n = 1",
        "UPDATE big SET n = 2, other = 'changed'",
        "UPDATE big SET id = 2",
        "DELETE FROM big",
    ],
    "kept": [
        "INSERT INTO big VALUES (5, repeat('y', 2100), 'small', 0)",
        "UPDATE big SET n = 5; UPDATE big SET other = 'o'; UPDATE big SET big = 'short'",
    ],
    "types": [
        "INSERT INTO typed VALUES (1, 'sad', (1, 'a'), true, '{\"a\": [1]}', 'NaN', '[1,5)')",
        "UPDATE typed SET m = 'fine', f = -0.0, span = 'empty' WHERE id = 1",
        "INSERT INTO nokey VALUES ('v'), (NULL), ('v')",
    ],
    "gone": ["UPDATE item SET id = id + 100 WHERE id > 12; DELETE FROM item WHERE id < 100"],
    "others": [
        "INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1)",
        "TRUNCATE parent CASCADE",
        "TRUNCATE item, line RESTART IDENTITY",
        "SELECT pg_logical_emit_message(true, 'inside', 'content')",
        "SELECT pg_logical_emit_message(false, 'alone', '')",
        "ALTER TABLE item ADD added int DEFAULT 7; INSERT INTO item (id) VALUES (1)",
        "ALTER TABLE item DROP added; INSERT INTO item (id) VALUES (2)",
    ],
    "origin": [
        "SELECT pg_replication_origin_create('fuzz'), pg_replication_origin_session_setup('fuzz')",
        "SELECT pg_replication_origin_xact_setup('0/1234', now()); INSERT INTO parent VALUES (9)",
        "SELECT pg_replication_origin_session_reset()",
        "SELECT pg_replication_origin_drop('fuzz')",
    ],
    "pieces": ["INSERT INTO line SELECT g, 'k' || g, repeat('z', 50) FROM generate_series(100, 160) g"],
    "left": ["DELETE FROM line", "INSERT INTO line VALUES (1, 'x', 'n')"],
}


class Stream:
    """A temporary slot, read through the replication protocol."""

    def __init__(self, url: str, slot: str) -> None:
        self._conn = pq.PGconn.connect(f"{url}{'&' if '?' in url else '?'}replication=database".encode())
        self._run(f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput", pq.ExecStatus.TUPLES_OK)
        options = "proto_version '1', publication_names 'fuzz', messages 'true'"
        self._run(f"START_REPLICATION SLOT {slot} LOGICAL 0/0 ({options})", pq.ExecStatus.COPY_BOTH)

    def _run(self, command: str, expected: pq.ExecStatus) -> None:
        result = self._conn.exec_(command.encode())
        if result.status != expected:
            raise SystemExit(f"{command}: {result.error_message.decode()}")

    def until(self, lsn: int) -> list[bytes]:
        """Return messages up to the keepalive that says that the log was read to `lsn`."""
        messages: list[bytes] = []
        while True:
            # Asks for an answer; acknowledges nothing.
            self._conn.put_copy_data(b"r" + struct.pack(">QQQqB", 1, 1, 1, 0, 1))
            self._conn.flush()
            while True:
                size, data = self._conn.get_copy_data(0)
                if size < 0:
                    raise SystemExit(f"the stream ended: {self._conn.error_message.decode()}")
                messages.append(bytes(data))
                if messages[-1][:1] == b"k":
                    break
            if struct.unpack_from(">Q", messages[-1], 1)[0] >= lsn:
                return messages

    def close(self) -> None:
        self._conn.finish()


def keep(target: str, name: str, found: Input) -> None:
    """Write an input to the corpus."""
    path = CORPUS / target / f"real-{name}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack(found))


def keep_steps(name: str, messages: list[bytes]) -> None:
    """Decode a stream and keep what its frames are for the later steps."""
    decoder = Decoder(1 << 40)
    numbers: dict[int, int] = {}
    stream, at = buffer(Input(b"", tuple(messages))), 0
    while at < len(stream):
        at = decoder.feed(stream, at)
        kind, body = decoder.event()
        if kind == ord("R"):
            relation = pgmessages.relation(body)
            numbers[decoder.follow(relation.oid, len(relation.columns), 0, 0)] = len(relation.columns)
    for frame, (number, ops, after, after_sizes, before, before_sizes, _) in enumerate(decoder.take(False)[0]):
        width, label = numbers[number], f"{name}-{frame}"
        keep("net", label, Input(bytes([width, 0]), (ops, after, after_sizes, before, before_sizes)))
        if width > 1:
            keep("net", f"{label}-two", Input(bytes([width, 0, 1]), (ops, after, after_sizes, before, before_sizes)))
        if DELETE not in ops:
            keep("offsets", label, Input(b"\0", (after_sizes,)))
        for count in range(1, min(width, 2) + 1):
            netted = net(ops, after, after_sizes, before, before_sizes, width, tuple(range(count)))
            if netted.deleted:
                keep("keys", f"{label}-{count}", Input(bytes([count]), (netted.keys, netted.deleted)))
        netted = net(ops, after, after_sizes, before, before_sizes, width, (0,))
        if netted.inserted or netted.updated:
            mask = netted.masks[max(array("q", netted.updated_masks), default=0)]
            columns = bytes(place for place in range(width) if not mask[place])
            references = netted.inserted + netted.updated
            keep("copy", label, Input(bytes([width]) + columns, (after, netted.merged, references)))
            keep("order", label, Input(b"\0", (after, netted.merged, references)))
        if ops.strip(b"I") == b"":
            keep("order", f"{label}-all", Input(bytes([width - 1]), (after, b"", offsets(after_sizes))))


def record(url: str) -> None:
    """Replace what was recorded before."""
    for path in CORPUS.glob("*/real-*.bin"):
        path.unlink()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        try:
            kinds: set[str] = set()
            for name, statements in STATEMENTS.items():
                # A slot each: a session is told of a relation once.
                stream = Stream(url, f"fuzz_{name}")
                for statement in statements:
                    connection.execute(statement)
                row = connection.execute("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn").fetchone()
                assert row is not None
                messages = stream.until(int(row[0]))
                stream.close()
                kinds |= {chr(m[25] if m[:1] == b"w" else m[0]) for m in messages}
                keep("pgoutput", name, Input(b"", tuple(messages)))
                keep_steps(name, messages)
            print("message types:", "".join(sorted(kinds)), "of", len(list(CORPUS.glob("*/*.bin"))), "files")
        finally:
            connection.execute("DROP PUBLICATION fuzz; DROP SCHEMA fuzz CASCADE")


if __name__ == "__main__":
    record(sys.argv[1])
