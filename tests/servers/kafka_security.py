"""Who may come in to a Kafka of the tests: logins, certificates, and the settings of both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tests.servers.cache import account
from tests.servers.certificates import Authority, Certificate

Security = Literal["plaintext", "sasl_plaintext", "sasl_ssl", "ssl"]
ADMIN = "admin"
# Each of them has the same password by PLAIN and by SCRAM; only the first is a superuser.
USERS = {ADMIN: "admin-secret", "writer": "writer-secret", "reader": "reader-secret"}
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
PLAIN_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"
OAUTH_MODULE = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"


class Walls:
    """How one Kafka is guarded.

    Brokers, controllers and the tests' own superuser speak on listeners of their own, with SASL PLAIN wherever clients
    have to log in, so that nobody from outside is taken for one of them.
    """

    def __init__(self, security: Security, folder: Path) -> None:
        self.security: Security = security
        self.walled = security != "plaintext"
        self.authority_file: Path | None = None
        self._folder = folder
        if "ssl" in security:
            self._authority = Authority(folder, "kafka")
            self.authority_file = self._authority.certificate
            server = self._authority.sign("localhost", "DNS:localhost,IP:127.0.0.1")
            self._keys = folder / "server.pem"
            self._keys.write_text(server.key.read_text() + server.certificate.read_text())
            self._keys.chmod(0o600)
            account().own(self._keys)

    def settings(self, outside: int, inside: int, control: int) -> dict[str, str]:
        """Return a broker's settings for its three ports; without walls the inner one is left alone."""
        if not self.walled:
            return {"listeners": f"PLAINTEXT://127.0.0.1:{outside},CONTROLLER://127.0.0.1:{control}"}
        login = f'{PLAIN_MODULE} required username="{ADMIN}" password="{USERS[ADMIN]}" '
        login += " ".join(f'user_{name}="{password}"' for name, password in USERS.items()) + ";"
        return {
            "listeners": f"CLIENT://127.0.0.1:{outside},INSIDE://127.0.0.1:{inside},CONTROLLER://127.0.0.1:{control}",
            "listener.security.protocol.map": (
                f"CLIENT:{self.security.upper()},INSIDE:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT"
            ),
            "inter.broker.listener.name": "INSIDE",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.mechanism.controller.protocol": "PLAIN",
            "listener.name.inside.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.inside.plain.sasl.jaas.config": login,
            "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.controller.plain.sasl.jaas.config": login,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{ADMIN}",
            # What has an ACL is closed to everybody else; a test may turn this off to close everything.
            "allow.everyone.if.no.acl.found": "true",
            **(self._sasl(login) if self.security.startswith("sasl") else {}),
            **(self._tls() if self.authority_file else {}),
        }

    def format_arguments(self) -> list[str]:
        """Return what the storage tool needs: SCRAM logins are part of the metadata."""
        if not self.security.startswith("sasl"):
            return []
        logins = [(scram, name, password) for scram in SCRAM for name, password in USERS.items()]
        return [
            part
            for scram, name, password in logins
            for part in ("--add-scram", f"{scram}=[name={name},password={password}]")
        ]

    def admin(self) -> dict[str, str]:
        """Return what a client needs to be the superuser on the inner listener."""
        if not self.walled:
            return {}
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": ADMIN,
            "sasl.password": USERS[ADMIN],
        }

    def client(self, user: str, password: str | None, mechanism: str) -> dict[str, Any]:
        """Return what a client needs to come in from outside; with plain TLS the user is a certificate's."""
        if not self.walled:
            return {}
        found: dict[str, Any] = {"security.protocol": self.security.upper()}
        if self.authority_file:
            found["ssl.ca.location"] = str(self.authority_file)
        if self.security.startswith("sasl"):
            secret = USERS.get(user, "") if password is None else password
            found |= {"sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": secret}
        elif user:
            made = self.certificate(user)
            found |= {"ssl.certificate.location": str(made.certificate), "ssl.key.location": str(made.key)}
        return found

    def certificate(self, user: str) -> Certificate:
        """Return a client's certificate: the broker takes its common name for the user."""
        made = Certificate(self._folder / f"{user}.crt", self._folder / f"{user}.key")
        return made if made.certificate.exists() else self._authority.sign(user, for_server=False)

    def _sasl(self, login: str) -> dict[str, str]:
        found = {
            "listener.name.client.sasl.enabled.mechanisms": ",".join(["PLAIN", "OAUTHBEARER", *SCRAM]),
            "listener.name.client.plain.sasl.jaas.config": login,
            # Takes any token that is not signed, from whomever: `tokens.Issuer` is who looks at logins.
            "listener.name.client.oauthbearer.sasl.jaas.config": (
                f'{OAUTH_MODULE} required unsecuredLoginStringClaim_sub="{ADMIN}";'
            ),
        }
        for scram in SCRAM:
            found[f"listener.name.client.{scram.lower()}.sasl.jaas.config"] = f"{SCRAM_MODULE} required;"
        return found

    def _tls(self) -> dict[str, str]:
        return {
            "listener.name.client.ssl.keystore.type": "PEM",
            "listener.name.client.ssl.keystore.location": str(self._keys),
            "listener.name.client.ssl.truststore.type": "PEM",
            "listener.name.client.ssl.truststore.location": str(self.authority_file),
            "listener.name.client.ssl.client.auth": "requested" if self.security == "ssl" else "none",
            "listener.name.client.ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
        }
