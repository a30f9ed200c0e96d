"""What the content header of an AMQP 0-9-1 delivery says: our headers and those of CloudEvents, and properties.

Content headers: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, section 4.2.6. Field tables as RabbitMQ writes
them: https://www.rabbitmq.com/amqp-0-9-1-errata.html#section_3.
This file runs as it is and is compiled by Cython where a compiler is there. It does no I/O.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from cdcflow.codecs import shim as cython

if cython.compiled:
    from cython.cimports.cdcflow.codecs.amqpframes_cy import number
else:
    from cdcflow.codecs import loading

    number = loading.plain("cdcflow.codecs.amqpframes_cy").number

from cdcflow.codecs.amqpframes_cy import AmqpError

_PROPERTIES: dict = {0x0400: "cdcflow.txid", 0x0080: "cdcflow.position", 0x0020: "cdcflow.op"}
_names: dict = {}


def headers_of(data: bytes) -> tuple:
    """Return (list of (name, value), stream offset or -1, deliveries before this one) of a content header's payload.

    Only long strings whose names begin with `cdcflow.` or `ce_` are in the list, and as `content-type`, `cdcflow.txid`,
    `cdcflow.position` and `cdcflow.op` the properties that `pack` puts them into, of a message with `cdcflow.place`.

    Raises:
        AmqpError: it ends inside a field.
    """
    size: cython.Py_ssize_t = len(data)
    if size < 14:
        raise AmqpError("a content header is too short")
    flags: cython.int = number(data, 12, 2)
    at: cython.Py_ssize_t = 14
    while flags & 1 and at + 2 <= size and number(data, at - 2, 2) & 1:  # more words of flags follow: none is used
        at += 2
    found: list = []
    offset = -1
    before = 0
    ours = False
    step: cython.Py_ssize_t
    length: cython.Py_ssize_t
    kind: cython.int
    if flags & 0x8000:
        if at >= size or at + 1 + data[at] > size:
            raise AmqpError("a content header ends inside a property")
        length = data[at]
        found.append(("content-type", data[at + 1 : at + 1 + length]))
        at += 1 + length
    if flags & 0x4000:
        if at >= size:
            raise AmqpError("a content header ends inside a property")
        at += 1 + data[at]
    if not flags & 0x2000:
        return found, offset, before
    if at + 4 > size:
        raise AmqpError("a content header ends inside a property")
    length = number(data, at, 4)
    at += 4
    end: cython.Py_ssize_t = at + length
    if end > size:
        raise AmqpError("a field table ends outside its header")
    while at < end:
        length = data[at]
        if at + 1 + length + 1 > end:
            raise AmqpError("a field table ends inside a name")
        name: bytes = data[at + 1 : at + 1 + length]
        at += 1 + length
        kind = data[at]
        at += 1
        if kind == 83 or kind == 120 or kind == 70 or kind == 65:  # S x F A: a length, then so many bytes
            if at + 4 > end:
                raise AmqpError("a field table ends inside a value")
            step = number(data, at, 4)
            at += 4
            if at + step > end:
                raise AmqpError("a field table ends inside a value")
            if kind == 83 and (name[:8] == b"cdcflow." or name[:3] == b"ce_"):
                found.append((_named(name), data[at : at + step]))
                ours = ours or name == b"cdcflow.place"
        else:
            if kind == 116 or kind == 98 or kind == 66:  # t b B
                step = 1
            elif kind == 115 or kind == 117:  # s u
                step = 2
            elif kind == 73 or kind == 105 or kind == 102:  # I i f
                step = 4
            elif kind == 108 or kind == 76 or kind == 100 or kind == 84:  # l L d T
                step = 8
            elif kind == 68:  # D
                step = 5
            elif kind == 86:  # V
                step = 0
            else:
                raise AmqpError("a field table has a value of an unknown kind")
            if at + step > end:
                raise AmqpError("a field table ends inside a value")
            if kind == 108 and name == b"x-stream-offset":
                offset = int(number(data, at, 8))
            elif step and kind in b"lIsb" and name == b"x-delivery-count":
                before = int(number(data, at, step))
        at += step
    if ours:
        _properties(found, data, flags, at)
    return found, offset, before


@cython.cfunc
def _properties(found: list, data: bytes, flags: cython.int, start: cython.Py_ssize_t) -> object:
    """Add what the properties behind the headers say; `start`: where they begin."""
    size: cython.Py_ssize_t = len(data)
    at: cython.Py_ssize_t = start
    bit: cython.int = 0x1000
    if flags & 1:
        return None
    while bit > 0x0010:
        if flags & bit:
            if bit == 0x1000 or bit == 0x0800:
                at += 1
            elif bit == 0x0040:
                at += 8
            else:
                if at >= size or at + 1 + data[at] > size:
                    raise AmqpError("a content header ends inside a property")
                if bit == 0x0400 or bit == 0x0080 or bit == 0x0020:
                    found.append((_PROPERTIES[bit], data[at + 1 : at + 1 + data[at]]))
                at += 1 + data[at]
        bit >>= 1
    return None


def timestamp_of(data: bytes) -> int:
    """Return the property `timestamp` of a content header's payload, seconds since 1970; 0 where it has none.

    Raises:
        AmqpError: it ends before that.
    """
    size: cython.Py_ssize_t = len(data)
    if size < 14:
        raise AmqpError("a content header is too short")
    flags: cython.int = number(data, 12, 2)
    if not flags & 0x0040 or flags & 1:
        return 0
    at: cython.Py_ssize_t = 14
    bit: cython.int = 0x8000
    while bit > 0x0040:  # the properties in their order: short strings, but for a table and two numbers of a byte
        if flags & bit:
            if bit == 0x1000 or bit == 0x0800:
                at += 1
            elif bit == 0x2000:
                at += 4 + number(data, at, 4) if at + 4 <= size else size
            else:
                at += 1 + data[at] if at < size else 1
        bit >>= 1
    if at + 8 > size:
        raise AmqpError("a content header ends inside a property")
    return int(number(data, at, 8))


@cython.cfunc
def _named(name: bytes) -> object:
    known = _names.get(name)
    if known is None:
        known = name.decode("utf-8", "replace")
        if len(_names) < 1000:
            _names[name] = known
    return known
