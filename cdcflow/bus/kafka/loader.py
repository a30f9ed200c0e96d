"""Chunks of the initial copy to the brokers: COPY text turned into `r` events, one transaction a chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event
from typing import Final

from cdcflow.bus.formats import Format, Stamp, Stamps
from cdcflow.bus.kafka.catalog import Catalog
from cdcflow.bus.kafka.errors import translate
from cdcflow.bus.kafka.fence import Lease, enter
from cdcflow.bus.kafka.publisher import Publisher
from cdcflow.bus.kafka.session import Session
from cdcflow.bus.kafka.statetopic import StateTopic, chunk_key, chunk_of, chunk_record, value_of
from cdcflow.codecs.copyframe_cy import CopyTextError, copy_images
from cdcflow.errors import CdcflowError, DecodeError, Fenced, TargetUnavailable
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.frame import RowBatch
from cdcflow.model.route import Route
from cdcflow.ops.faults import moment

# Messages of so much COPY text exist at once.
_PIECE_BYTES: Final = 2 * 1024 * 1024


class KafkaLoader:
    """Implements `model.ports.Loader`. One thread. Opens its producer when first used, and again after a failure.

    Its transactional id is on record before it writes, so that whoever takes the lease knows whom to shut out.
    """

    def __init__(
        self,
        session: Session,
        number: int,
        catalog: Catalog,
        made: Format,
        lease: Lease,
        state: StateTopic,
        at: str,
        given_back: Callable[[int], None],
        careful: Event,
    ) -> None:
        self._session, self._number, self._catalog = session, number, catalog
        self._publisher = Publisher(session, catalog, made)
        self._lease, self._state, self._at, self._given_back = lease, state, at, given_back
        self._careful = careful  # shared with the loaders that follow: set, the delivery of each message is watched
        self._closed = False

    def load(
        self,
        route: Route,
        chunk: Chunk,
        blocks: Iterable[bytes],
        done: Callable[[int, int], DoneChunk],
        *,
        merge: bool,
    ) -> DoneChunk:
        """As `Loader.load`. A chunk that is on record already is not loaded twice: the record is returned. A merged
        row is one more event of its key.

        Raises:
            RowRejected: a message is too large, or a value cannot be written.
            Fenced: the lease is not ours.
            TargetUnavailable, AccessDenied, OperatorError: as `errors.translate`.
        """
        del merge
        found = self._recorded(done(0, 0))
        if found is not None:
            return found
        try:
            if not self._session.is_open:
                enter(self._session, self._number, self._state, self._lease)
            self._publisher.careful = self._careful.is_set()
            self._session.begin()
            rows, size = self._publish(route, chunk, blocks, done(0, 0).position)
            record = done(rows, size)
            key = chunk_key(chunk.table_id, chunk.number).encode()
            self._session.send(self._state.name, value_of(chunk_record(record)), key, 0)
            moment("chunk sent")
            self._session.commit()
            moment("chunk committed")
        except CdcflowError as error:
            told = self._told(error)
            unwatched = self._session.voided and not self._publisher.careful
            self._rollback()
            judged = self._lease.judged(told)
            if unwatched and not isinstance(judged, Fenced):
                # Watched the next time, so that a refusal is told with its row.
                self._careful.set()
                judged = TargetUnavailable("a message was refused", at=self._at, why=judged.what)
            raise judged from error
        except BaseException:
            self._rollback()
            raise
        return record

    def close(self) -> None:
        """As `Loader.close`. What was not committed never will be."""
        self._session.close()
        if not self._closed:
            self._closed = True
            self._given_back(self._number)

    def _publish(self, route: Route, chunk: Chunk, blocks: Iterable[bytes], position: str) -> tuple[int, int]:
        """Publish the blocks; return how many rows and bytes."""
        names = tuple(column.name for column, _ in route.columns)
        stamps = [Stamp(position, snapshot=True)]
        count = size = 0
        for block in blocks:
            size += len(block)
            for piece in _pieces(block):
                try:
                    images, sizes = copy_images(piece, len(names))
                except CopyTextError as error:
                    where = f"chunk {chunk.number} of {route.source.name}"
                    raise DecodeError(f"a copied row cannot be read: {error}", at=where) from error
                rows = len(sizes) // 4
                count += rows
                none = bytes(4 * rows)
                frame = RowBatch(route, names, b"I" * rows, images, sizes, b"", none)
                # A copied row has no place in a transaction.
                self._publisher.frame(frame, Stamps(none, none, none, stamps))
            self._session.check_age()
        return count, size

    def _recorded(self, wanted: DoneChunk) -> DoneChunk | None:
        """Return a chunk that an earlier attempt recorded; None where the number is free or another copy's."""
        chunk = wanted.chunk
        kept = self._state.read().get(chunk_key(chunk.table_id, chunk.number))
        if kept is None:
            return None
        found = chunk_of(chunk.table_id, chunk.number, kept)
        of_this = (found.chunk.low, found.chunk.high, found.chunk.changed_since, found.position, found.token)
        if of_this != (chunk.low, chunk.high, chunk.changed_since, wanted.position, wanted.token):
            return None
        return found

    def _rollback(self) -> None:
        self._session.abort()
        self._publisher.forget()

    def _told(self, error: CdcflowError) -> CdcflowError:
        refused = self._session.refused()
        if refused is None:
            return error
        topic, key, why = refused
        found = translate(why, at=self._at, topic=topic)
        route = self._publisher.route_of(topic)
        return found if route is None else self._catalog.rejected(found, route, key)


def _pieces(block: bytes) -> Iterable[bytes]:
    """Cut a block between lines."""
    at = 0
    while len(block) - at > _PIECE_BYTES:
        end = block.find(b"\n", at + _PIECE_BYTES) + 1 or len(block)  # one that ends inside a line is refused later
        yield block[at:end]
        at = end
    yield block[at:] if at else block
