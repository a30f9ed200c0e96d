"""The store: SQLAlchemy Core over the state's tables, in the target or in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from cdcflow.engines.postgres.connect import SCHEMES, safe_url
from cdcflow.engines.postgres.errors import fenced
from cdcflow.engines.sqlite import connect as sqlite_files
from cdcflow.engines.sqlite.errors import translate as translate_sqlite
from cdcflow.errors import ConfigError, Fenced, TargetUnavailable
from cdcflow.model.copy import Chunk, DoneChunk, TableRecord, TableState
from cdcflow.model.position import Checkpoint
from cdcflow.state import lease as leases
from cdcflow.state.engines import NoStateError, limited, mysql_engine, ours, postgres_engine, sqlite_engine
from cdcflow.state.migrate import migrate
from cdcflow.state.records import Remembered, aware, checkpoint_of, record_of, row_of
from cdcflow.state.sharing import ShareRecords
from cdcflow.state.tables import SCHEMA, tables_of

# A dead predecessor's last transaction may still be committing when its lease is free already.
_PREDECESSOR_SECONDS: Final = 15

# Another instance's ALTER TABLE may have to write the table anew.
_ALONE_SECONDS: Final = 300

# So many shapes of a table are remembered: more changes than this never wait to be applied.
_MOST_SHAPES: Final = 50

_MYSQL_SCHEMES: Final = ("mysql", "mariadb")


def open_store(url: str) -> SqlStore:
    """Return the store behind a `postgresql://`, `mysql://`, `mariadb://` or `sqlite:///` URL. Connects when first
    used.

    Raises:
        ConfigError: another scheme, or a URL that names no database or file.
    """
    scheme = url.partition("://")[0]
    if scheme in SCHEMES:
        return SqlStore(postgres_engine(url), safe_url(url), lambda pipeline: leases.PostgresLease(url, pipeline))
    if scheme in _MYSQL_SCHEMES:
        from cdcflow.engines.mysql.connect import safe_url as safe_mysql_url
        from cdcflow.state.lease_mysql import MysqlLease

        return SqlStore(mysql_engine(url), safe_mysql_url(url), lambda pipeline: MysqlLease(url, pipeline))
    if scheme == sqlite_files.SCHEME:
        return open_file(sqlite_files.path_of(url), url)
    raise ConfigError(
        "state cannot be kept behind this URL",
        at=safe_url(url),
        do="use postgresql://user:password@host:5432/database, mysql://user:password@host:3306/ or sqlite:///file.db",
    )


def open_file(path: Path, address: str) -> SqlStore:
    """Return the store in a SQLite file, which is made by `SqlStore.migrate`."""
    engine = sqlite_engine(path)

    def lease(pipeline: str) -> leases.FileLease:
        return leases.FileLease(Path(f"{path}.{pipeline.replace('/', '.')}.lock"))

    return SqlStore(engine, address, lease, file=path)


class SqlStore:
    """Implements `model.ports.Store`. Methods may be called from several threads, the lease's from one."""

    def __init__(
        self, engine: sa.Engine, address: str, new_lease: Callable[[str], leases.Lease], *, file: Path | None = None
    ) -> None:
        self.address = address
        self._engine, self._new_lease, self._file = engine, new_lease, file
        self._dialect = engine.dialect.name
        home = tables_of(engine)
        self._checkpoints, self._tables, self._chunks = home.checkpoints, home.tables, home.chunks
        self._schemas, self._dead_letters = home.schemas, home.dead_letters
        self._lease: leases.Lease | None = None
        self._pipeline = ""
        self._epoch = 0
        self._sharing = ShareRecords(home, self._dialect, self._transaction)
        self._of_shares = (home.shares, home.meetings)
        # What only a source that is shared needs: see `model.sharing.SharedStore`.
        self.join, self.claim = self._sharing.join, self._sharing.claim
        self.begin, self.identify = self._sharing.begin, self._sharing.identify
        self.shares, self.owners = self._sharing.shares, self._sharing.owners
        self.arrive, self.arrived, self.part = self._sharing.arrive, self._sharing.arrived, self._sharing.part

    def migrate(self) -> None:
        """As `Store.migrate`.

        Raises:
            AccessDenied: the role may not make the schema; names the GRANT.
            OperatorError: a newer cdcflow made the tables.
        """
        if self._file is not None:
            self._make_file(self._file)
        with self._transaction(writes=True) as connection:
            migrate(connection, self.address)

    def acquire(self, pipeline: str, owner: Mapping[str, str]) -> int:
        """As `Store.acquire`. Waits some seconds for an instance that is just ending.

        Whoever holds the lease already gets a new epoch, which shuts out what is left of its own writers.
        """
        if self._lease is not None and pipeline != self._pipeline:
            self.release()
        if self._lease is not None:
            self._lease.lost()  # a session that broke is given up here, so that taking it opens another
        lease = self._lease or self._new_lease(pipeline)
        if not lease.take(leases.PATIENCE_SECONDS):
            lease.give()
            raise self._taken(pipeline)
        try:
            self._epoch = self._next_epoch(pipeline, owner)
        except BaseException:
            lease.give()
            raise
        self._lease, self._pipeline = lease, pipeline
        return self._epoch

    def held(self) -> bool:
        """As `Store.held`. A lease whose session broke is taken again if nobody was there in between.

        Raises:
            TargetUnavailable: the server cannot be asked now.
        """
        lease = self._lease
        if lease is None:
            return False
        if not lease.lost():
            return True
        if not lease.take(leases.PATIENCE_SECONDS):
            self.release()
            return False
        found = self.checkpoint(self._pipeline)
        if found is None or found.epoch != self._epoch:
            self.release()
            return False
        return True

    def checkpoint(self, pipeline: str) -> Checkpoint | None:
        """As `Store.checkpoint`. Its position is '' from the first lease until one was saved."""
        rows = self._read(sa.select(self._checkpoints).where(self._checkpoints.c.pipeline == pipeline))
        return checkpoint_of(rows[0]) if rows else None

    def remembered(self, pipeline: str) -> Remembered | None:
        """Return all that the pipeline's own row says, None when there is none."""
        rows = self._read(sa.select(self._checkpoints).where(self._checkpoints.c.pipeline == pipeline))
        if not rows:
            return None
        row = rows[0]
        return Remembered(
            checkpoint_of(row),
            dict(row.owner),
            aware(row.leased_at),
            aware(row.updated_at),
            self._running(pipeline),
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """As `Store.save`."""
        with self._fenced(checkpoint.pipeline, checkpoint.epoch) as connection:
            connection.execute(
                self._checkpoints.update()
                .where(self._checkpoints.c.pipeline == checkpoint.pipeline)
                .values(position=checkpoint.position, source=checkpoint.source, updated_at=_now())
            )

    def tables(self, pipeline: str) -> dict[int, TableRecord]:
        """As `Store.tables`."""
        found = self._read(
            sa.select(self._tables).where(self._tables.c.pipeline == pipeline).order_by(self._tables.c.table_id)
        )
        return {row.table_id: record_of(row) for row in found}

    def put(self, pipeline: str, epoch: int, records: Sequence[TableRecord]) -> None:
        """As `Store.put`."""
        now = _now()
        # In one order everywhere, so that two threads that put the same tables cannot deadlock.
        rows = [row_of(pipeline, record, now) for record in sorted(records, key=lambda record: record.table_id)]
        with self._fenced(pipeline, epoch) as connection:
            if rows:
                connection.execute(self._upsert(), rows)
            # What a table was like before a copy that starts over, nobody will ask.
            anew = [record.table_id for record in records if record.state is TableState.PENDING]
            if anew:
                old = (self._schemas.c.pipeline == pipeline, self._schemas.c.table_id.in_(anew))
                connection.execute(self._schemas.delete().where(*old))

    def ask(self, pipeline: str, table_ids: Sequence[int]) -> None:
        """As `Store.ask`."""
        with self._transaction(writes=True) as connection:
            chosen = (self._tables.c.pipeline == pipeline, self._tables.c.table_id.in_(list(table_ids)))
            connection.execute(self._tables.update().where(*chosen).values(asked=True, updated_at=_now()))

    def asked(self, pipeline: str) -> list[int]:
        """As `Store.asked`."""
        wanted = sa.select(self._tables.c.table_id).where(self._tables.c.pipeline == pipeline, self._tables.c.asked)
        return [row.table_id for row in self._read(wanted.order_by(self._tables.c.table_id))]

    def drop(self, pipeline: str, epoch: int, table_ids: Sequence[int]) -> None:
        """As `Store.drop`."""
        ids = list(table_ids)
        with self._fenced(pipeline, epoch) as connection:
            for table in (self._chunks, self._schemas, self._tables):
                connection.execute(table.delete().where(table.c.pipeline == pipeline, table.c.table_id.in_(ids)))

    def chunks(self, pipeline: str, table_id: int) -> list[DoneChunk]:
        """As `Store.chunks`, by number."""
        wanted = sa.select(self._chunks).where(self._chunks.c.pipeline == pipeline, self._chunks.c.table_id == table_id)
        return [
            DoneChunk(
                Chunk(row.table_id, row.number, row.low, row.high, row.changed_since),
                row.position,
                row.token,
                row.rows,
                row.bytes,
            )
            for row in self._read(wanted.order_by(self._chunks.c.number))
        ]

    def record(self, pipeline: str, epoch: int, done: DoneChunk) -> None:
        """As `Store.record`."""
        chunks, chunk = self._chunks, done.chunk
        row = {name: getattr(chunk, name) for name in ("table_id", "number", "low", "high", "changed_since")}
        row |= {"pipeline": pipeline, "position": done.position, "token": done.token}
        row |= {"rows": done.rows, "bytes": done.bytes}
        here = (chunks.c.pipeline == pipeline, chunks.c.table_id == chunk.table_id, chunks.c.number == chunk.number)
        with self._fenced(pipeline, epoch) as connection:
            connection.execute(chunks.delete().where(*here))
            connection.execute(chunks.insert(), [row])

    def forget_chunks(self, pipeline: str, epoch: int, table_id: int) -> None:
        """As `Store.forget_chunks`."""
        with self._fenced(pipeline, epoch) as connection:
            connection.execute(
                self._chunks.delete().where(self._chunks.c.pipeline == pipeline, self._chunks.c.table_id == table_id)
            )

    def remember(self, pipeline: str, epoch: int, table_id: int, position: str, shape: str) -> None:
        """As `Store.remember`. The oldest go when there are more than `_MOST_SHAPES`."""
        schemas = self._schemas
        here = (schemas.c.pipeline == pipeline, schemas.c.table_id == table_id)
        with self._fenced(pipeline, epoch) as connection:
            # Said again, it comes last: an attempt that was killed may have remembered later shapes before.
            connection.execute(schemas.delete().where(*here, schemas.c.position == position))
            known = sorted(row.version for row in connection.execute(sa.select(schemas.c.version).where(*here)))
            connection.execute(
                schemas.insert().values(
                    pipeline=pipeline,
                    table_id=table_id,
                    version=known[-1] + 1 if known else 1,
                    position=position,
                    shape=shape,
                )
            )
            if len(known) >= _MOST_SHAPES:
                connection.execute(schemas.delete().where(*here, schemas.c.version <= known[-_MOST_SHAPES]))

    def history(self, pipeline: str) -> dict[int, list[tuple[str, str]]]:
        """As `Store.history`."""
        schemas = self._schemas
        wanted = sa.select(schemas).where(schemas.c.pipeline == pipeline)
        found: dict[int, list[tuple[str, str]]] = {}
        for row in self._read(wanted.order_by(schemas.c.table_id, schemas.c.version)):
            found.setdefault(row.table_id, []).append((row.position, row.shape))
        return found

    def forget(self, pipeline: str) -> None:
        """As `Store.forget`. Does nothing where there is no state. The caller holds the lease, or nobody does."""
        try:
            with self._transaction(writes=True) as connection:
                kept = (self._checkpoints, self._tables, self._chunks, self._schemas, self._dead_letters)
                for table in (*kept, *self._of_shares):
                    connection.execute(table.delete().where(table.c.pipeline == pipeline))
                if self._dialect == "mysql":
                    self._forget_partial(connection, pipeline)
        except NoStateError:
            return

    def _forget_partial(self, connection: sa.Connection, pipeline: str) -> None:
        """A MySQL target keeps one more record beside ours, from its first batch on (`targets.mysql.bookkeeping`)."""
        named = {"schema_name": SCHEMA, "name": "partial_batches"}
        wanted = "SELECT 1 FROM information_schema.tables WHERE table_schema = :schema_name AND table_name = :name"
        if connection.scalar(sa.text(wanted), named):
            gone = sa.text(f"DELETE FROM {SCHEMA}.partial_batches WHERE pipeline = :pipeline")
            connection.execute(gone, {"pipeline": pipeline})

    @contextmanager
    def alone(self, pipeline: str) -> Iterator[None]:
        """As `SharedStore.alone`.

        Raises:
            TargetUnavailable: another instance is in it for too long.
        """
        lock = self._new_lease(f"{pipeline}/shapes")
        if not lock.take(_ALONE_SECONDS):
            lock.give()
            raise TargetUnavailable(
                "another instance of the pipeline makes or alters a table", at=self.address, why="it takes long"
            )
        try:
            yield
        finally:
            lock.give()

    def release(self) -> None:
        """As `Store.release`."""
        if self._lease is not None:
            self._lease.give()
            self._lease = None

    def close(self) -> None:
        """As `Store.close`. The lease goes too."""
        self.release()
        self._engine.dispose()

    def _make_file(self, path: Path) -> None:
        try:
            sqlite_files.connect(path, make=True).close()
        except sqlite3.Error as error:
            raise translate_sqlite(error, at=self.address) from None

    def _next_epoch(self, pipeline: str, owner: Mapping[str, str]) -> int:
        here = self._checkpoints.c.pipeline == pipeline
        with self._transaction(writes=True) as connection:
            if self._dialect == "postgresql":
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_PREDECESSOR_SECONDS}s'"))
            # FOR UPDATE, and not just the UPDATE, waits for `cdcflow.fence` in a predecessor's transaction too.
            found = connection.scalar(sa.select(self._checkpoints.c.epoch).where(here).with_for_update())
            values = {"owner": dict(owner), "leased_at": _now()}
            if found is None:
                connection.execute(
                    self._checkpoints.insert().values(
                        pipeline=pipeline, position="", source={}, epoch=1, updated_at=_now(), **values
                    )
                )
                return 1
            connection.execute(self._checkpoints.update().where(here).values(epoch=found + 1, **values))
            return int(found) + 1

    def _taken(self, pipeline: str) -> Fenced:
        found = self.remembered(pipeline)
        who = ""
        if found is not None:
            named = ", ".join(f"{name} {value}" for name, value in found.owner.items())
            who = f"held by {named or 'an unnamed instance'} since {found.leased_at:%Y-%m-%d %H:%M:%S} UTC"
        return Fenced(
            f'another instance of pipeline "{pipeline}" is running',
            at=self.address,
            why=who,
            do="stop it first, or give this one another `pipeline:` name",
        )

    def _running(self, pipeline: str) -> bool:
        return self._new_lease(pipeline).taken(self._read)

    def _upsert(self) -> sa.Insert:
        kept = ("pipeline", "table_id")
        changed = [column.name for column in self._tables.columns if column.name not in (*kept, "asked")]
        statement: Any
        if self._dialect == "mysql":
            statement = mysql.insert(self._tables)
            new = statement.inserted
        else:
            statement = (postgresql if self._dialect == "postgresql" else sqlite).insert(self._tables)
            new = statement.excluded
        values: dict[str, Any] = {name: new[name] for name in changed}
        # A wish stays until the table waits for its copy, whatever else is written of it.
        # In the text: PyMySQL takes no parameters behind VALUES for several rows at once.
        pending: sa.ColumnElement[str] = sa.literal_column(f"'{TableState.PENDING.value}'")
        values["asked"] = sa.and_(self._tables.c.asked, new.state != pending)
        if self._dialect == "mysql":
            return cast("sa.Insert", statement.on_duplicate_key_update(values))
        return cast("sa.Insert", statement.on_conflict_do_update(index_elements=kept, set_=values))

    def _read(self, wanted: sa.Executable) -> Sequence[sa.Row[Any]]:
        try:
            with self._transaction() as connection:
                return connection.execute(wanted).fetchall()
        except NoStateError:
            return []

    @contextmanager
    def _fenced(self, pipeline: str, epoch: int) -> Iterator[sa.Connection]:
        """A transaction that no new lease can overtake."""
        # PostgreSQL: beside the applier's own write of the row. MySQL has no lock as weak as that.
        shared = self._dialect == "postgresql"
        wanted = sa.select(self._checkpoints.c.epoch).where(self._checkpoints.c.pipeline == pipeline)
        with self._transaction(writes=True) as connection:
            found = connection.scalar(wanted.with_for_update(read=shared, key_share=shared))
            if found != epoch:
                why = "its checkpoint was removed" if found is None else f"epoch {found} follows our {epoch}"
                raise fenced(self.address, why)
            yield connection

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Iterator[sa.Connection]:
        """A transaction whose errors are ours. A reader sees a state that was never made as `NoStateError`."""
        engine = self._engine.execution_options(writes=True) if writes else self._engine
        our_turn = sqlite_files.turn(self._file) if writes and self._file is not None else nullcontext()
        try:
            with our_turn, engine.begin() as connection, limited(connection):
                yield connection
        except sa.exc.DBAPIError as error:
            raise ours(error, self.address) from None


def _now() -> datetime:
    return datetime.now(UTC)
