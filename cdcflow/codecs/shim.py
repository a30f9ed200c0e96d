"""The `cython` names that hot modules use, for an interpreter that has no Cython: each does nothing.

A hot module (`*_cy.py`) is compiled by Cython where that was possible at build time; everywhere else the
same file runs as plain Python. It asks for `cython` first, because that literal import is what the Cython
compiler recognises (and removes), and takes this module where Cython is not installed.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

_T = TypeVar("_T")

compiled = False
NULL: Any = None


class _CType:
    """A C type: can be called as a cast, indexed as an array and taken as a pointer's target."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, value: Any = 0) -> Any:
        return value

    def __getitem__(self, _size: Any) -> _CType:
        return _CType(self.name + "[]")

    def __repr__(self) -> str:
        return f"cython.{self.name}"


char = _CType("char")
schar = _CType("schar")
uchar = _CType("uchar")
short = _CType("short")
ushort = _CType("ushort")
int = _CType("int")  # noqa: A001 - the compiler's own name
uint = _CType("uint")
long = _CType("long")
ulong = _CType("ulong")
longlong = _CType("longlong")
ulonglong = _CType("ulonglong")
Py_ssize_t = _CType("Py_ssize_t")
size_t = _CType("size_t")
ssize_t = _CType("ssize_t")
Py_hash_t = _CType("Py_hash_t")
bint = _CType("bint")
float = _CType("float")  # noqa: A001 - the compiler's own name
double = _CType("double")
void = _CType("void")
p_void = _CType("p_void")
p_char = _CType("p_char")
p_uchar = _CType("p_uchar")
p_int = _CType("p_int")
p_uint = _CType("p_uint")
p_long = _CType("p_long")
p_longlong = _CType("p_longlong")
p_ulonglong = _CType("p_ulonglong")
p_Py_ssize_t = _CType("p_Py_ssize_t")  # noqa: N816 - the compiler's own name
p_size_t = _CType("p_size_t")
p_double = _CType("p_double")
pp_char = _CType("pp_char")
pp_void = _CType("pp_void")


class _Pointer:
    """`pointer(T)`, `pointer[T]` and `const[T]` alike."""

    __slots__ = ()

    def __call__(self, _target: Any) -> _CType:
        return _CType("pointer")

    __getitem__ = __call__


pointer = _Pointer()
const = _Pointer()
volatile = _Pointer()


def _as_it_is(target: _T) -> _T:
    return target


cclass = cfunc = ccall = inline = final = _as_it_is


class _Section:
    """`with nogil:`, `@nogil`, `@nogil(True)`: the plain interpreter keeps its lock."""

    __slots__ = ()

    def __call__(self, target: Any = None) -> Any:
        return target if callable(target) else _as_it_is

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        return None


nogil = _Section()
gil = _Section()


def _option(*_values: Any, **_named: Any) -> Callable[[_T], _T]:
    """Any decorator that takes values: what it asks of the compiler means nothing here."""
    return _as_it_is


locals = _option  # noqa: A001 - the compiler's own name
returns = exceptval = with_gil = _option
boundscheck = wraparound = cdivision = initializedcheck = nonecheck = overflowcheck = _option
annotation_typing = infer_types = freelist = binding = embedsignature = always_allow_keywords = _option
no_gc = no_gc_clear = auto_pickle = profile = linetrace = optimize_use_switch = _option


def declare(_type: Any = None, value: Any = None, **_named: Any) -> Any:
    """`x = declare(int, 5)` is 5; `declare(x=int)` declares and returns nothing."""
    return value


def cast(_type: Any, value: Any, *, typecheck: bool = False) -> Any:
    """Return the value untouched: a cast that must wrap or truncate has to do so by arithmetic."""
    return value


def address(value: Any) -> Any:
    """Not to be reached in plain Python, which has no addresses."""
    raise TypeError("cython.address outside of compiled code: put it under `if cython.compiled:`")


def sizeof(_type: Any) -> builtins.int:
    """Not to be reached in plain Python, which has no sizes."""
    raise TypeError("cython.sizeof outside of compiled code: put it under `if cython.compiled:`")


def struct(**_members: Any) -> Callable[..., dict[str, Any]]:
    """A C struct is a dict of its members."""
    return dict


def typedef(target: _T, _name: str = "") -> _T:
    """A C typedef is the type itself."""
    return target


def likely(condition: Any) -> Any:
    """Return the condition."""
    return condition


unlikely = likely


def cmod(a: builtins.int, b: builtins.int) -> builtins.int:
    """Remainder with the sign of the dividend, as in C."""
    remainder = abs(a) % abs(b)
    return -remainder if a < 0 else remainder


def cdiv(a: builtins.int, b: builtins.int) -> builtins.int:
    """Quotient rounded towards zero, as in C."""
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient
