"""Changes as Python objects, one by one: for scripts and for a look at what a source sends. Nothing is applied."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from cdcflow import registry, rules
from cdcflow.errors import ConfigError
from cdcflow.model.change import ChangeBatch, Heartbeat, Meeting, Rows, Truncate
from cdcflow.model.context import Context
from cdcflow.model.frame import DELETE, INSERT, UNCHANGED, UPDATE, Cell, RowBatch
from cdcflow.model.ports import Follow, Source, Stream
from cdcflow.model.position import Share, Shares
from cdcflow.model.route import Mode, Route
from cdcflow.model.schema import Table
from cdcflow.model.sharing import SharedSource, is_shared

if TYPE_CHECKING:
    from cdcflow.config import Config

Op = Literal["insert", "update", "delete", "truncate"]

_OPS: Final[dict[int, Op]] = {INSERT: "insert", UPDATE: "update", DELETE: "delete"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Longest wait for the log between two looks at `stop`.
_WAIT_SECONDS: Final = 0.5

# A server drops a reader that says nothing for wal_sender_timeout, 60 s by default and seldom under 10 s.
_KEEP_ALIVE_SECONDS: Final = 2.0

_BUFFERS_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one row, or a TRUNCATE.

    table: `schema.table` at the source.
    before: the old row as far as the source logs it: the key's columns, with replica identity FULL all of them,
        None where it logs nothing.
    after: the new row; None for a delete. A column that is not in it was not changed and the source did not
        send it (a large value kept out of line): its name is in `unchanged`.
    position: the end of the change's transaction; '' inside one that is so large that it arrives in pieces.
    commit_time: when the transaction committed, by the source's clock; None where `position` is ''.
    """

    table: str
    op: Op
    key: Mapping[str, object] = field(default_factory=dict)
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    unchanged: tuple[str, ...] = ()
    position: str = ""
    commit_time: datetime | None = None


def read(
    url: str,
    tables: Sequence[str] | None = None,
    *,
    until_caught_up: bool = False,
    stop: threading.Event | None = None,
) -> Generator[Event, None, None]:
    """Yield the changes that are committed from now on, until the caller has enough.

    Makes a publication for the tables, and a slot that the server drops with the connection; both are gone
    when the iteration ends. A table whose UPDATEs could not be logged (no key) is read for inserts only.

    Args:
        url: the source, `postgresql://user:password@host/database`.
        tables: globs over `schema.table`; every table when not given.
        until_caught_up: end once everything that was committed before the call to `next` has been yielded.
        stop: ends the iteration when set.

    Raises:
        ConfigError: the URL's scheme is not supported, or a glob matches no table.
        SourceUnavailable, AccessDenied: the source cannot be reached or does not permit it.
    """
    wanted = rules.parse(json.dumps({"version": 1, "tables": [{"match": name} for name in tables or ["*"]]}), "tables")
    scheme = url.partition("://")[0]
    connector = registry.connector("source", scheme)
    if connector is None:
        known = ", ".join(f"{name}://" for name in registry.schemes("source"))
        raise ConfigError(f'cannot read from "{scheme}://"', at=registry.safe_url(url), do=f"use one of {known}")
    name = _own_name()
    context = Context(name, 4 * _BUFFERS_BYTES, 100_000, _BUFFERS_BYTES)
    source: Source = connector.open(connector.Config(url=url), context)
    with _closing(source):
        routes = [_readable(source, route) for route in wanted.plan(source.tables()).routes]
        source.include(routes)
        try:
            yield from _events(source, routes, wanted.route, until_caught_up=until_caught_up, stop=stop)
        finally:
            source.teardown()


