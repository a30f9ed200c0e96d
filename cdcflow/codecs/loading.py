"""Which form of the hot modules runs: the compiled one, or the same file as plain Python.

`CDCFLOW_CODECS` decides: `auto` (the default) takes the compiled module where there is one, `compiled` and
`plain` force the choice, and a forced choice that cannot be had raises ImportError at import.

A hot module's extension lies beside its source and has the same name, so an ordinary import finds the
compiled one first. The package that holds a hot module therefore calls `load` once, in its `__init__`,
before anybody can import the module by name; afterwards ordinary imports get what was loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from cdcflow.errors import UsageError

Form = Literal["compiled", "plain"]

# In the order in which they may import one another: a module stands after those it needs, or the needed
# one would be imported by name, compiled, before its own turn to be forced plain. Same list as setup.py.
HOT_MODULES: tuple[str, ...] = (
    "cdcflow.codecs.frames_cy",
    "cdcflow.codecs.amqpframes_cy",
    "cdcflow.codecs.amqppack_cy",
    "cdcflow.codecs.amqpheaders_cy",
    "cdcflow.codecs.pgoutput_cy",
    "cdcflow.codecs.keytable_cy",
    "cdcflow.codecs.net_cy",
    "cdcflow.codecs.copytext_cy",
    "cdcflow.codecs.order_cy",
    "cdcflow.codecs.copylines_cy",
    "cdcflow.codecs.sqliterows_cy",
    "cdcflow.codecs.copyframe_cy",
    "cdcflow.codecs.floattext_cy",
    "cdcflow.codecs.mysqlcells_cy",
    "cdcflow.codecs.mysqltextrow_cy",
    "cdcflow.codecs.mysqltext_cy",
    "cdcflow.codecs.mysqlescape_cy",
    "cdcflow.codecs.mysqlblocks_cy",
    "cdcflow.codecs.mysqlload_cy",
    "cdcflow.codecs.binlognumbers_cy",
    "cdcflow.codecs.binlogtext_cy",
    "cdcflow.codecs.binlogtime_cy",
    "cdcflow.codecs.mysqljson_cy",
    "cdcflow.codecs.binlogcell_cy",
    "cdcflow.codecs.binlogrow_cy",
    "cdcflow.codecs.binloggroups_cy",
    "cdcflow.codecs.binlogtables_cy",
    "cdcflow.codecs.binlog_cy",
    "cdcflow.codecs.busorder_cy",
    "cdcflow.codecs.murmur2_cy",
    "cdcflow.codecs.busimages_cy",
    "cdcflow.codecs.bustime_cy",
    "cdcflow.codecs.bustimetext_cy",
    "cdcflow.codecs.arraytext_cy",
    "cdcflow.codecs.hexbase64_cy",
    "cdcflow.codecs.bustext_cy",
    "cdcflow.codecs.busnumber_cy",
    "cdcflow.codecs.jsonoutput_cy",
    "cdcflow.codecs.busjsoncell_cy",
    "cdcflow.codecs.busjson_cy",
    "cdcflow.codecs.jsontext_cy",
    "cdcflow.codecs.jsoncell_cy",
    "cdcflow.codecs.jsonscan_cy",
    "cdcflow.codecs.busmoment_cy",
    "cdcflow.codecs.scancells_cy",
    "cdcflow.codecs.avrocursor_cy",
    "cdcflow.codecs.avroscan_cy",
    "cdcflow.codecs.protocursor_cy",
    "cdcflow.codecs.protoscan_cy",
    "cdcflow.codecs.busbinary_cy",
    "cdcflow.codecs.busrecords_cy",
    "cdcflow.engines.postgres.libpq_cy",
)


def wanted() -> Literal["compiled", "plain", "auto"]:
    """Return what `CDCFLOW_CODECS` asks for.

    Raises:
        UsageError: it holds none of the three words.
    """
    word = os.environ.get("CDCFLOW_CODECS", "") or "auto"
    match word:
        case "compiled" | "plain" | "auto":
            return word
    raise UsageError(f"CDCFLOW_CODECS is {word!r}; it must be compiled, plain or auto")


def form(module: ModuleType) -> Form:
    """Return in which form a module was loaded."""
    return "plain" if str(module.__file__).endswith(".py") else "compiled"


def load(name: str) -> ModuleType:
    """Import one hot module in the form that is wanted, and return it.

    Raises:
        ImportError: the form that `CDCFLOW_CODECS` forces is not there, or the other one was imported first.
    """
    choice = wanted()
    module = sys.modules.get(name)
    if module is None:
        module = _load_plain(name) if choice == "plain" else _load_first_found(name, choice)
    if choice not in ("auto", form(module)):
        raise ImportError(
            f"CDCFLOW_CODECS={choice} but {name} is {form(module)} ({module.__file__}): "
            + (
                "build it with `CDCFLOW_COMPILE=require pip install .` (needs a C compiler)"
                if choice == "compiled"
                else "it was imported before its package could load it"
            ),
            name=name,
        )
    return module


def plain(name: str) -> Any:
    """Return the plain form of a hot module of C functions, for a sibling that runs plain itself.

    Those functions are no names of the compiled module, so where only the sibling could not be compiled the plain
    form is loaded beside it.
    """
    module = importlib.import_module(name)
    if form(module) == "plain":
        return module
    beside = f"{name}_plain"
    if beside not in sys.modules:
        spec = importlib.util.spec_from_file_location(beside, _source(name))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[beside] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[beside])
    return sys.modules[beside]


def loaded() -> dict[str, Form]:
    """Return the form of each hot module, importing those that were not needed yet."""
    return {name: form(importlib.import_module(name)) for name in HOT_MODULES}


def _load_first_found(name: str, choice: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, AttributeError, TypeError, ValueError):
        # An extension of another interpreter's ABI (ImportError), or one that needs the C side of a sibling which
        # could not be compiled (the others: no C table, no extension type, a class of another size).
        if choice == "compiled":
            raise
        return _load_plain(name)


def _source(name: str) -> Path:
    package, _, stem = name.rpartition(".")
    return Path(str(importlib.import_module(package).__file__)).with_name(stem + ".py")


def _load_plain(name: str) -> ModuleType:
    package, _, stem = name.rpartition(".")
    parent = importlib.import_module(package)
    path = _source(name)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"{path} is missing: the plain form of {name}", name=name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    setattr(parent, stem, module)
    return module
