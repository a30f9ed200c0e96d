"""Which transaction of the source each row belongs to, and the events that tell of whole transactions."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable

from cdcflow.bus.formats import Stamp, Stamps
from cdcflow.codecs.busorder_cy import Passed, spread
from cdcflow.model.change import ChangeBatch, Rows

# Four native int64 for each transaction: see `ChangeBatch.marks`.
_MARK = 4


class Numbering:
    """Numbers the rows of a stream within their transactions, over all batches and pieces. One thread."""

    def __init__(self) -> None:
        self._passed = Passed()
        self._marks = b""
        self.stamps: list[Stamp] = []  # of the batch; the last is of a transaction whose end is not known yet

    def batch(self, batch: ChangeBatch) -> None:
        """A batch begins."""
        self._passed.batch()
        self._marks = batch.marks
        marks = memoryview(self._marks).cast("q").tolist()
        self.stamps = [
            # The end of a batch that is a piece says nothing, so not where its transactions end either.
            Stamp(
                str(batch.end.at(marks[at + 1])) if batch.complete else "",
                str(marks[at + 3]) if marks[at + 3] else "",
                marks[at + 2],
            )
            for at in range(0, len(marks), _MARK)
        ]
        self.stamps.append(Stamp(commit_us=int(batch.commit_time * 1_000_000)))

    def spread(self, rows: Rows) -> dict[int, Stamps]:
        """Return the stamps of each frame of a step, by its number."""
        spread_out = spread(rows.order, self._marks, self._passed)
        return {number: Stamps(c[0], c[1], c[2], self.stamps) for number, c in spread_out.items()}

    def here(self) -> Stamp:
        """Return the transaction that the next row belongs to."""
        return self.stamps[min(self._passed.transaction, len(self.stamps) - 1)]

    def reset(self) -> None:
        """Nothing is open: the stream begins anew."""
        self._passed.reset()


class TransactionEvents:
    """BEGIN and END of each transaction, as Debezium's topic of transaction metadata has them.

    https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-transaction-metadata
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._counts: list[Counter[str]] = []
        self._left: Counter[str] = Counter()  # of a transaction that comes in pieces

    def count(self, rows: Rows, stamps: dict[int, Stamps]) -> None:
        """Count a step's rows by transaction and table."""
        for number, frame in rows.frames.items():
            table = str(frame.route.target)
            stamped = stamps[number]
            while len(self._counts) < len(stamped.stamps):
                self._counts.append(Counter())
            for index, many in Counter(memoryview(stamped.of_row).cast("I")).items():
                self._counts[index][table] += many

    def piece(self) -> None:
        """The batch ends inside a transaction."""
        for counted in self._counts:
            self._left.update(counted)
        self._counts.clear()

    def send(self, send: Callable[[str, bytes, bytes], None], stamps: list[Stamp]) -> None:
        """Tell of the batch's transactions, each from its beginning to its end."""
        for counted, stamp in zip(self._counts, stamps, strict=False):
            if self._left:
                counted.update(self._left)
                self._left = Counter()
            if not counted or not stamp.position:
                continue
            name = f"{stamp.number}:{stamp.position}"
            key = json.dumps({"id": name}, separators=(",", ":")).encode()
            collections = [{"data_collection": table, "event_count": many} for table, many in counted.items()]
            told = stamp.commit_us // 1000 or int(time.time() * 1000)
            begin = {"status": "BEGIN", "id": name, "ts_ms": told, "event_count": None, "data_collections": None}
            end = {**begin, "status": "END", "event_count": counted.total(), "data_collections": collections}
            for event in (begin, end):
                send(self._topic, json.dumps(event, separators=(",", ":")).encode(), key)
        self._counts.clear()

    def reset(self) -> None:
        """The open transaction is void."""
        self._counts.clear()
        self._left = Counter()
