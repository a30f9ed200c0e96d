"""A position in a binary log: a file and an offset on one server, and the transactions behind it for all others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from cdcflow.model.position import Position
from cdcflow.sources.mysql.gtids import Gtids, MariadbGtids, MysqlGtids

# Greedy up to the last `:digits@`, so that a file may have any name; no other part has an `@`.
_TEXT: Final = re.compile(
    r"(?P<file>.*):(?P<offset>\d{1,20})@(?P<server>[^\s@]*)(?: (?P<kind>mysql|mariadb)=(?P<gtids>\S*))?"
    r"(?: prepared=(?P<since_file>\S+):(?P<since>\d{1,20}))?"
    r"(?: perhaps=(?P<perhaps_file>\S+):(?P<perhaps>\d{1,20}))?",
    re.DOTALL,
)
_SUFFIX: Final = re.compile(r"(.*)\.(\d{1,18})", re.DOTALL)
_KINDS: Final[dict[str, Callable[[str], Gtids]]] = {"mysql": MysqlGtids.parse, "mariadb": MariadbGtids.parse}

# Behind a server's name: that the place is not exact, and only the GTIDs say what was read. MariaDB sends each domain
# from its own GTID on, and of two domains another server may have logged one further before the other.
DOUBT: Final = "?"

# A position as one number, as a batch's marks have it: the file's number above so many bits of offset.
OFFSET_BITS: Final = 40


@dataclass(frozen=True, slots=True)
class Binlog:
    """A commit boundary: the end of a transaction's last event.

    file, offset: the binary log's file as `SHOW BINARY LOGS` names it, and the byte behind the boundary.
    gtids: every transaction up to here; None where the server gives its transactions no GTIDs.
    server: whose file it is: MySQL's server_uuid, MariaDB's server_id; with `DOUBT` where the place is not exact.
    prepared: where the oldest XA transaction begins that was prepared and neither committed nor rolled back up to
        here: whoever goes on from here has to read its rows again.
    perhaps: the same where nobody knows whether there is one: who can read from there should.
    sizes: where they are known, the log's files and their bytes, oldest first; only `distance` uses them.

    The text is `binlog.000003:1234@<server> mysql=<gtid set>`, `.. mariadb=<gtid list>`, or without GTIDs.
    """

    file: str
    offset: int
    gtids: Gtids | None = None
    server: str = ""
    sizes: Mapping[str, int] | None = field(default=None, compare=False, repr=False)
    prepared: tuple[str, int] | None = field(default=None, compare=False)
    perhaps: tuple[str, int] | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, text: str) -> Binlog:
        """Read what `str` wrote.

        Raises:
            ValueError: the text is no such position.
        """
        found = _TEXT.fullmatch(text)
        if found is None or not found["file"]:
            raise ValueError(f"not a position in a binary log: {text[:60]!r}")
        gtids = _KINDS[found["kind"]](found["gtids"]) if found["kind"] else None
        prepared = (found["since_file"], int(found["since"])) if found["since_file"] else None
        perhaps = (found["perhaps_file"], int(found["perhaps"])) if found["perhaps_file"] else None
        offset = int(found["offset"])
        return cls(found["file"], offset, gtids, found["server"], prepared=prepared, perhaps=perhaps)

    @property
    def begin(self) -> tuple[str, int]:
        """Where the log is read from by who goes on from here."""
        return self.prepared or self.perhaps or (self.file, self.offset)

    def after(self, known: Binlog | None) -> Binlog:
        """Return this position for who begins here, and knows of XA transactions only what `known`, a position before
        this one, says: those that were prepared since begin behind it."""
        if known is None or known.server != self.server or (known == self and known.begin == (self.file, self.offset)):
            return self
        return replace(self, perhaps=known.begin)

    def covers(self, other: Position) -> bool:
        """Return whether every transaction behind `other` is behind this one too.

        On one server the place in its files decides. Between servers (or where the files were renamed) the GTIDs do;
        without them nothing is known, and so it does not.
        """
        if not isinstance(other, Binlog):
            return False
        if self.server == other.server:
            if self.file == other.file:
                return self.offset >= other.offset
            mine, theirs = file_number(self.file), file_number(other.file)
            if mine is not None and theirs is not None and mine[0] == theirs[0]:
                return (mine[1], self.offset) >= (theirs[1], other.offset)
        return self.gtids is not None and other.gtids is not None and self.gtids.covers(other.gtids)

    def distance(self, other: Position) -> int | None:
        """Return the bytes of log from `other` (behind) to this one, negative where `other` is ahead; None between
        servers, and between files where neither position knows their sizes."""
        if not isinstance(other, Binlog) or self.server.rstrip(DOUBT) != other.server.rstrip(DOUBT):
            return None
        if self.file == other.file:
            return self.offset - other.offset
        if not self.covers(other):
            back = other.distance(self) if other.covers(self) else None
            return None if back is None else -back
        sizes = self.sizes or other.sizes
        first, last = file_number(other.file), file_number(self.file)
        if sizes is None or other.file not in sizes or first is None or last is None:
            return None
        between = 0
        for file, size in sizes.items():
            number = file_number(file)
            if number is not None and number[0] == first[0] and first[1] < number[1] < last[1]:
                between += size
        return sizes[other.file] - other.offset + between + self.offset

    def at(self, number: int) -> Binlog:
        """Return the position of a batch's mark: the file's number above the low 40 bits, which are the offset. Its
        GTIDs are not known."""
        found = file_number(self.file)
        file = f"{found[0]}.{number >> OFFSET_BITS:06d}" if found else self.file
        return Binlog(file, number & ((1 << OFFSET_BITS) - 1), None, self.server, sizes=self.sizes)

    def __str__(self) -> str:
        text = f"{self.file}:{self.offset}@{self.server}"
        if self.gtids is not None:
            text = f"{text} {self.gtids.engine}={self.gtids}"
        for word, place in (("prepared", self.prepared), ("perhaps", self.perhaps)):
            if place is not None:
                text += f" {word}={place[0]}:{place[1]}"
        return text


def file_number(file: str) -> tuple[str, int] | None:
    """Return a log file's name and number: `binlog.000010` is ("binlog", 10). None where it has none.

    The suffix is a number and not text: after `.999999` comes `.1000000`.
    """
    found = _SUFFIX.fullmatch(file)
    return (found[1], int(found[2])) if found else None
