"""A pipeline as a person has it: a configuration file, and what can be done with it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from cdcflow import config as configs
from cdcflow import registry
from cdcflow.config import Config
from cdcflow.errors import AccessDenied, ConfigError, Fenced, OperatorError, Unavailable, UsageError
from cdcflow.flow import bootstrap
from cdcflow.flow.parts import Parts, Settings
from cdcflow.flow.pipeline import Again, Does, Run
from cdcflow.flow.progress import Fanout, Observer, Report
from cdcflow.flow.sharing import SharedRun
from cdcflow.model.check import Finding, Level
from cdcflow.model.copy import TableRecord, TableState
from cdcflow.model.ports import Source, Store, Target
from cdcflow.model.position import Shares
from cdcflow.model.sharing import SharedSource, SharedStore, is_shared
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)


class Pipeline:
    """One pipeline.

        with Pipeline.from_file("cdcflow.yaml") as pipeline:
            pipeline.run(until_caught_up=True)

    Nothing is connected to before a method is called. The methods may be called one after the other, not at once.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.pipeline
        self.source_address = config.source.address
        self.target_address = config.target.address
        self.http_listen = config.http.listen if config.http is not None else None

    @classmethod
    def from_file(cls, path: str | Path = "cdcflow.yaml") -> Pipeline:
        """Read a configuration file and its rules.

        Raises:
            ConfigError: all that is wrong in it, with places.
        """
        return cls(configs.load(Path(path)))

    def run(
        self,
        *,
        until_caught_up: bool = False,
        stop: threading.Event | None = None,
        progress: Observer | None = None,
    ) -> Report:
        """Copy what is not copied yet, then follow the log.

        until_caught_up: end once everything committed at the source before the call is durable in the target.
        stop: when set, the open batch is finished and the call returns.
        progress: is told what happens, from several threads.

        Raises:
            Unavailable: a server was away for longer than we wait.
            CdcflowError: a person has to act; `error.report()` says what to do.
        """
        return self._run(Does.COPY | Does.FOLLOW, until_caught_up=until_caught_up, stop=stop, progress=progress)

    def snapshot(self, *, stop: threading.Event | None = None, progress: Observer | None = None) -> Report:
        """Copy what is not copied yet, and end. `run` or `stream` goes on from exactly there.

        Raises UsageError for a bus: its copy is in its messages."""
        return self._run(Does.COPY, stop=stop, progress=progress)

    def stream(
        self,
        *,
        until_caught_up: bool = False,
        stop: threading.Event | None = None,
        progress: Observer | None = None,
    ) -> Report:
        """Follow the log and copy nothing. Raises UsageError where a table was not copied yet."""
        return self._run(Does.FOLLOW, until_caught_up=until_caught_up, stop=stop, progress=progress)

    def resync(
        self,
        tables: Sequence[str] = (),
        *,
        every: bool = False,
        stop: threading.Event | None = None,
        progress: Observer | None = None,
    ) -> list[str]:
        """Empty tables in the target, copy them again and follow until they are caught up.

        With `every`, all of them, and slot and publication are made anew: the way out of a lost position. Where
        an instance of the pipeline is running, it is asked to copy the tables again.

        From a bus, the publisher is asked for a new copy, which comes with its stream.

        Returns a line for each thing done.

        Raises:
            OperatorError: a table could not be copied; the others are.
            UsageError: the bus cannot pass the wish on.
            Fenced: an instance is running, and `every` was asked for.
        """
        shared = self._shared()
        if shared is not None:
            with closing(shared):
                return shared.request([str(table.name) for table in shared.tables()] if every else list(tables))
        if self._would_shut_out():
            if every:
                raise self._runs()
            return self._ask(tables)
        try:
            report = self._run(
                Does.COPY | Does.FOLLOW,
                until_caught_up=True,
                stop=stop,
                progress=progress,
                again=Again(tuple(tables), every),
            )
        except Fenced:
            if every:
                raise
            return self._ask(tables)
        chosen = sorted(report.tables) if every else tables
        failed = [name for name in chosen if name in report.failed]
        if failed:
            raise OperatorError(
                f"{', '.join(failed)} could not be copied again",
                at=f"target {self.target_address}",
                why="\n".join(report.failed[name][0] for name in failed),
                do="\n".join(report.failed[name][1] for name in failed),
            )
        return [f"{name}: {report.tables.get(name, 'unknown')}" for name in chosen]

    def check(self) -> list[Finding]:
        """Look at both servers and every table of the rules; change nothing."""
        source, target = registry.open_source(self.config), registry.open_target(self.config)
        try:
            tables = source.tables()
            if is_shared(source):  # its tables are known when their messages are read
                routes = list(self.config.rules.replan(tables).routes)
                looked = [*source.check(routes, ()), *target.check(routes)]
                return [*looked, *self._check_state(source)]
            plan = self.config.rules.plan(tables)
            bootstrap.itself(source, target, plan.routes)
            refused = [route.source for route in plan.routes if source.refusal(route.source, route) is not None]
            routes = [route for route in plan.routes if route.source not in refused]
            looked = [*plan.findings, *source.check(routes, refused), *target.check(plan.routes)]
            if self.config.every_table:
                words = f"none are given: every table of the source is published ({len(plan.routes)} now)"
                looked.insert(0, Finding(Level.NOTE, "rules", self.config.path.name, words))
            return [*looked, *self._check_state(source)]
        finally:
            source.close()
            target.close()

    def _check_state(self, source: Source | SharedSource) -> list[Finding]:
        """Look at what is remembered of the pipeline: whether it can go on from there."""
        store = registry.open_store(self.config)
        try:
            try:
                checkpoint, records = store.checkpoint(self.name), store.tables(self.name).values()
            except AccessDenied as error:
                words = f"the state cannot be read: {error.what}"
                return [Finding(Level.BLOCKER, "target.state", self.target_address, words, error.do)]
            found = [
                Finding(Level.WARNING, "table.failed", str(record.source), f"failed: {record.reason}", record.hint)
                for record in records
                if record.state is TableState.FAILED
            ]
            if checkpoint is not None and is_shared(source):
                found += cast("SharedSource", source).lost(cast("SharedStore", store).shares(self.name))
            elif checkpoint is not None and checkpoint.position:
                try:
                    cast("Source", source).resume(checkpoint)
                    found += cast("Source", source).outlook(checkpoint)
                except OperatorError as error:
                    found.append(Finding(Level.BLOCKER, "source.position", "position", error.what, error.do))
            return found
        finally:
            store.close()

    def status(self) -> dict[str, Any]:
        """Return where the pipeline and its tables are, from what is recorded; the source is asked for its end."""
        store = registry.open_store(self.config)
        source = registry.open_source(self.config)
        try:
            return self._status(source, store)
        finally:
            source.close()
            store.close()

    def teardown(self) -> list[str]:
        """Drop slot, publication and state; return what was dropped. The rows stay.

        Raises:
            Fenced: an instance of the pipeline is running.
        """
        if self._would_shut_out():
            raise self._runs()
        store = registry.open_store(self.config)
        source = registry.open_source(self.config)
        try:
            if is_shared(source):
                return self._leave(store, cast("SharedSource", source))
            known = store.checkpoint(self.name) is not None
            if known:
                store.acquire(self.name, _owner())
            dropped = source.teardown()
            if known:
                store.forget(self.name)
                dropped.append(f'state of pipeline "{self.name}" in {self.target_address}')
            return dropped
        finally:
            source.close()
            store.close()

    def _leave(self, store: Store, source: SharedSource) -> list[str]:
        """Forget a pipeline whose instances share a source."""
        dropped = source.teardown()
        if store.checkpoint(self.name) is not None:
            store.forget(self.name)
            dropped.append(f'state of pipeline "{self.name}" in {self.target_address}')
        return dropped

    def close(self) -> None:
        """Nothing stays open between calls; here for `with`."""

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- putting it together

    def _run(
        self,
        does: Does,
        *,
        until_caught_up: bool = False,
        stop: threading.Event | None = None,
        progress: Observer | None = None,
        again: Again | None = None,
    ) -> Report:
        config = self.config
        if config.every_table:
            log.warning("no rules are given: every table of the source is published", config=config.path.name)
        source = registry.open_source(config)
        if is_shared(source) and Does.FOLLOW not in does:
            raise UsageError(
                "a bus has nothing that could be copied by itself",
                at=f"source {source.address}",
                why="its messages are copy and stream in one",
                do="cdcflow run",
            )
        settings = Settings.within(
            config.memory,
            pipeline=config.pipeline,
            max_rows=config.batch.max_rows,
            max_bytes=config.batch.max_bytes,
            max_delay=config.batch.max_delay,
            workers=getattr(source, "workers", 1),
            owner=_owner(),
        )
        target: Target | None = None
        store: Store | None = None
        try:
            target, store = registry.open_target(config), registry.open_store(config)
            parts = Parts(
                settings, source, target, store, config.rules, progress or Fanout(), stop or threading.Event()
            )
            if is_shared(source):
                self._require_sharing(target, store)
                return SharedRun(parts, until_caught_up=until_caught_up).run()
            return Run(parts, does, until_caught_up=until_caught_up, again=again).run()
        finally:
            for part in (source, target, store):
                if part is not None:
                    part.close()

    def _require_sharing(self, target: Target, store: Store) -> None:
        if not target.capabilities.transactional or not hasattr(store, "claim"):
            raise ConfigError(
                "from a bus, rows can go into a database only",
                at=f"target {self.target_address}",
                why="what each instance has read is recorded in the transaction that holds its rows",
                do="give a target like postgresql://, or copy topics with the broker's own mirroring",
            )

    def _shared(self) -> SharedSource | None:
        source = registry.open_source(self.config)
        if is_shared(source):
            return cast("SharedSource", source)
        source.close()
        return None

    def _would_shut_out(self) -> bool:
        """Whether an instance is running that a lease would not be refused for, but end."""
        store = registry.open_store(self.config)
        try:
            if not getattr(store, "takes_over", False):
                return False
            remembered = getattr(store, "remembered")(self.name)  # noqa: B009 - such a store has it
            return remembered is not None and bool(remembered.running)
        finally:
            store.close()

    def _runs(self) -> Fenced:
        return Fenced(
            f'another instance of pipeline "{self.name}" is running',
            at=self.target_address,
            why="it would be shut out in the middle of its work",
            do="stop it first: `cdcflow status` says who it is",
        )

    def _ask(self, tables: Sequence[str]) -> list[str]:
        """Leave a note for the running instance."""
        store = registry.open_store(self.config)
        try:
            chosen = bootstrap.choose(store.tables(self.name).values(), tables)
            store.ask(self.name, [record.table_id for record in chosen])
        finally:
            store.close()
        return [f"{name}: the running instance was asked to copy it again" for name in tables]

    def _status(self, source: Source, store: Store) -> dict[str, Any]:
        remembered = getattr(store, "remembered", lambda _: None)(self.name)
        checkpoint = remembered.checkpoint if remembered is not None else store.checkpoint(self.name)
        position = checkpoint.position if checkpoint is not None else ""
        found: dict[str, Any] = {
            "pipeline": self.name,
            "source": self.source_address,
            "target": self.target_address,
            "position": position,
            "lag_bytes": None,
            "retained_bytes": None,
            "running": remembered.running if remembered is not None else None,
            "updated_at": remembered.updated_at.isoformat() if remembered is not None else None,
            "tables": [
                {
                    "source": str(record.source),
                    "target": str(record.target),
                    "state": record.state.value,
                    "rows": _rows(store, self.name, record),
                    "reason": record.reason,
                    "hint": record.hint,
                }
                for record in sorted(store.tables(self.name).values(), key=lambda record: record.source)
            ],
        }
        if is_shared(source):
            return {**found, **self._shares(store)}
        try:
            end = source.end()
            if position:
                behind = end.distance(source.parse(position))
                found["lag_bytes"] = None if behind is None else max(0, behind)
            found["retained_bytes"] = source.retained()
        except Unavailable as error:
            found["source_error"] = error.what
        return found

    def _shares(self, store: Store) -> dict[str, Any]:
        """Return who holds which share, how far it is, and how much waits behind it, where the bus can be asked."""
        source = cast("SharedSource", registry.open_source(self.config))
        owners = getattr(store, "owners", None)
        shares = owners(self.name) if owners is not None else []
        try:
            end = source.end()
        except Unavailable as error:
            return {"shares": shares, "source_error": error.what}
        finally:
            source.close()
        ends = end.shares if isinstance(end, Shares) else {}
        for share in shares:
            share["updated_at"] = str(share["updated_at"])
            if share["share"] in ends:
                share["waiting"] = max(0, ends[share["share"]].place - share["place"])
        return {"shares": shares}


def _rows(store: Store, pipeline: str, record: TableRecord) -> int:
    """Return the rows of a table's copy: of a copy under way, those that are committed."""
    if record.state is not TableState.COPYING:
        return record.rows
    return sum(chunk.rows for chunk in store.chunks(pipeline, record.table_id))


def _owner() -> dict[str, str]:
    return {"host": socket.gethostname(), "process": str(os.getpid())}
