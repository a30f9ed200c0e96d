"""How clients reach the brokers: URL, TLS and SASL as settings of librdkafka.

https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from cdcflow.errors import ConfigError

SCHEME: Final = "kafka"
PORT: Final = 9092

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
Property = str | bool | int | float

# What the connection and exactly-once writing need as they are.
_OURS: Final = (
    "bootstrap.servers",
    "metadata.broker.list",
    "transactional.id",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "group.id",
    "group.instance.id",
    "isolation.level",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    # The source says `protocol:`; partitions are given and taken one by one.
    "group.protocol",
    "partition.assignment.strategy",
    # What is confirmed is waited for.
    "delivery.report.only.error",
)


class Tls(BaseModel):
    """Encryption, and who the client is where the broker asks for a certificate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: str | None = Field(default=None, description="File with the certificates to trust; the system's if not given.")
    certificate: str | None = Field(default=None, description="File with the client's certificate.")
    key: str | None = Field(default=None, repr=False, description="File with the client's key.")
    password: str | None = Field(default=None, repr=False, description="The key file's password.")
    verify: bool = Field(default=True, description="Whether the broker's certificate must be for its host's name.")


class Sasl(BaseModel):
    """How the client logs in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mechanism: Mechanism = Field(default="SCRAM-SHA-512", description="What the listener expects.")
    username: str | None = Field(default=None, description="For PLAIN and SCRAM; also in the URL.")
    password: str | None = Field(default=None, repr=False, description="For PLAIN and SCRAM; also in the URL.")
    token_url: str | None = Field(default=None, description="OAUTHBEARER: where tokens are issued (OIDC).")
    client_id: str | None = Field(default=None, description="OAUTHBEARER: the client's id.")
    client_secret: str | None = Field(default=None, repr=False, description="OAUTHBEARER: the client's secret.")
    scope: str | None = Field(default=None, description="OAUTHBEARER: the scope to ask for.")
    extensions: str | None = Field(default=None, description="OAUTHBEARER: key=value,key=value for the broker.")


def brokers(url: str) -> str:
    """Return the brokers of `kafka://[user:password@]host[:port][,host[:port]...][?...]` as librdkafka takes them.

    Raises:
        ConfigError: the URL names none, or more than brokers.
    """
    parts = urlsplit(url)
    hosts = [host for host in parts.netloc.rpartition("@")[2].split(",") if host]
    if parts.scheme != SCHEME or not hosts or parts.path.strip("/"):
        do = "write it as kafka://broker:9092,broker2:9092; further settings as ?name=value, or as keys beside `url:`"
        raise ConfigError("the URL does not name brokers", at=address(url), do=do)
    return ",".join(host if _has_port(host) else f"{host}:{PORT}" for host in hosts)


def address(url: str) -> str:
    """Return the URL without login and options."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{SCHEME}://..."
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def client(url: str, tls: Tls | None, sasl: Sasl | None, properties: Mapping[str, Property]) -> dict[str, Any]:
    """Return the settings that every client of these brokers needs. They hold secrets.

    `properties` are librdkafka's own, as those in the URL's query are; what correctness rests on is refused.

    Raises:
        ConfigError: the URL, the login or a property is wrong; never shows a secret.
    """
    at = address(url)
    settings: dict[str, Any] = {
        "bootstrap.servers": brokers(url),
        "client.id": "cdcflow",
        # A broker that is started again is found at once; a retry costs little.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 2000,
        "socket.keepalive.enable": True,
        # Errors are raised and logged by us, with a place and a remedy.
        "log_level": 0,
    }
    login = _login(url, sasl, at)
    settings.update(login)
    if tls is not None:
        settings.update(_tls(tls))
    if login or tls is not None:
        settings["security.protocol"] = ("SASL_" if login else "") + ("SSL" if tls is not None else "PLAINTEXT")
    queried = _queried(url, at)
    twice = sorted(queried.keys() & properties.keys())
    if twice:
        do = "keep it in one of them"
        raise ConfigError(f"the property {twice[0]} is in the URL and under `properties:`", at=at, do=do)
    for name, value in (*queried.items(), *properties.items()):
        if name in _OURS:
            why, where = "exactly-once delivery rests on it", "the URL" if name in queried else "`properties:`"
            raise ConfigError(f"the property {name} cannot be set", at=at, why=why, do=f"remove it from {where}")
        settings[name] = value
    return settings


def _queried(url: str, at: str) -> dict[str, str]:
    """Return the properties in a URL's query. A `+` is one: values may be of base64."""
    found: dict[str, str] = {}
    for pair in filter(None, urlsplit(url).query.split("&")):
        given, equals, value = pair.partition("=")
        name = unquote(given)
        if not name or not equals:
            do = "write it as kafka://broker:9092?linger.ms=20&client.id=shop, with librdkafka's names"
            raise ConfigError("the URL's query is not of the form name=value", at=at, do=do)
        if name in found:
            raise ConfigError(f"the property {name} is twice in the URL", at=at, do="keep one of them")
        found[name] = unquote(value)
    return found


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and (not host.startswith("[") or "]:" in host) and host.count(":") >= 1


def _login(url: str, sasl: Sasl | None, at: str) -> dict[str, Any]:
    login = urlsplit(url).netloc.rpartition("@")[0]
    user, _, password = login.partition(":")
    if sasl is None and not login:
        return {}
    found: dict[str, Any] = {"sasl.mechanism": sasl.mechanism if sasl is not None else "PLAIN"}
    if sasl is not None and sasl.mechanism == "OAUTHBEARER":
        if not (sasl.token_url and sasl.client_id and sasl.client_secret):
            lacking = "token_url, client_id and client_secret"
            raise ConfigError("the login lacks a part", at=at, why=f"OAUTHBEARER needs {lacking}", do="add it to sasl:")
        found |= {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": sasl.token_url,
            "sasl.oauthbearer.client.id": sasl.client_id,
            "sasl.oauthbearer.client.secret": sasl.client_secret,
        }
        if sasl.scope:
            found["sasl.oauthbearer.scope"] = sasl.scope
        if sasl.extensions:
            found["sasl.oauthbearer.extensions"] = sasl.extensions
        return found
    name = (sasl.username if sasl is not None else None) or unquote(user)
    secret = (sasl.password if sasl is not None else None) or unquote(password)
    if not name or not secret:
        do = "write kafka://user:password@broker:9092, or sasl: {username: .., password: ..}"
        raise ConfigError("the login lacks a user or a password", at=at, do=do)
    return {**found, "sasl.username": name, "sasl.password": secret}


def _tls(tls: Tls) -> dict[str, Any]:
    named = {
        "ssl.ca.location": tls.ca,
        "ssl.certificate.location": tls.certificate,
        "ssl.key.location": tls.key,
        "ssl.key.password": tls.password,
    }
    found: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    found["ssl.endpoint.identification.algorithm"] = "https" if tls.verify else "none"
    return found
