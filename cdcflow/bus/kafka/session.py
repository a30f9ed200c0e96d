"""One transactional producer: its transactions, and what their failures mean.

https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from cdcflow.bus.kafka.errors import AWAY, TOO_LARGE, error_of, fenced, too_large, translate
from cdcflow.bus.kafka.waiting import Noted
from cdcflow.errors import CdcflowError, ConfigError, OperatorError, TargetUnavailable

# One call waits so long; it is asked again until the limit, unless the error says that it is of no use.
_CALL_SECONDS: Final = 10.0

# The transaction's coordinator may be on its way from a broker that was killed to another one.
_OPEN_LIMIT_SECONDS: Final = 40.0
_COMMIT_LIMIT_SECONDS: Final = 30.0

# What an abort is answered at once, however often, where a commit had no answer in time: that is still under way. It is
# called retriable.
_UNDER_WAY: Final = frozenset({KafkaError._CONFLICT, KafkaError._STATE})
_ABORT_PAUSE_SECONDS: Final = 0.1

# transaction.max.timeout.ms of a broker whose own value cannot be read.
LONGEST_TRANSACTION_MS: Final = 900_000

# What librdkafka may hold that the brokers have not confirmed: more gave no higher rate.
QUEUE_KBYTES: Final = 16 * 1024

# The same for one of several that copy: they share the memory.
LOADER_QUEUE_KBYTES: Final = 8 * 1024

# For so long a full queue may stay as full as it is, before the brokers count as away.
_STUCK_SECONDS: Final = 30.0

# How long to stand aside while the queue is full: a few thousand messages leave it meanwhile.
_FULL_SECONDS: Final = 0.002

Headers = Sequence[tuple[str, bytes]]


class Session:
    """A producer with at most one open transaction. One thread at a time.

    `open` shuts out every earlier producer of the same transactional id, and ends what it had open.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        at: str,
        transactional_id: str,
        *,
        compression: str = "lz4",
        timeout_ms: int = LONGEST_TRANSACTION_MS,
        message_bytes: int | None = None,
        batch_bytes: int | None = None,
        queue_kbytes: int = QUEUE_KBYTES,
    ) -> None:
        self._at, self._id = at, transactional_id
        self._noted = Noted()
        self._settings: dict[str, Any] = {
            "compression.type": compression,
            # A commit sends what is there at once, so this only makes the requests before it larger: a slow reader of
            # the source would else send each message by itself, which costs the broker more than the message.
            "linger.ms": 50,
            "queue.buffering.max.kbytes": queue_kbytes,
            "queue.buffering.max.messages": 200_000,
            # A topic that is gone is told of after this time; ours are there before they are written to.
            "topic.metadata.propagation.max.ms": 5000,
            **client,
            "transactional.id": transactional_id,
            "transaction.timeout.ms": client.get("transaction.timeout.ms", timeout_ms),
            "error_cb": self._noted,
        }
        if message_bytes is not None:
            self._settings["message.max.bytes"] = message_bytes
        if batch_bytes is not None:
            self._settings["batch.size"] = batch_bytes
        self._producer: Producer | None = None
        self._refused: list[tuple[str, bytes | None, KafkaError]] = []
        self.written: dict[str, int] = {}  # by topic, the offset of the last watched message; one partition each
        self.inside = False  # a transaction is open
        self.voided = False  # the brokers refused a message of the last transaction, or so it seems
        self._begun_at = 0.0
        self._waiting, self._waiting_since = 0, 0.0  # messages in the queue when it was full

    @property
    def producer(self) -> Producer:
        """The open producer."""
        assert self._producer is not None, "open comes first"
        return self._producer

    @property
    def is_open(self) -> bool:
        return self._producer is not None

    def open(self) -> None:
        """Become the only producer of the transactional id.

        Raises:
            TargetUnavailable, AccessDenied, ConfigError: as `errors.translate`.
        """
        self.close()
        try:
            producer = Producer(self._settings)
        except KafkaException as error:
            raise translate(error, at=self._at) from None
        until = time.monotonic() + _OPEN_LIMIT_SECONDS
        while True:
            try:
                producer.init_transactions(_CALL_SECONDS)
                break
            except KafkaException as raised:
                refusal = error_of(raised)
                _listen(producer)
                told = self._noted.explains(at=self._at)
                if told is not None:
                    raise told from None
                if not refusal.retriable() or time.monotonic() > until:
                    raise self._why(refusal) or translate(refusal, at=self._at) from None
        self._let_in(producer)
        self._producer = producer

    def begin(self) -> None:
        """Begin a transaction, if none is open."""
        if self.inside:
            return
        try:
            self.producer.begin_transaction()
        except KafkaException as error:
            raise self._failed(error) from None
        self.inside, self.voided = True, False
        self._begun_at = time.monotonic()
        self._refused.clear()

    def send(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1, headers: Headers | None = None
    ) -> None:
        """Send one message in the open transaction; its delivery is watched.

        Raises:
            RowRejected: it is too large.
            CdcflowError: as `errors.translate`.
        """
        produce = self.producer.produce
        more: dict[str, Any] = {"headers": headers} if headers else {}
        while True:
            try:
                produce(topic, value, key, partition, on_delivery=self._delivered, **more)
                return
            except BufferError:
                self.stand_aside()
            except KafkaException as error:
                raise self.unsent(error, topic) from None

    def stand_aside(self) -> None:
        """Let the queue drain a little; the caller tries again.

        Raises:
            TargetUnavailable: nothing has left the queue for long.
            CdcflowError: the producer is of no more use, as `errors.translate`.
        """
        try:
            self.producer.poll(_FULL_SECONDS)
        except KafkaException as raised:
            raise self._failed(raised) from None
        self.check_age()
        waiting, now = len(self.producer), time.monotonic()
        if waiting != self._waiting:
            self._waiting, self._waiting_since = waiting, now
        elif now - self._waiting_since > _STUCK_SECONDS:
            told = self._noted.told(at=self._at)
            why = self._noted.words()
            raise told or TargetUnavailable("the brokers take no messages", at=self._at, why=why)

    def flush(self) -> None:
        """Wait until everything that was sent is written, or refused. Raises as `stand_aside`."""
        while len(self.producer):
            self.stand_aside()

    def check_age(self) -> None:
        """Raise OperatorError where the open transaction is older than the brokers let it become."""
        limit = self._settings["transaction.timeout.ms"] / 1000
        if self.inside and time.monotonic() - self._begun_at > limit:
            raise OperatorError(
                "a transaction of the source takes longer than a transaction of the broker may",
                at=self._at,
                why=f"the brokers end transactions after {limit:.0f} s, and one batch is one transaction",
                do="raise transaction.max.timeout.ms at the brokers, then start cdcflow again",
            )

    def unsent(self, raised: KafkaException, topic: str) -> CdcflowError:
        """Return what it means that `produce` refused a message."""
        error = error_of(raised)
        if error.code() in TOO_LARGE:
            return too_large(self._at, topic, error.str())
        if error.code() == KafkaError._STATE:  # the transaction failed already; committing it says why
            return self._failed(raised)
        return translate(error, at=self._at, topic=topic)

    def commit(self) -> None:
        """Wait until every message is confirmed and the transaction is committed.

        Raises:
            Fenced: a newer producer has begun.
            TargetUnavailable: nothing was written, or what was done is unknown and the record tells.
            CdcflowError: a message was refused, as `errors.translate`; `refused` tells which.
        """
        until = time.monotonic() + _COMMIT_LIMIT_SECONDS
        while True:
            try:
                self.producer.commit_transaction(_CALL_SECONDS)
                break
            except KafkaException as raised:
                error = error_of(raised)
                if error.retriable() and time.monotonic() < until and not error.txn_requires_abort():
                    continue
                raise self._failed(raised) from None
        self._let_in(self.producer)
        self.inside = False

    def abort(self) -> None:
        """Give the open transaction up. Never raises: a producer that cannot is given up with it."""
        if not self.inside or self._producer is None:
            return
        self.inside = False
        until = time.monotonic() + _CALL_SECONDS
        while True:
            try:
                # What is not sent yet need not be.
                self._producer.purge(in_queue=True, in_flight=False, blocking=False)
                self._producer.abort_transaction(_CALL_SECONDS)
                return
            except KafkaException as raised:
                error = error_of(raised)
                if error.code() in _UNDER_WAY or not error.retriable() or time.monotonic() > until:
                    self.close()
                    return
                time.sleep(_ABORT_PAUSE_SECONDS)

    def refused(self) -> tuple[str, bytes | None, KafkaError] | None:
        """Return the first message of the last transaction that the brokers refused: topic, key, why."""
        return self._refused[0] if self._refused else None

    def close(self) -> None:
        """Let the producer go. What was not committed never will be."""
        producer, self._producer = self._producer, None
        inside, self.inside = self.inside, False
        if producer is None:
            return
        if inside:
            try:
                producer.purge(blocking=False)
                producer.abort_transaction(2.0)
            except KafkaException:
                pass  # the next `open` of the id ends it
        else:
            producer.purge(blocking=False)

    @property
    def watched(self) -> Callable[[KafkaError | None, Message], None]:
        """The delivery callback that remembers refusals, for messages whose fate has to be known one by one."""
        return self._delivered

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.written[message.topic() or ""] = message.offset() or 0
        elif error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            self._refused.append((message.topic() or "", message.key(), error))

    def _failed(self, raised: KafkaException) -> CdcflowError:
        """Return what the failure of the transaction means."""
        error = error_of(raised)
        self.voided = error.txn_requires_abort()
        if self._producer is not None:
            _listen(self._producer)
        if self._refused:
            topic, _, why = self._refused[0]
            return self._why(why) or translate(why, at=self._at, topic=topic)
        told = self._noted.explains(at=self._at) or self._why(error)
        if told is not None and not error.fatal():
            return told
        found = translate(error, at=self._at)
        if isinstance(found, (ConfigError, OperatorError)) or found.exit_code == 5:
            return found
        return TargetUnavailable("a transaction with the brokers failed", at=self._at, why=found.why)

    def _let_in(self, producer: Producer) -> None:
        """A call was answered: what was told before, or waits to be, is no cause of a later silence."""
        _listen(producer)
        self._noted.forget()

    def _why(self, error: KafkaError) -> CdcflowError | None:
        """Return why no broker lets us in, where the error is that none answers."""
        return self._noted.told(at=self._at) if error.code() in AWAY else None


def _listen(producer: Producer) -> None:
    """Take what the client tells of beside its calls. `poll` raises what is fatal, which each call says as well."""
    with suppress(KafkaException):
        producer.poll(0)


__all__ = ["LONGEST_TRANSACTION_MS", "Headers", "Session", "fenced"]
