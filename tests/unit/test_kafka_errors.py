"""What a Kafka client tells of beside its calls, and what that means for a silence that follows."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from cdcflow.bus.kafka.errors import translate
from cdcflow.bus.kafka.waiting import Noted
from cdcflow.errors import AccessDenied, CdcflowError, ConfigError, SourceUnavailable

DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
REFUSED = KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: Authentication failed")


def test_a_refused_login_explains_why_no_broker_answers_until_one_has_let_us_in() -> None:
    noted = Noted()
    noted(REFUSED)
    noted(DOWN)
    assert isinstance(noted.explains(at="here"), AccessDenied)
    noted.forget()
    noted(DOWN)
    assert noted.explains(at="here") is None
    assert noted.words() == DOWN.str()


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("SSL handshake failed: certificate verify failed: broker certificate could not be verified", ConfigError),
        ("SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?", SourceUnavailable),
    ],
)
def test_a_broker_that_goes_away_in_the_handshake_is_away(words: str, meaning: type[CdcflowError]) -> None:
    found = translate(KafkaError(KafkaError._SSL, words), at="here", reading=True)
    assert isinstance(found, meaning)
    assert words in found.why


@pytest.mark.parametrize("why", ["Local: Broker transport failure", "Broker: Request not valid in current SASL state"])
def test_a_login_that_the_broker_did_not_refuse_is_tried_again(why: str) -> None:
    words = f"SASL OAUTHBEARER mechanism handshake failed: {why}: broker's supported mechanisms:"
    error = KafkaError(KafkaError._AUTHENTICATION, words)
    assert isinstance(translate(error, at="here", reading=True), SourceUnavailable)
    noted = Noted()
    noted(error)
    assert noted.explains(at="here") is None
