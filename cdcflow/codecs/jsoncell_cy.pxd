# C declarations of jsoncell_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.jsonoutput_cy cimport Output
from cdcflow.codecs.jsontext_cy cimport Cursor

cdef class ColumnForm:
    cdef bytes name
    cdef int kind
    cdef int form
    cdef int unit
    cdef int scale
    cdef int length
    cdef int delimiter
    cdef ColumnForm element
    cdef Output held

    cdef Py_ssize_t read(self, Cursor cursor, Output out, Output scratch, int depth, bint foreign) except? -9
    cdef Py_ssize_t number(self, Cursor cursor, Output out, Py_ssize_t start, bint foreign) except? -9
    cdef Py_ssize_t text(self, Output out, Output scratch, bint foreign) except? -9
    cdef Py_ssize_t array(self, Cursor cursor, Output out, Output scratch, int depth, bint foreign) except? -9
