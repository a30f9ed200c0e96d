"""Row changes one by one, in the source's order: for small batches, and where the outcome depends on the order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pymysql

from cdcflow.codecs.mysqlliterals import ImageError
from cdcflow.engines.mysql.errors import translate
from cdcflow.engines.mysql.rowfaults import row_fault
from cdcflow.errors import CdcflowError, ReplayCollision, RowRejected
from cdcflow.model.change import Rows
from cdcflow.model.frame import DELETE, INSERT, UNCHANGED, UPDATE, Cell, RowBatch
from cdcflow.model.route import OnDelete
from cdcflow.targets.mysql.plan import Plan
from cdcflow.targets.mysql.session import Done, Session
from cdcflow.targets.sql import refusals

PlanOf = Callable[[RowBatch], Plan]

# How many changes are on their way before their answers are looked at.
_WINDOW = 256

# How much of a key's text an error shows.
_SHOWN_KEY_CHARACTERS = 80


class RowMissing(Exception):  # noqa: N818 - a reason to go slower, not a failure
    """An update found no row where there should have been one."""


class Doubtful(Exception):  # noqa: N818 - a reason to go slower, not a failure
    """The server warned of one of several statements, and which is not known."""


@dataclass(frozen=True, slots=True)
class Change:
    """The statements for one row change.

    strict: the first must find its row for an update to have its effect.
    image: the new row's written columns, None where the log does not have all of them.
    replayed: the target may hold this row, or later ones, already.
    """

    statements: list[bytes]
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
        RowRejected: a value has no form in its column's type.
    """
    plans = {number: plan_of(frame) for number, frame in rows.frames.items()}
    readers = {number: frame.rows() for number, frame in rows.frames.items()}
    for number in memoryview(rows.order).cast("I"):
        op, before, after = next(readers[number])
        idempotent = rows.frames[number].idempotent
        plan = plans[number]
        try:
            for change in _change(plan, op, before, after, idempotent=idempotent):
                yield replace(change, replayed=True) if idempotent else change
        except ImageError as error:
            image = after or before
            key = _key(plan, image) if image else []
            raise RowRejected(
                f"the target rejects a row: {error}",
                at=f"table {plan.route.target}, from {plan.route.source.name}, key {_shown(plan, key)}",
                do="exclude the column in the rules, or give it a text type at the target",
            ) from None


def _change(
    plan: Plan, op: int, before: list[Cell] | None, after: list[Cell] | None, *, idempotent: bool
) -> Iterator[Change]:
    if op == INSERT:
        assert after is not None
        image = _image(plan, after)
        if image is None:
            raise refusals.incomplete(plan.route.source, "an inserted row lacks a column")
        key = _key(plan, after)
        if (idempotent or plan.may_hold_more) and plan.key and None not in key:
            yield Change(plan.upsert_row(image, plan.where_key([*map(_text, key)])), plan, key, op, image=image)
        else:
            yield Change([plan.insert_row(image)], plan, key, op, image=image)
    elif plan.append_only:
        return
    elif op == UPDATE:
        assert after is not None
        yield from _update(plan, before, after, idempotent=idempotent)
    elif op == DELETE:
        if plan.route.on_delete is OnDelete.IGNORE:
            return
        where, key = _find(plan, before, None)
        yield Change([plan.delete_row(where)], plan, key, op)


def _update(plan: Plan, before: list[Cell] | None, after: list[Cell], *, idempotent: bool) -> Iterator[Change]:
    where, old_key = _find(plan, before, after)
    new_key = _key(plan, after)
    moved = bool(plan.key) and old_key != new_key
    image = _image(plan, after)
    places = tuple(
        place for place in plan.sources if after[place] is not UNCHANGED and (moved or place not in plan.key)
    )
    if not places:
        return
    statements: list[bytes] = []
    whole = None not in old_key and None not in new_key
    if moved and whole and (not idempotent or plan.keeps_only_marked):
        # A replayed move may be in the target already: only a row that is marked as deleted is surely not it.
        kept = plan.delete_kept_row(plan.where_key([*map(_text, new_key)]), where)
        if kept is not None:
            statements.append(kept)
    if moved and whole and idempotent and image is not None:
        # Either of the two rows may be there: what is under the old key goes, what is under the new one is made so.
        yield Change([plan.delete_row(where, kept=False)], plan, old_key, DELETE)
        yield Change(plan.upsert_row(image, plan.where_key([*map(_text, new_key)])), plan, new_key, INSERT, image=image)
        return
    if statements:
        yield Change(statements, plan, new_key, DELETE)
    update = plan.update_row(places, [_text(after[place]) for place in places], where)
    yield Change([update], plan, old_key, UPDATE, not idempotent, image)


