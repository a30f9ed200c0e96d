# C declarations of busmoment_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.frames_cy cimport Arena

cdef int put_zoned(Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
