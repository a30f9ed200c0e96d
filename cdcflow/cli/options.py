"""Options that every command takes, before its name or after it, and what they come to together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import click

DEFAULT_CONFIG = "cdcflow.yaml"

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Settings:
    """The common options of one invocation."""

    config: str = DEFAULT_CONFIG
    log_format: Literal["text", "json"] = "text"
    log_level: str = "info"


def _common(function: Function, *, place: str) -> Function:
    options = (
        click.option(
            "-c",
            "--config",
            f"{place}_config",
            metavar="FILE",
            help=f"The pipeline's configuration.  [default: {DEFAULT_CONFIG}]",
        ),
        click.option(
            "--log-format",
            f"{place}_log_format",
            type=click.Choice(["text", "json"]),
            help="How log lines are written.  [default: text]",
        ),
        click.option(
            "--log-level",
            f"{place}_log_level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            help="The lowest level that is written.  [default: info]",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def on_group(function: Function) -> Function:
    """Add the common options to the group; the function gets them as `group_config` and so on."""
    return _common(function, place="group")


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the common options to a command, set up logging, and pass `settings` as the first argument."""

    def logging(settings: Settings, **given: Any) -> Any:
        from cdcflow.ops import logs

        logs.configure(settings.log_format, settings.log_level)
        return function(settings, **given)

    return common_without_logs(logging, of=function)


def common_without_logs(function: Callable[..., Any], *, of: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """As `common`, for a command that logs nothing and should not wait for the machinery to."""
    described = of or function

    def command(**given: Any) -> Any:
        return function(_settled(given), **given)

    command.__doc__ = described.__doc__
    command.__name__ = described.__name__
    command.__click_params__ = getattr(described, "__click_params__", [])  # type: ignore[attr-defined]
    return _common(command, place="own")


def _settled(given: dict[str, Any]) -> Settings:
    """Take the common options out of what click found: those behind the command win over those before it."""
    before = cast("dict[str, Any]", click.get_current_context().find_root().obj or {})
    defaults = Settings()

    def pick(name: str) -> Any:
        own = given.pop(f"own_{name}")
        return own or before.get(name) or getattr(defaults, name)

    return Settings(pick("config"), pick("log_format"), pick("log_level"))


as_json = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
