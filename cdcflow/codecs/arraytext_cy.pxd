# C declarations of arraytext_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.frames_cy cimport Arena

cdef class ArrayText:
    cdef unsigned char *p
    cdef Py_ssize_t next
    cdef Py_ssize_t end
    cdef int delimiter
    cdef bint begun
    cdef Arena bare
    cdef unsigned char *text
    cdef Py_ssize_t at
    cdef Py_ssize_t stop

    cdef bint open(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end, int delimiter) noexcept
    cdef int step(self) except -2
    cdef int _quoted(self, Py_ssize_t at) except -2

cdef Py_ssize_t write_element(unsigned char *p, Py_ssize_t at, Py_ssize_t end, int delimiter, unsigned char *out, Py_ssize_t to) noexcept nogil
