"""What a person sees at a terminal, and is asked there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.integration.cli_shop import Call, fill
from tests.servers.commands import COMMAND, PipelineFolder, environment
from tests.servers.database import Database


@pytest.fixture
def shop(source_db: Database, target_db: Database, pipeline_dir: PipelineFolder) -> PipelineFolder:
    """A pipeline over two tables, 1,000 rows each."""
    fill(source_db)
    return pipeline_dir


@pytest.fixture
def terminal(shop: PipelineFolder) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs a command on a pseudo-terminal, answers its questions, and returns exit code and screen."""

    def run(*words: str, answer: str = "") -> tuple[int, str]:
        master, slave = os.openpty()
        process = subprocess.Popen(
            [*COMMAND, *words],
            cwd=shop.path,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment(), "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        )
        os.close(slave)
        seen = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:  # the command has closed its side
                break
            seen += piece
            if answer and b"[y/N]" in seen:
                os.write(master, answer.encode() + b"\n")
                answer = ""
        os.close(master)
        return process.wait(60), seen.decode()

    return run


def test_a_terminal_shows_bars_and_ends_with_a_clean_screen(
    terminal: Callable[..., tuple[int, str]], target_db: Database
) -> None:
    code, screen = terminal("run", "--until-caught-up")
    assert code == 0
    assert "━" in screen
    assert "copied 2,000 rows" in screen
    assert screen.count("\x1b[?25h") >= 1  # the cursor is shown again
    assert target_db.value("SELECT count(*) FROM orders") == 1000


def test_teardown_asks_a_person_and_does_nothing_without_a_yes(
    terminal: Callable[..., tuple[int, str]], cdcflow: Call, source_db: Database
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    code, screen = terminal("teardown", answer="n")
    assert code == 130
    assert "Drop the state of pipeline" in screen
    assert len(source_db.slots()) == 1
    code, _ = terminal("teardown", answer="y")
    assert code == 0
    assert source_db.slots() == []
