# C declarations of hexbase64_cy.py: the compiler reads them, plain Python does not.
cdef Py_ssize_t write_base64(unsigned char *p, Py_ssize_t at, Py_ssize_t end, unsigned char *out, Py_ssize_t to) noexcept nogil
cdef Py_ssize_t write_hex(unsigned char *p, Py_ssize_t at, Py_ssize_t end, unsigned char *out, Py_ssize_t to) noexcept nogil
