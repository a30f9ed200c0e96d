# C declarations of copylines_cy.py: the compiler reads them, plain Python does not.
cdef int meant(int byte) noexcept nogil
cdef Py_ssize_t unescape(unsigned char *p, Py_ssize_t at, Py_ssize_t end, unsigned char *out, Py_ssize_t to) noexcept nogil
