# C declarations of busbinary_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.arraytext_cy cimport ArrayText
from cdcflow.codecs.busnumber_cy cimport Number
from cdcflow.codecs.frames_cy cimport Arena

cdef class BinaryCell:
    cdef int kind
    cdef int scale
    cdef int delimiter
    cdef bint tagged
    cdef bytes present
    cdef bytes nothing
    cdef readonly bytes unavailable
    cdef BinaryCell element
    cdef object slow
    cdef Number number
    cdef Arena scratch
    cdef ArrayText elements

    # 1 written, 0 it cannot be said and `nothing` was written
    cdef int write(self, Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int value(self, Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int signed(self, Arena out, long long value) except -1
    cdef int floating(self, Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int raw(self, Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int moment(self, Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int unscaled(self, Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int by_hand(self, Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int array(self, Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int item(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int null_item(self) except -1

cdef int put(Arena out, bytes text) except -1
cdef int put_varint(Arena out, unsigned long long value) except -1
cdef int put_length(Arena out, Py_ssize_t size, bint tagged) except -1
