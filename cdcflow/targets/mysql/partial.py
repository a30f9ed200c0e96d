"""How much of a batch is in the target already, where DDL in the middle of it committed a part."""

from __future__ import annotations

from array import array

from cdcflow.model.change import Rows, SchemaChange, Step, Truncate
from cdcflow.model.frame import RowBatch


def count(steps: list[Step], into: dict[int, int]) -> None:
    """Add up the changes of each table by its id: rows, truncations, changes of shape."""
    for step in steps:
        if isinstance(step, Rows):
            for frame in step.frames.values():
                table = frame.route.source.id
                into[table] = into.get(table, 0) + len(frame)
        else:
            for table in _tables(step):
                into[table] = into.get(table, 0) + 1


def left(steps: list[Step], done: dict[int, int]) -> list[Step]:
    """Return the steps without the first changes of each table that `done` counts; `done` is counted down."""
    found: list[Step] = []
    for step in steps:
        if not any(done.values()):
            found.append(step)
        elif isinstance(step, Rows):
            rest = _rows(step, done)
            if len(rest):
                found.append(rest)
        else:
            kept = _kept(step, done)
            if kept is not None:
                found.append(kept)
    return found


def _tables(step: Step) -> list[int]:
    if isinstance(step, Truncate):
        return [route.source.id for route in step.routes]
    return [step.new.source.id] if isinstance(step, SchemaChange) else []


def _kept(step: Step, done: dict[int, int]) -> Step | None:
    tables = _tables(step)
    gone = {table for table in tables if done.get(table, 0) > 0}
    for table in gone:
        done[table] -= 1
    if not gone:
        return step
    if isinstance(step, Truncate):
        routes = tuple(route for route in step.routes if route.source.id not in gone)
        return Truncate(routes, step.cascade, step.restart_identity) if routes else None
    return None


def _rows(rows: Rows, done: dict[int, int]) -> Rows:
    """Leave out the first rows in source order of each table."""
    skips: dict[int, int] = {}  # by frame
    order = array("I")
    for number in array("I", rows.order):
        table = rows.frames[number].route.source.id
        if done.get(table, 0) > 0:
            done[table] -= 1
            skips[number] = skips.get(number, 0) + 1
        else:
            order.append(number)
    frames = {number: _without(frame, skips.get(number, 0)) for number, frame in rows.frames.items()}
    return Rows({number: frame for number, frame in frames.items() if len(frame)}, order.tobytes())


def _without(frame: RowBatch, first: int) -> RowBatch:
    if not first:
        return frame
    after = sum(array("i", frame.after_sizes)[:first])
    before = sum(array("i", frame.before_sizes)[:first])
    return RowBatch(
        frame.route,
        frame.names,
        frame.ops[first:],
        frame.after[after:],
        frame.after_sizes[4 * first :],
        frame.before[before:],
        frame.before_sizes[4 * first :],
        frame.idempotent,
    )
