"""Row changes one by one, in the source's order: for small batches, and where the outcome depends on the order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import psycopg

from cdcflow.engines.postgres.errors import translate
from cdcflow.errors import CdcflowError, ReplayCollision, RowRejected
from cdcflow.model.change import Rows
from cdcflow.model.frame import DELETE, INSERT, UNCHANGED, UPDATE, Cell, RowBatch
from cdcflow.model.route import OnDelete
from cdcflow.targets.postgres.foreign import is_foreign
from cdcflow.targets.postgres.plan import Plan
from cdcflow.targets.postgres.session import PIPELINE_STATEMENTS, Session
from cdcflow.targets.sql import refusals

PlanOf = Callable[[RowBatch], Plan]

# How much of a key's text an error shows.
_SHOWN_KEY_CHARACTERS = 80

HOLDS_NUL = "the target rejects a row: a text holds the character U+0000"

# unique_violation, exclusion_violation: another row has the value.
_TAKEN = ("23505", "23P01")

# program_limit_exceeded
_TOO_LARGE = "54000"

_LIMITED = re.compile(r"character(?: varying)?\((\d+)\)")


class RowMissing(Exception):  # noqa: N818 - a reason to go slower, not a failure
    """An update found no row where there should have been one."""


@dataclass(frozen=True, slots=True)
class Change:
    """One statement for one row change.

    strict: the row must be there for an update to have its effect.
    image: the new row's written columns, None where the log does not have all of them.
    replayed: the target may hold this row, or later ones, already.
    """

    sql: str
    parameters: list[bytes | None]
    plan: Plan
    key: list[Cell]
    op: int
    strict: bool = False
    image: list[bytes | None] | None = None
    replayed: bool = False


def changes(rows: Rows, plan_of: PlanOf) -> Iterator[Change]:
    """Yield the statements for all rows of a step in source order.

    Raises:
        OperatorError: a change cannot find its row: the log holds neither a key nor the whole old row.
        RowRejected: a text holds U+0000.
    """
    plans = {number: plan_of(frame) for number, frame in rows.frames.items()}
    readers = {number: frame.rows() for number, frame in rows.frames.items()}
    # Text of PostgreSQL never holds U+0000, and a parameter would end there without a word.
    checked = {number: is_foreign(frame.route.source) for number, frame in rows.frames.items()}
    for number in memoryview(rows.order).cast("I"):
        op, before, after = next(readers[number])
        idempotent = rows.frames[number].idempotent
        for change in _change(plans[number], op, before, after, idempotent=idempotent):
            if checked[number] and any(cell is not None and b"\0" in cell for cell in change.parameters):
                raise _holds_nul(change)
            yield replace(change, replayed=True) if idempotent else change


def _change(
    plan: Plan, op: int, before: list[Cell] | None, after: list[Cell] | None, *, idempotent: bool
) -> Iterator[Change]:
    if op == INSERT:
        assert after is not None
        image = _image(plan, after)
        if image is None:
            raise refusals.incomplete(plan.route.source, "an inserted row lacks a column")
        if idempotent and plan.key and not plan.arbiter and not plan.may_hold_more:
            # Nothing in the target overwrites it.
            condition, parameters, key = _find(plan, after, None)
            yield Change(plan.delete_row(condition), parameters, plan, key, DELETE)
        yield Change(plan.insert_row(replayed=idempotent), image, plan, _key(plan, after), op)
    elif plan.append_only:
        return
    elif op == UPDATE:
        assert after is not None
        yield from _update(plan, before, after, idempotent=idempotent)
    elif op == DELETE:
        if plan.route.on_delete is OnDelete.IGNORE:
            return
        condition, parameters, key = _find(plan, before, None)
        yield Change(plan.delete_row(condition), parameters, plan, key, op)


def _update(plan: Plan, before: list[Cell] | None, after: list[Cell], *, idempotent: bool) -> Iterator[Change]:
    condition, where, old_key = _find(plan, before, after)
    moved = bool(plan.key) and old_key != _key(plan, after)
    image = _image(plan, after)
    if moved and any(name in plan.fixed for name in plan.key_names) and image is not None:
        yield Change(plan.delete_row(condition), where, plan, old_key, DELETE)
        yield Change(plan.insert_row(replayed=idempotent), image, plan, _key(plan, after), INSERT)
        return
    places = tuple(
        place
        for place, name in zip(plan.sources, plan.names, strict=True)
        if after[place] is not UNCHANGED and name not in plan.fixed and (moved or place not in plan.key)
    )
    if not places:
        return
    if moved and condition is None and (not idempotent or plan.keeps_only_marked):
        # A replayed move may be in the target already: only a row that is marked as deleted is surely not it.
        new_key = _key(plan, after)
        kept = plan.delete_kept_row() if all(cell is not None for cell in new_key) else None
        if kept is not None:
            yield Change(kept, [*map(_text, new_key), *where], plan, new_key, DELETE)
    parameters = [_text(after[place]) for place in places] + where
    strict = not idempotent
    yield Change(plan.update_row(places, condition), parameters, plan, old_key, UPDATE, strict, image)


def _find(
    plan: Plan, before: list[Cell] | None, after: list[Cell] | None
) -> tuple[tuple[bool, ...] | None, list[bytes | None], list[Cell]]:
    """Return the condition and its parameters that find the row as it was, and its key."""
    if plan.key:
        old = before if before is not None and all(before[place] is not UNCHANGED for place in plan.key) else after
        if old is None or any(old[place] is UNCHANGED for place in plan.key):
            raise refusals.incomplete(plan.route.source, refusals.no_old_row(keyed=True))
        key = [old[place] for place in plan.key]
        if all(cell is not None for cell in key):
            return None, [_text(cell) for cell in key], key
        return tuple(cell is None for cell in key), [_text(cell) for cell in key if cell is not None], key
    if before is None or any(before[place] is UNCHANGED for place in plan.sources):
        raise refusals.incomplete(plan.route.source, refusals.no_old_row(keyed=False))
    whole = [before[place] for place in plan.sources]
    return tuple(cell is None for cell in whole), [_text(cell) for cell in whole if cell is not None], []


def _image(plan: Plan, after: list[Cell]) -> list[bytes | None] | None:
    written = [after[place] for place in plan.sources]
    if any(cell is UNCHANGED for cell in written):
        return None
    return [_text(cell) for cell in written]


def _key(plan: Plan, image: list[Cell]) -> list[Cell]:
    return [image[place] for place in plan.key]


def _text(cell: Cell) -> bytes | None:
    assert cell is not UNCHANGED
    return cell


def apply_in_order(session: Session, rows: Rows, plan_of: PlanOf) -> None:
    """Apply a step in source order, pipelined.

    Raises:
        RowMissing: an update found no row; the transaction must be rolled back and applied with care.
        psycopg.Error: the server refused a row; which one is not known.
    """
    window: list[Change] = []
    for change in changes(rows, plan_of):
        window.append(change)
        if len(window) == PIPELINE_STATEMENTS:
            _send(session, window)
            window = []
    _send(session, window)


def _send(session: Session, window: list[Change]) -> None:
    results = session.pipeline([(change.sql, change.parameters) for change in window])
    for change, result in zip(window, results, strict=True):
        if change.strict and not result.command_tuples:
            raise RowMissing


def apply_with_care(session: Session, rows: Rows, plan_of: PlanOf, *, at: str) -> int:
    """Apply a step in source order, looking at each answer; return how many updated rows had to be inserted.

    Raises:
        RowRejected: the server refuses a row: its table and key are named.
        OperatorError: a row is missing in the target and the log does not hold all of it.
    """
    repaired = 0
    for change in changes(rows, plan_of):
        try:
            (result,) = session.pipeline([(change.sql, change.parameters)])
            if change.strict and not result.command_tuples:
                if change.image is None:
                    raise refusals.gone(
                        change.plan.route.target, change.plan.route.source.name, f"at {at}, key {_shown(change)}"
                    )
                session.pipeline([(change.plan.insert_row(), change.image)])
                repaired += 1
        except psycopg.Error as error:
            raise rejected(error, change, at) from None
    return repaired


def rejected(error: psycopg.Error, change: Change, at: str) -> CdcflowError:
    """Return the error for a row that the target refused, with its table and key."""
    found = translate(error, side="target", at=at)
    if not is_about_a_row(error):
        return found
    route = change.plan.route
    key = _shown(change)
    where = f"table {route.target} at {at}, from {route.source.name}" + (f", key {key}" if key else "")
    column = error.diag.column_name or (_too_long(change) if error.sqlstate == "22001" else None)
    named = (("column", column), ("constraint", error.diag.constraint_name))
    where += "".join(f", {what} {name}" for what, name in named if name)
    if change.replayed and error.sqlstate in _TAKEN:
        do = f"cdcflow resync {route.source.name}"
        return ReplayCollision(found.what, table_id=route.source.id, at=where, why=found.why, do=do)
    return RowRejected(
        found.what,
        at=where,
        why=found.why,
        do=f"change table {route.target} so that it takes what the source holds, or mend the row at the source"
        f" and run cdcflow resync {route.source.name}; or exclude the column or the table in the rules",
    )


def _too_long(change: Change) -> str | None:
    """Find the column that a text does not fit into, which the server does not name."""
    plan = change.plan
    cells = change.image or (change.parameters if change.op == INSERT else [])
    for name, type_name, cell in zip(plan.names, plan.types, cells, strict=False):
        limit = _LIMITED.fullmatch(type_name)
        if limit is not None and cell is not None and len(cell.decode(errors="replace")) > int(limit[1]):
            return name
    return None


def is_about_a_row(error: psycopg.Error) -> bool:
    """Whether the server refused what a row holds: bad data, a constraint, a view's check, a trigger's word, or more
    than a page or an index entry takes."""
    state = error.sqlstate or ""
    return state[:2] in ("22", "23", "44", "45", "P0") or state == _TOO_LARGE


def _holds_nul(change: Change) -> RowRejected:
    plan = change.plan
    route, key = plan.route, _shown(change)
    cells = change.image if change.image is not None else change.parameters if change.op == INSERT else []
    column = next((name for name, cell in zip(plan.names, cells, strict=False) if cell and b"\0" in cell), "")
    where = [f"table {route.target}, from {route.source.name}", f"key {key}" if key else "", f"column {column}"]
    return RowRejected(
        HOLDS_NUL,
        at=", ".join(where if column else where[:2] if key else where[:1]),
        why="PostgreSQL's text types hold every character but that one",
        do=f"remove it at the source and run cdcflow resync {route.source.name}; or exclude the column in the rules",
    )


def _shown(change: Change) -> str:
    pairs = zip(change.plan.key_names, change.key, strict=False)
    return " ".join(f"{name}={shown(cell)}" for name, cell in pairs if isinstance(cell, bytes))


def shown(cell: bytes) -> str:
    """Return the beginning of a key's cell for a message."""
    return cell.decode(errors="replace")[:_SHOWN_KEY_CHARACTERS].replace("\0", "\\0")