def read_as(
    config: Config,
    tables: Sequence[str] = (),
    *,
    until_caught_up: bool = False,
    stop: threading.Event | None = None,
) -> Generator[Event, None, None]:
    """As `read`, for the tables and columns that a pipeline's rules keep.

    Where the pipeline's publication exists, it is used and nothing is made but the slot that ends with the
    connection; the pipeline's own slot is never touched. A bus is read as `SharedSource.onlooker` says, from its
    end on; with `until_caught_up` all that it holds.
    """
    source = registry.open_source(config)
    with _closing(source):
        if is_shared(source):
            yield from _of_bus(cast("SharedSource", source), config, tables, until_caught_up=until_caught_up, stop=stop)
            return
        if not source.prepared():
            options = config.source.options.model_copy(update={"slot": None, "publication": None})
            own = config.source.connector.open(options, replace(config.context, pipeline=_own_name()))
        else:
            own = None
        plan = config.rules.plan(source.tables())
        chosen = [route for route in plan.routes if not tables or _matches(route, tables)]
        if not chosen:
            raise ConfigError(
                f"no table of the rules matches {', '.join(tables)}", do="cdcflow status lists the tables by name"
            )
        if own is None:
            yield from _events(source, chosen, config.rules.route, until_caught_up=until_caught_up, stop=stop)
            return
        with _closing(own):
            own.include([_readable(own, route) for route in chosen])
            try:
                yield from _events(own, chosen, config.rules.route, until_caught_up=until_caught_up, stop=stop)
            finally:
                own.teardown()


class _Onlooker:
    """Claims nothing: reads without a record of how far."""

    def take(self, names: Sequence[str]) -> Mapping[str, Share]:
        return {name: Share(0, 0) for name in names}

    def give(self, names: Sequence[str]) -> None: ...

    def lost(self, names: Sequence[str]) -> None: ...

    def recorded(self) -> Mapping[str, Share]:
        return {}

    def begin(self, places: Mapping[str, int]) -> None: ...

    def identify(self, shares: Mapping[str, Share]) -> None: ...


def _of_bus(
    bus: SharedSource, config: Config, tables: Sequence[str], *, until_caught_up: bool, stop: threading.Event | None
) -> Generator[Event, None, None]:
    source = bus.onlooker(_own_name(), from_start=until_caught_up)

    def router(table: Table) -> Route | None:
        route = config.rules.route(table)
        return route if route is None or not tables or _matches(route, tables) else None

    with ExitStack() as stack:
        stack.callback(source.close)
        stack.callback(source.teardown)  # the group
        stream = stack.enter_context(closing(source.join(_Onlooker(), router, {})))
        until = source.end() if until_caught_up else None
        decoders: dict[int, _Decoder] = {}
        while stop is None or not stop.is_set():
            found = stream.read(_WAIT_SECONDS)
            if isinstance(found, ChangeBatch):
                yield from _of_batch(found, decoders)
                for step in found.steps:
                    if isinstance(step, Meeting):
                        if step.then is not None:
                            yield from _of_batch(replace(found, steps=[step.then]), decoders)
                        stream.resume(step.share, step.place)
            if found is not None and until is not None:
                assert isinstance(found.end, Shares)
                if stream.reached(until, found.end.shares):
                    return


def _own_name() -> str:
    """Name a publication so that it is nobody else's and tells who made it."""
    return f"read_{os.getpid()}_{secrets.token_hex(3)}"


def _readable(source: Source, route: Route) -> Route:
    """Return the route, for inserts only where more would make the application's own UPDATEs fail."""
    return replace(route, mode=Mode.APPEND) if source.refusal(route.source, route) is not None else route


def _matches(route: Route, tables: Sequence[str]) -> bool:
    from cdcflow.rules.name import Pattern

    try:
        return any(Pattern.parse(text).matches(route.source.name, route.source.engine) for text in tables)
    except ValueError as exc:
        raise ConfigError(f"a table's name {exc}", do="write it as schema.table, with * for any") from None


@contextmanager
def _closing(source: Source) -> Iterator[None]:
    try:
        yield
    finally:
        source.close()


def _events(
    source: Source,
    routes: Sequence[Route],
    router: Callable[[Any], Route | None],
    *,
    until_caught_up: bool,
    stop: threading.Event | None,
) -> Generator[Event, None, None]:
    follow = {route.source.id: Follow(route) for route in routes}
    with ExitStack() as stack:
        stream = source.watch(follow, router)
        stack.callback(stream.close)
        reading = stack.enter_context(_kept_alive(stream))
        until = source.end() if until_caught_up else None
        decoders: dict[int, _Decoder] = {}
        while stop is None or not stop.is_set():
            with reading:
                found = stream.read(_WAIT_SECONDS)
            if found is None:
                continue
            if isinstance(found, ChangeBatch):
                yield from _of_batch(found, decoders)
            if isinstance(found, Heartbeat) or found.complete:
                # Ours alone to acknowledge: the slot ends with this stream, and without it the log would be kept.
                stream.ack(found.end)
                if until is not None and found.end.covers(until):
                    return


