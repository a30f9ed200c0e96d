"""Row changes as sets: net by key, then deletes, updates and inserts of each table in a few statements."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from cdcflow.codecs.copytext_cy import copy_text, key_arrays
from cdcflow.codecs.net_cy import Netted, net
from cdcflow.codecs.order_cy import by_key
from cdcflow.model.frame import RowBatch
from cdcflow.model.route import OnDelete
from cdcflow.targets.postgres.plan import Plan
from cdcflow.targets.postgres.rowwise import RowMissing
from cdcflow.targets.postgres.session import Session
from cdcflow.targets.sql.frames import inserted, moves_rows


class OrderMatters(Exception):  # noqa: N818 - a reason to go slower, not a failure
    """The frame's changes cannot be written as sets."""


class Stages:
    """The session's staging tables: which are there, and which hold rows of the open transaction."""

    def __init__(self) -> None:
        self._there: set[str] = set()
        self._new: set[str] = set()
        self._used: set[str] = set()

    def empty(self, session: Session, plan: Plan) -> None:
        """Make the plan's staging table, or empty it where this transaction used it already."""
        if plan.stage not in self._there and plan.stage not in self._new:
            session.run(plan.create_stage())
            self._new.add(plan.stage)
        elif plan.stage in self._used:
            session.run(f"TRUNCATE {plan.stage}")
        self._used.add(plan.stage)

    def committed(self) -> None:
        """The transaction ended well: what it made stays, empty."""
        self._there |= self._new
        self._new.clear()
        self._used.clear()

    def rolled_back(self) -> None:
        """What the transaction made is gone."""
        self._new.clear()
        self._used.clear()

    def forget(self, session: Session, plan: Plan) -> None:
        """Drop the staging table of a plan that is no longer used."""
        session.run(f"DROP TABLE IF EXISTS {plan.stage}")
        self._there.discard(plan.stage)
        self._new.discard(plan.stage)
        self._used.discard(plan.stage)


def apply_frame(session: Session, stages: Stages, plan: Plan, frame: RowBatch) -> None:
    """Apply one frame.

    Raises:
        OrderMatters: nothing was written; apply the frame row by row.
        RowMissing: an update found no row; roll back and apply with care.
        psycopg.Error: the server refused the set.
    """
    only_inserts = not frame.ops.strip(b"I")
    if plan.append_only or not plan.key:
        if not only_inserts and not plan.append_only:
            raise OrderMatters
        _copy(session, plan, frame, b"", inserted(frame))
        return
    netted = _netted(frame, plan)
    if netted.exact or (plan.keeps_deleted and netted.deleted and moves_rows(frame, plan.key)):
        raise OrderMatters
    if netted.inserted and frame.idempotent and not plan.arbiter:
        raise OrderMatters  # nothing in the target overwrites a row that is there
    if netted.deleted and plan.route.on_delete is not OnDelete.IGNORE:
        arrays = key_arrays(netted.keys, netted.deleted, len(plan.key))
        session.run(plan.delete_keys(), arrays)
    if netted.updated:
        _update(session, stages, plan, frame, netted)
    if netted.inserted:
        if plan.arbiter and (frame.idempotent or plan.may_hold_more):
            stages.empty(session, plan)
            _stage(session, plan, frame, netted, netted.inserted, plan.sources)
            session.run(plan.insert_from_stage())
        else:
            _copy(session, plan, frame, netted.merged, netted.inserted)


def _netted(frame: RowBatch, plan: Plan) -> Netted:
    images = (frame.after, frame.after_sizes, frame.before, frame.before_sizes)
    return net(frame.ops, *images, frame.width, plan.key, frame.idempotent)


def _copy(session: Session, plan: Plan, frame: RowBatch, merged: bytes, references: bytes) -> None:
    if not references:
        return

    def produce(write: Callable[[bytes], None]) -> int:
        return int(copy_text(frame.after, merged, references, frame.width, plan.sources, write))

    session.copy_in(plan.copy_into(), produce)


def _stage(
    session: Session, plan: Plan, frame: RowBatch, netted: Netted, references: bytes, places: tuple[int, ...]
) -> int:
    def produce(write: Callable[[bytes], None]) -> int:
        return int(copy_text(frame.after, netted.merged, references, frame.width, places, write))

    return session.copy_in(plan.copy_into_stage(places), produce)


def _update(session: Session, stages: Stages, plan: Plan, frame: RowBatch, netted: Netted) -> None:
    """Update by groups of equal absent columns, so that what the log does not have is left alone."""
    for number, mask in enumerate(netted.masks):
        references = _group(netted, number)
        places = tuple(place for place in plan.sources if not mask[place])
        if not references or not plan.settable(places):
            continue
        stages.empty(session, plan)
        references = by_key(frame.after, netted.merged, references, plan.key[0])
        staged = _stage(session, plan, frame, netted, references, places)
        updated = int(session.run(plan.update_from_stage(places)).command_tuples or 0)
        if updated < staged and not frame.idempotent:
            raise RowMissing


def _group(netted: Netted, number: int) -> bytes:
    if not netted.updated_masks:
        return netted.updated if number == 0 else b""
    pairs = zip(array("q", netted.updated), array("q", netted.updated_masks), strict=True)
    return array("q", [reference for reference, mask in pairs if mask == number]).tobytes()
