"""What is shipped: the sdist builds the wheel, and the wheel works where no checkout is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from cdcflow.codecs import loading

ROOT = Path(__file__).parents[2]
SHIPPED = (
    "cdcflow/py.typed",
    "cdcflow/config/cdcflow.schema.json",
    "cdcflow/config/template.cdcflow.yaml",
    "cdcflow/config/template.rules.yaml",
    "cdcflow/rules/rules.schema.json",
    "cdcflow/demo/shop_mysql.sql",
    "cdcflow/demo/shop_postgres.sql",
    "cdcflow/migrations/env.py",
    "cdcflow/migrations/script.py.mako",
    "cdcflow/migrations/versions/r0001_first.py",
)
BUILD_LIMIT_SECONDS = 300

pytestmark = pytest.mark.timeout(BUILD_LIMIT_SECONDS * 2)


def compiler_is_there() -> bool:
    return shutil.which(os.environ.get("CC", "cc")) is not None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, which is built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    checkout = folder / "checkout"
    left_out = shutil.ignore_patterns("*.so", "*_cy.c", "__pycache__", "*.egg-info")
    checkout.mkdir()
    for name in ("cdcflow", "migrations", "packaging"):
        shutil.copytree(ROOT / name, checkout / name, ignore=left_out)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, checkout)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "out", checkout],
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_SECONDS,
        check=False,
        env={
            **os.environ,
            "CDCFLOW_COMPILE": "require" if compiler_is_there() else "forbid",
            "CDCFLOW_CFLAGS": "-O0 -g0 -w",  # what is tested is that they are there
        },
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = (folder / "out").glob("*.whl")
    return built


def test_the_wheel_holds_every_file_that_the_package_reads(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert [name for name in SHIPPED if name not in names] == []
    assert not [name for name in names if name.startswith(("tests/", "bench/", "migrations/"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_every_module_of_the_source(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cdcflow").rglob("*.py")}
    assert sorted(modules - names) == []


def test_the_wheel_holds_the_compiled_modules(wheel: Path) -> None:
    if not compiler_is_there():
        pytest.skip("no C compiler on this machine")
    names = zipfile.ZipFile(wheel).namelist()
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for module in loading.HOT_MODULES:
        assert module.replace(".", "/") + suffix in names
    assert not [name for name in names if name.endswith(".c")]


def test_the_wheel_works_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", fresh], check=True, timeout=120)
    python = fresh / "bin" / "python"
    install: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--disable-pip-version-check",
        wheel,
    ]
    subprocess.run(install, check=True, timeout=120)
    # The dependencies are those of this environment; a .pth file in a folder named by one is not read, so the
    # editable installation of the checkout stays out.
    (site,) = fresh.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "CDCFLOW_CODECS": "compiled" if compiler_is_there() else "auto"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = "import cdcflow, cdcflow.migrations.versions.r0001_first; print(cdcflow.__file__)"
    assert run(python, "-c", where).startswith(str(fresh))
    assert "compiled" in run(fresh / "bin" / "cdcflow", "version") or not compiler_is_there()
    run(fresh / "bin" / "cdcflow", "init", "shop")
    assert (tmp_path / "shop" / "cdcflow.yaml").is_file()
