# C declarations of jsontext_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.jsonoutput_cy cimport Output

cdef class Cursor:
    cdef bytes owner
    cdef unsigned char *p
    cdef Py_ssize_t at
    cdef Py_ssize_t end
    cdef bint whole

    cdef int open(self, bytes text) except? -1
    cdef int peek(self) except? -2
    cdef int expect(self, int byte) except? -1
    cdef int more(self, int close) except? -1
    cdef int string(self, Output out) except? -1
    cdef Py_ssize_t escape(self, Output out, Py_ssize_t at) except? -1
    cdef int unit(self, Py_ssize_t at) except? -1
    cdef Py_ssize_t step(self) except? -1
    cdef Py_ssize_t number(self) except? -1
    cdef int word(self) except? -1
    cdef Py_ssize_t skip(self, Output scratch, int depth) except? -1
    cdef bytes slice(self, Py_ssize_t start, Py_ssize_t end)
