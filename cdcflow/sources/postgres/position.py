"""A position in PostgreSQL's write-ahead log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cdcflow.model.position import Position

_TEXT: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_LARGEST: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Lsn:
    """A log sequence number: a byte offset into the log, 64 bits, printed as two halves in hexadecimal.

    A transaction is behind a position when its commit record *starts* before it. That is the first position
    of pgoutput's Begin message (`final_lsn`), and it is how the server itself decides what a stream that
    starts at a position leaves out.
    """

    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value <= _LARGEST:
            raise ValueError("a log sequence number has 64 bits")

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Read `0/5A3F210`.

        Raises:
            ValueError: the text is not a log sequence number.
        """
        found = _TEXT.fullmatch(text)
        if found is None or not text.isascii():
            raise ValueError(f"not a log sequence number: {text[:40]!r}")
        return cls(int(found[1], 16) << 32 | int(found[2], 16))

    def covers(self, other: Position) -> bool:
        """Return whether every transaction behind `other` is behind this one too."""
        return isinstance(other, Lsn) and self.value >= other.value

    def distance(self, other: Position) -> int | None:
        """Return the bytes of log from `other` (behind) to this one; negative where `other` is ahead."""
        return self.value - other.value if isinstance(other, Lsn) else None

    def at(self, number: int) -> Lsn:
        """Return the position of a batch's mark: the number is the position."""
        return Lsn(number)

    def __str__(self) -> str:
        return f"{self.value >> 32:X}/{self.value & 0xFFFFFFFF:X}"
