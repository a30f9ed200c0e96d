"""The compiled modules: each `*_cy.py` becomes an extension where Cython and a C compiler are there.

`CDCFLOW_COMPILE` in the environment of the build: `auto` (default) compiles what it can and goes on without
what it cannot, `require` fails instead, `forbid` makes a package of plain Python.
`CDCFLOW_CFLAGS` replaces the flags of the C compiler.
What the package is stands in setup.cfg.
"""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

from setuptools import Extension, setup

# A new hot module is added here and in cdcflow/codecs/loading.py; tests/unit/test_build.py compares both
# with the files.
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

CFLAGS = os.environ.get("CDCFLOW_CFLAGS", "-O3 -g0 -w" if os.name == "posix" else "").split()
CHOICE = os.environ.get("CDCFLOW_COMPILE", "") or "auto"
if CHOICE not in ("auto", "require", "forbid"):
    sys.exit(f"CDCFLOW_COMPILE is {CHOICE!r}; it must be auto, require or forbid")

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    # `if cython.compiled: ... else: ...` leaves the plain half unreachable, on purpose.
    "warn.unreachable": False,
}


def extensions() -> dict[str, Any]:
    """Return the arguments of `setup` that concern the extensions."""
    if CHOICE == "forbid" or (CHOICE == "auto" and platform.python_implementation() != "CPython"):
        return {}
    try:
        from Cython.Build import build_ext
    except ImportError:
        if CHOICE == "require":
            sys.exit("CDCFLOW_COMPILE=require, but Cython is not installed")
        return {}
    modules = []
    for name in HOT_MODULES:
        extension = Extension(
            name,
            [name.replace(".", "/") + ".py"],
            optional=CHOICE == "auto",
            depends=["setup.py"],
            extra_compile_args=CFLAGS,
        )
        extension.cython_directives = dict(DIRECTIVES)
        modules.append(extension)
    return {"ext_modules": modules, "cmdclass": {"build_ext": build_ext}}


if __name__ == "__main__":
    setup(**extensions())
