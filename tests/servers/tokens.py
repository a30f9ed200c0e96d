"""Who issues tokens to clients of a Kafka that log in with OAUTHBEARER: an OpenID Connect token endpoint."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.servers.kafka_security import USERS

# Soon enough that a client has to ask again within a test.
LIFE_SECONDS = 4

_DAY_SECONDS = 86400


class Issuer(ThreadingHTTPServer):
    """Gives `USERS` tokens for their secrets (client credentials, RFC 6749 section 4.4), unsigned. `close` ends it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.issued: list[str] = []
        self.refused = 0
        # Set: whoever asks gets no answer, and is counted.
        self.away = False
        self.unanswered: list[str] = []
        # Set: whoever asks is told no in these words, which are none of the standard's.
        self.says_no = ""
        # Set: tokens are said to have been issued tomorrow, which brokers do not believe.
        self.early = False
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where tokens are asked for."""
        return f"http://127.0.0.1:{self.server_port}/token"

    def close(self) -> None:
        """End it."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Issuer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        scheme, _, login = (self.headers.get("Authorization") or "").partition(" ")
        user, _, secret = base64.b64decode(login).decode().partition(":") if scheme == "Basic" else ("", "", "")
        if self.server.away:
            self.server.unanswered.append(user)
            self.close_connection = True
            return
        if self.server.says_no:
            self._answer(401, {"errorSummary": self.server.says_no})
            return
        if USERS.get(user) != secret or not user:
            self.server.refused += 1
            self._answer(401, {"error": "invalid_client"})
            return
        self.server.issued.append(user)
        now = int(time.time()) + _DAY_SECONDS * self.server.early
        claims = {"sub": user, "iat": now, "exp": now + LIFE_SECONDS}
        token = ".".join((_part({"alg": "none"}), _part(claims), ""))
        self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": LIFE_SECONDS})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's word
        """Nothing on the terminal."""

    def _answer(self, status: int, said: dict[str, object]) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _part(claims: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
