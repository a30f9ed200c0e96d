"""A table's way from `pending` to `live`, as decisions over its record and the checkpoint: no I/O, no clocks.

What the decisions rest on:

- The checkpoint C is the position of every joined table: their rows and C commit together.
- A table *joins* when the stream is opened with it. With C at or before its `copied_from` it is exact from the
  first row: the stream skips what the copy holds, and C moves past the rest. Else (it was copied while others
  streamed) the stream goes back to `copied_from`, and until it has passed C again the table's rows may be
  applied twice after a crash, so `copied_upto` is moved to C and they are applied idempotently.
- Hence C strictly past `copied_upto` says that the table has been followed all the way to C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from cdcflow.flow.ledger import earlier, later
from cdcflow.model.copy import TableRecord, TableState
from cdcflow.model.ports import Follow
from cdcflow.model.position import Position
from cdcflow.model.route import Route

Parse = Callable[[str], Position]

# The `reason` of a pending record whose table is to be emptied before it is copied. A table that was never
# copied is not emptied: what stands in it is not ours.
AGAIN: Final = "to be copied again"

UNCOPIED: Final = frozenset({TableState.PENDING, TableState.COPYING})


def strictly_past(one: Position, other: Position) -> bool:
    return one.covers(other) and not other.covers(one)


def caught_up(record: TableRecord, checkpoint: Position, parse: Parse) -> bool:
    """Whether the checkpoint alone says how far the table is."""
    if record.state is TableState.LIVE:
        return True
    return record.state is TableState.CATCHING_UP and strictly_past(checkpoint, parse(record.copied_upto))


def follow(record: TableRecord, route: Route, checkpoint: Position, parse: Parse) -> Follow | None:
    """Say how a stream that is opened now treats the table; None where it does not follow it yet."""
    if caught_up(record, checkpoint, parse):
        return Follow(route, checkpoint)
    if record.state is TableState.CATCHING_UP:
        return Follow(route, parse(record.copied_from), parse(record.copied_upto))
    return None


def start(records: Iterable[TableRecord], checkpoint: Position, parse: Parse) -> Position:
    """Return where the stream has to be opened."""
    begin = checkpoint
    for record in records:
        if record.state is TableState.CATCHING_UP and not caught_up(record, checkpoint, parse):
            begin = earlier(begin, parse(record.copied_from))
    return begin


def hold(record: TableRecord, checkpoint: Position, parse: Parse) -> Position | None:
    """Return the position from which the table still needs the log whatever the checkpoint says."""
    if not record.copied_from or record.state in (TableState.FAILED, TableState.LIVE):
        return None
    if caught_up(record, checkpoint, parse):
        return None
    return parse(record.copied_from)


def copying(
    record: TableRecord, route: Route, position: Position, stamp: str, shape: str, *, resumed: bool
) -> TableRecord:
    """The table is being copied under a snapshot at `position`."""
    return replace(
        record,
        source=route.source.name,
        target=route.target,
        state=TableState.COPYING,
        copied_from=record.copied_from if resumed else str(position),
        copied_upto=str(position),
        stamp=record.stamp if resumed else stamp,
        shape=shape,
        reason="",
        hint="",
    )


def joining(record: TableRecord, checkpoint: Position, parse: Parse) -> TableRecord:
    """The table's copy is whole, and the stream is about to be opened with it."""
    upto = later(parse(record.copied_upto), checkpoint)
    return replace(record, state=TableState.CATCHING_UP, copied_upto=str(upto))


def live(record: TableRecord) -> TableRecord:
    return replace(record, state=TableState.LIVE, reason="", hint="")


def failed(record: TableRecord, reason: str, hint: str) -> TableRecord:
    return replace(record, state=TableState.FAILED, reason=reason, hint=hint)


def again(record: TableRecord) -> TableRecord:
    """The table is to be emptied and copied anew."""
    return replace(
        record, state=TableState.PENDING, copied_from="", copied_upto="", stamp="", rows=0, reason=AGAIN, hint=""
    )
