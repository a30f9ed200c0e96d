# C declarations of busnumber_cy.py: the compiler reads them, plain Python does not.
cdef class Number:
    cdef long long value
    cdef unsigned long long magnitude

    cdef bint integer(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
    cdef bint unsigned_integer(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
    cdef bint days(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
    cdef bint clock(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
    cdef bint moment(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
    cdef bint zoned(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept
