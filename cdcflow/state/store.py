"""The store: SQLAlchemy Core over the state's tables, in the target or in a SQLite file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from cdcflow.engines.postgres.connect import SCHEMES, safe_url
from cdcflow.engines.postgres.errors import fenced
from cdcflow.errors import ConfigError, Fenced
from cdcflow.model.copy import Chunk, DoneChunk, TableRecord, TableState
from cdcflow.model.position import Checkpoint
from cdcflow.model.schema import TableName
from cdcflow.state import lease as leases
from cdcflow.state.engines import NoStateError, limited, ours, postgres_engine, sqlite_engine
from cdcflow.state.migrate import migrate
from cdcflow.state.tables import checkpoints, chunks, dead_letters, schemas, tables

# A dead predecessor's last transaction may still be committing when its lease is free already.
_PREDECESSOR_SECONDS: Final = 15


@dataclass(frozen=True, slots=True)
class Remembered:
    """One pipeline's row as `cdcflow status` shows it. `running`: some session holds the lease now."""

    checkpoint: Checkpoint
    owner: dict[str, str]
    leased_at: datetime
    updated_at: datetime
    running: bool


def open_store(url: str) -> SqlStore:
    """Return the store behind a `postgresql://` or `sqlite:///` URL. Connects when first used.

    Raises:
        ConfigError: another scheme.
    """
    scheme, _, rest = url.partition("://")
    if scheme in SCHEMES:
        return SqlStore(postgres_engine(url), safe_url(url), url)
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return SqlStore(sqlite_engine(Path(rest[1:])), url, url)
    raise ConfigError(
        "state cannot be kept behind this URL",
        at=safe_url(url),
        do="use postgresql://user:password@host:5432/database or sqlite:///path/to/file.db",
    )


