"""Batches fed to a target by hand, so that a test says just which rows arrive, together with what, and how often."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cdcflow.model.change import ChangeBatch, Rows, Step
from cdcflow.model.frame import Cell, RowBatch, image
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, ReplicaIdentity
from cdcflow.sources.postgres.position import Lsn
from cdcflow.state.store import open_store
from cdcflow.targets.postgres import PostgresTarget
from tests.integration.target_shapes import column, key_column, route, table
from tests.servers.database import Database

Changes = Sequence[tuple[str, Sequence[Cell] | None, Sequence[Cell] | None]]

ID, V = key_column(), column("v", number=2)


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


def found(fed: Fed, query: str = "SELECT id, v FROM t ORDER BY 1") -> list[tuple[object, ...]]:
    return fed.database.query(query)
