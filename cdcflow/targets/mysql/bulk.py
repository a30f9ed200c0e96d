"""Row changes as sets: net by key, then deletes, updates and inserts of each table in a few statements."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from dataclasses import replace

from cdcflow.codecs.mysqlload_cy import LOAD, SQL, Encoder
from cdcflow.codecs.net_cy import Netted, net
from cdcflow.codecs.order_cy import by_key
from cdcflow.model.frame import RowBatch
from cdcflow.model.route import OnDelete
from cdcflow.targets.mysql import catalog
from cdcflow.targets.mysql.plan import Into, Plan
from cdcflow.targets.mysql.rowwise import RowMissing
from cdcflow.targets.mysql.session import Session
from cdcflow.targets.sql.frames import inserted, moves_rows

# How many keys one statement lists. Its ranges must fit range_optimizer_max_mem_size (8 MB, 230 bytes a key), or the
# server reads the whole table.
_LISTED_KEYS = 2000

_DUPLICATES = re.compile(r"(?:Deleted|Duplicates): (\d+)")

Rows = Callable[[Encoder, Callable[[bytes, int], None], int], int]
"""Writes rows with an encoder, in blocks of at most so many bytes; returns how many."""


class OrderMatters(Exception):  # noqa: N818 - a reason to go slower, not a failure
    """The frame's changes cannot be written as sets."""


class Stages:
    """The session's staging tables: which are there, and which hold rows."""

    def __init__(self) -> None:
        self._there: dict[str, Plan] = {}
        self._used: set[str] = set()

    def make(self, session: Session, plan: Plan) -> None:
        """Make the plan's staging table. Does not commit, but goes without saying only outside of a transaction."""
        if plan.stage not in self._there:
            session.define(plan.create_stage())
            self._there[plan.stage] = plan

    def empty(self, session: Session, plan: Plan) -> None:
        """Have the plan's staging table, without rows."""
        self.make(session, plan)
        if plan.stage in self._used:
            session.run(f"DELETE FROM {plan.stage}")  # TRUNCATE would commit
        self._used.add(plan.stage)

    def ended(self, session: Session) -> None:
        """Empty what the transaction that has ended used."""
        for stage in self._used:
            session.define(f"TRUNCATE TABLE {stage}")
        self._used.clear()

    def forget(self, session: Session) -> None:
        """Drop all, outside of a transaction."""
        for stage in self._there:
            session.define(f"DROP TEMPORARY TABLE IF EXISTS {stage}")
        self._there.clear()
        self._used.clear()


def fill(session: Session, into: Into, rows: Rows, verb: str = "") -> tuple[int, int]:
    """Write rows into a table: by LOAD DATA where the server takes it, else by INSERT of many rows.

    Returns:
        How many rows were sent, and how many keys were there already (REPLACE).

    Raises:
        pymysql.Error: the server refused a row, or would have changed or skipped one.
    """
    sent = 0
    if session.infile and into.infile:
        encoder = Encoder(into.kinds, LOAD)

        def produce(write: Callable[[bytes, int], None]) -> int:
            nonlocal sent
            sent = rows(encoder, write, 1 << 18)
            return sent

        done = session.load(into.load(verb), produce)
        found = _DUPLICATES.search(done.message)
        return sent, int(found[1]) if found else max(done.affected - sent, 0)
    replaced = 0
    prefix = into.insert(verb)

    def insert(block: bytes, count: int) -> None:
        nonlocal replaced
        done = session.run(prefix + block)
        replaced += max(done.affected - count, 0)

    return rows(Encoder(into.kinds, SQL), insert, session.most_bytes - len(prefix)), replaced


def settled(session: Session, plan: Plan) -> Plan:
    """Return the plan as this transaction may use it: without REPLACE if the table has got another unique index,
    column or trigger since the plan was made. From here on it gets none until the transaction ends."""
    if not plan.replaceable:
        return plan
    session.query(f"SELECT 1 FROM {plan.target} LIMIT 0")  # who would alter the table waits for us now
    if catalog.outline(session, plan.route.target) == plan.outline:
        return plan
    return replace(plan, replaceable=False)


def may_replace(plan: Plan, frame: RowBatch) -> bool:
    """Whether writing the frame could take REPLACE."""
    return plan.replaceable and (frame.idempotent or plan.may_hold_more or b"U" in frame.ops)


