"""The schema registry: schemas registered under subjects, looked up by their numbers.

The client is confluent-kafka's; here its answers become the errors that pipelines understand. It does not repeat
anything by itself: what is temporary is said to be so, and the pipeline comes again.
API: https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Literal, ParamSpec, TypeVar, cast
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from cdcflow.bus.config import Decoding, Encoding, Registry
from cdcflow.errors import (
    AccessDenied,
    CdcflowError,
    ConfigError,
    DecodeError,
    SchemaStop,
    SourceUnavailable,
    TargetUnavailable,
)

Side = Literal["source", "target"]
Part = Literal["key", "value"]
Kind = Literal["AVRO", "PROTOBUF", "JSON"]

TIMEOUT_SECONDS: Final = 10
# Schemas that are kept by number. A pipeline meets one for each shape of each of its tables.
CACHED: Final = 1000
# Subjects that are tried where a registry refuses each as incompatible with what it holds.
MOST_SUBJECTS: Final = 100
# Schemas that one may refer to, over all levels.
MOST_REFERENCES: Final = 200

# Numbers of the API for what is not there.
_NO_SUBJECT: Final = 40401
_NO_VERSION: Final = 40402
_NO_SCHEMA: Final = 40403

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Definition:
    """A registered schema. `references` are (name, text) of those that it refers to, the referred ones first."""

    kind: Kind
    text: str
    references: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Registered:
    """Where a schema is registered: its number in all messages, and the subject."""

    id: int
    subject: str


class SchemaRegistry:
    """One registry, as one side of a pipeline uses it. Any number of threads write with it, or one reads."""

    def __init__(self, settings: Registry, side: Side) -> None:
        """Raises ConfigError where the settings cannot be used (certificate files, URL)."""
        self._settings = settings
        self._unavailable = SourceUnavailable if side == "source" else TargetUnavailable
        parts = urlsplit(settings.url)
        self.url: Final = _without_login(parts)
        self._at = f"schema registry {self.url}"
        self._client = self._connected(parts)
        self._definitions: OrderedDict[int, Definition] = OrderedDict()
        self._known: dict[Hashable, object] = {}

    def close(self) -> None:
        self._client.close()

    def subject(self, topic: str, part: Part, record: str) -> str:
        """Return the subject of a topic's keys or values; `record` is the full name of their schema's record."""
        match self._settings.subjects:
            case "topic":
                return f"{topic}-{part}"
            case "record":
                return record
            case "topic_record":
                return f"{topic}-{record}"

    def once(self, key: Hashable, ask: Callable[[], _T]) -> _T:
        """Return what `ask` returned for this key before, and ask where it never did: what is registered stays so."""
        if key not in self._known:
            self._known[key] = ask()
        return cast(_T, self._known[key])

    def register(self, subject: str, kind: Kind, text: str) -> Registered:
        """Register a schema, or find it registered.

        Raises:
            SchemaStop: the registry refuses it, and the policy is to stop.
            TargetUnavailable, SourceUnavailable: the registry cannot be asked now.
            AccessDenied: it does not let us.
        """
        schema = Schema(text, kind)
        tried = subject
        for number in range(2, MOST_SUBJECTS + 2):
            made = self._make_subject(tried)
            try:
                found = Registered(self._ask(self._client.register_schema, tried, schema), tried)
                if made:
                    self._set_compatibility(tried)
                return found
            except SchemaRegistryError as error:
                if error.http_status_code not in (409, 422):
                    raise self._failure(error) from error
                if error.http_status_code == 422 or self._settings.incompatible == "stop":
                    raise self._refused(tried, error) from error
            tried = f"{subject}-v{number}"
        raise SchemaStop(
            f"the schema registry refuses a schema under {MOST_SUBJECTS} subjects",
            at=f"{self._at}, subject {subject}",
            do="remove subjects that are no longer needed",
        )

    def refusal(self, subject: str, kind: Kind, text: str) -> str | None:
        """Return in which words a schema would be refused under a subject, None where it would be taken. Registers
        nothing. Raises as `register`, but for SchemaStop."""
        schema = Schema(text, kind)
        try:
            self._ask(self._client.lookup_schema, subject, schema)
            return None
        except SchemaRegistryError as error:
            if error.error_code == _NO_SUBJECT:
                return None
            if error.error_code != _NO_SCHEMA:
                raise self._failure(error) from error
        try:
            if self._ask(self._client.test_compatibility_all_versions, subject, schema):
                return None
            level = self._ask(self._level, subject)
        except SchemaRegistryError as error:
            if error.http_status_code in (409, 422):
                return _words(error)
            raise self._failure(error) from error
        return f"compatibility {level} does not let it follow the versions that are there"

    def ready(self) -> None:
        """Return when the registry answers and lets us in. Which subjects we may use, each question shows.

        Raises:
            TargetUnavailable, SourceUnavailable: it cannot be asked now.
            AccessDenied: it does not know who we are.
            ConfigError: what answers is none, or its certificate is not trusted.
        """
        try:
            self._ask(self._client.get_subjects)
        except SchemaRegistryError as error:
            if error.http_status_code != 403:  # a list of everything may be forbidden to those who need little of it
                raise self._failure(error) from error

    def subjects(self) -> int:
        """Return how many subjects the registry has. Raises as `register`, but for SchemaStop."""
        try:
            return len(self._ask(self._client.get_subjects))
        except SchemaRegistryError as error:
            raise self._failure(error) from error

    def latest(self, subject: str) -> Definition | None:
        """Return the newest schema of a subject, None where there is no such subject. Raises as `register`."""
        try:
            # What others registered in the meantime counts, so nothing is taken from the client's cache.
            self._client.clear_latest_caches()  # type: ignore[no-untyped-call]
            found = self._ask(self._client.get_latest_version, subject)
        except SchemaRegistryError as error:
            if error.error_code in (_NO_SUBJECT, _NO_VERSION):
                return None
            raise self._failure(error) from error
        return self._definition(found.schema)

    def definition(self, number: int) -> Definition:
        """Return the schema with that number.

        Raises:
            DecodeError: the registry has none.
            TargetUnavailable, SourceUnavailable: the registry cannot be asked now.
            AccessDenied: it does not let us.
        """
        found = self._definitions.get(number)
        if found is not None:
            self._definitions.move_to_end(number)
            return found
        try:
            schema = self._ask(self._client.get_schema, number)
            if schema.schema_type == "PROTOBUF":
                schema = self._serialized(number, schema)
        except SchemaRegistryError as error:
            if error.http_status_code == 404 and error.error_code in (_NO_SCHEMA, _NO_SUBJECT, _NO_VERSION):
                raise DecodeError(
                    f"a message was written under schema {number}, which the schema registry does not have",
                    at=self._at,
                    why="it was written with another registry, or the schema was deleted for good",
                    do="set `registry.url` to the registry that the writer of the topic uses",
                ) from error
            raise self._failure(error) from error
        definition = self._definitions[number] = self._definition(schema)
        if len(self._definitions) > CACHED:
            self._definitions.popitem(last=False)
            self._client.clear_caches()  # type: ignore[no-untyped-call]  # it keeps every schema that it ever saw
        return definition

    def _serialized(self, number: int, schema: Schema) -> Schema:
        """Return a Protobuf schema as descriptors, as which it needs no reading of the language, or as it is where the
        registry cannot give those. The client would answer from its cache, so this question goes past it."""
        self._client.clear_caches()  # type: ignore[no-untyped-call]
        try:
            return self._ask(self._client.get_schema, number, fmt="serialized")
        except SchemaRegistryError as error:
            if error.http_status_code in (401, 403) or error.http_status_code >= 500:
                raise self._failure(error) from error
            return schema

    def _definition(self, schema: Schema) -> Definition:
        kind = schema.schema_type or "AVRO"
        if kind not in ("AVRO", "PROTOBUF", "JSON") or schema.schema_str is None:
            raise DecodeError("the schema registry holds a schema of an unknown type", at=self._at)
        found: dict[str, str] = {}
        self._collect(schema, found)
        return Definition(cast(Kind, kind), schema.schema_str, tuple(found.items()))

    def _collect(self, schema: Schema, found: dict[str, str]) -> None:
        """Add the schemas that one refers to, the innermost first."""
        for reference in schema.references or ():
            name, subject, version = reference.name, reference.subject, reference.version
            if not name or not subject or version is None or name in found:
                continue
            if len(found) >= MOST_REFERENCES:
                raise DecodeError(f"a schema refers to more than {MOST_REFERENCES} others", at=self._at)
            try:
                referred = self._ask(self._client.get_version, subject, version)
            except SchemaRegistryError as error:
                raise self._failure(error) from error
            self._collect(referred.schema, found)
            found[name] = referred.schema.schema_str or ""

    def _level(self, subject: str) -> str:
        """Return the compatibility that a subject's versions must have, its own or everyone's."""
        try:
            return self._client.get_compatibility(subject)
        except SchemaRegistryError as error:
            if error.http_status_code != 404:
                raise
            return self._client.get_compatibility()

    def _make_subject(self, subject: str) -> bool:
        """Set the compatibility that is wished where the subject is not there yet; return whether that has to wait
        until it is: some registries know no subject without a schema."""
        if self._settings.compatibility is None:
            return False
        try:
            self._ask(self._client.get_versions, subject)
        except SchemaRegistryError as error:
            if error.error_code != _NO_SUBJECT:
                raise self._failure(error) from error
            return not self._set_compatibility(subject)
        return False

    def _set_compatibility(self, subject: str) -> bool:
        """Set the compatibility that is wished; return whether the registry knows the subject."""
        try:
            self._ask(self._client.set_compatibility, subject, self._settings.compatibility)
        except SchemaRegistryError as error:
            if error.http_status_code != 404:
                raise self._failure(error) from error
            return False
        return True

    def _ask(self, question: Callable[_P, _T], *asked: _P.args, **named: _P.kwargs) -> _T:
        """Return the answer; SchemaRegistryError goes through, for the caller knows what it means."""
        try:
            return question(*asked, **named)
        except SchemaRegistryError:
            raise
        except Exception as error:
            raise self._unanswered(error) from error

    def _unanswered(self, error: Exception) -> CdcflowError:
        distrust = _distrust(error)
        if distrust is not None:
            return ConfigError(
                "the certificate of the schema registry is not trusted",
                at=self._at,
                why=distrust.verify_message,
                do="set `registry.ca` to the certificate of who signed it, and `registry.url` to a name in it",
            )
        if isinstance(error, ValueError):  # the body is no JSON, or not of the API's form
            return ConfigError(
                "what answers at the schema registry's address is no schema registry",
                at=self._at,
                do="correct `registry.url`",
            )
        # The HTTP client's errors; which client that is (httpx, httpx2) is the bought library's business.
        why = str(error) or type(error).__name__
        return self._unavailable("the schema registry cannot be reached", at=self._at, why=why)

    def _failure(self, error: SchemaRegistryError) -> CdcflowError:
        status = error.http_status_code
        if status in (401, 403):
            return AccessDenied(
                "the schema registry does not let us in" if status == 401 else "the schema registry forbids it",
                at=self._at,
                why=_words(error),
                do="correct user and password in `registry.url`, or `registry.token`, and grant them the subjects",
            )
        if status == 404:
            return ConfigError(
                "the schema registry does not know what was asked",
                at=self._at,
                why=_words(error),
                do="correct `registry.url`",
            )
        return self._unavailable("the schema registry fails", at=self._at, why=_words(error))

    def _refused(self, subject: str, error: SchemaRegistryError) -> SchemaStop:
        incompatible = error.http_status_code == 409
        return SchemaStop(
            "the schema registry refuses a changed schema as incompatible"
            if incompatible
            else "the schema registry refuses a schema",
            at=f"{self._at}, subject {subject}",
            why=_words(error),
            do="set `registry.incompatible: new_subject` to go on under a new subject, or lower the subject's"
            f" compatibility: PUT {self.url}/config/{subject}"
            if incompatible
            else "",
        )

    def _connected(self, parts: SplitResult) -> SchemaRegistryClient:
        settings = self._settings
        options: dict[str, object] = {"url": self.url, "max.retries": 0, "timeout": TIMEOUT_SECONDS}
        if parts.username is not None:
            # Not left in the URL, which the client shows in its errors.
            options["basic.auth.user.info"] = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        if settings.token is not None:
            options |= {
                "bearer.auth.credentials.source": "STATIC_TOKEN",
                "bearer.auth.token": settings.token,
                "bearer.auth.logical.cluster": "",
            }
        for option, path in (
            ("ssl.ca.location", settings.ca),
            ("ssl.certificate.location", settings.certificate),
            ("ssl.key.location", settings.private_key),
        ):
            if path is not None:
                options[option] = path
        try:
            return SchemaRegistryClient(options)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                "the settings of the schema registry cannot be used",
                at=self._at,
                why=type(error).__name__ if isinstance(error, ValueError) else str(error),
                do="check `registry.url`, `registry.ca`, `registry.certificate` and `registry.private_key`",
            ) from error


def opened(config: Encoding | Decoding) -> SchemaRegistry:
    """Return the client of the registry that a configuration names, for the side that it is of.

    Raises:
        ConfigError: it names none, or one that cannot be used.
    """
    side: Side = "target" if isinstance(config, Encoding) else "source"
    if config.registry is None:
        raise ConfigError(
            f"format: {config.format} needs a schema registry",
            at=side,
            do="add `registry:` with its `url:`, or use `format: json`",
        )
    return SchemaRegistry(config.registry, side)


def _without_login(parts: SplitResult) -> str:
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def _distrust(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return why a certificate was refused, where that is what an error came of."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _words(error: SchemaRegistryError) -> str:
    """Return the registry's own message, shortened: some print whole schemas."""
    text = " ".join(str(error.error_message).split())
    return (text[:600] + " ...") if len(text) > 600 else text
