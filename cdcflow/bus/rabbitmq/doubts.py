"""Which changes were published before, where a publisher was killed between publishing and saving its checkpoint."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from cdcflow.bus.formats import OP, POSITION, SCHEMA
from cdcflow.errors import DecodeError

PLACE: Final = "cdcflow.place"

# A place in a share as one number: the publisher's session above so many bits of its count.
NUMBER_BITS: Final = 31
MOST_NUMBERS: Final = (1 << NUMBER_BITS) - 1

# In place of a place: the first message of a queue that was deleted and made again.
LOST: Final = b"lost"

# In place of a place: a message by which somebody tells where a stream ends. It says nothing else.
MARK: Final = b"mark"

# In place of a place: whoever reads it answers, to the queue that it names, when all before it is durable.
END: Final = b"end"

_BEGIN: Final = b"begin"
_MADE: Final = b"made"
_SEAL: Final = b"seal"

# As `Place.row`: a truncation that belongs to no transaction, before a table is copied again.
OF_NO_TRANSACTION: Final = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands: header `cdcflow.place`, `<generation>/<number>/<sealed>/<row>/<part>/<micros>`.

    generation: of the publishing session, larger than every earlier one's. number: of the message in its partition
    within the session, from 1 without gaps. sealed: up to this number of the session nothing will be published again.
    row: number of the row within its table and transaction. part: of the message within its row. micros: what the
    property `timestamp`, the time of the commit, has no room for below its second.
    """

    generation: int
    number: int
    sealed: int
    row: int
    part: int
    micros: int = 0

    @property
    def whole(self) -> int:
        """The place as one number, which grows within a queue."""
        return self.generation << NUMBER_BITS | self.number


@dataclass(frozen=True, slots=True)
class Session:
    """A publishing session begins, or a queue was made in it: header `cdcflow.place`, `begin/<generation>/<floor>` or
    `made/<generation>`.

    floor: the place, as one number, of the last message before it that a reader must have had, 0 where nothing is known
    of one. None where the queue was made: it has held everything from here on. generation: 0 of a queue that a reader
    made, which does not know the session.
    """

    generation: int
    floor: int | None

    @property
    def header(self) -> bytes:
        """The session as a header."""
        if self.floor is None:
            return b"%b/%d" % (_MADE, self.generation)
        return b"%b/%d/%d" % (_BEGIN, self.generation, self.floor)

    @property
    def whole(self) -> int:
        """Where it begins, as one number: before its first message."""
        return self.generation << NUMBER_BITS


def session_of(header: bytes) -> Session | None:
    """Read the header; None where no session begins there."""
    word, *numbers = header.split(b"/")
    if not all(number.isdigit() for number in numbers):
        return None
    if word == _MADE and len(numbers) == 1:
        return Session(int(numbers[0]), None)
    if word == _BEGIN and len(numbers) == 2:
        return Session(int(numbers[0]), int(numbers[1]))
    return None


def seal(generation: int, number: bytes) -> bytes:
    """Return what says, in place of a place, that nothing up to this number will be published again."""
    return b"%b/%d/%b" % (_SEAL, generation, number)


def seal_of(header: bytes) -> tuple[int, int] | None:
    """Read the header: (generation, number); None where nothing is sealed there."""
    word, *numbers = header.split(b"/")
    if word != _SEAL or len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1])


def is_place(header: bytes | None) -> bool:
    """Whether it is a place, and not what stands in place of one."""
    return header is not None and header[:1].isdigit()


def place_of(header: bytes) -> Place:
    """Read the header.

    Raises:
        DecodeError: it is no place.
    """
    try:
        generation, number, sealed, row, part, micros = map(int, header.split(b"/"))
    except ValueError:
        raise DecodeError(f"the header {PLACE} is no place") from None
    if not 0 < number <= MOST_NUMBERS or not 0 < generation < 1 << 32:
        raise DecodeError(f"the header {PLACE} is out of range")
    return Place(generation, number, sealed, row, part, micros)


# The transaction's position and the shape of the table.
Run = tuple[bytes, bytes]
# The last row of a run, and the last message of that row.
Row = tuple[int, int]