def _find(plan: Plan, before: list[Cell] | None, after: list[Cell] | None) -> tuple[bytes, list[Cell]]:
    """Return the condition that finds the row as it was, and its key."""
    if plan.key:
        old = before if before is not None and all(before[place] is not UNCHANGED for place in plan.key) else after
        if old is None or any(old[place] is UNCHANGED for place in plan.key):
            raise refusals.incomplete(plan.route.source, refusals.no_old_row(keyed=True))
        key = [old[place] for place in plan.key]
        if None not in key:
            return plan.where_key([*map(_text, key)]), key
        return plan.where_all(plan.key, [*map(_text, key)]), key
    if before is None or any(before[place] is UNCHANGED for place in plan.sources):
        raise refusals.incomplete(plan.route.source, refusals.no_old_row(keyed=False))
    return plan.where_all(plan.sources, [_text(before[place]) for place in plan.sources]), []


def _image(plan: Plan, after: list[Cell]) -> list[bytes | None] | None:
    written = [after[place] for place in plan.sources]
    if any(cell is UNCHANGED for cell in written):
        return None
    return [_text(cell) for cell in written]


def _key(plan: Plan, image: list[Cell]) -> list[Cell]:
    return [image[place] for place in plan.key]


def _text(cell: Cell) -> bytes | None:
    assert cell is None or isinstance(cell, bytes)
    return cell


def apply_in_order(session: Session, rows: Rows, plan_of: PlanOf) -> None:
    """Apply a step in source order, many statements to a round trip.

    Raises:
        RowMissing: an update found no row; the transaction must be rolled back and applied with care.
        Doubtful: the server warned of a value; likewise.
        pymysql.Error: the server refused a row; which one is not known.
    """
    window: list[Change] = []
    for change in changes(rows, plan_of):
        window.append(change)
        if len(window) == _WINDOW:
            send(session, window)
            window = []
    send(session, window)


def send(session: Session, window: list[Change], first: Sequence[bytes] = (), last: Sequence[bytes] = ()) -> list[Done]:
    """Send the changes' statements between others; return what the others behind them did."""
    statements = [*first, *(statement for change in window for statement in change.statements), *last]
    if not statements:
        return []
    done = session.many(statements)
    at = len(first)
    for change in window:
        if change.strict and not done[at].affected:
            raise RowMissing
        for each in done[at : at + len(change.statements)]:
            if each.warnings:
                raise Doubtful
        at += len(change.statements)
    return done[at:]


def apply_with_care(session: Session, rows: Rows, plan_of: PlanOf, *, at: str) -> int:
    """Apply a step in source order, looking at each answer; return how many updated rows had to be inserted.

    Raises:
        RowRejected: the server refuses a row: its table and key are named.
        OperatorError: a row is missing in the target and the log does not hold all of it.
    """
    repaired = 0
    for change in changes(rows, plan_of):
        try:
            done = [session.run(statement) for statement in change.statements]
            if change.strict and not done[0].affected:
                if change.image is None:
                    raise refusals.gone(
                        change.plan.route.target,
                        change.plan.route.source.name,
                        f"at {at}, key {_shown(change.plan, change.key)}",
                    )
                session.run(change.plan.insert_row(change.image))
                repaired += 1
        except pymysql.Error as error:
            raise rejected(error, change, at) from None
    return repaired


def rejected(error: pymysql.Error, change: Change, at: str) -> CdcflowError:
    """Return the error for a row that the target refused, with its table and key."""
    fault = row_fault(error)
    if fault is None:
        return translate(error, side="target", at=at)
    plan, route = change.plan, change.plan.route
    where = f"table {route.target} at {at}, from {route.source.name}"
    if change.key:
        where += f", key {_shown(plan, change.key)}"
    why = f"error {fault.code}"
    if fault.column:
        where += f", column {fault.column}"
        why += _limit(plan, fault.column)
    if fault.constraint:
        where += f", constraint {fault.constraint}"
    what = f"the target rejects a row: {fault.words}"
    if change.replayed and fault.unique:
        do = f"cdcflow resync {route.source.name}"
        return ReplayCollision(what, table_id=route.source.id, at=where, why=why, do=do)
    return RowRejected(what, at=where, why=why, do=mend(route.target, route.source.name))


def mend(target: object, source: object) -> str:
    """Say what a person can do about a row that the target refuses."""
    return (
        f"change table {target} so that it takes what the source holds, or mend the row at the source"
        f" and run cdcflow resync {source}; or exclude the column or the table in the rules"
    )


def _limit(plan: Plan, column: str) -> str:
    there = next((each for each in plan.columns if each.name == column), None)
    if there is None:
        return ""
    name = next((c for c, name in plan.route.columns if name == column), None)
    in_key = name is not None and name.name in plan.route.key and there.kind in ("varchar", "varbinary")
    longest = ", the longest that an index of 3072 bytes takes" if in_key else ""
    return f": the column is {there.type}{longest}"


def is_about_a_row(error: pymysql.Error) -> bool:
    """Whether the server refused what a row holds: bad data, a constraint, or a trigger's word."""
    return row_fault(error) is not None or (error.args[:1] or (0,))[0] == 1644


def _shown(plan: Plan, key: list[Cell]) -> str:
    pairs = zip(plan.key_names, key, strict=False)
    return " ".join(
        f"{name.strip('`')}={cell.decode(errors='replace')[:_SHOWN_KEY_CHARACTERS]}"
        for name, cell in pairs
        if isinstance(cell, bytes)
    )
