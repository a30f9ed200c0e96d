"""libpq's COPY calls in bulk and without the GIL: one call brings or sends megabytes.

The driver's own methods take one message a call and keep the GIL while they wait. Here the addresses of the
functions of the libpq that the driver has loaded are called straight from compiled code. In plain Python, or
where that libpq cannot be found, the same functions go through the driver.
"""

from __future__ import annotations

import ctypes
import importlib
import struct
from typing import TYPE_CHECKING, Any

from psycopg import pq

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.stdlib import free, realloc
    from cython.cimports.libc.string import memcpy

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

# What ended a gulp.
EMPTY = 0  # nothing more has arrived yet
MORE = 1  # the limit was reached; more is there
DONE = -1  # the server ended the COPY
FAILED = -2  # libpq reports an error on the COPY
LOST = -3  # the connection is gone

# libpq grows its send buffer for what it is given at once; pieces of this size keep it small.
_PUT_PIECE = cython.declare(cython.int, 65536)

_FUNCTIONS = ("PQgetCopyData", "PQputCopyData", "PQconsumeInput", "PQsocket", "PQfreemem")

_bound = cython.declare(cython.bint, False)


def direct() -> bool:
    """Return whether libpq is called straight from compiled code."""
    return bool(_bound)


def _addresses() -> dict[str, int]:
    """Return the addresses of libpq's functions in this process, empty where it is not sure to be the driver's."""
    implementation = pq.__impl__
    try:
        if implementation == "python":
            library = importlib.import_module("psycopg.pq._pq_ctypes").pq
        else:
            package = "psycopg_binary" if implementation == "binary" else "psycopg_c"
            # Opening what is loaded already gives the same module; looking a name up in it also searches the
            # libpq that it is linked to, so no path is guessed.
            library = ctypes.CDLL(str(importlib.import_module(package + ".pq").__file__))
        if library.PQlibVersion() != pq.version():
            return {}
        return {name: ctypes.cast(library[name], ctypes.c_void_p).value or 0 for name in _FUNCTIONS}
    except (ImportError, OSError, AttributeError):
        return {}


def _bind() -> None:
    global _bound
    found = _addresses()
    if not found or not all(found.values()):
        return
    if cython.compiled:
        global c_get_copy_data, c_put_copy_data, c_consume_input, c_socket, c_free_memory
        address: cython.size_t
        address = found["PQgetCopyData"]
        c_get_copy_data = cython.cast(get_copy_data_t, address)  # type: ignore[name-defined]
        address = found["PQputCopyData"]
        c_put_copy_data = cython.cast(put_copy_data_t, address)  # type: ignore[name-defined]
        address = found["PQconsumeInput"]
        c_consume_input = cython.cast(on_connection_t, address)  # type: ignore[name-defined]
        address = found["PQsocket"]
        c_socket = cython.cast(on_connection_t, address)  # type: ignore[name-defined]
        address = found["PQfreemem"]
        c_free_memory = cython.cast(free_memory_t, address)  # type: ignore[name-defined]
        _bound = True


def gulp(pgconn: PGconn, max_bytes: cython.Py_ssize_t) -> tuple[bytes, int]:
    """Take the CopyData messages that have arrived, without waiting, each behind its native uint32 length.

    Returns about `max_bytes` at most (one message may be larger) and what ended it: EMPTY, MORE, DONE, FAILED
    or LOST. What was read before the end is returned with it.
    """
    if not _bound:
        return _plain_gulp(pgconn, max_bytes)
    if cython.compiled:
        address: cython.size_t = pgconn.pgconn_ptr
        conn: cython.p_void = cython.cast(cython.p_void, address)
        message: cython.p_char = cython.NULL
        buffer: cython.p_char = cython.NULL
        grown: cython.p_char
        capacity: cython.Py_ssize_t = 0
        size: cython.Py_ssize_t = 0
        length: cython.int
        prefix: cython.uint
        code: cython.int = 0
        waiting: pollfd  # type: ignore[name-defined]
        with cython.nogil:
            while True:
                length = c_get_copy_data(conn, cython.address(message), 1)
                if length > 0:
                    if size + length + 4 > capacity:
                        capacity = size + length + 4 + capacity // 2 + 65536
                        grown = cython.cast(cython.p_char, realloc(buffer, capacity))
                        if grown == cython.NULL:
                            c_free_memory(message)
                            code = -4
                            break
                        buffer = grown
                    prefix = length
                    memcpy(buffer + size, cython.address(prefix), 4)
                    memcpy(buffer + size + 4, message, length)
                    size += length + 4
                    c_free_memory(message)
                    if size >= max_bytes:
                        code = 1
                        break
                elif length == 0:
                    # One PQconsumeInput brings about 16 KB, so go on until the socket says that it is empty.
                    waiting.fd = c_socket(conn)
                    waiting.events = POLLIN  # type: ignore[name-defined]
                    waiting.revents = 0
                    if waiting.fd < 0:
                        code = -3
                        break
                    if poll(cython.address(waiting), 1, 0) == 0:  # type: ignore[name-defined]
                        code = 0
                        break
                    # On a lost connection the asynchronous PQgetCopyData goes on answering 0: this one tells.
                    if c_consume_input(conn) == 0:
                        code = -3
                        break
                else:
                    code = length
                    break
        if code == -4:
            free(buffer)
            raise MemoryError
        try:
            return PyBytes_FromStringAndSize(buffer, size), code
        finally:
            free(buffer)
    raise AssertionError("bound in plain Python")