def run_of(headers: dict[str, bytes]) -> Run | None:
    """Return which rows the message's is one of, numbered by its place. None where it has no position of its own: a row
    of a transaction so large that it was published before its end was known, or a copied one."""
    position = headers.get(POSITION, b"").rpartition(b"/")[0]
    if not position:
        return None
    return position, headers.get(SCHEMA, b"") + (TRUNCATION if headers.get(OP) in (b"t", MARKED) else b"")


def in_no_transaction(place: Place, run: Run | None) -> bool:
    """Whether a message without a run is a truncation before a copy, which comes at any time."""
    return run is None and place.row == OF_NO_TRANSACTION


# Behind the shape's fingerprint in a run of truncations and marks, which are numbered by themselves.
TRUNCATION: Final = b"t"

# The operation of a mark at which readers wait and nothing happens.
MARKED: Final = b"m"


class Repeated:
    """What of a partition a session has published, when the next one begins with the same changes again.

    They come in the same order, so that what is repeated is the beginning of what comes: from the first change on that
    was not published before, nothing is a repetition. Were a later one left out, an earlier one that came anew might
    stand for the row's last state.
    """

    def __init__(self, runs: dict[Run, Row]) -> None:
        self._runs = runs

    def __bool__(self) -> bool:
        return bool(self._runs)

    def is_one(self, run: Run | None, row: Row) -> bool:
        """Return whether the next change is a repetition. Not asked for copied rows and the truncation before them,
        which come at any time."""
        if not self._runs:
            return False
        last = self._runs.get(run) if run is not None else None
        if last is not None and row <= last:
            return True
        self._runs = {}
        return False


class Doubts:
    """What one partition holds that may be published once more, told from its messages in their order.

    The rows of one table within one transaction come in order, so the last one of each is enough. stream: nothing is
    sealed there until everything that is repeated has been passed over.
    """

    def __init__(self, *, stream: bool = False) -> None:
        self._stream = stream
        self._generation = self.sealed = 0  # `sealed`: as `Place.whole`
        self._seen: dict[Run, Row] = {}
        self._numbers: deque[tuple[int, Run]] = deque()  # the number of each run's first message
        self._before: dict[Run, Row] = {}
        self._repeated = Repeated({})
        self._fresh = 0  # the number of the session's first change that was not published before

    def doubled(self, place: Place, run: Run | None, *, copied: bool) -> bool:
        """Note a message; return whether it repeats what an earlier session has published."""
        if place.generation != self._generation:
            self._before = self.open()
            self._repeated = Repeated(dict(self._before))
            self._seen, self._generation, self._fresh = {}, place.generation, 0
            self._numbers.clear()
        if place.sealed:
            self.seal(place.generation, place.sealed)
        if copied or in_no_transaction(place, run):
            return False
        row = (place.row, place.part)
        doubled = self._repeated.is_one(run, row)
        if not doubled and not self._fresh:
            self._fresh = place.number
        if run is not None:
            if run not in self._seen:
                self._numbers.append((place.number, run))
            self._seen[run] = max(row, self._seen.get(run, row))
        return doubled

    def seal(self, generation: int, number: int) -> None:
        """Nothing up to this number of the session will be published again.

        What earlier sessions published comes again before anything new does. So it is in doubt until it has come and is
        sealed, or something behind it is; copied rows, which come at any time, say nothing of it.
        """
        if generation != self._generation or not number:
            return
        known = bool(self._before)
        while self._numbers and self._numbers[0][0] <= number:
            run = self._numbers.popleft()[1]
            self._seen.pop(run, None)
            self._before.pop(run, None)
        if self._stream or (self._fresh and number >= self._fresh):
            self._before = {}
        elif self._before or not known:
            return  # what is before may be in doubt, also where it was not looked at
        self.sealed = max(self.sealed, generation << NUMBER_BITS | number)

    def sealed_since(self, first: Place | None) -> bool:
        """Return whether a message was sealed that stands at or behind the first one: nothing before it is in doubt."""
        return first is not None and self.sealed > first.whole

    def open(self) -> dict[Run, Row]:
        """Return what the next session may have to publish and must not."""
        return {**self._before, **{run: max(row, self._before.get(run, row)) for run, row in self._seen.items()}}
