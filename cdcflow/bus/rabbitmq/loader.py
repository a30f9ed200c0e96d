"""Chunks of the initial copy, published: COPY text to row images to messages, confirmed before a chunk is done."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable

from cdcflow.bus.rabbitmq.lanes import COPIED_WIRED, Lanes, copied
from cdcflow.bus.rabbitmq.publisher import Publisher
from cdcflow.codecs.copyframe_cy import CopyTextError, copy_images
from cdcflow.errors import DecodeError
from cdcflow.model.change import Rows
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.frame import RowBatch
from cdcflow.model.route import Route
from cdcflow.ops.faults import moment


class ChunkLoader:
    """Implements `model.ports.Loader`. One thread; several share the publisher."""

    def __init__(self, publisher: Publisher, lanes: Lanes) -> None:
        self._publisher, self._lanes = publisher, lanes

    def load(
        self,
        route: Route,
        chunk: Chunk,
        blocks: Iterable[bytes],
        done: Callable[[int, int], DoneChunk],
        *,
        merge: bool,
    ) -> DoneChunk:
        """As `Loader.load`: durable when it returns; the caller records the chunk. A chunk that is loaded again after a
        crash is published again.

        Raises:
            TargetUnavailable, OperatorError, RowRejected, SchemaStop: as `Lanes.rows`.
            DecodeError: the source's text is not of its table.
        """
        generation = self._publisher.generation
        names = tuple(column.name for column, _ in route.columns)
        rows = size = 0
        for block in blocks:
            size += len(block)
            try:
                images, sizes = copy_images(block, len(names))
            except CopyTextError as error:
                piece = f"chunk {chunk.number} of {route.source.name}"
                raise DecodeError(f"a copied row cannot be read: {error}", at=piece) from error
            count = len(sizes) // 4
            rows += count
            frame = RowBatch(route, names, b"I" * count, images, sizes, b"", bytes(4 * count), idempotent=True)
            step = Rows({0: frame}, array("I", bytes(4 * count)).tobytes())
            self._lanes.rows(step, {0: copied(count)}, COPIED_WIRED, generation)
        moment("chunk sent")
        self._publisher.settle(generation)
        moment("chunk committed")
        return done(rows, size)

    def close(self) -> None:
        """As `Loader.close`: nothing is its own."""
