# C declarations of busjsoncell_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.arraytext_cy cimport ArrayText
from cdcflow.codecs.jsonoutput_cy cimport Output

cdef class JsonCell:
    cdef bytes name
    cdef bytes unavailable
    cdef int kind
    cdef int form
    cdef int length
    cdef int delimiter
    cdef JsonCell element
    cdef ArrayText elements

    # 1 written, 0 it cannot be said and nothing was written
    cdef int write(self, Output out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except? -2
    cdef int write_array(self, Output out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except? -2
    cdef int write_by_hand(self, Output out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except? -2