def apply_frame(session: Session, stages: Stages, plan: Plan, frame: RowBatch) -> None:
    """Apply one frame.

    Raises:
        OrderMatters: nothing was written; apply the frame row by row.
        RowMissing: an update found no row; roll back and apply with care.
        pymysql.Error: the server refused the set.
    """
    plan = plan.for_rows(frame.after, frame.before)
    only_inserts = not frame.ops.strip(b"I")
    if plan.append_only or not plan.key:
        if not only_inserts and not plan.append_only:
            raise OrderMatters
        _insert(session, plan, frame, b"", inserted(frame))
        return
    netted = _netted(frame, plan)
    if netted.exact or (plan.keeps_deleted and netted.deleted and moves_rows(frame, plan.key)):
        raise OrderMatters
    if netted.deleted and plan.route.on_delete is not OnDelete.IGNORE:
        _delete(session, stages, plan, netted)
    if netted.updated:
        _update(session, stages, plan, frame, netted)
    if netted.inserted:
        if frame.idempotent or plan.may_hold_more:
            _overwrite(session, stages, plan, frame, netted)
        else:
            _insert(session, plan, frame, netted.merged, netted.inserted)


def _netted(frame: RowBatch, plan: Plan) -> Netted:
    images = (frame.after, frame.after_sizes, frame.before, frame.before_sizes)
    return net(frame.ops, *images, frame.width, plan.key, frame.idempotent)


def _images(frame: RowBatch, merged: bytes, references: bytes, places: tuple[int, ...]) -> Rows:
    def rows(encoder: Encoder, write: Callable[[bytes, int], None], most: int) -> int:
        return int(encoder.images(frame.after, merged, references, frame.width, places, write, most))

    return rows


def _insert(session: Session, plan: Plan, frame: RowBatch, merged: bytes, references: bytes) -> None:
    if references:
        fill(session, plan.into, _images(frame, merged, references, plan.sources))


def _stage(
    session: Session, stages: Stages, plan: Plan, frame: RowBatch, merged: bytes, references: bytes,
    places: tuple[int, ...],
) -> int:  # fmt: skip
    stages.empty(session, plan)
    sent, _ = fill(session, plan.into_stage(places), _images(frame, merged, references, places))
    return sent


def _overwrite(session: Session, stages: Stages, plan: Plan, frame: RowBatch, netted: Netted) -> None:
    """Insert rows whose keys may be there."""
    if plan.replaceable:
        fill(session, plan.into, _images(frame, netted.merged, netted.inserted, plan.sources), "REPLACE")
        return
    _stage(session, stages, plan, frame, netted.merged, netted.inserted, plan.sources)
    if plan.soft or plan.settable(plan.sources):
        session.run(plan.update_from_stage(plan.sources, revive=True))
    session.run(plan.insert_from_stage())


def _delete(session: Session, stages: Stages, plan: Plan, netted: Netted) -> None:
    # A key's cells are an image of their own: the frame's without the other columns.
    places = tuple(range(len(plan.key)))
    at = [plan.at(place) for place in plan.key]
    starts = array("q", netted.deleted)[0::2]
    references = starts.tobytes()
    kinds = bytes(plan.kinds[number] for number in at)
    if plan.listable:
        encoder = Encoder(kinds, SQL)
        statements: list[bytes] = []
        for first in range(0, len(starts), _LISTED_KEYS):
            some = starts[first : first + _LISTED_KEYS].tobytes()
            lists: list[bytes] = []
            encoder.images(netted.keys, b"", some, 1, (0,), lambda block, _: lists.append(block), 1 << 20)  # noqa: B023
            # `(1),(2)`: each a row of its own, which a list of values may be.
            statements += [plan.delete_listed(each) for each in lists]
        session.many(statements)
        return
    stages.empty(session, plan)

    def rows(encoder: Encoder, write: Callable[[bytes, int], None], most: int) -> int:
        return int(encoder.images(netted.keys, b"", references, len(plan.key), places, write, most))

    fill(session, plan.into_stage(plan.key), rows)
    session.run(plan.delete_staged())


def _update(session: Session, stages: Stages, plan: Plan, frame: RowBatch, netted: Netted) -> None:
    """Update by groups of equal absent columns, so that what the log does not have is left alone."""
    for number, mask in enumerate(netted.masks):
        references = _group(netted, number)
        places = tuple(place for place in plan.sources if not mask[place])
        if not references or not plan.settable(places):
            continue
        references = by_key(frame.after, netted.merged, references, plan.key[0])
        if plan.replaceable and places == plan.sources:
            rows = _images(frame, netted.merged, references, places)
            sent, updated = fill(session, plan.into, rows, "REPLACE")
        else:
            sent = _stage(session, stages, plan, frame, netted.merged, references, places)
            updated = session.run(plan.update_from_stage(places)).affected
        if updated < sent and not frame.idempotent:
            raise RowMissing


def _group(netted: Netted, number: int) -> bytes:
    if not netted.updated_masks:
        return netted.updated if number == 0 else b""
    pairs = zip(array("q", netted.updated), array("q", netted.updated_masks), strict=True)
    return array("q", [reference for reference, mask in pairs if mask == number]).tobytes()
