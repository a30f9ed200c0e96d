"""The pipeline's HTTP pages, over real sockets."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from cdcflow.errors import ConfigError
from cdcflow.ops.health import Health
from cdcflow.ops.http import Endpoint, Reply, pages, split_listen
from cdcflow.ops.metrics import Metrics


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(stale_after_seconds=30, clock=clock)


@pytest.fixture
def endpoint(health: Health) -> Iterator[Endpoint]:
    def broken() -> Reply:
        raise RuntimeError("secret detail")

    served = Endpoint("127.0.0.1:0", {**pages(Metrics("shop"), health), "/broken": broken})
    yield served
    served.close()


def get(endpoint: Endpoint, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    request = urllib.request.Request(f"http://{endpoint.address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.headers["Content-Type"], exc.read()


def test_metrics_are_served_as_prometheus_text(endpoint: Endpoint) -> None:
    status, kind, body = get(endpoint, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    assert b"cdcflow_restarts_total" in body


@pytest.mark.parametrize("state", ["copying", "streaming"])
def test_ready_while_copying_or_streaming(endpoint: Endpoint, health: Health, state: str) -> None:
    assert get(endpoint, "/health/ready")[0] == 503
    health.state(state)
    status, kind, body = get(endpoint, "/health/ready")
    assert (status, kind.split(";")[0]) == (200, "application/json")
    assert json.loads(body)["state"] == state


def test_waiting_for_a_server_is_alive_but_not_ready(endpoint: Endpoint, health: Health) -> None:
    health.state("streaming")
    health.state("waiting")
    assert get(endpoint, "/health/live")[0] == 200
    assert get(endpoint, "/health/ready")[0] == 503


def test_without_signs_of_life_it_is_neither_live_nor_ready_until_the_next(
    endpoint: Endpoint, health: Health, clock: Clock
) -> None:
    health.state("streaming")
    clock.now += 31
    assert get(endpoint, "/health/live")[0] == 503
    assert get(endpoint, "/health/ready")[0] == 503
    health.alive()
    assert get(endpoint, "/health/live")[0] == 200
    assert get(endpoint, "/health/ready")[0] == 200


def test_health_says_where_the_pipeline_is(endpoint: Endpoint, health: Health) -> None:
    health.table_state("public.a", "live")
    health.table_state("public.b", "copying")
    health.table_state("public.c", "copying")
    health.table_state("public.c", "dropped")
    health.position("0/5A3F210", 1234, 0.5)
    body = json.loads(get(endpoint, "/health/live")[2])
    assert body["tables"] == {"live": 1, "copying": 1}
    assert (body["position"], body["lag_bytes"], body["lag_seconds"]) == ("0/5A3F210", 1234, 0.5)


def test_an_unknown_page_names_the_known_ones(endpoint: Endpoint) -> None:
    status, _, body = get(endpoint, "/nothing?x=1")
    assert status == 404
    assert "/metrics" in json.loads(body)["pages"]


def test_a_page_that_fails_answers_500_without_its_detail(endpoint: Endpoint) -> None:
    status, _, body = get(endpoint, "/broken")
    assert status == 500
    assert b"RuntimeError" in body
    assert b"secret" not in body


def test_head_has_no_body_and_other_methods_are_refused(endpoint: Endpoint) -> None:
    assert get(endpoint, "/health/live", "HEAD")[::2] == (200, b"")
    assert get(endpoint, "/health/live", "POST")[0] == 501


def test_a_port_in_use_is_an_error_of_the_configuration() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"cannot listen on {listen}: address already in use"):
            Endpoint(listen, {})


def test_closing_frees_the_port() -> None:
    first = Endpoint("127.0.0.1:0", {})
    first.close()
    again = Endpoint(first.address, {})
    again.close()


@pytest.mark.parametrize(
    ("listen", "expected"),
    [("127.0.0.1:9187", ("127.0.0.1", 9187)), (":80", ("127.0.0.1", 80)), ("[::1]:1", ("::1", 1))],
)
def test_listen_takes_host_and_port(listen: str, expected: tuple[str, int]) -> None:
    assert split_listen(listen) == expected


@pytest.mark.parametrize("listen", ["", "9187", "localhost", "host:port", "host:70000", "host:", "host:²"])
def test_listen_that_is_no_address_is_refused_with_an_example(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"http\.listen is") as caught:
        split_listen(listen)
    assert "127.0.0.1:9187" in caught.value.do
