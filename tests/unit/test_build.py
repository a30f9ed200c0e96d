"""The compiled modules: the lists of them are true, and each choice of form is kept."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import cdcflow
from cdcflow.codecs import loaded, loading, shim

ROOT = Path(__file__).parents[2]
PACKAGE = Path(cdcflow.__file__).parent
EXAMPLE = """\
from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.string import memcpy


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(-1, check=False)
def _total(data: cython.p_uchar, size: cython.Py_ssize_t) -> cython.longlong:
    total: cython.longlong = 0
    index: cython.Py_ssize_t
    for index in range(size):
        total += data[index]
    return total


@cython.final
@cython.cclass
class Sum:
    value: cython.longlong

    def __init__(self) -> None:
        self.value = 0

    @cython.ccall
    def add(self, cells: bytes) -> cython.longlong:
        size: cython.Py_ssize_t = len(cells)
        if cython.compiled:
            data: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(cells))
            copied: cython.uint
            memcpy(cython.address(copied), data, 4)
            with cython.nogil:
                self.value += _total(data, size)
        else:
            self.value += sum(cells)
        return self.value


@cython.boundscheck(False)
@cython.wraparound(False)
@cython.cdivision(True)
@cython.locals(number=cython.int)
@cython.returns(cython.int)
def half(number):
    return number // 2


compiled = cython.compiled
"""
TRY_EXAMPLE = """
import sys
import hot_cy as hot
print(hot.compiled, hot.Sum().add(bytes(range(200))), hot.half(9), "Cython" in sys.modules)
"""


def listed_in_setup() -> tuple[str, ...]:
    names: tuple[str, ...] = runpy.run_path(str(ROOT / "setup.py"), run_name="list")["HOT_MODULES"]
    return names


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "CDCFLOW_CODECS"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**kept, **environment},
        check=False,
        cwd=ROOT,
    )


def test_every_hot_file_is_in_the_list_of_setup() -> None:
    assert sorted(dotted(path) for path in PACKAGE.rglob("*_cy.py")) == sorted(listed_in_setup())


def test_every_listed_module_exists_and_both_lists_are_one() -> None:
    assert listed_in_setup() == loading.HOT_MODULES
    for name in loading.HOT_MODULES:
        assert (ROOT / (name.replace(".", "/") + ".py")).is_file(), name


def test_loaded_names_every_hot_module() -> None:
    assert set(loaded()) == set(loading.HOT_MODULES)


def test_plain_can_be_forced_beside_compiled_files() -> None:
    done = run(
        "from cdcflow.codecs import loaded; import sys\n"
        "import cdcflow.codecs.pgoutput_cy as by_name\n"
        "print(set(loaded().values()), by_name.__file__.endswith('.py'))",
        CDCFLOW_CODECS="plain",
    )
    assert done.stdout.split() == ["{'plain'}", "True"], done.stderr


def test_a_forced_compiled_form_that_is_not_there_raises_at_import(tmp_path: Path) -> None:
    bare = tmp_path / "cdcflow"
    for path in PACKAGE.rglob("*.py"):
        copy = bare / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import cdcflow.codecs"
    refused = run(code, CDCFLOW_CODECS="compiled")
    assert refused.returncode != 0
    assert "ImportError: CDCFLOW_CODECS=compiled but cdcflow.codecs." in refused.stderr
    assert run(code, CDCFLOW_CODECS="auto").returncode == 0


def test_a_choice_that_does_not_exist_is_refused() -> None:
    done = run("import cdcflow.codecs", CDCFLOW_CODECS="fast")
    assert "CDCFLOW_CODECS is 'fast'; it must be compiled, plain or auto" in done.stderr


def test_the_package_needs_no_cython_at_run_time() -> None:
    done = run(
        "import sys; sys.modules['cython'] = None\nfrom cdcflow.codecs import loaded; print(*set(loaded().values()))",
        CDCFLOW_CODECS="plain",
    )
    assert done.stdout.strip() == "plain", done.stderr


def test_one_file_gives_the_same_result_compiled_and_plain(tmp_path: Path) -> None:
    pytest.importorskip("Cython", reason="no Cython in this environment: nothing to compile with")
    if not any(os.access(Path(folder) / "cc", os.X_OK) for folder in os.environ["PATH"].split(os.pathsep)):
        pytest.skip("no C compiler on this machine")
    (tmp_path / "hot_cy.py").write_text(EXAMPLE)
    plain = run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.modules['cython'] = None\n" + TRY_EXAMPLE)
    assert plain.stdout.split()[0] == "False", plain.stderr
    build = (
        f"import os, runpy, sys; os.chdir({str(tmp_path)!r})\n"
        "from setuptools import setup; import setuptools\n"
        f"made = runpy.run_path({str(ROOT / 'setup.py')!r}, run_name='list')\n"
        "made['extensions'].__globals__['HOT_MODULES'] = ('hot_cy',)\n"
        "sys.argv = ['setup.py', '-q', 'build_ext', '--inplace']\n"
        "setup(name='hot', py_modules=[], **made['extensions']())"
    )
    built = run(build, CDCFLOW_COMPILE="require")
    assert built.returncode == 0, built.stderr[-3000:]
    compiled = run(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + TRY_EXAMPLE)
    assert compiled.stdout.split()[0] == "True", compiled.stderr
    assert compiled.stdout.split()[1:] == plain.stdout.split()[1:]


def test_the_shim_divides_as_c_does() -> None:
    assert [shim.cdiv(a, b) for a, b in ((7, 2), (-7, 2), (7, -2), (-7, -2))] == [3, -3, -3, 3]
    assert [shim.cmod(a, b) for a, b in ((7, 2), (-7, 2), (7, -2), (-7, -2))] == [1, -1, 1, -1]


@pytest.mark.parametrize("name", ["address", "sizeof"])
def test_what_has_no_plain_meaning_says_so(name: str) -> None:
    with pytest.raises(TypeError, match=r"cython.compiled"):
        getattr(shim, name)(1)


def test_flow_names_no_engine() -> None:
    """What is particular to one belongs to its source, its target, or to what the model says of a table."""
    names = re.compile(r"mysql|mariadb|postgres|sqlite|kafka|rabbit", re.IGNORECASE)
    found = {path.name: names.findall(path.read_text()) for path in (PACKAGE / "flow").glob("*.py")}
    assert found
    assert not any(found.values()), found
