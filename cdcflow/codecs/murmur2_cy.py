"""The hash by which Kafka's Java producer finds a key's partition: murmur2 with the client's own seed.

`Utils.murmur2` and `Utils.toPositive` of https://github.com/apache/kafka (org.apache.kafka.common.utils); the
partition of a key is this modulo their number.
This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING

_SEED = cython.declare(cython.uint, 0x9747B28C)
_MIX = cython.declare(cython.uint, 0x5BD1E995)
_ALL = cython.declare(cython.uint, 0xFFFFFFFF)
_POSITIVE = cython.declare(cython.uint, 0x7FFFFFFF)


def murmur2(key: bytes) -> int:
    """Return a key's hash, made positive."""
    if cython.compiled:
        return positive_murmur2(cython.cast(cython.p_uchar, PyBytes_AS_STRING(key)), len(key))
    return positive_murmur2(key, len(key))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def positive_murmur2(p: cython.p_uchar, size: cython.Py_ssize_t) -> cython.uint:
    """Return the hash of the first `size` bytes."""
    h: cython.uint = (_SEED ^ cython.cast(cython.uint, size)) & _ALL
    k: cython.uint
    at: cython.Py_ssize_t = 0
    whole: cython.Py_ssize_t = size - size % 4
    while at < whole:
        k = p[at] | (p[at + 1] << 8) | (p[at + 2] << 16) | (cython.cast(cython.uint, p[at + 3]) << 24)
        k = (k * _MIX) & _ALL
        k ^= k >> 24
        k = (k * _MIX) & _ALL
        h = (h * _MIX) & _ALL
        h ^= k
        at += 4
    if size - whole > 2:
        h ^= p[whole + 2] << 16
    if size - whole > 1:
        h ^= p[whole + 1] << 8
    if size - whole > 0:
        h ^= p[whole]
        h = (h * _MIX) & _ALL
    h ^= h >> 13
    h = (h * _MIX) & _ALL
    h ^= h >> 15
    return h & _POSITIVE
