# C declarations of scancells_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.frames_cy cimport Arena

cdef int put_bool(Arena out, bint value, int form) except -1
cdef int put_piece(Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end, int form, bint hides) except -1
cdef int put_item(Arena out, Arena element, bint good, bint first, int delimiter) except -1
cdef int end_cell(Arena out, Py_ssize_t start, bint good, bint absent, bint hides) except -1
cdef double floating(unsigned char *p, Py_ssize_t at, Py_ssize_t end, int size) except? -1
cdef str utf8(unsigned char *p, Py_ssize_t at, Py_ssize_t end)
cdef int *ints(list kept, list column) except? NULL
cdef long long *offsets(list kept, Py_ssize_t count) except? NULL
