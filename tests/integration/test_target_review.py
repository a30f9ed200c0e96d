"""Batches fed to the target by hand: replayed rows, rows that the target keeps, tables with relatives, odd types."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cdcflow.errors import TargetUnavailable
from cdcflow.model.change import ChangeBatch, Rows, SchemaChange, Step
from cdcflow.model.frame import UNCHANGED, Cell, RowBatch, image
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, ReplicaIdentity, TableName, UserType
from cdcflow.sources.postgres.position import Lsn
from cdcflow.state.store import open_store
from cdcflow.targets.postgres import PostgresTarget
from cdcflow.targets.postgres import target as target_module
from tests.integration.semantics import Pair, pair
from tests.integration.target_shapes import column, key_column, route, table
from tests.servers.database import Database
from tests.servers.fleet import PostgresServer

Changes = Sequence[tuple[str, Sequence[Cell] | None, Sequence[Cell] | None]]

ID, V = key_column(), column("v", number=2)
SMALL_AND_LARGE = pytest.mark.parametrize("large", [False, True], ids=["a small batch", "a large batch"])


def keyed(*columns: Column, **more: object) -> Route:
    """Return the route of `public.t`, by default with the key `id` and the column `v`."""
    return route(table(*(columns or (ID, V))), **more)


def keyless(*columns: Column, **more: object) -> Route:
    return route(table(*columns, key=(), identity=ReplicaIdentity.FULL, **more))


class Fed:
    """A target that gets its batches from the test."""

    def __init__(self, database: Database, url: str = "") -> None:
        self.database = database
        self.store = open_store(database.url)
        self.store.migrate()
        self.epoch = self.store.acquire("p", {"host": "here", "process": "1"})
        self.target = PostgresTarget(url or database.url, "p")
        self.target.begin("p", self.epoch)
        self._position = 0

    def rows(self, of: Route, changes: Changes, *, replayed: bool = False) -> Rows:
        ops = "".join(op for op, _, _ in changes).encode()
        before = [image(list(cells)) if cells is not None else b"" for _, cells, _ in changes]
        after = [image(list(cells)) if cells is not None else b"" for _, _, cells in changes]
        frame = RowBatch(
            of,
            tuple(each.name for each in of.source.columns),
            ops,
            b"".join(after),
            b"".join(struct.pack("=i", len(each)) for each in after),
            b"".join(before),
            b"".join(struct.pack("=i", len(each)) for each in before),
            replayed,
        )
        return Rows({0: frame}, bytes(4 * len(changes)))

    def send(self, *steps: Step, large: bool = False, complete: bool = True) -> None:
        self._position += 100
        rows = sum(len(step) for step in steps if isinstance(step, Rows)) + (1000 if large else 0)
        self.target.apply(ChangeBatch(list(steps), Lsn(self._position), 1, complete=complete, rows=rows))

    def apply(self, of: Route, changes: Changes, *, replayed: bool = False, large: bool = False) -> None:
        self.send(self.rows(of, changes, replayed=replayed), large=large)

    def close(self) -> None:
        self.target.close()
        self.store.release()
        self.store.close()


@pytest.fixture
def fed(target_db: Database) -> Iterator[Fed]:
    fed = Fed(target_db)
    yield fed
    fed.close()


def found(fed: Fed, query: str = "SELECT id, v FROM t ORDER BY 1") -> list[tuple[object, ...]]:
    return fed.database.query(query)


# -- rows that a copy may hold already


@SMALL_AND_LARGE
@pytest.mark.parametrize(
    ("copied", "changes", "ends"),
    [
        ("(3, 'x')", [("I", None, [b"3", b"x"]), ("D", [b"3", UNCHANGED], None)], []),
        ("", [("D", [b"3", UNCHANGED], None), ("I", None, [b"3", b"y"])], [(3, "y")]),
        ("(4, 'x')", [("U", [b"3", UNCHANGED], [b"4", b"x"]), ("D", [b"4", UNCHANGED], None)], []),
        ("(4, 'x')", [("U", [b"3", UNCHANGED], [b"4", b"x"]), ("I", None, [b"3", b"n"])], [(3, "n"), (4, "x")]),
        ("(3, 'x')", [("I", None, [b"3", b"old"]), ("I", None, [b"5", b"n"])], [(3, "old"), (5, "n")]),
    ],
    ids=["inserted and deleted", "deleted and inserted", "moved and deleted", "moved and inserted", "inserted only"],
)
def test_rows_that_are_replayed_end_as_the_log_says_whatever_the_copy_held(
    fed: Fed, copied: str, changes: Changes, ends: list[tuple[object, ...]], large: bool
) -> None:
    wanted = keyed()
    fed.target.create(wanted)
    if copied:
        fed.database.execute(f"INSERT INTO t VALUES {copied}")
    fed.apply(wanted, changes, replayed=True, large=large)
    assert found(fed) == ends


@pytest.fixture
def made(tmp_path: Path, pg_source: PostgresServer, pg_target: PostgresServer) -> Iterator[Pair]:
    with pair(tmp_path, pg_source, pg_target) as made:
        yield made


@pytest.mark.parametrize("gone", ["inserted", "deleted"])
def test_a_copy_that_was_resumed_loses_and_keeps_no_row_that_went_to_and_fro_meanwhile(made: Pair, gone: str) -> None:
    made.folder.write_config(source={"url": made.folder.source_url, "snapshot": {"workers": 1, "chunk": "1MB"}})
    made.source.execute(
        "CREATE TABLE jobs (id int PRIMARY KEY, v text); ANALYZE jobs;"
        " INSERT INTO jobs SELECT n, repeat('x', 1000) FROM generate_series(1, 3000) n"
    )
    made.commands.call("snapshot", env={"CDCFLOW_KILL_AT": "chunk committed:1"}, exit_code=-9)
    some = "SELECT n, 'new' FROM generate_series(2801, 3000) n"
    if gone == "inserted":
        made.source.execute("INSERT INTO jobs SELECT n, 'new' FROM generate_series(3001, 4000) n")
    else:
        made.source.execute("DELETE FROM jobs WHERE id > 2800")
    made.commands.call("snapshot", exit_code=0)
    made.source.execute("DELETE FROM jobs WHERE id > 3000" if gone == "inserted" else f"INSERT INTO jobs {some}")
    made.run()
    made.same("jobs")


# -- schema changes


def test_a_piece_that_alters_what_an_earlier_piece_altered_does_not_wait_for_itself(
    fed: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "_LOCK_WAIT_SECONDS", 2)
    mood = UserType(TableName("public", "mood"), "enum", "AS ENUM ('a', 'b')")
    columns = [ID, column("v", default="'x'::text"), column("m", "public.mood")]
    shapes = [
        route(replace(table(*columns, *(column(name, "integer") for name in more), types=(mood,)), id=7))
        for more in ([], ["c1"], ["c1", "c2"])
    ]
    fed.target.create(shapes[0])
    fed.send(
        SchemaChange(shapes[0], shapes[1]), fed.rows(shapes[1], [("I", None, [b"1", b"x", b"a", b"1"])]), complete=False
    )
    fed.send(SchemaChange(shapes[1], shapes[2]), fed.rows(shapes[2], [("I", None, [b"2", b"y", b"b", b"1", b"2"])]))
    assert found(fed, "SELECT id, c1, c2 FROM t ORDER BY 1") == [(1, 1, None), (2, 1, 2)]


def test_a_lock_that_is_held_for_long_ends_the_wait_with_a_word(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "_LOCK_WAIT_SECONDS", 1)
    wanted = keyed()
    fed.target.create(wanted)
    with fed.database.connect(autocommit=False) as other:
        other.execute("LOCK TABLE t")
        with pytest.raises(TargetUnavailable, match="lock"):
            fed.target.clear(wanted, wanted)


@pytest.mark.parametrize("partitioned", [False, True])
def test_a_default_that_was_set_after_its_column_was_added_is_not_in_older_rows(made: Pair, partitioned: bool) -> None:
    by = "PARTITION BY RANGE (id)" if partitioned else ""
    made.source.execute(f"CREATE TABLE t (id int PRIMARY KEY, v text) {by}")
    if partitioned:
        made.source.execute("CREATE TABLE t1 PARTITION OF t DEFAULT")
    made.source.execute("INSERT INTO t SELECT n, 'x' FROM generate_series(1, 3) n")
    made.run()
    made.source.execute("ALTER TABLE t ADD COLUMN with_default int DEFAULT 9")
    if not partitioned:
        made.source.execute("ALTER TABLE t ADD COLUMN c int; ALTER TABLE t ALTER c SET DEFAULT 5")
        made.source.execute("ALTER TABLE t ADD COLUMN volatile float8 DEFAULT random()")
    made.source.execute("INSERT INTO t (id, v) VALUES (4, 'n')")
    made.run()
    made.same("t")
