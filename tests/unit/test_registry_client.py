"""What a schema registry's answers mean: a small server that gives them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cdcflow.bus.config import Registry
from cdcflow.bus.registry import SchemaRegistry
from cdcflow.errors import AccessDenied, ConfigError, DecodeError, TargetUnavailable


class Answering(HTTPServer):
    """Gives one answer to every question, and remembers how it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.body = b"{}"
        self.authorization: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.authorization.append(self.headers.get("Authorization"))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_PUT = do_GET  # noqa: N815 - the names that the server looks for

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture
def answering() -> Iterator[Answering]:
    server = Answering()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_login_is_for_a_person_to_mend_and_not_in_the_message(answering: Answering, status: int) -> None:
    answering.status, answering.body = status, json.dumps({"error_code": status, "message": "no"}).encode()
    url = answering.url.replace("http://", "http://anna:se%20cret@")
    with pytest.raises(AccessDenied) as raised:
        SchemaRegistry(Registry(url=url), "target").register("a-value", "AVRO", '"string"')
    assert "cret" not in raised.value.report()
    assert answering.authorization[0] == "Basic YW5uYTpzZSBjcmV0"


def test_a_token_is_sent_as_a_bearer(answering: Answering) -> None:
    answering.body = b'{"id": 7}'
    registry = SchemaRegistry(Registry(url=answering.url, token="abc"), "target")
    assert registry.register("a-value", "AVRO", '"string"').id == 7
    assert answering.authorization == ["Bearer abc"]


def test_a_registry_that_fails_is_asked_once_and_the_error_passes(answering: Answering) -> None:
    answering.status, answering.body = 503, b'{"error_code": 50302, "message": "leader unknown"}'
    with pytest.raises(TargetUnavailable) as raised:
        SchemaRegistry(Registry(url=answering.url), "target").register("a-value", "AVRO", '"string"')
    assert raised.value.why == "leader unknown"
    assert len(answering.authorization) == 1


@pytest.mark.parametrize(("status", "error"), [(401, AccessDenied), (404, ConfigError), (500, TargetUnavailable)])
def test_it_is_not_ready_where_it_fails_or_does_not_know_us(
    answering: Answering, status: int, error: type[Exception]
) -> None:
    registry = SchemaRegistry(Registry(url=answering.url), "target")
    answering.status, answering.body = status, json.dumps({"error_code": status, "message": "no"}).encode()
    with pytest.raises(error):
        registry.ready()
    # Who may not list all subjects may use some.
    answering.status = 403
    registry.ready()
    answering.status, answering.body = 200, b"[]"
    registry.ready()


def test_what_is_no_registry_is_a_wrong_address(answering: Answering) -> None:
    answering.body = b"<html>welcome</html>"
    with pytest.raises(ConfigError, match="no schema registry"):
        SchemaRegistry(Registry(url=answering.url), "target").register("a-value", "AVRO", '"string"')


def test_schemas_are_asked_for_once(answering: Answering) -> None:
    answering.body = b'{"schema": "\\"string\\""}'
    registry = SchemaRegistry(Registry(url=answering.url), "source")
    assert registry.definition(3).text == registry.definition(3).text == '"string"'
    assert len(answering.authorization) == 1


def test_a_number_without_a_schema_is_told(answering: Answering) -> None:
    answering.status, answering.body = 404, b'{"error_code": 40403, "message": "Schema not found"}'
    with pytest.raises(DecodeError, match="under schema 3"):
        SchemaRegistry(Registry(url=answering.url), "source").definition(3)


def test_certificates_that_are_not_there_are_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        SchemaRegistry(Registry(url="https://127.0.0.1:1", ca="/nowhere/ca.pem"), "source")


@pytest.mark.parametrize(
    ("subjects", "wanted"),
    [("topic", "a.b-value"), ("record", "a.b.Value"), ("topic_record", "a.b-a.b.Value")],
)
def test_subjects_are_named_by_strategy(subjects: str, wanted: str) -> None:
    registry = SchemaRegistry(Registry(url="http://127.0.0.1:1", subjects=subjects), "target")  # type: ignore[arg-type]
    assert registry.subject("a.b", "value", "a.b.Value") == wanted
