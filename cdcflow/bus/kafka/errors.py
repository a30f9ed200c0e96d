"""What a Kafka error means for the pipeline, by its code.

https://kafka.apache.org/protocol#protocol_error_codes; codes below zero are librdkafka's own.
"""

from __future__ import annotations

import re
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from cdcflow.errors import (
    AccessDenied,
    CdcflowError,
    ConfigError,
    Fenced,
    OperatorError,
    RowRejected,
    SourceUnavailable,
    TargetUnavailable,
    Unavailable,
)

FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})
TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
UNKNOWN_TOPIC: Final = frozenset(
    {KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART}
)
# The broker has not answered.
AWAY: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError._DESTROY,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_CONTROLLER,
        KafkaError.BROKER_NOT_AVAILABLE,
    }
)
_DENIED: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.DELEGATION_TOKEN_AUTHORIZATION_FAILED,
    }
)
LOGIN: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
    }
)
# What a member of a group dies of comes as one code, and what it was in the words.
_SAME_INSTANCE: Final = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
_INSTANCE_TAKEN: Final = KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str()
_ISSUER_REFUSES: Final = re.compile(r'"error"\s*:\s*"(invalid_|unauthorized_|unsupported_|access_denied)')


def error_of(raised: KafkaException | KafkaError) -> KafkaError:
    """Return the error inside a raised exception."""
    if isinstance(raised, KafkaError):
        return raised
    found = raised.args[0] if raised.args else None
    return found if isinstance(found, KafkaError) else KafkaError(KafkaError._FAIL, str(raised))


def translate(raised: KafkaException | KafkaError, *, at: str, topic: str = "", reading: bool = False) -> CdcflowError:
    """Return the error that a client's error stands for. Never raises, never shows a value.

    `reading`: the brokers are the source, and what is temporary is a SourceUnavailable.
    """
    error = error_of(raised)
    code, words = error.code(), error.str()
    away: type[Unavailable] = SourceUnavailable if reading else TargetUnavailable
    named = f'topic "{topic}"' if topic else "a topic"
    if code in FENCED:
        return fenced(at, "a newer producer of the pipeline has begun")
    if code == KafkaError._FATAL and _SAME_INSTANCE in words:
        do = "give each instance its own name under source: instance, or none"
        return OperatorError("another instance of the pipeline has the same `instance`", at=at, why=words, do=do)
    if code == KafkaError._FATAL and _INSTANCE_TAKEN in words:
        do = "nothing where it was killed a moment ago: the group forgets it soon; else give each instance its own name"
        return away("the group has a member of the same `instance`", at=at, why=words, do=do)
    if code == KafkaError._MAX_POLL_EXCEEDED:
        do = "nothing where the machine stood still; else raise max.poll.interval.ms in `properties:`"
        return away("the group gave our partitions away: nothing was read for too long", at=at, why=words, do=do)
    if code in LOGIN:
        return _login(words, at, away)
    if code in _DENIED:
        do = "`cdcflow check` names each privilege that is missing, with the kafka-acls command that grants it"
        what = f"the broker does not permit this for {named}" if topic else "the broker does not permit this"
        return AccessDenied(what, at=at, why=words, do=do)
    if code in TOO_LARGE:
        return too_large(at, topic, words)
    if code in UNKNOWN_TOPIC:
        return OperatorError(
            f"{named} is gone",
            at=at,
            why=words,
            do="cdcflow resync TABLE makes the topic again and publishes the table into it",
        )
    # A broker that goes away while the two greet each other is one that is stopped, not one of another kind.
    if code == KafkaError._SSL and "Disconnected" not in words:
        return ConfigError("TLS with the broker failed", at=at, why=words, do="correct `tls:` (ca, certificate, key)")
    if code == KafkaError.INVALID_TRANSACTION_TIMEOUT:
        do = "lower transaction.timeout.ms in `properties:`, or raise transaction.max.timeout.ms at the brokers"
        return ConfigError("the brokers do not permit so long a transaction", at=at, why=words, do=do)
    if code in (KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG, KafkaError.INVALID_REPLICATION_FACTOR):
        do = "correct partitions, replication and retention in the target"
        return OperatorError(f"{named} cannot be made", at=at, why=words, do=do)
    if code == KafkaError.INVALID_RECORD:
        do = "give the table a key in the rules (`key:`), or set the topic's cleanup.policy to delete"
        return RowRejected(f"{named} takes no message without a key", at=at, why=words, do=do)
    if code == KafkaError._INVALID_ARG:
        words = re.sub(r'\bvalue "[^"]*"', "value", words)
        return ConfigError("the client refuses a setting", at=at, why=words, do="correct `properties:`, or `url:`")
    return away("the brokers cannot be used now", at=at, why=f"{error.name()}: {words}")


def passes(error: KafkaError) -> bool:
    """Whether an error that came in place of a message is a broker's answer to a fetch, which the client makes again.

    What the client itself found wrong with what it got (codes below -1) it may step over. Of what comes as a message
    `retriable` says nothing.
    """
    return error.code() >= KafkaError.UNKNOWN and isinstance(translate(error, at=""), Unavailable)


def _login(words: str, at: str, away: type[Unavailable]) -> CdcflowError:
    """Return what a login that failed means: a no that stays, or one that passes.

    It passes where the broker went away in the middle of it; where a token was renewed when the old one had just
    expired, which a broker takes for a login that goes on (KIP-368) or for an invalid token (RFC 7628 section 3.2.2
    has one word for what is expired and what is wrong); and where whoever issues tokens does not answer. A no of the
    issuer has one of the words of RFC 6749 section 5.2.
    """
    if "Failed to acquire" in words:
        if _ISSUER_REFUSES.search(words):
            do = "correct client_id, client_secret and scope in `sasl:`"
            return AccessDenied("the issuer of tokens refuses the login", at=at, why=words, do=do)
        do = "see that sasl.token_url is right, and that who answers there issues tokens"
        return away("no token can be had for the brokers now", at=at, why=words, do=do)
    if "invalid_token" in words or ("OAUTHBEARER" in words and "not valid in current SASL state" in words):
        do = "nothing where the token had just expired; else see that the brokers trust its issuer, audience and scope"
        return away("the broker does not take the token", at=at, why=words, do=do)
    if "insufficient_scope" in words:
        do = "set sasl.scope to what the brokers ask of a token, and permit it to this client at the issuer"
        return AccessDenied("the broker wants a token of another scope", at=at, why=words, do=do)
    if "transport failure" in words:
        return away("the broker went away while we logged in", at=at, why=words)
    do = "correct user, password and sasl.mechanism; `cdcflow check` tries them"
    return AccessDenied("the broker refuses the login", at=at, why=words, do=do)


def fenced(at: str, why: str) -> Fenced:
    """Return the error for a writer that is no longer the pipeline's only one."""
    return Fenced(
        "another instance took the pipeline over",
        at=at,
        why=f"{why}; nothing of ours was written",
        do="let one instance of a pipeline run: `cdcflow status` says which one writes",
    )


def too_large(at: str, topic: str, why: str) -> RowRejected:
    """Return the error for a message that a topic does not take."""
    return RowRejected(
        f'a message is larger than topic "{topic}" takes' if topic else "a message is larger than its topic takes",
        at=at,
        why=why,
        do="raise max.message.bytes of the topic (and max_message_bytes in the target, where it is set), or leave the"
        " large column out in the rules",
    )
