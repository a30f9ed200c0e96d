"""Where a partition goes on: its recorded place, as far as the brokers still have what follows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from cdcflow.bus.kafka.partitions import Cluster, partition_of, share_name
from cdcflow.errors import OperatorError, PositionLost, SourceChanged
from cdcflow.model.position import Share


class Starts:
    """Finds starting places. `known` are the partitions that were there when the stream began: one that came later is
    read from its beginning also where `start` is latest."""

    def __init__(
        self, cluster: Cluster, start: Literal["earliest", "latest"], known: Mapping[str, int], at: str
    ) -> None:
        self._cluster, self._start, self._known, self._at = cluster, start, dict(known), at

    def of(self, claimed: Mapping[str, Share]) -> dict[str, int]:
        """Return the next offset to read of each claimed partition.

        Raises:
            PositionLost: retention has removed what follows the recorded place.
            SourceChanged: the topic ends before it: it was made anew.
            SourceUnavailable: no broker answers.
        """
        partitions = [partition_of(name) for name in claimed]
        starts = self._cluster.starts(partitions)
        ends = self._cluster.ends(partitions, committed=False)
        found: dict[str, int] = {}
        for name, share in claimed.items():
            one = partition_of(name)
            first, end = starts[one], ends[one]
            if share.place == 0:
                # Claimed before, it was empty then: what is in it now came since, and somebody was to read it.
                # Epoch 0 is that of an onlooker, who claims nothing.
                latest = self._start == "latest" and share.epoch <= 1 and one[1] < self._known.get(one[0], 0)
                found[name] = end if latest else first
            elif share.place < first:
                raise self._lost(name, share.place, first)
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
        """Return the error for a topic that is another one than was read."""
        return SourceChanged(
            f'topic "{topic}" was made anew since it was read',
            at=self._at,
            why=why,
            do="see that it holds what the tables need (cdcflow resync at the publisher); then forget the old places:"
            " cdcflow teardown, and start once more",
        )
