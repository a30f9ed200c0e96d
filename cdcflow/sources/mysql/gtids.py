"""Sets of transactions: MySQL's GTID sets, tags included, and MariaDB's lists of one GTID for each domain.

Both are immutable, and adding the next transaction to one costs the same however much is in it: what comes one after
the other from one server is kept as a run beside the rest, and text is made when somebody asks.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import Final, Literal
from uuid import UUID

Interval = tuple[int, int]
"""First and last transaction number, both in it."""

Intervals = tuple[Interval, ...]
"""Ascending, and never touching one another."""

_UUID: Final = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_TAG: Final = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_INTERVAL: Final = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?")
_MARIADB: Final = re.compile(r"(\d{1,10})-(\d{1,10})-(\d{1,20})")
# https://dev.mysql.com/doc/refman/9.4/en/replication-gtids-concepts.html: transaction numbers are below 2^63 - 1.
_LARGEST: Final = (1 << 63) - 2


class MysqlGtids:
    """A MySQL GTID set: `uuid:1-5:7,uuid:tag:1-3`.

    A *source* is the text before the numbers: `uuid` (lower case), or `uuid:tag`.
    """

    __slots__ = ("_first", "_last", "_rest", "_source", "_text")

    engine: Final[Literal["mysql"]] = "mysql"

    def __init__(self, sets: Mapping[str, Intervals] | None = None) -> None:
        """Make the set of these intervals, which are as `Intervals` says. See `parse` for text."""
        self._rest: Mapping[str, Intervals] = dict(sets) if sets else {}
        self._source, self._first, self._last = "", 0, -1
        self._text: str | None = None

    @classmethod
    def parse(cls, text: str) -> MysqlGtids:
        """Read a set as the server writes it, white space and repetitions included.

        Raises:
            ValueError: the text is no GTID set.
        """
        found: dict[str, list[Interval]] = {}
        for part in "".join(text.split()).lower().split(","):
            if not part:
                continue
            pieces = part.split(":")
            if not _UUID.fullmatch(pieces[0]) or len(pieces) < 2:
                raise ValueError(f"not a GTID set: {text[:60]!r}")
            source = uuid = str(UUID(pieces[0]))
            for piece in pieces[1:]:
                if _TAG.fullmatch(piece):
                    source = f"{uuid}:{piece}"
                    continue
                numbers = _INTERVAL.fullmatch(piece)
                if numbers is None or not piece.isascii():
                    raise ValueError(f"not a GTID set: {text[:60]!r}")
                first = int(numbers[1])
                last = int(numbers[2]) if numbers[2] else first
                if not 0 < first <= _LARGEST or last > _LARGEST:
                    raise ValueError(f"not a GTID set: {text[:60]!r}")
                if first <= last:
                    found.setdefault(source, []).append((first, last))
        return cls({source: _normal(intervals) for source, intervals in found.items()})

    def add(self, source: str, number: int) -> MysqlGtids:
        """Return the set with one transaction more."""
        if number == self._last + 1 and source == self._source:
            made = MysqlGtids.__new__(MysqlGtids)
            made._rest, made._source, made._first, made._last = self._rest, source, self._first, number
            made._text = None
            return made
        return self.add_run(source, number, number)

    def add_run(self, source: str, first: int, last: int) -> MysqlGtids:
        """Return the set with the transactions `first` to `last` (both in it) of one source more."""
        if not 0 < first <= last <= _LARGEST:
            raise ValueError(f"not a run of transactions: {first}-{last}")
        sets = self.sets
        known = sets.get(source, ())
        made = MysqlGtids.__new__(MysqlGtids)
        made._text = None
        if not known or known[-1][1] < first:
            # The run is last of its source: it takes up what it touches and can grow on its own.
            if known and known[-1][1] + 1 == first:
                first, known = known[-1][0], known[:-1]
            made._rest = {**sets, source: known} if known else {s: i for s, i in sets.items() if s != source}
            made._source, made._first, made._last = source, first, last
        else:
            made._rest = {**sets, source: _normal([*known, (first, last)])}
            made._source, made._first, made._last = "", 0, -1
        return made

    @property
    def sets(self) -> Mapping[str, Intervals]:
        """The intervals of each source; none is empty."""
        if not self._source:
            return self._rest
        return {**self._rest, self._source: (*self._rest.get(self._source, ()), (self._first, self._last))}

    def covers(self, other: Gtids) -> bool:
        """Return whether every transaction of `other` is in this set."""
        if not isinstance(other, MysqlGtids):
            return False
        mine = self.sets
        return all(_inside(intervals, mine.get(source, ())) for source, intervals in other.sets.items())

    def union(self, other: MysqlGtids) -> MysqlGtids:
        mine, theirs = self.sets, other.sets
        sources = (*mine, *(source for source in theirs if source not in mine))
        return MysqlGtids({source: _normal([*mine.get(source, ()), *theirs.get(source, ())]) for source in sources})

    def minus(self, other: MysqlGtids) -> MysqlGtids:
        """Return the transactions of this set that are not in `other`."""
        theirs = other.sets
        left = {source: _minus(intervals, theirs.get(source, ())) for source, intervals in self.sets.items()}
        return MysqlGtids({source: intervals for source, intervals in left.items() if intervals})

    def contains(self, source: str, number: int) -> bool:
        return _inside(((number, number),), self.sets.get(source, ()))

    def encode(self) -> bytes:
        """Return the set as COM_BINLOG_DUMP_GTID and Previous_gtids events have it, all numbers little-endian.

        The number of sources (8 bytes), and for each its UUID (16), the number of its intervals (8), and for each of
        these the first number and the one behind the last (8 and 8). With a tag anywhere the other form is used,
        which servers from 8.3 on know: in the first 8 bytes the lowest and the highest are 1 with the number of
        sources between them, and behind each UUID stand the tag's length, times two, in one byte, and the tag.
        https://dev.mysql.com/doc/dev/mysql-server/latest/classGtid__set.html
        """
        sets = sorted(self.sets.items())
        tagged = any(":" in source for source, _ in sets)
        count = len(sets)
        parts = [(1 << 56 | count << 8 | 1 if tagged else count).to_bytes(8, "little")]
        for source, intervals in sets:
            uuid, _, tag = source.partition(":")
            parts.append(UUID(uuid).bytes)
            if tagged:
                parts.append(bytes([len(tag) << 1]) + tag.encode("ascii"))
            parts.append(len(intervals).to_bytes(8, "little"))
            parts += [first.to_bytes(8, "little") + (last + 1).to_bytes(8, "little") for first, last in intervals]
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> MysqlGtids:
        """Read what `encode` writes.

        Raises:
            ValueError: the bytes are no such set.
        """
        reader = _Reader(data)
        word = reader.number(8)
        tagged = word >> 56 == 1
        count = word >> 8 & 0xFFFFFFFFFFFF if tagged else word
        found: dict[str, list[Interval]] = {}
        for _ in range(count):
            source = str(UUID(bytes=reader.take(16)))
            if tagged and (length := reader.number(1) >> 1):
                source += ":" + reader.take(length).decode("ascii")
            intervals = found.setdefault(source, [])
            for _ in range(reader.number(8)):
                first, behind = reader.number(8), reader.number(8)
                if not 0 < first < behind <= _LARGEST + 1:
                    raise ValueError("a GTID set has an interval that is none")
                intervals.append((first, behind - 1))
        reader.end()
        return cls({source: _normal(intervals) for source, intervals in found.items() if intervals})

    def __bool__(self) -> bool:
        return bool(self._source or self._rest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MysqlGtids) and dict(self.sets) == dict(other.sets)

    def __hash__(self) -> int:
        return hash(frozenset(self.sets.items()))

    def __str__(self) -> str:
        if self._text is None:
            self._text = _text(self.sets)
        return self._text

    def __repr__(self) -> str:
        return f"MysqlGtids({str(self)!r})"


class MariadbGtids:
    """A MariaDB GTID position: the last transaction of each domain, `0-1-100,1-2-5` (domain, server, number).

    Within a domain the numbers of a server's log ascend, so the last stands for all before it.
    """

    __slots__ = ("_domains", "_text")

    engine: Final[Literal["mariadb"]] = "mariadb"

    def __init__(self, domains: Mapping[int, tuple[int, int]] | None = None) -> None:
        """Make the position from (server, number) of each domain."""
        self._domains: Mapping[int, tuple[int, int]] = dict(domains) if domains else {}
        self._text: str | None = None

    @classmethod
    def parse(cls, text: str) -> MariadbGtids:
        """Read a list as the server writes it. Of several GTIDs of one domain (`gtid_binlog_state`) the highest
        number counts.

        Raises:
            ValueError: the text is no list of GTIDs.
        """
        domains: dict[int, tuple[int, int]] = {}
        for part in "".join(text.split()).split(","):
            if not part:
                continue
            found = _MARIADB.fullmatch(part)
            if found is None or not part.isascii():
                raise ValueError(f"not a list of MariaDB GTIDs: {text[:60]!r}")
            domain, server, number = map(int, found.groups())
            if domain not in domains or domains[domain][1] < number:
                domains[domain] = (server, number)
        return cls(domains)

    def add(self, domain: int, server: int, number: int) -> MariadbGtids:
        """Return the position behind one transaction more."""
        return MariadbGtids({**self._domains, domain: (server, number)})

    @property
    def domains(self) -> Mapping[int, tuple[int, int]]:
        """(server, number) of each domain."""
        return self._domains

    def covers(self, other: Gtids) -> bool:
        """Return whether each domain is at least as far as it is in `other`."""
        if not isinstance(other, MariadbGtids):
            return False
        mine = self._domains
        return all(domain in mine and mine[domain][1] >= number for domain, (_, number) in other._domains.items())

    def __bool__(self) -> bool:
        return bool(self._domains)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MariadbGtids) and self._domains == other._domains

    def __hash__(self) -> int:
        return hash(frozenset(self._domains.items()))

    def __str__(self) -> str:
        if self._text is None:
            self._text = ",".join(
                f"{domain}-{server}-{number}" for domain, (server, number) in sorted(self._domains.items())
            )
        return self._text

    def __repr__(self) -> str:
        return f"MariadbGtids({str(self)!r})"


Gtids = MysqlGtids | MariadbGtids


class _Reader:
    """Numbers and bytes from the front of a string, never past its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise ValueError("a GTID set ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("bytes follow a GTID set")


def _text(sets: Mapping[str, Intervals]) -> str:
    """Write the set as the server does: by UUID, what has no tag first."""
    parts: list[str] = []
    before = ""
    for source, intervals in sorted(sets.items()):
        uuid, _, tag = source.partition(":")
        numbers = ":".join(str(first) if first == last else f"{first}-{last}" for first, last in intervals)
        if uuid == before:
            parts[-1] += f":{tag}:{numbers}"
        else:
            parts.append(f"{source}:{numbers}")
        before = uuid
    return ",".join(parts)


def _normal(intervals: list[Interval]) -> Intervals:
    """Sort, and join what overlaps or touches."""
    joined: list[Interval] = []
    for first, last in sorted(intervals):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def _inside(inner: Intervals, outer: Intervals) -> bool:
    for first, last in inner:
        # The one interval of `outer` that could hold it is the last that starts at or before it.
        at = bisect_left(outer, (first + 1,)) - 1
        if at < 0 or outer[at][1] < last:
            return False
    return True


def _minus(intervals: Intervals, taken: Intervals) -> Intervals:
    left: list[Interval] = []
    at = 0
    for first, last in intervals:
        while at < len(taken) and taken[at][1] < first:
            at += 1
        index = at
        while index < len(taken) and taken[index][0] <= last:
            if taken[index][0] > first:
                left.append((first, taken[index][0] - 1))
            first = taken[index][1] + 1
            index += 1
        if first <= last:
            left.append((first, last))
    return tuple(left)
