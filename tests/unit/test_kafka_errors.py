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


@pytest.mark.parametrize(
    "words",
    [
        "SASL OAUTHBEARER mechanism handshake failed: Local: Broker transport failure: broker's supported mechanisms:",
        "SASL OAUTHBEARER mechanism handshake failed: Broker: Request not valid in current SASL state: broker's ..",
        'SASL authentication error: {"status":"invalid_token"} (after 137ms in state AUTH_REQ)',
        "Failed to acquire SASL OAUTHBEARER token: Failed to connect to 10.0.0.1:443 after 0 ms: Could not connect",
        "Failed to acquire SASL OAUTHBEARER token: <html>Bad gateway</html>",
    ],
)
def test_a_login_that_was_not_refused_for_good_is_tried_again(words: str) -> None:
    error = KafkaError(KafkaError._AUTHENTICATION, words)
    assert isinstance(translate(error, at="here", reading=True), SourceUnavailable)
    noted = Noted()
    noted(error)
    noted(DOWN)
    assert noted.explains(at="here") is None
    assert noted.words() == words
    noted(REFUSED)
    noted(error)
    assert isinstance(noted.explains(at="here"), AccessDenied)


@pytest.mark.parametrize(
    "said", ['{"error":"invalid_client"}', '{"error" : "invalid_scope", "error_description": ".."}']
)
def test_an_issuer_that_says_no_is_a_refused_login(said: str) -> None:
    words = f"Failed to acquire SASL OAUTHBEARER token: {said}"
    found = translate(KafkaError(KafkaError._AUTHENTICATION, words), at="here")
    assert isinstance(found, AccessDenied)
    assert "client_secret" in found.do


def test_who_waits_no_longer_tells_of_a_login_that_may_pass() -> None:
    words = "Failed to acquire SASL OAUTHBEARER token: no such tenant"
    noted = Noted()
    assert noted.told(at="here") is None
    noted(DOWN)
    assert noted.told(at="here") is None
    noted(KafkaError(KafkaError._AUTHENTICATION, words))
    noted(DOWN)
    told = noted.told(at="here", reading=True)
    assert isinstance(told, SourceUnavailable)
    assert told.why == words
    assert "sasl.token_url" in told.do


def test_a_token_of_too_small_a_scope_is_told_with_the_setting() -> None:
    error = KafkaError(KafkaError._AUTHENTICATION, 'SASL authentication error: {"status":"insufficient_scope"}')
    found = translate(error, at="here")
    assert isinstance(found, AccessDenied)
    assert "sasl.scope" in found.do
