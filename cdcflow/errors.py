"""Every way cdcflow can fail: what, where, why, what to do, how to retry, which exit code."""

from __future__ import annotations

from enum import Enum


class Retry(Enum):
    """What the pipeline may do after an error."""

    BACKOFF = "backoff"  # temporary: reconnect and go on from the last durable position
    OPERATOR = "operator"  # a person must act first; the same input fails again
    NEVER = "never"  # wrong usage, configuration or a defect: no run can succeed


class CdcflowError(Exception):
    """Base of every error that cdcflow raises on purpose.

    Args:
        what: one sentence, lower case, no full stop: what went wrong. Never holds a cell value or a secret.
        at: where: file and line, URL without password, table, key names or position.
        why: what it means for the person, or the server's own words.
        do: the exact command or statement that mends it.
    """

    retry: Retry = Retry.NEVER
    exit_code: int = 1

    def __init__(self, what: str, *, at: str = "", why: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what, self.at, self.why, self.do = what, at, why, do
        for label, text in (("at", at), ("why", why), ("do", do)):  # a traceback shows them, too
            if text:
                self.add_note(f"{label}: {text}")

    def report(self) -> str:
        """Return the error as a person reads it on the terminal: `error:`, `at:`, `why:`, `do:` lines."""
        lines = [f"error: {self.what}"]
        for label, text in (("at:", self.at), ("why:", self.why), ("do:", self.do)):
            if text:
                first, *rest = text.splitlines()
                lines.append(f"  {label:<5} {first}")
                lines.extend(f"        {line}" for line in rest)
        return "\n".join(lines)

    def fields(self) -> dict[str, str]:
        """Return the error as fields for a JSON report or log line."""
        pairs = {"error": self.what, "at": self.at, "why": self.why, "do": self.do}
        return {name: text for name, text in pairs.items() if text}


class ConfigError(CdcflowError):
    """The configuration or the rules are wrong: a typo, a rule that matches nothing, an unsupported URL."""

    exit_code = 2


class UsageError(CdcflowError):
    """The command line is wrong."""

    exit_code = 2


class Unavailable(CdcflowError):
    """Temporary: a server is restarting, a connection was cut, a lock or slot is still held. Retried."""

    retry = Retry.BACKOFF
    exit_code = 75


class SourceUnavailable(Unavailable):
    """The source cannot be reached now. Nothing was lost; reading goes on from the last durable position."""


class TargetUnavailable(Unavailable):
    """The target cannot be reached now. Nothing of the open batch was committed, or the commit is unknown
    and the recorded position tells."""


class AccessDenied(CdcflowError):
    """Wrong password, missing database or missing privilege: a person must grant it."""

    retry = Retry.OPERATOR
    exit_code = 5


class OperatorError(CdcflowError):
    """A person must act before the pipeline can go on."""

    retry = Retry.OPERATOR
    exit_code = 5


class PositionLost(OperatorError):
    """The log no longer holds what follows the checkpoint: slot dropped, recreated or invalidated."""


class SourceChanged(OperatorError):
    """The source is not the server (or the history of it) that the checkpoint was made from."""


class Fenced(OperatorError):
    """Another instance of this pipeline holds the lease, or took it over."""


class TableRefused(OperatorError):
    """A table cannot be replicated as it is: no key and no full replica identity, two tables mapped to one."""


class RowRejected(OperatorError):
    """The target refuses one row for ever. Names table and key columns, never the values of other columns."""


class UniqueRejected(RowRejected):
    """A copied row meets another row's unique value. Where the copy is of one moment, the target has what the source
    has not; where its chunks are of several, the value may have moved on between them."""


class ReplayCollision(RowRejected):
    """A row that is applied for the second time meets another row's unique value: the target holds later rows of
    the table already, and there is no order in which the two fit. A new copy mends it."""

    def __init__(self, what: str, *, table_id: int, at: str = "", why: str = "", do: str = "") -> None:
        super().__init__(what, at=at, why=why, do=do)
        self.table_id = table_id


class SchemaStop(OperatorError):
    """A schema change arrived and the rules say stop, or it cannot be followed."""


class DecodeError(OperatorError):
    """The log holds a message that cannot be decoded. Nothing after it was applied."""


class CheckFailed(CdcflowError):
    """`cdcflow check` found a blocker."""

    retry = Retry.OPERATOR
    exit_code = 3


class CopyRestart(CdcflowError):
    """An interrupted copy cannot go on from its finished chunks; the pipeline clears the table and starts over."""

    retry = Retry.BACKOFF
    exit_code = 75
