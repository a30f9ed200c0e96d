"""Marks that go to every partition: what is on record of one that was interrupted, and how it is written again."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cdcflow.bus.formats import MEETING
from cdcflow.bus.rabbitmq.doubts import MARKED, OF_NO_TRANSACTION
from cdcflow.bus.rabbitmq.layout import session_key
from cdcflow.codecs.amqpframes_cy import short

# One row, of the first stamp.
FIRST = bytes(4)


@dataclass(frozen=True, slots=True)
class OpenMark:
    """A mark that some partitions may have and others not. table: whose. repeated: whether the stream repeats it under
    the same name: it is that of a transaction whose position is known."""

    name: str
    table: str
    repeated: bool

    def note(self) -> bytes:
        """The mark as the notes have it."""
        return json.dumps({"name": self.name, "table": self.table, "repeated": self.repeated}).encode()

    def header(self, partitions: int) -> bytes:
        """The name as messages carry it."""
        return f"{self.name}/{partitions}".encode()

    def parts(self, partitions: int) -> Iterator[dict[int, tuple[Any, ...]]]:
        """Yield for each partition what `Publisher.publish` takes for the mark without anything that happens there, to
        the queues of all groups."""
        keys = [session_key(number) for number in range(partitions)]
        extras = {0: [(MEETING, self.header(partitions))]}
        fixed = (short(b"application/json"), b"")
        row = OF_NO_TRANSACTION.to_bytes(4, sys.byteorder)
        for number in range(partitions):
            starts, hashes = array("I", (0, 1)).tobytes(), number.to_bytes(4, sys.byteorder)
            yield {0: (starts, [None], [None], hashes, MARKED, extras, FIRST, FIRST, row, keys, fixed)}


def read_mark(text: bytes) -> OpenMark | None:
    """Read what `OpenMark.note` wrote; None where no mark is open."""
    try:
        said = json.loads(text)
        return OpenMark(str(said["name"]), str(said["table"]), bool(said["repeated"]))
    except (ValueError, TypeError, KeyError):
        return None
