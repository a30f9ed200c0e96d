"""The command line without servers: exit codes, error reports, help, and what is there before any driver."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

import cdcflow
from cdcflow.cli.group import COMMANDS, Commands
from cdcflow.cli.group import cdcflow as group

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cdcflow", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "COLUMNS": "200", **(env or {})},
        )

    return run


def report(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Read a report in text form: its labels and what stands behind each."""
    return dict(re.findall(r"^ *(error|at|why|do): +(.*)$", done.stderr, re.M))


def test_every_command_has_help_with_an_example_and_the_common_options() -> None:
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        text = command.get_help(click.Context(command, info_name=name))
        assert command.get_short_help_str(), name
        assert "--config" in text, name
        assert "--log-format" in text, name
        assert "--log-level" in text, name
        assert "Example:" in text or name == "version", name


@pytest.mark.parametrize("name", ["check", "status", "version", "run", "snapshot", "stream", "resync", "teardown"])
def test_what_prints_a_report_takes_json(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert "--json" in command.get_help(click.Context(command, info_name=name))


def test_help_names_the_commands_and_the_exit_codes(call: Call) -> None:
    done = call("--help")
    assert done.returncode == 0
    assert [name for name in COMMANDS if not re.search(rf"^  {name} ", done.stdout, re.M)] == []
    assert re.search(r"^  75 +temporary failure", done.stdout, re.M)


@pytest.mark.parametrize(
    "words", [("version",), ("--log-level", "debug", "version"), ("version", "--log-level", "debug")]
)
def test_common_options_stand_before_or_behind_the_command(call: Call, words: tuple[str, ...]) -> None:
    done = call(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"cdcflow  {cdcflow.__version__}\n")


def test_version_as_json_names_the_libraries_and_the_form_of_each_hot_module(call: Call) -> None:
    found = json.loads(call("version", "--json").stdout)
    assert found["cdcflow"] == cdcflow.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"libpq", "psycopg"} <= found.keys()
    assert set(found["codecs"].values()) <= {"compiled", "plain"}
    plain = json.loads(call("version", "--json", env={"CDCFLOW_CODECS": "plain"}).stdout)
    assert set(plain["codecs"].values()) == {"plain"}


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("run", "--help")])
def test_help_loads_no_driver_and_no_configuration(words: tuple[str, ...]) -> None:
    script = (
        "import sys\nfrom cdcflow.cli import main\ncode = main(sys.argv[1:])\n"
        "heavy = {'psycopg', 'sqlalchemy', 'pydantic', 'rich', 'structlog', 'prometheus_client', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\nsys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "[]\n")


@pytest.mark.parametrize(
    ("words", "error", "do"),
    [
        (("verison",), "no command 'verison'; did you mean 'version'?", "cdcflow --help"),
        (("xyz",), "no command 'xyz'", "cdcflow --help"),
        (("run", "--unitl-caught-up"), "no such option '--unitl-caught-up'", "cdcflow run --help"),
        (("run", "--log-level", "loud"), "invalid value for '--log-level': 'loud'", "cdcflow run --help"),
        (("resync",), "name the tables to copy again, or give --all", "cdcflow resync public.orders"),
        (("resync", "a.b", "--all"), "give table names or --all, not both", "cdcflow resync public.orders"),
        (("run", "surplus"), "unexpected extra argument", "cdcflow run --help"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_to_do(call: Call, words: tuple[str, ...], error: str, do: str) -> None:
    done = call(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert error in report(done)["error"]
    assert report(done)["do"].startswith(do)
    assert "Traceback" not in done.stderr


def test_a_missing_configuration_ends_with_2_and_names_the_file(call: Call) -> None:
    done = call("run", "-c", "nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml" in report(done)["error"]
    assert "cdcflow init" in report(done)["do"]


@pytest.mark.parametrize("words", [("run", "--json"), ("run", "--log-format", "json"), ("--log-format=json", "run")])
def test_with_json_an_error_is_an_object_on_stderr(call: Call, words: tuple[str, ...]) -> None:
    done = call(*words)
    assert (done.returncode, done.stdout) == (2, "")
    error = json.loads(done.stderr)
    assert (error["kind"], error["exit_code"]) == ("ConfigError", 2)
    assert "cdcflow.yaml" in error["error"]


def test_invalid_yaml_names_file_and_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "cdcflow.yaml").write_text("pipeline: shop\nsource: {url: [\n")
    done = call("check")
    assert done.returncode == 2
    assert "cdcflow.yaml:" in report(done)["at"]


def test_an_unknown_key_is_answered_with_the_nearest(call: Call, tmp_path: Path) -> None:
    (tmp_path / "cdcflow.yaml").write_text(
        "pipeline: shop\nsuorce: {url: postgresql://h/d}\ntarget: {url: postgresql://h/e}\ntables: [{match: 'a.*'}]\n"
    )
    done = call("check")
    assert done.returncode == 2
    assert "source" in done.stderr
    assert "cdcflow.yaml:2" in done.stderr


def test_a_password_in_a_configuration_never_comes_out(call: Call, tmp_path: Path) -> None:
    (tmp_path / "cdcflow.yaml").write_text(
        "pipeline: shop\nsource: {url: 'postgresql://u:hunter2@127.0.0.1:1/d'}\n"
        "target: {url: 'postgresql://u:hunter2@127.0.0.1:1/e'}\ntables: [{match: 'public.*'}]\n"
    )
    for words in (("check",), ("status", "--json"), ("check", "--log-level", "debug")):
        done = call(*words)
        assert done.returncode == 75
        assert "hunter2" not in done.stdout + done.stderr


def test_init_writes_commented_files_and_never_over_others(call: Call, tmp_path: Path) -> None:
    done = call("init", "shop")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "shop" / "cdcflow.yaml").is_file()
    assert (tmp_path / "shop" / "rules.yaml").is_file()
    assert "cdcflow check -c shop/cdcflow.yaml" in done.stdout
    again = call("init", "shop")
    assert again.returncode == 2
    assert "is there already" in report(again)["error"]


def test_teardown_without_a_person_to_ask_needs_yes(call: Call, tmp_path: Path) -> None:
    call("init")
    (tmp_path / "cdcflow.yaml").write_text(
        "pipeline: shop\nsource: {url: 'postgresql://127.0.0.1:1/d'}\ntarget: {url: 'postgresql://127.0.0.1:1/e'}\n"
        "tables: [{match: 'public.*'}]\n"
    )
    done = call("teardown")
    assert done.returncode == 2
    assert report(done)["do"] == "cdcflow teardown --yes"


def test_an_unforeseen_failure_is_a_short_sentence_and_a_traceback_only_in_the_debug_log(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import cdcflow.cli.reports as reports\n"
        "def versions():\n    raise RuntimeError('no such thing: postgresql://u:hunter2@h/d')\n"
        "reports.versions = versions\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cdcflow", "version", *words]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)

    done = run()
    assert done.returncode == 1
    assert report(done)["error"] == "unexpected RuntimeError: no such thing: postgresql://u:***@h/d"
    assert "--log-level debug" in report(done)["do"]
    assert "Traceback" not in done.stderr
    loud = run("--log-level", "debug")
    assert loud.returncode == 1
    assert "Traceback" in loud.stderr
    assert "hunter2" not in loud.stderr


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"{sys.executable} -m cdcflow --help | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_colours_are_for_terminals_only(call: Call) -> None:
    assert "\x1b[" not in call("verison").stderr
    shown = on_a_terminal("verison")
    assert "\x1b[1;31merror:" in shown
    assert "\x1b[" not in on_a_terminal("verison", env={"NO_COLOR": "1"})


def on_a_terminal(*words: str, env: dict[str, str] | None = None) -> str:
    """Run the command on a pseudo-terminal and return what a person would have seen."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cdcflow", *words],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", **(env or {})},
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # the other side was closed
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    process.wait(30)
    return seen.decode()


def test_the_python_interface_is_there_without_importing_it_at_once() -> None:
    script = (
        "import sys, cdcflow\nassert 'cdcflow.app' not in sys.modules\n"
        "from cdcflow import Pipeline, read, Event\nimport cdcflow.events\n"
        "from cdcflow import read as again\nassert callable(again) and again is read\nprint(Pipeline.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("Pipeline\n", "")
    assert Commands is type(group)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_asks_to_stop_and_the_second_ends_at_once(number: signal.Signals, code: int) -> None:
    script = (
        "import time\nfrom cdcflow.cli.stopping import until_done\n"
        "def work(stop):\n    print('working', flush=True)\n    stop.wait()\n    print('draining', flush=True)\n"
        "    time.sleep(3600)\n"
        "until_done(work)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(number)
    assert process.stdout.readline() == "draining\n"
    process.send_signal(number)
    assert process.wait(60) == code
    process.stdout.close()


def test_work_that_ends_after_one_signal_returns_what_it_returns() -> None:
    script = (
        "import os, signal\nfrom cdcflow.cli.stopping import until_done\n"
        "def work(stop):\n    os.kill(os.getpid(), signal.SIGTERM)\n    return stop.wait(30)\n"
        "print(until_done(work))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\n")


def test_a_signal_that_the_kernel_gives_to_another_thread_is_heard_too() -> None:
    script = (
        "import signal, threading\nfrom cdcflow.cli.stopping import until_done\n"
        "def work(stop):\n    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n    return stop.wait(30)\n"
        "print(until_done(work))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\n")
