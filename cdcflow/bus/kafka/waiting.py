"""What clients say beside their calls, and waiting for the brokers' answers."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from cdcflow.bus.kafka.errors import AWAY, LOGIN, error_of, translate
from cdcflow.errors import AccessDenied, CdcflowError, ConfigError, SourceUnavailable, TargetUnavailable

ANSWER_SECONDS: Final = 20.0

# Brokers that have refused a login for so long do not mean it for a moment.
REFUSED_SECONDS: Final = 3.0

T = TypeVar("T")


def _weight(error: KafkaError) -> int:
    """Return how much an error says of why a client is not let in."""
    return 2 * isinstance(translate(error, at=""), (AccessDenied, ConfigError)) + (error.code() in LOGIN)


class Noted:
    """The errors that a client tells of in its `error_cb`: why a call that times out got no answer."""

    def __init__(self) -> None:
        self._last: KafkaError | None = None
        self._lock = threading.Lock()

    def __call__(self, error: KafkaError) -> None:
        with self._lock:
            # That every broker is down says less than why none let us in, and what passes less than what stays.
            if self._last is None or _weight(error) >= _weight(self._last):
                self._last = error

    def forget(self) -> None:
        """A broker let us in: what was told before says nothing of a later silence."""
        with self._lock:
            self._last = None

    def explains(self, *, at: str) -> CdcflowError | None:
        """Return the error that only a person can mend, where one was told of."""
        found = self.told(at=at)
        return found if isinstance(found, (AccessDenied, ConfigError)) else None

    def told(self, *, at: str, reading: bool = False) -> CdcflowError | None:
        """Return why no broker lets us in, where one was told of, be it something that passes: for whoever waits no
        longer. `reading` as `translate`."""
        with self._lock:
            last = self._last
        if last is None:
            return None
        found = translate(last, at=at, reading=reading)
        return found if last.code() in LOGIN or isinstance(found, (AccessDenied, ConfigError)) else None

    def words(self) -> str:
        """Return the last error's words, '' where there was none."""
        with self._lock:
            return "" if self._last is None else self._last.str()


class Admin:
    """An admin client that is made when first asked for. Any thread."""

    def __init__(self, client: Mapping[str, Any], at: str, *, reading: bool = False) -> None:
        self._client, self._at, self._reading = dict(client), at, reading
        self._noted = Noted()
        self._admin: AdminClient | None = None
        self._lock = threading.Lock()

    @property
    def client(self) -> AdminClient:
        """The client. Raises ConfigError where librdkafka refuses its settings."""
        with self._lock:
            if self._admin is None:
                try:
                    settings: Any = {**self._client, "error_cb": self._noted}
                    self._admin = AdminClient(settings)
                except KafkaException as error:
                    raise translate(error, at=self._at, reading=self._reading) from None
            return self._admin

    def wait(self, answer: Future[T]) -> T:
        """Return the answer.

        Raises:
            KafkaException: the broker refused.
            AccessDenied, ConfigError, TargetUnavailable, SourceUnavailable: there was no answer.
        """
        client, why = self.client, ""
        # A first look after a while: the rest of the time is for brokers that are silent, not for those that say no.
        for seconds in (REFUSED_SECONDS, ANSWER_SECONDS - REFUSED_SECONDS):
            try:
                try:
                    found = answer.result(seconds)
                finally:
                    client.poll(0)
                self._noted.forget()
                return found
            except TimeoutError:
                why = self._noted.words()
            except KafkaException as raised:
                if error_of(raised).code() not in AWAY:
                    raise
                why = error_of(raised).str()
            told = self._noted.explains(at=self._at)
            if told is not None:
                raise told
            if answer.done():
                break
        away = SourceUnavailable if self._reading else TargetUnavailable
        told = self._noted.told(at=self._at, reading=self._reading)
        raise told or away("the brokers do not answer", at=self._at, why=why)