def get_copy(pgconn: PGconn, max_bytes: cython.Py_ssize_t) -> tuple[bytes, int]:
    """Wait for COPY OUT data and return about `max_bytes` of it as one block of whole rows.

    Returns the block and MORE, DONE or FAILED.
    """
    if not _bound:
        return _plain_get_copy(pgconn, max_bytes)
    if cython.compiled:
        address: cython.size_t = pgconn.pgconn_ptr
        conn: cython.p_void = cython.cast(cython.p_void, address)
        message: cython.p_char = cython.NULL
        buffer: cython.p_char = cython.NULL
        grown: cython.p_char
        capacity: cython.Py_ssize_t = 0
        size: cython.Py_ssize_t = 0
        length: cython.int
        code: cython.int = 1
        with cython.nogil:
            while size < max_bytes:
                length = c_get_copy_data(conn, cython.address(message), 0)
                if length <= 0:
                    code = length
                    break
                if size + length > capacity:
                    capacity = size + length + (max_bytes if capacity == 0 else capacity // 2)
                    grown = cython.cast(cython.p_char, realloc(buffer, capacity))
                    if grown == cython.NULL:
                        c_free_memory(message)
                        code = -4
                        break
                    buffer = grown
                memcpy(buffer + size, message, length)
                size += length
                c_free_memory(message)
        if code == -4:
            free(buffer)
            raise MemoryError
        try:
            return PyBytes_FromStringAndSize(buffer, size), code
        finally:
            free(buffer)
    raise AssertionError("bound in plain Python")


def put_copy(pgconn: PGconn, data: bytes) -> None:
    """Send a block of COPY IN data, waiting until libpq has taken it all.

    Raises:
        psycopg.OperationalError: the connection failed; ask the connection for the server's words.
    """
    if not _bound:
        pgconn.put_copy_data(data)
        return
    if cython.compiled:
        address: cython.size_t = pgconn.pgconn_ptr
        conn: cython.p_void = cython.cast(cython.p_void, address)
        text: cython.p_char = PyBytes_AS_STRING(data)
        size: cython.Py_ssize_t = len(data)
        at: cython.Py_ssize_t = 0
        piece: cython.int
        sent: cython.int = 1
        with cython.nogil:
            while at < size:
                piece = _PUT_PIECE
                if size - at < piece:
                    piece = cython.cast(cython.int, size - at)
                sent = c_put_copy_data(conn, text + at, piece)
                if sent != 1:
                    break
                at += piece
        if sent != 1:
            # Through the driver, so that the error is the driver's own.
            pgconn.put_copy_data(data[at:])


def _plain_gulp(pgconn: Any, max_bytes: int) -> tuple[bytes, int]:
    import select

    parts: list[bytes] = []
    size = 0
    while size < max_bytes:
        try:
            length, message = pgconn.get_copy_data(1)
        except Exception:
            return b"".join(parts), FAILED
        if length > 0:
            parts.append(struct.pack("=I", len(message)))
            parts.append(bytes(message))
            size += len(message) + 4
        elif length == 0:
            try:
                readable, _, _ = select.select([pgconn.socket], [], [], 0)
                if not readable:
                    return b"".join(parts), EMPTY
                pgconn.consume_input()
            except Exception:
                return b"".join(parts), LOST
        else:
            return b"".join(parts), DONE
    return b"".join(parts), MORE


def _plain_get_copy(pgconn: Any, max_bytes: int) -> tuple[bytes, int]:
    parts: list[bytes] = []
    size = 0
    while size < max_bytes:
        try:
            length, message = pgconn.get_copy_data(0)
        except Exception:
            return b"".join(parts), FAILED
        if length <= 0:
            return b"".join(parts), DONE
        parts.append(bytes(message))
        size += len(message)
    return b"".join(parts), MORE


_bind()
