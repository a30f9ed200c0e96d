"""One session after another until a run is done: what is the same around the sessions of every kind of run."""

from __future__ import annotations

import time
from collections.abc import Callable

from cdcflow.errors import CdcflowError, Unavailable
from cdcflow.flow.parts import Parts
from cdcflow.flow.retries import Outage
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# A server that is not there when the run begins is more likely a wrong address than an outage.
BEGIN_OUTAGE_SECONDS = 20.0


class Attempts:
    """The sessions of one run, with pauses between them while a server is away.

    message: what the log says before a pause. outage: the stretch without progress, which a session ends,
    and lengthens once both servers are there.
    """

    def __init__(self, parts: Parts, message: str) -> None:
        self._parts = parts
        self._message = message
        self.outage = Outage(min(BEGIN_OUTAGE_SECONDS, parts.settings.outage))

    def run(
        self,
        session: Callable[[], bool],
        *,
        failed: Callable[[CdcflowError], None] = lambda _: None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Open sessions until one returns True or the run is told to stop; then close the target and the store.

        failed: lets go of what the next session must not use, before the pause. close: what goes before the target.

        Raises:
            Unavailable: a server was away for too long.
            CdcflowError: somebody has to act; everything before it is applied.
        """
        parts, began = self._parts, time.monotonic()
        parts.observer.state("starting")
        try:
            while not parts.stop.is_set():
                try:
                    if session():
                        break
                except CdcflowError as error:
                    if parts.stop.is_set() and isinstance(error, Unavailable):
                        log.info("ended while a server was away", **error.fields())
                        break
                    pause = self._interrupted(error)
                    failed(error)
                    parts.stop.wait(pause)
        finally:
            parts.report.seconds = time.monotonic() - began
            parts.report.stopped = parts.stop.is_set()
            close()
            self._let_go()

    def _interrupted(self, error: CdcflowError) -> float:
        """Return how long to wait before the next session, or raise the error where there must be none."""
        parts = self._parts
        pause = self.outage.pause(error)
        parts.report.restarts += 1
        log.warning(self._message, pause_seconds=round(pause, 2), **error.fields())
        parts.observer.restarted(error.what)
        parts.observer.state("waiting")
        parts.observer.alive()  # an attempt has ended: a server is away, and nothing hangs here
        return pause

    def _let_go(self) -> None:
        for close in (self._parts.target.close, self._parts.store.release):
            try:
                close()
            except Unavailable as error:
                log.debug("closing failed", **error.fields())
