"""The pipeline's own small HTTP server: metrics and health, and room in its table for more pages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import Any, Final

import orjson

from cdcflow.errors import ConfigError
from cdcflow.ops.health import Health
from cdcflow.ops.metrics import Metrics

# A probe that does not finish its request within this gives its thread back.
_REQUEST_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Reply:
    """What a page answers: HTTP status, content type, body."""

    status: int
    content_type: str
    body: bytes


Page = Callable[[], Reply]
"""Makes one page's answer. Called from a thread of its own; must not wait for the pipeline."""


def json_reply(status: int, content: Mapping[str, object]) -> Reply:
    """Return a JSON page."""
    return Reply(status, "application/json; charset=utf-8", orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))


def pages(metrics: Metrics, health: Health) -> dict[str, Page]:
    """Return the standard pages by path."""

    def metrics_page() -> Reply:
        content_type, body = metrics.exposition()
        return Reply(200, content_type, body)

    def live() -> Reply:
        good = health.live
        return json_reply(200 if good else 503, {"live": good, **health.summary()})

    def ready() -> Reply:
        good = health.ready
        return json_reply(200 if good else 503, {"ready": good, **health.summary()})

    return {"/metrics": metrics_page, "/health/live": live, "/health/ready": ready}


def split_listen(listen: str) -> tuple[str, int]:
    """Divide `host:port`, `:port` (127.0.0.1) or `[ipv6]:port`.

    Raises:
        ConfigError: it is none of these.
    """
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(
            f'http.listen is "{listen}", which is not an address and a port',
            at="http.listen",
            do="write it as 127.0.0.1:9187, 0.0.0.0:9187 for every address, or [::1]:9187",
        )
    return host or "127.0.0.1", int(port)


class Endpoint:
    """Serves pages until closed, in threads of its own."""

    def __init__(self, listen: str, routes: Mapping[str, Page]) -> None:
        """Bind and begin to serve; port 0 takes a free one (see `address`).

        Raises:
            ConfigError: the address cannot be bound: in use, not ours, not permitted.
        """
        host, port = split_listen(listen)
        try:
            self._server = _server(host, port, dict(routes))
        except OSError as exc:
            raise ConfigError(
                f"cannot listen on {listen}: {(exc.strerror or str(exc)).lower()}",
                at="http.listen",
                why="metrics and health could not be served",
                do="choose another port, or end the program that holds it (ss -ltnp)",
            ) from exc
        self._thread = threading.Thread(target=self._server.serve_forever, name="cdcflow-http", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """`host:port` as it was bound."""
        host, port = self._server.server_address[:2]
        name = host.decode() if isinstance(host, bytes) else str(host)
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _server(host: str, port: int, routes: dict[str, Page]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_SECONDS
        server_version = "cdcflow"
        sys_version = ""

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            page = routes.get(self.path.partition("?")[0])
            if page is None:
                reply = json_reply(404, {"error": "no such page", "pages": sorted(routes)})
            else:
                try:
                    reply = page()
                except Exception as exc:
                    reply = json_reply(500, {"error": f"the page failed: {type(exc).__name__}"})
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if with_body:
                self.wfile.write(reply.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Probes every few seconds are no news."""

    class Server(ThreadingHTTPServer):
        address_family = AF_INET6 if ":" in host else ThreadingHTTPServer.address_family
        daemon_threads = True
        # On Linux this only skips TIME_WAIT: a port that somebody listens on is still refused.
        allow_reuse_address = True

    return Server((host, port), Handler)
