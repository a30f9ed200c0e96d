"""The commands by name; each one's module is imported when it is asked for."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any, Final

import click

from cdcflow import __version__
from cdcflow.cli.options import on_group

# In the order in which a person meets them.
COMMANDS: Final[dict[str, str]] = {
    "init": "cdcflow.cli.start:init",
    "check": "cdcflow.cli.reports:check",
    "run": "cdcflow.cli.pipeline:run",
    "snapshot": "cdcflow.cli.pipeline:snapshot",
    "stream": "cdcflow.cli.pipeline:stream",
    "status": "cdcflow.cli.reports:status",
    "read": "cdcflow.cli.read:read",
    "resync": "cdcflow.cli.remedy:resync",
    "teardown": "cdcflow.cli.remedy:teardown",
    "demo": "cdcflow.cli.start:demo",
    "version": "cdcflow.cli.reports:version",
}

EXIT_CODES: Final = (
    ("0", "done"),
    ("1", "unexpected failure"),
    ("2", "wrong usage or configuration"),
    ("3", "`check` found a blocker"),
    ("4", "`verify` found differences"),
    ("5", "a person must act: position lost, access denied, fenced"),
    ("75", "temporary failure after retries: start again later"),
)


class Commands(click.Group):
    """Looks commands up in `COMMANDS`, and suggests a name for one that is not there."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(module), name)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            raise click.UsageError(
                f"no command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""), ctx=ctx
            )
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl(EXIT_CODES)
        with formatter.section("A first pipeline"), formatter.indentation():
            for line in (
                "cdcflow init         # writes cdcflow.yaml and rules.yaml: put your two URLs in",
                "cdcflow check        # says what is missing, with the statement that mends it",
                "cdcflow run          # copies, then follows; Ctrl-C stops, `run` again goes on",
            ):
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="cdcflow %(version)s")
@on_group
@click.pass_context
def cdcflow(ctx: click.Context, /, **given: Any) -> None:
    """Copy a database's tables, follow its log, and never lose a row.

    The common options may stand before the command or after it.
    """
    ctx.obj = {name.removeprefix("group_"): value for name, value in given.items()}
