"""Where a partition goes on: its recorded place, as far as the brokers still have what follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from cdcflow.bus.kafka.partitions import Cluster, partition_of, share_name
from cdcflow.errors import OperatorError, PositionLost, SourceChanged, SourceUnavailable
from cdcflow.model.position import Share
from cdcflow.model.sharing import Claims
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

Partition = tuple[str, int]

Emptied = Callable[[Sequence[Partition]], Mapping[Partition, bool | None]]
"""Says of partitions whether the first message tells that the table was emptied; None where there is no message."""


class Starts:
    """Finds starting places. `known` are the partitions that were there when the stream began: where `start` is latest,
    those are begun at their end with which the pipeline begins, and what came later at its start."""

    def __init__(
        self,
        cluster: Cluster,
        start: Literal["earliest", "latest"],
        known: Mapping[str, int],
        emptied: Emptied,
        at: str,
    ) -> None:
        self._cluster, self._start, self._known, self._at = cluster, start, dict(known), at
        self._emptied = emptied

    def take(self, names: Sequence[str], claims: Claims) -> dict[str, Share]:
        """Claim shares; return each with the next offset to read.

        Raises:
            PositionLost: retention has removed what follows the recorded place.
            SourceChanged: the topic was made anew, and does not tell that what was read of the old one is void.
            SourceUnavailable: no broker answers, or a topic that was made anew holds nothing yet.
            TargetUnavailable: as `Claims.take`.
        """
        begun = self._begin(names, claims)
        claimed = self._same(claims.take(names), claims)
        places = self._of(claimed, begun)
        return {name: replace(share, place=places[name]) for name, share in claimed.items()}

    def _begin(self, names: Sequence[str], claims: Claims) -> Mapping[str, int]:
        """Put on record, and return, where partitions begin that never were: what follows is lost from now on when it
        goes unread. Where `start` is latest, all that there are at once, with the first claim of all: so a partition
        that is not on record afterwards came later, whoever claims it, and however often the stream began meanwhile."""
        recorded = claims.recorded()
        new = self._start == "latest" and not recorded
        fresh = {partition_of(name)[0] for name in names if name not in recorded}
        if new:
            fresh |= self._known.keys()
        if not fresh:
            return {}
        ids = self._cluster.ids(sorted(fresh))  # before the places, which are of these or of newer ones
        begun: dict[str, int] = {}
        if new:
            ends = self._cluster.ends(
                (topic, number) for topic, count in self._known.items() for number in range(count)
            )
            begun |= {share_name(*one): end for one, end in ends.items()}
        others = [partition_of(name) for name in names if name not in recorded and name not in begun]
        begun |= {share_name(*one): first for one, first in self._cluster.starts(others).items()}
        claims.begin(begun)
        # A place without an id would be taken for one in a topic that is made anew before it is claimed.
        nameless = {name: at for name, at in claims.recorded().items() if name in begun and not at.identity}
        named = {name: replace(at, identity=ids.get(partition_of(name)[0], "")) for name, at in nameless.items()}
        claims.identify({name: at for name, at in named.items() if at.identity})
        return begun

    def _same(self, claimed: Mapping[str, Share], claims: Claims) -> dict[str, Share]:
        """Compare the topics with those that were read before, by their ids; a place in another one says nothing.

        What was not read of a topic that is gone is lost, and so are the deletions in it. Another one is begun at its
        start where it begins with a truncate: then its publisher knows of that, and has copied the table behind it.
        """
        ids = self._cluster.ids(sorted({partition_of(name)[0] for name in claimed}))
        now = {name: replace(share, identity=ids.get(partition_of(name)[0], "")) for name, share in claimed.items()}
        others = [
            name
            for name, share in claimed.items()
            if "" not in (share.identity, now[name].identity) and share.identity != now[name].identity
        ]
        if others:
            found = self._emptied([partition_of(name) for name in others])
            for name in others:
                self._judge(name, found[partition_of(name)])
                log.warning("a topic was made anew, it is read from its start", share=name, place=claimed[name].place)
                now[name] = replace(now[name], place=0)
        fresh = {name: at for name, at in now.items() if at.identity and at.identity != claimed[name].identity}
        if fresh:
            claims.identify(fresh)
        return now

    def _judge(self, name: str, emptied: bool | None) -> None:
        topic, partition = partition_of(name)
        if emptied is None:
            raise SourceUnavailable(
                f'topic "{topic}" was made anew, and holds nothing yet',
                at=self._at,
                why="what was not read of the one before is lost",
                do="cdcflow resync at the publisher copies the table into it; then it is read from its start",
            )
        if not emptied:
            raise self.remade(topic, f"partition {partition} does not begin with the truncate of a copy that begins")

    def _of(self, claimed: Mapping[str, Share], begun: Mapping[str, int]) -> dict[str, int]:
        """Return the next offset to read of each share; `begun` were not on record before."""
        partitions = [partition_of(name) for name in claimed]
        starts = self._cluster.starts(partitions)
        ends = self._cluster.ends(partitions, committed=False)
        found: dict[str, int] = {}
        for name, share in claimed.items():
            one = partition_of(name)
            first, end = starts[one], ends[one]
            if share.epoch == 0:  # an onlooker, who claims nothing
                latest = self._start == "latest" and one[1] < self._known.get(one[0], 0)
                found[name] = end if latest else first
            elif share.place < first:
                # Retention may go on between two looks; and what is before a truncate is void.
                if name not in begun and (share.place or not self._emptied([one])[one]):
                    raise self._lost(name, share.place, first)
                found[name] = first
            elif share.place > end:
                raise self.remade(one[0], f"partition {one[1]} ends at {end}, and {share.place} was recorded")
            else:
                found[name] = share.place
        return found

    def ends(self, shares: Iterable[str]) -> dict[str, int]:
        """Return the places behind all that the brokers have of shares, open transactions included.

        Raises:
            SourceUnavailable: no broker answers.
        """
        found = self._cluster.ends(map(partition_of, shares), committed=False)
        return {share_name(*one): end for one, end in found.items()}

    def lost(self, name: str, place: int) -> OperatorError:
        """Return the error for a place that the broker refused to read from."""
        one = partition_of(name)
        first = self._cluster.starts([one]).get(one, place)
        if first > place:
            return self._lost(name, place, first)
        return self.remade(one[0], f"partition {one[1]} has no offset {place}")

    def _lost(self, name: str, place: int, first: int) -> PositionLost:
        topic, partition = partition_of(name)
        return PositionLost(
            f"the brokers no longer hold what follows the last applied message of {topic}, partition {partition}",
            at=self._at,
            why=f"offsets {place} to {first - 1} were removed by the topic's retention",
            do="copy the tables again (cdcflow resync at the publisher), after raising retention.ms; then forget the"
            " old places: cdcflow teardown, and start once more",
        )

    def remade(self, topic: str, why: str) -> SourceChanged:
        """Return the error for a topic that is another one than was read, and does not say what that means."""
        return SourceChanged(
            f'topic "{topic}" was made anew since it was read',
            at=self._at,
            why=why,
            do="delete the topic and have its publisher copy the tables again (cdcflow resync): that makes it with a"
            " truncate first (not with `signals: none`); then start once more. Behind another publisher than cdcflow,"
            " empty the tables in the target, then cdcflow teardown, and start once more",
        )
