"""What stands before a schema registry where not everybody may come in: TLS, and a user with a password."""

from __future__ import annotations

import base64
import ssl
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit

from tests.servers.certificates import Certificate

USER, PASSWORD = "schemas", "schema-secret"
LIMIT_SECONDS = 30


class Gate(ThreadingHTTPServer):
    """Passes questions with the right login on to a registry, as the proxies before registries do. `close` ends it."""

    daemon_threads = True

    def __init__(self, registry: str, certificate: Certificate) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry = registry
        self.wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self.passed = self.refused = 0
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate.certificate, certificate.key)
        # The handshake belongs to the thread of its connection, or one that hangs would hold up all.
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def url(self, password: str = PASSWORD) -> str:
        """Return where it is, with the user and a password."""
        path = urlsplit(self.registry).path
        return f"https://{USER}:{quote(password, safe='')}@127.0.0.1:{self.server_port}{path}"

    def close(self) -> None:
        """End it."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust us goes away: that is what tests are about, not a message on the terminal."""


class _Handler(BaseHTTPRequestHandler):
    server: Gate
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != self.server.wanted:
            self.server.refused += 1
            self._answer(401, b'{"error_code": 401, "message": "Unauthorized"}')
            return
        self.server.passed += 1
        parts = urlsplit(self.server.registry)
        asked = urllib.request.Request(f"{parts.scheme}://{parts.netloc}{self.path}", body or None, method=self.command)
        for name in ("Accept", "Content-Type"):
            if name in self.headers:
                asked.add_header(name, self.headers[name])
        try:
            with urllib.request.urlopen(asked, timeout=LIMIT_SECONDS) as answer:
                self._answer(answer.status, answer.read())
        except urllib.error.HTTPError as refusal:
            self._answer(refusal.code, refusal.read())

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names that the server looks for

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
