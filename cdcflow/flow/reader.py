"""The reading thread: from the stream into the inbox, never silent for long however full the inbox is."""

from __future__ import annotations

import threading

from cdcflow.flow.inbox import Inbox
from cdcflow.model.ports import Stream

# How long one `read` waits for the source. Also how late, at the worst, the thread notices that it should end.
READ_WAIT_SECONDS = 0.25

# While the inbox is full the source must still hear from us well inside its timeout (60 s by default).
IDLE_EVERY_SECONDS = 1.0


class Reader:
    """Owns a stream from `start` to `close`. Whatever goes wrong in the thread comes out of `Inbox.take`."""

    def __init__(self, stream: Stream, inbox: Inbox) -> None:
        self.stream = stream
        self._inbox = inbox
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cdcflow-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the stream stays open, for a last word to the source."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        """End the thread and close the stream."""
        self.stop()
        self.stream.close()

    def _run(self) -> None:
        stream, inbox, ending = self.stream, self._inbox, self._ending
        try:
            while not ending.is_set():
                piece = stream.read(READ_WAIT_SECONDS)
                if piece is None:
                    continue
                inbox.put(piece)
                piece = None  # a batch may be large, and lives no longer than the applier needs it
                while not inbox.wait_for_room(IDLE_EVERY_SECONDS) and not ending.is_set():
                    stream.idle()
        except BaseException as failure:
            inbox.fail(failure)
