"""Where a broker is, out of the URL, and a connection's socket."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from cdcflow.errors import ConfigError, Unavailable

# A broker that does not answer a connection for so long is away.
CONNECT_SECONDS = 10.0

# Of the URL, and what the configuration calls them.
_PARAMETERS = {"cacertfile": "ca", "certfile": "certificate", "keyfile": "private_key"}


@dataclass(frozen=True, slots=True)
class Address:
    """A virtual host of a broker and the login for it."""

    host: str
    port: int
    vhost: str
    user: str
    password: str = field(repr=False)
    tls: bool = False
    ca: str | None = None
    certificate: str | None = None
    private_key: str | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """The URL without secrets."""
        scheme = "amqps" if self.tls else "amqp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/{'' if self.vhost == '/' else self.vhost}"


def parse(
    url: str, *, ca: str | None = None, certificate: str | None = None, private_key: str | None = None
) -> Address:
    """Read `amqp://user:password@host:5672/vhost?name=value`; without a path the virtual host is `/`. Parameters are
    those of RabbitMQ's clients that say the same as a key: https://www.rabbitmq.com/docs/uri-query-parameters

    Raises:
        ConfigError: it cannot be read, or has other parameters.
    """
    try:
        parts = urlsplit(url)
        tls = parts.scheme == "amqps"
        port = parts.port or (5671 if tls else 5672)
    except ValueError as error:
        raise ConfigError("the URL of the broker cannot be read", why=str(error)) from None
    files = {"ca": ca, "certificate": certificate, "private_key": private_key}
    if parts.fragment:
        do = "write a `#` that belongs to the password or the virtual host as %23"
        raise ConfigError("the URL of a RabbitMQ broker has no part behind a `#`", do=do)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        key = _PARAMETERS.get(name)
        if key is None:
            raise ConfigError(
                f"the URL of a RabbitMQ broker has no parameter {name}",
                why=f"it may have {', '.join(_PARAMETERS)}",
                do="write other settings as keys beside `url:`; docs/config.md lists those that there are",
            )
        if files[key] is not None:
            do = f"name the file once: as {name} in the URL, or under `{key}:`"
            raise ConfigError(f"the parameter {name} of the URL is there twice", do=do)
        files[key] = value
    path = unquote(parts.path[1:])
    login = (unquote(parts.username or "guest"), unquote(parts.password or "guest"))
    host = parts.hostname or "localhost"
    return Address(host, port, path or "/", *login, tls, files["ca"], files["certificate"], files["private_key"])


def dial(address: Address) -> socket.socket:
    """Return a connected socket, with TLS where the URL says so: certificate and name of the broker are verified.

    Raises:
        Unavailable: nobody answers.
        ConfigError: the certificates cannot be read.
    """
    try:
        plain = socket.create_connection((address.host, address.port), timeout=CONNECT_SECONDS)
    except OSError as error:
        raise Unavailable("RabbitMQ does not answer", at=address.text, why=str(error)) from error
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if not address.tls:
        return plain
    try:
        context = ssl.create_default_context(cafile=address.ca)
        if address.certificate:
            context.load_cert_chain(address.certificate, address.private_key)
    except (OSError, ssl.SSLError) as error:
        plain.close()
        raise ConfigError("the certificates for the broker cannot be read", at=address.text, why=str(error)) from error
    try:
        return context.wrap_socket(plain, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        raise ConfigError(
            "the broker's certificate is not trusted",
            at=address.text,
            why=error.verify_message,
            do="name the file of its authority with `ca:`, and the broker as its certificate does",
        ) from error
    except OSError as error:
        plain.close()
        raise Unavailable("the broker ends the TLS handshake", at=address.text, why=str(error)) from error
