"""The records of a source that several instances share: who claimed what, how far it is, who waits for whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from cdcflow.model.position import Share
from cdcflow.model.sharing import Arrival
from cdcflow.state.tables import Tables

# So many meetings that are over are remembered. A mark is read again where a publisher or an instance died before it
# could record the batch that held it, so soon; a batch does not hold as many.
MOST_OVER: Final = 10_000

# Has come to each meeting that is over.
OVER: Final = ""

Transaction = Callable[..., AbstractContextManager[sa.Connection]]


class ShareRecords:
    """The part of the store that a pipeline with a shared source needs besides. Any thread.

    `transaction(writes=True)` opens a transaction whose errors are ours.
    """

    def __init__(self, home: Tables, dialect: str, transaction: Transaction) -> None:
        self._checkpoints, self._shares, self._meetings = home.checkpoints, home.shares, home.meetings
        self._dialect = dialect
        self._transaction = transaction

    def join(self, pipeline: str, owner: Mapping[str, str]) -> int:
        """As `SharedStore.join`: the checkpoint's row, whose epoch stays as it is, and whose position stays empty."""
        now = datetime.now(UTC)
        first = {
            "pipeline": pipeline,
            "position": "",
            "source": {},
            "epoch": _first_epoch(now),
            "owner": dict(owner),
            "leased_at": now,
            "updated_at": now,
        }
        with self._transaction(writes=True) as connection:
            connection.execute(self._upsert(self._checkpoints, ("pipeline",), ("owner", "leased_at")), [first])
            found = connection.scalar(
                sa.select(self._checkpoints.c.epoch).where(self._checkpoints.c.pipeline == pipeline)
            )
        assert found is not None
        return int(found)

    def claim(self, pipeline: str, names: Sequence[str], owner: Mapping[str, str]) -> dict[str, Share]:
        """As `SharedStore.claim`. In one order everywhere, so that two that claim the same cannot deadlock."""
        now = datetime.now(UTC)
        shares = self._shares
        claimed: dict[str, Share] = {}
        with self._transaction(writes=True) as connection:
            for name in sorted(names):
                row = {
                    "pipeline": pipeline,
                    "share": name,
                    "epoch": _first_epoch(now),
                    "place": 0,
                    "owner": dict(owner),
                    "claimed_at": now,
                    "updated_at": now,
                }
                statement = self._upsert(shares, ("pipeline", "share"), ("owner", "claimed_at"), raised=shares.c.epoch)
                connection.execute(statement, [row])
                here = (shares.c.pipeline == pipeline, shares.c.share == name)
                found = connection.execute(sa.select(shares).where(*here)).one()
                claimed[name] = Share(int(found.epoch), int(found.place), found.identity)
        return claimed

    def begin(self, pipeline: str, places: Mapping[str, int]) -> None:
        """As `SharedStore.begin`."""
        now = datetime.now(UTC)
        with self._transaction(writes=True) as connection:
            for name, place in sorted(places.items()):
                row = {
                    "pipeline": pipeline,
                    "share": name,
                    "epoch": _first_epoch(now),
                    "place": place,
                    "owner": {},
                    "claimed_at": now,
                    "updated_at": now,
                }
                connection.execute(self._upsert(self._shares, ("pipeline", "share"), ()), [row])

    def identify(self, pipeline: str, shares: Mapping[str, Share]) -> None:
        """As `SharedStore.identify`."""
        table = self._shares
        with self._transaction(writes=True) as connection:
            for name, at in sorted(shares.items()):
                here = (table.c.pipeline == pipeline, table.c.share == name, table.c.epoch == at.epoch)
                same = table.c.identity.in_(["", at.identity])
                # In this order: MySQL goes by what the assignments before it have made.
                place = sa.case((same, table.c.place), else_=0)
                connection.execute(
                    table.update().where(*here).ordered_values((table.c.place, place), (table.c.identity, at.identity))
                )

    def shares(self, pipeline: str) -> dict[str, Share]:
        """As `SharedStore.shares`."""
        shares = self._shares
        wanted = sa.select(shares).where(shares.c.pipeline == pipeline)
        with self._transaction() as connection:
            found = connection.execute(wanted).all()
        return {row.share: Share(int(row.epoch), int(row.place), row.identity) for row in found}

    def owners(self, pipeline: str) -> list[dict[str, Any]]:
        """Return what `cdcflow status` shows of each share: name, place, owner, when it last moved."""
        wanted = sa.select(self._shares).where(self._shares.c.pipeline == pipeline).order_by(self._shares.c.share)
        with self._transaction() as connection:
            return [
                {"share": row.share, "place": int(row.place), "owner": dict(row.owner), "updated_at": row.updated_at}
                for row in connection.execute(wanted)
            ]

    def arrive(self, pipeline: str, meeting: str, share: str, place: int) -> None:
        """As `SharedStore.arrive`."""
        row = {"pipeline": pipeline, "meeting": meeting, "share": share, "place": place}
        with self._transaction(writes=True) as connection:
            connection.execute(self._upsert(self._meetings, ("pipeline", "meeting", "share"), ("place",)), [row])

    def arrived(self, pipeline: str, meeting: str) -> list[Arrival]:
        """As `SharedStore.arrived`."""
        meetings = self._meetings
        wanted = sa.select(meetings.c.share, meetings.c.place)
        wanted = wanted.where(meetings.c.pipeline == pipeline, meetings.c.meeting == meeting)
        with self._transaction() as connection:
            return [Arrival(row.share, int(row.place)) for row in connection.execute(wanted)]

    def part(self, pipeline: str, meeting: str) -> None:
        """As `SharedStore.part`."""
        meetings = self._meetings
        ours = meetings.c.pipeline == pipeline
        row = {"pipeline": pipeline, "meeting": meeting, "share": OVER, "place": _first_epoch(datetime.now(UTC))}
        with self._transaction(writes=True) as connection:
            connection.execute(self._upsert(meetings, ("pipeline", "meeting", "share"), ("place",)), [row])
            gone = (ours, meetings.c.meeting == meeting, meetings.c.share != OVER)
            connection.execute(meetings.delete().where(*gone))
            over = (ours, meetings.c.share == OVER)
            newest = sa.select(meetings.c.place).where(*over).order_by(meetings.c.place.desc())
            oldest = connection.scalar(newest.offset(MOST_OVER).limit(1))
            if oldest is not None:
                connection.execute(meetings.delete().where(*over, meetings.c.place <= oldest))

    def _upsert(
        self,
        table: sa.Table,
        kept: Sequence[str],
        replaced: Sequence[str],
        *,
        raised: sa.Column[Any] | None = None,
    ) -> sa.Executable:
        """Return INSERT that overwrites `replaced` where the row is there, and adds one to `raised`; without either, it
        leaves that row as it is."""
        more = {} if raised is None else {raised.name: raised + 1}
        if not replaced and not more:  # a word that each of the engines has
            more = {kept[0]: table.c[kept[0]]}
        statement: Any
        if self._dialect == "mysql":
            statement = mysql.insert(table)
            values = {name: statement.inserted[name] for name in replaced}
            return cast("sa.Executable", statement.on_duplicate_key_update({**values, **more}))
        statement = (postgresql if self._dialect == "postgresql" else sqlite).insert(table)
        values = {name: statement.excluded[name] for name in replaced}
        return cast(
            "sa.Executable", statement.on_conflict_do_update(index_elements=list(kept), set_={**values, **more})
        )


def _first_epoch(now: datetime) -> int:
    """Return the epoch that a record begins with: milliseconds since 1970, so above what an earlier record of the same
    name came to, which a teardown has removed. No share is claimed a thousand times a second."""
    return int(now.timestamp() * 1000)
