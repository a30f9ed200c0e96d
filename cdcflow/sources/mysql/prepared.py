"""Rows of XA transactions that were prepared and wait for their COMMIT or ROLLBACK."""

from __future__ import annotations

from cdcflow.codecs.binlog_cy import MessageError
from cdcflow.errors import OperatorError
from cdcflow.model.change import Rows, Step


class Prepared:
    """Steps by the XA transaction's name. All of them together are held in memory, and no more than fits."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._steps: dict[bytes, list[Step]] = {}
        self._begun: dict[bytes, tuple[str, int]] = {}  # oldest first

    def read(self, body: bytes) -> tuple[bool, bytes]:
        """Read an XA_PREPARE event: whether it commits at once, and the name.

        https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1XA__prepare__event.html
        """
        if len(body) < 13:
            raise MessageError("an XA_PREPARE event is too short")
        one_phase = bool(body[0])
        form = int.from_bytes(body[1:5], "little")
        first, second = int.from_bytes(body[5:9], "little"), int.from_bytes(body[9:13], "little")
        name = body[13:]
        if len(name) < first + second:
            raise MessageError("an XA_PREPARE event ends inside its name")
        return one_phase, f"{name[:first].hex()},{name[first : first + second].hex()},{form}".encode()

    def limit(self, steps: list[Step], at: str) -> None:
        """Raise OperatorError where what is put aside, with these steps, passes the memory that it may have."""
        held = sum(_size(each) for each in self._steps.values()) + _size(steps)
        if held > self._most:
            raise OperatorError(
                "XA transactions that are not committed yet are larger than the memory for them",
                at=at,
                why=f"more than {self._most // 1_000_000} MB wait for XA COMMIT",
                do="raise `memory:` in the configuration",
            )

    def put(self, xid: bytes, steps: list[Step], begun: tuple[str, int]) -> None:
        """Put a transaction's rows aside. `begun`: the log file and the place where it begins."""
        self._steps[xid] = steps
        self._begun[xid] = begun

    def oldest(self) -> tuple[str, int] | None:
        """Return where the oldest of them begins, None where there are none."""
        return next(iter(self._begun.values()), None)

    def take(self, xid: bytes) -> list[Step] | None:
        """Return what was put aside, None where nothing was."""
        self._begun.pop(xid, None)
        return self._steps.pop(xid, None)


def _size(steps: list[Step]) -> int:
    return sum(frame.nbytes for step in steps if isinstance(step, Rows) for frame in step.frames.values())
