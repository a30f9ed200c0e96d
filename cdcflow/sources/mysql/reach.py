"""How far the log was read: files and places, and the position behind the last transaction."""

from __future__ import annotations

import uuid
from typing import Final

from cdcflow.codecs.binlog_cy import Decoder
from cdcflow.errors import PositionLost
from cdcflow.sources.mysql.gtids import MariadbGtids, MysqlGtids
from cdcflow.sources.mysql.position import Binlog, file_number

OFFSET_BITS: Final = 40  # of a serial number, by which places are compared; above them is the file's number

# Where a file comes only after all that is read now.
_AHEAD: Final = 1 << 63


class Reach:
    """`end` is the last position that was told, or the start; `file` the log file that is read."""

    def __init__(
        self, decoder: Decoder, start: Binlog, server: str, *, told: str, begin: tuple[str, int], at: str
    ) -> None:
        """Go on from `start`.

        server: the identity of the server that is there.
        told: what positions call it.
        begin: where the reading of the log begins.
        at: where, for messages.
        """
        self._decoder = decoder
        self._server, self._told = server, told
        self._gtids = start.gtids
        self._begun, self._at = start, at
        # Files are numbered from 1 again under another name (--log-bin), so numbers compare under one name only.
        self._name, self._left = _parts(begin[0])[0], set[str]()
        self.file, self.end = start.file, start
        self.place(*begin)
        self.start = self.serial(start)

    def move(self, *, at_rest: bool, prepared: tuple[str, int] | None) -> bool:
        """Advance the end to behind the last transaction, or at rest to where the log was read; whether it moved."""
        number, offset, end = self._decoder.where()
        place = offset if at_rest else end
        if (number << OFFSET_BITS) | place < self.start:  # read again for the sake of a prepared transaction
            return False
        if self.file == self.end.file and place <= self.end.offset and self.end.server == self._told:
            return False
        self.end = Binlog(self.file, place, self._gtids, self._told, prepared=prepared)
        return True

    def note(self, runs: list[tuple[bytes, int, int]]) -> None:
        """Add the GTIDs of transactions that ended."""
        number, _, end = self._decoder.where()
        if (number << OFFSET_BITS) | end <= self.start:
            return
        for source, first, last in runs:
            if isinstance(self._gtids, MariadbGtids):
                domain, _, server = source.partition(b"-")
                self._gtids = self._gtids.add(int(domain), int(server), last)
            elif isinstance(self._gtids, MysqlGtids):
                name = str(uuid.UUID(bytes=source)) if len(source) == 16 else source.decode()
                self._gtids = self._gtids.add_run(name, first, last)

    def place(self, file: str, offset: int) -> None:
        """Note that what comes next stands there."""
        self.file = file
        name, number = _parts(file)
        if name != self._name:
            self._left.add(self._name)
            self._left.discard(name)
            self._name = name
            self.start = self.serial(self._begun)
        self._decoder.place(number, offset)

    def rotate(self, file: str, offset: int, begin: tuple[str, int]) -> None:
        """Go on in another file; the server also says so of the one that it begins in.

        begin: where the reading of the log began.
        """
        start = self._begun
        if (
            begin == (start.file, start.offset)
            and (file, self._server) == (start.file, start.server)
            and offset < start.offset
        ):
            self.file = file
            self._decoder.resume(self.serial(start) >> OFFSET_BITS, start.offset)
        else:
            self.place(file, offset)

    def serial(self, position: object) -> int:
        """Return a position as the decoder compares them; 0 for none, and for one of another server.

        Raises:
            PositionLost: its files have a name of which nobody knows whether it is an earlier or a later one.
        """
        if not isinstance(position, Binlog) or position.server != self._server:
            return 0
        name, number = _parts(position.file)
        if name == self._name:
            return (number << OFFSET_BITS) | position.offset
        if name in self._left:
            return 0
        if name == _parts(self._begun.file)[0]:
            return _AHEAD
        if self._begun.covers(position):
            return 0
        raise PositionLost(
            f"the source's log files are called {self._name} and {name}: which come first cannot be known",
            at=f"{self._at}, behind position {self.end}",
            why=f"a table was copied at {position}; log_bin of the server was changed since, or before",
            do="cdcflow resync --all",
        )


def _parts(file: str) -> tuple[str, int]:
    """Return a log file's name and number; 0 where it has none."""
    return file_number(file) or (file, 0)
