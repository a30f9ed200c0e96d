"""Who may write: the transactional ids of a pipeline, whose opening shuts out earlier writers, and its lease."""

from __future__ import annotations

from itertools import count

from cdcflow.bus.kafka.errors import fenced
from cdcflow.bus.kafka.session import Session
from cdcflow.bus.kafka.statetopic import LEASE, StateTopic, loader_key, value_of
from cdcflow.errors import CdcflowError, Fenced, TargetUnavailable


def applier_id(pipeline: str) -> str:
    """Return the id under which changes are published."""
    return f"cdcflow.{pipeline}"


def loader_id(pipeline: str, number: int) -> str:
    """Return the id of a loader of the copy; numbers from 0."""
    return f"cdcflow.{pipeline}.copy.{number}"


def store_id(pipeline: str) -> str:
    """Return the id under which the state is written, but for positions and chunks."""
    return f"cdcflow.{pipeline}.state"


class Numbers:
    """The numbers of loaders: the lowest that is free. The caller sees to it that one thread is in here."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self) -> int:
        number = next(each for each in count() if each not in self._taken)
        self._taken.add(number)
        return number

    def give(self, number: int) -> None:
        self._taken.discard(number)


class Lease:
    """The lease under which a target writes, as the state topic has it. Any thread."""

    def __init__(self, state: StateTopic, at: str, epoch: int) -> None:
        self._state, self._at, self.epoch = state, at, epoch

    def verify(self) -> None:
        """Called behind the opening of a transactional id: whoever takes the lease from now on shuts that out.

        Raises:
            Fenced: the lease is another one's.
        """
        found = self._state.read().get(LEASE)
        if found is None or found["epoch"] != self.epoch:
            why = "its state was removed" if found is None else f"epoch {found['epoch']} follows our {self.epoch}"
            raise fenced(self._at, why)

    def judged(self, error: CdcflowError) -> CdcflowError:
        """Return what an error means to the holder of the lease.

        A slow instance that lost the lease before may have opened our transactional id, and given up behind it.
        """
        if not isinstance(error, Fenced):
            return error
        try:
            self.verify()
        except CdcflowError as verdict:
            return verdict
        return TargetUnavailable("our producer was shut out by one without a lease", at=self._at, why=error.why)


def enter(session: Session, number: int, state: StateTopic, lease: Lease) -> None:
    """Open a loader's session, and put it on record: whoever takes the lease then knows whom to shut out.

    Raises:
        Fenced: the lease is not ours.
        CdcflowError: as `errors.translate`.
    """
    session.open()
    session.begin()
    session.send(state.name, value_of({"epoch": lease.epoch}), loader_key(number).encode(), 0)
    session.commit()
    state.read(session.written.get(state.name, -1))
    lease.verify()
