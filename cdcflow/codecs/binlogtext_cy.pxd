# C declarations of binlogtext_cy.py: the compiler reads them, plain Python does not.
# Each writes at out[at] and returns where it stopped; the caller has made room. None reads outside start..start + count.
cdef Py_ssize_t hexed(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start, Py_ssize_t count, bint upper) noexcept
cdef Py_ssize_t zeros(unsigned char *out, Py_ssize_t at, Py_ssize_t count) noexcept
cdef Py_ssize_t copied(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start, Py_ssize_t count) noexcept
cdef bint is_utf8(unsigned char *p, Py_ssize_t start, Py_ssize_t count) noexcept
cdef Py_ssize_t mapped(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start, Py_ssize_t count, unsigned char *table) noexcept
