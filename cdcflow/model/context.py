"""What a connector needs to know of the pipeline that opens it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to a connector's `open(config, context)` beside its own part of the configuration.

    pipeline: names the slot, publication and state (`[a-z0-9_]{1,40}`).
    memory_bytes: the whole process's budget; a connector keeps its buffers well inside it.
    batch_max_rows, batch_max_bytes: where a batch is closed at the latest.
    typed_documents: the target keeps the SQL types of values inside of MySQL's JSON documents: a source that has such
        values says what they are (see `codecs.mysqldocuments`).
    """

    pipeline: str
    memory_bytes: int
    batch_max_rows: int
    batch_max_bytes: int
    typed_documents: bool = False
