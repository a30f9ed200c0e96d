"""Where all shares of a table must have come before something happens to it as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

from cdcflow.errors import SourceUnavailable
from cdcflow.flow.parts import Parts
from cdcflow.model.change import ChangeBatch, Meeting, Truncate
from cdcflow.model.position import Share, Shares
from cdcflow.model.sharing import SharedStore, SharedStream
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# How often the others are looked for while a share waits.
LOOK_EVERY_SECONDS = 0.2

# How often it is told that a meeting is waited for.
TELL_EVERY_SECONDS = 60.0

GoBehind = Callable[[Mapping[str, int], ChangeBatch | None], None]
"""Moves shares behind a meeting, by name and place, and applies a batch with them in one transaction."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A share that stands at a meeting, under the claim that it was read under."""

    meeting: Meeting
    epoch: int

    def is_of(self, share: str, at: Share) -> bool:
        return self.meeting.share == share and self.epoch == at.epoch

    def is_held(self, held: Mapping[str, Share]) -> bool:
        at = held.get(self.meeting.share)
        return at is not None and at.epoch == self.epoch


class Gatherings:
    """The meetings that shares of this instance wait at. The applying thread's.

    Who holds the first of a meeting's shares, by name, does what is to be done, in the transaction that moves that
    share behind it. So the others see by any recorded place behind the meeting that it is done.
    """

    def __init__(self, parts: Parts, store: SharedStore, stream: SharedStream) -> None:
        self._pipeline = parts.settings.pipeline
        self._store, self._stream = store, stream
        self._open: dict[str, list[_Waiting]] = {}
        self._told_at: dict[str, float] = {}
        self._ends: dict[str, Mapping[str, int]] = {}
        self._looked_at = 0.0

    @property
    def open(self) -> bool:
        """Whether a share waits."""
        return bool(self._open)

    def expect(self, meeting: Meeting, epoch: int) -> None:
        """Note that a share of ours is about to come: its place stays before the meeting until that is held, or until
        the share is ours no longer under this claim."""
        self._open.setdefault(meeting.name, []).append(_Waiting(meeting, epoch))
        self._told_at.setdefault(meeting.name, time.monotonic())

    def before(self, share: str, at: Share) -> int:
        """Return the place that may be recorded of a share that was read up to `at`."""
        waiting = [
            each.meeting.place - 1 for meetings in self._open.values() for each in meetings if each.is_of(share, at)
        ]
        return min([at.place, *waiting])

    def arrive(self, meeting: Meeting) -> None:
        """Tell the others that a share of ours has come; everything before it is durable."""
        self._store.arrive(self._pipeline, meeting.name, meeting.share, meeting.place)
        self._looked_at = 0.0

    def attend(self, held: Mapping[str, Share], go_behind: GoBehind) -> None:
        """Look whether a meeting is complete or over; `held` are the shares that are ours now."""
        if not self._open or time.monotonic() - self._looked_at < LOOK_EVERY_SECONDS:
            return
        self._looked_at = time.monotonic()
        self._told_at = {name: at for name, at in self._told_at.items() if name in self._open}
        self._ends = {name: ends for name, ends in self._ends.items() if name in self._open}
        for name, meetings in list(self._open.items()):
            # A share that was lost and came back is read anew: another may have left the meeting with it meanwhile.
            ours = [each for each in meetings if each.is_held(held)]
            if not ours:
                del self._open[name]
                continue
            self._open[name] = ours
            if self._leave(name, [each.meeting for each in ours], go_behind):
                del self._open[name]

    def _leave(self, name: str, ours: list[Meeting], go_behind: GoBehind) -> bool:
        come, wanted = self._store.arrived(self._pipeline, name), ours[0].shares
        # A share that came and whose queue was deleted since may be on record, and is waited for no longer.
        arrived = {each.share: each.place for each in come if each.share in wanted}
        recorded = self._store.shares(self._pipeline)
        over = any(share in recorded and recorded[share].place >= place for share, place in arrived.items())
        here = {meeting.share: meeting.place for meeting in ours}
        if not over and not any(each.over for each in come):
            missing = self._missing(name, ours[0], wanted - arrived.keys(), recorded)
            if missing:
                self._tell(name, ours[0], sorted(missing))
                return False
            if not arrived.keys() >= here.keys():  # somebody has removed the record: as when we came
                for meeting in ours:
                    self.arrive(meeting)
                return False
            if min(arrived) not in here:
                return False
            # One that was interrupted and written again may say less.
            step = next((each.then for each in ours if each.then is not None), None)
            log.info("all shares have come", meeting=name, shares=len(wanted), then=_words(step))
            go_behind(here, ChangeBatch([step], Shares({}), 1) if step is not None else None)
        else:
            go_behind(here, None)
        for share, place in here.items():
            self._stream.resume(share, place)
        recorded = self._store.shares(self._pipeline)
        if all(share in recorded and recorded[share].place >= place for share, place in arrived.items()):
            self._store.part(self._pipeline, name)
        return True

    def _missing(self, name: str, ours: Meeting, absent: Set[str], recorded: Mapping[str, Share]) -> Set[str]:
        """Return those that are still to come. The marks were all written before one of them could be seen, and nobody
        goes behind one before the meeting is over: who is behind what there was then has none. Retention or compaction
        took it away. A place that was recorded in another topic of the same name says nothing.
        """
        if not absent:
            return absent
        if name not in self._ends:
            try:
                self._ends[name] = self._stream.ends(absent)
            except SourceUnavailable:
                return absent
        ends = self._ends[name]
        of = recorded[ours.share].identity if ours.share in recorded else ""
        return {
            one
            for one in absent
            if one not in ends or one not in recorded or recorded[one].identity != of or recorded[one].place < ends[one]
        }

    def _tell(self, name: str, meeting: Meeting, missing: list[str]) -> None:
        """Say from time to time whom we wait for."""
        now = time.monotonic()
        if now - self._told_at.setdefault(name, now) < TELL_EVERY_SECONDS:
            return
        self._told_at[name] = now
        log.warning(
            "shares wait for one another",
            then=_words(meeting.then),
            missing=", ".join(missing[:10]) + (", ..." if len(missing) > 10 else ""),
            do="see in `cdcflow status` whether these go forward: somebody has to read them",
        )


def _words(step: Truncate | None) -> str:
    if step is None:
        return "their rows go on"
    return "emptied: " + ", ".join(str(route.source.name) for route in step.routes)
