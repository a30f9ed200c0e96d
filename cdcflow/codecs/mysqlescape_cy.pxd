# C declarations of mysqlescape_cy.py: the compiler reads them, plain Python does not.
cdef Py_ssize_t load_text(unsigned char *p, Py_ssize_t at, Py_ssize_t end, unsigned char *out, Py_ssize_t to) noexcept nogil
cdef Py_ssize_t sql_text(unsigned char *p, Py_ssize_t at, Py_ssize_t end, unsigned char *out, Py_ssize_t to) noexcept nogil
cdef Py_ssize_t load_hex(unsigned char *p, Py_ssize_t at, Py_ssize_t end, unsigned char *out, Py_ssize_t to) noexcept nogil
cdef Py_ssize_t load_copied(unsigned char *p, Py_ssize_t at, Py_ssize_t end, unsigned char *out, Py_ssize_t to) noexcept nogil
cdef bint is_number(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept nogil