@contextmanager
def _kept_alive(stream: Stream) -> Iterator[threading.Lock]:
    """Keep the connection alive while the caller thinks about an event; yields the lock to read under."""
    reading, over = threading.Lock(), threading.Event()

    def idle() -> None:
        while not over.wait(_KEEP_ALIVE_SECONDS):
            if reading.acquire(blocking=False):
                try:
                    stream.idle()
                except Exception:
                    return  # the next read says what is wrong
                finally:
                    reading.release()

    thread = threading.Thread(target=idle, name="cdcflow-read-idle", daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        over.set()
        thread.join()


class _Transactions:
    """Which transaction of a batch the next row belongs to."""

    def __init__(self, batch: ChangeBatch) -> None:
        self._marks = memoryview(batch.marks).cast("q")
        self._at = 0
        self._left = int(self._marks[0]) if len(self._marks) else 0

    def next_row(self) -> tuple[int, datetime | None]:
        """Count one row and return its transaction's position, as a number, and commit time."""
        while not self._left and self._at + 4 < len(self._marks):
            self._at += 4
            self._left = int(self._marks[self._at])
        self._left -= 1
        return self.here()

    def here(self) -> tuple[int, datetime | None]:
        """Return the current transaction's position, 0 where it is not known, and commit time."""
        if self._at >= len(self._marks):
            return 0, None
        return int(self._marks[self._at + 1]), _EPOCH + timedelta(microseconds=int(self._marks[self._at + 2]))


def _of_batch(batch: ChangeBatch, decoders: dict[int, _Decoder]) -> Generator[Event, None, None]:
    transactions = _Transactions(batch)

    def stamped(place: tuple[int, datetime | None]) -> tuple[str, datetime | None]:
        return (str(batch.end.at(place[0])), place[1]) if place[0] and batch.complete else ("", None)

    for step in batch.steps:
        if isinstance(step, Truncate):
            position, at = stamped(transactions.here())
            for route in step.routes:
                yield Event(str(route.source.name), "truncate", position=position, commit_time=at)
        elif isinstance(step, Rows):
            readers = {number: _rows(frame, decoders) for number, frame in step.frames.items()}
            for number in memoryview(step.order).cast("I"):
                position, at = stamped(transactions.next_row())
                event = next(readers[number])
                yield replace(event, position=position, commit_time=at)


class _Decoder:
    """Cells of one frame's columns to values; the columns that the rules keep, by their source names."""

    def __init__(self, frame: RowBatch) -> None:
        from cdcflow.codecs.values import decoder

        self.route = route = frame.route
        kept = {column.name for column, _ in route.columns}
        self.names = frame.names
        self.key = route.key
        self.table = str(route.source.name)
        self.decode = [decoder(route.source.column(name)) if name in kept else None for name in frame.names]

    def values(self, cells: list[Cell]) -> tuple[dict[str, object], tuple[str, ...]]:
        """Return the values that are there, and the names of the columns that are not."""
        values: dict[str, object] = {}
        missing = []
        for name, decode, cell in zip(self.names, self.decode, cells, strict=True):
            if decode is None:
                continue
            if cell is UNCHANGED:
                missing.append(name)
            else:
                values[name] = None if cell is None else decode(cell)
        return values, tuple(missing)


def _rows(frame: RowBatch, decoders: dict[int, _Decoder]) -> Generator[Event, None, None]:
    found = decoders.get(id(frame.route))
    if found is None or found.route is not frame.route or found.names != frame.names:
        found = decoders[id(frame.route)] = _Decoder(frame)
    for op, before_cells, after_cells in frame.rows():
        before = found.values(before_cells)[0] if before_cells is not None else None
        after, unchanged = found.values(after_cells) if after_cells is not None else (None, ())
        image = after if after is not None else before or {}
        key = {name: image[name] for name in found.key if name in image}
        yield Event(found.table, _OPS[op], key, before, after, unchanged)