class SqlStore:
    """Implements `model.ports.Store`. Methods may be called from several threads, the lease's from one."""

    def __init__(self, engine: sa.Engine, address: str, url: str) -> None:
        self.address = address
        self._engine, self._url = engine, url
        self._lease: leases.Lease | None = None
        self._pipeline = ""
        self._epoch = 0

    def migrate(self) -> None:
        """As `Store.migrate`.

        Raises:
            AccessDenied: the role may not make the schema; names the GRANT.
            OperatorError: a newer cdcflow made the tables.
        """
        with self._transaction() as connection:
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
        rows = self._read(sa.select(checkpoints).where(checkpoints.c.pipeline == pipeline))
        return _checkpoint(rows[0]) if rows else None

    def remembered(self, pipeline: str) -> Remembered | None:
        """Return all that the pipeline's own row says, None when there is none."""
        rows = self._read(sa.select(checkpoints).where(checkpoints.c.pipeline == pipeline))
        if not rows:
            return None
        row = rows[0]
        return Remembered(
            _checkpoint(row),
            dict(row.owner),
            _aware(row.leased_at),
            _aware(row.updated_at),
            self._running(pipeline),
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """As `Store.save`."""
        with self._fenced(checkpoint.pipeline, checkpoint.epoch) as connection:
            connection.execute(
                checkpoints.update()
                .where(checkpoints.c.pipeline == checkpoint.pipeline)
                .values(position=checkpoint.position, source=checkpoint.source, updated_at=_now())
            )

    def tables(self, pipeline: str) -> dict[int, TableRecord]:
        """As `Store.tables`."""
        found = self._read(sa.select(tables).where(tables.c.pipeline == pipeline).order_by(tables.c.table_id))
        return {row.table_id: _record(row) for row in found}

    def put(self, pipeline: str, epoch: int, records: Sequence[TableRecord]) -> None:
        """As `Store.put`."""
        now = _now()
        # In one order everywhere, so that two threads that put the same tables cannot deadlock.
        rows = [_columns(pipeline, record, now) for record in sorted(records, key=lambda record: record.table_id)]
        with self._fenced(pipeline, epoch) as connection:
            if rows:
                connection.execute(self._upsert(), rows)

    def ask(self, pipeline: str, table_ids: Sequence[int]) -> None:
        """As `Store.ask`."""
        with self._transaction() as connection:
            chosen = (tables.c.pipeline == pipeline, tables.c.table_id.in_(list(table_ids)))
            connection.execute(tables.update().where(*chosen).values(asked=True, updated_at=_now()))

    def asked(self, pipeline: str) -> list[int]:
        """As `Store.asked`."""
        wanted = sa.select(tables.c.table_id).where(tables.c.pipeline == pipeline, tables.c.asked)
        return [row.table_id for row in self._read(wanted.order_by(tables.c.table_id))]

    def drop(self, pipeline: str, epoch: int, table_ids: Sequence[int]) -> None:
        """As `Store.drop`."""
        ids = list(table_ids)
        with self._fenced(pipeline, epoch) as connection:
            for table in (chunks, schemas, tables):
                connection.execute(table.delete().where(table.c.pipeline == pipeline, table.c.table_id.in_(ids)))

    def chunks(self, pipeline: str, table_id: int) -> list[DoneChunk]:
        """As `Store.chunks`, by number."""
        wanted = sa.select(chunks).where(chunks.c.pipeline == pipeline, chunks.c.table_id == table_id)
        return [
            DoneChunk(
                Chunk(row.table_id, row.number, row.low, row.high, row.changed_since),
                row.position,
                row.token,
                row.rows,
                row.bytes,
            )
            for row in self._read(wanted.order_by(chunks.c.number))
        ]

    def forget_chunks(self, pipeline: str, epoch: int, table_id: int) -> None:
        """As `Store.forget_chunks`."""
        with self._fenced(pipeline, epoch) as connection:
            connection.execute(chunks.delete().where(chunks.c.pipeline == pipeline, chunks.c.table_id == table_id))

    def forget(self, pipeline: str) -> None:
        """As `Store.forget`. Does nothing where there is no state. The caller holds the lease, or nobody does."""
        try:
            with self._transaction() as connection:
                for table in (checkpoints, tables, chunks, schemas, dead_letters):
                    connection.execute(table.delete().where(table.c.pipeline == pipeline))
        except NoStateError:
            return

    def release(self) -> None:
        """As `Store.release`."""
        if self._lease is not None:
            self._lease.give()
            self._lease = None

    def close(self) -> None:
        """As `Store.close`. The lease goes too."""
        self.release()
        self._engine.dispose()

    def _new_lease(self, pipeline: str) -> leases.Lease:
        if self._engine.dialect.name == "postgresql":
            return leases.PostgresLease(self._url, pipeline)
        return leases.FileLease(Path(f"{self._engine.url.database}.{pipeline}.lock"))

    def _next_epoch(self, pipeline: str, owner: Mapping[str, str]) -> int:
        here = checkpoints.c.pipeline == pipeline
        with self._transaction() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_PREDECESSOR_SECONDS}s'"))
            # FOR UPDATE, and not just the UPDATE, waits for `cdcflow.fence` in a predecessor's transaction too.
            found = connection.scalar(sa.select(checkpoints.c.epoch).where(here).with_for_update())
            values = {"owner": dict(owner), "leased_at": _now()}
            if found is None:
                connection.execute(
                    checkpoints.insert().values(
                        pipeline=pipeline, position="", source={}, epoch=1, updated_at=_now(), **values
                    )
                )
                return 1
            connection.execute(checkpoints.update().where(here).values(epoch=found + 1, **values))
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
        if self._engine.dialect.name != "postgresql":
            probe = self._new_lease(pipeline)
            free = probe.take(0.0)
            probe.give()
            return not free
        key = leases.lock_key(pipeline)
        wanted = sa.text(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
            " AND classid = :high AND objid = :low"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return bool(self._read(wanted.bindparams(high=(key >> 32) & 0xFFFFFFFF, low=key & 0xFFFFFFFF)))

    def _upsert(self) -> sa.Insert:
        kept = ("pipeline", "table_id")
        changed = [column.name for column in tables.columns if column.name not in (*kept, "asked")]
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        statement = insert(tables)
        new: dict[str, Any] = {name: statement.excluded[name] for name in changed}
        # A wish stays until the table waits for its copy, whatever else is written of it.
        new["asked"] = sa.and_(tables.c.asked, statement.excluded.state != TableState.PENDING.value)
        return statement.on_conflict_do_update(index_elements=kept, set_=new)

    def _read(self, wanted: sa.Executable) -> Sequence[sa.Row[Any]]:
        try:
            with self._transaction() as connection:
                return connection.execute(wanted).fetchall()
        except NoStateError:
            return []

    @contextmanager
    def _fenced(self, pipeline: str, epoch: int) -> Iterator[sa.Connection]:
        """A transaction that no new lease can overtake."""
        with self._transaction() as connection:
            found = connection.scalar(
                sa.select(checkpoints.c.epoch)
                .where(checkpoints.c.pipeline == pipeline)
                .with_for_update(read=True, key_share=True)
            )
            if found != epoch:
                why = "its checkpoint was removed" if found is None else f"epoch {found} follows our {epoch}"
                raise fenced(self.address, why)
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """A transaction whose errors are ours. A reader sees a state that was never made as `NoStateError`."""
        try:
            with self._engine.begin() as connection, limited(connection):
                yield connection
        except sa.exc.DBAPIError as error:
            raise ours(error, self.address) from None


def _now() -> datetime:
    return datetime.now(UTC)


def _aware(moment: datetime) -> datetime:
    """SQLite gives back what it was given without its time zone, which was UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _columns(pipeline: str, record: TableRecord, now: datetime) -> dict[str, object]:
    return {
        "pipeline": pipeline,
        "table_id": record.table_id,
        "source_schema": record.source.schema,
        "source_table": record.source.table,
        "target_schema": record.target.schema,
        "target_table": record.target.table,
        "state": record.state.value,
        "copied_from": record.copied_from,
        "copied_upto": record.copied_upto,
        "stamp": record.stamp,
        "shape": record.shape,
        "rows": record.rows,
        "reason": record.reason,
        "hint": record.hint,
        "asked": False,
        "updated_at": now,
    }


def _checkpoint(row: sa.Row[Any]) -> Checkpoint:
    return Checkpoint(row.pipeline, row.position, dict(row.source), row.epoch)


def _record(row: sa.Row[Any]) -> TableRecord:
    return TableRecord(
        row.table_id,
        TableName(row.source_schema, row.source_table),
        TableName(row.target_schema, row.target_table),
        TableState(row.state),
        row.copied_from,
        row.copied_upto,
        row.stamp,
        row.shape,
        row.rows,
        row.reason,
        row.hint,
    )
