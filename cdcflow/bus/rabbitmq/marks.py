"""Marks that go to every partition: what is on record of one that was interrupted, and how it is written again."""

from __future__ import annotations

import json
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cdcflow.bus.formats import MEETING, SCHEMA
from cdcflow.bus.rabbitmq.doubts import MARKED, OF_NO_TRANSACTION
from cdcflow.bus.rabbitmq.layout import session_key
from cdcflow.codecs.amqpframes_cy import entry, short

# One row, of the first stamp.
FIRST = bytes(4)


@dataclass(frozen=True, slots=True)
class Emptied:
    """How a mark says that its table was emptied: the routing keys of the table by partition, the message's content
    type, and what tells its shape."""

    key: bytes | None
    value: bytes | None
    keys: tuple[str, ...]
    content_type: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class OpenMark:
    """A mark that some partitions may have and others not. table: whose. repeated: whether the stream repeats it under
    the same name: it is that of a transaction whose position is known. then: what happens there, None where that comes
    again under another name, and where nothing does."""

    name: str
    table: str
    repeated: bool
    then: Emptied | None = None

    def note(self) -> bytes:
        """The mark as the notes have it."""
        said: dict[str, Any] = {"name": self.name, "table": self.table, "repeated": self.repeated, "then": None}
        if self.then is not None:
            said["then"] = {
                "key": _text(self.then.key),
                "value": _text(self.then.value),
                "keys": self.then.keys,
                "content_type": self.then.content_type,
                "fingerprint": self.then.fingerprint,
            }
        return json.dumps(said).encode()

    def header(self, partitions: int) -> bytes:
        """The name as messages carry it."""
        return f"{self.name}/{partitions}".encode()

    def parts(self, partitions: int) -> Iterator[dict[int, tuple[Any, ...]]]:
        """Yield for each partition what `Publisher.publish` takes for the mark, as one that belongs to no transaction:
        it comes before what is repeated, and ends no repetition. Where nothing happens there it goes to the queues of
        all groups."""
        op, key, value, keys = MARKED, None, None, [session_key(number) for number in range(partitions)]
        fixed = (short(b"application/json"), b"")
        if self.then is not None:
            op, key, value, keys = b"t", self.then.key, self.then.value, list(self.then.keys)
            fixed = (short(self.then.content_type.encode()), entry(SCHEMA, self.then.fingerprint.encode()))
        extras = {0: [(MEETING, self.header(partitions))]}
        row = OF_NO_TRANSACTION.to_bytes(4, sys.byteorder)
        for number in range(partitions):
            starts, hashes = array("I", (0, 1)).tobytes(), number.to_bytes(4, sys.byteorder)
            yield {0: (starts, [key], [value], hashes, op, extras, FIRST, FIRST, row, keys, fixed)}


def read_mark(text: bytes) -> OpenMark | None:
    """Read what `OpenMark.note` wrote; None where no mark is open."""
    try:
        said = json.loads(text)
        if said["repeated"] and "then" not in said:
            return None  # of an earlier build, and the stream writes it again
        then = said.get("then")
        if then is not None:
            then = Emptied(
                _bytes(then["key"]),
                _bytes(then["value"]),
                tuple(map(str, then["keys"])),
                str(then["content_type"]),
                str(then["fingerprint"]),
            )
        return OpenMark(str(said["name"]), str(said["table"]), bool(said["repeated"]), then)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _text(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else b64decode(value)
