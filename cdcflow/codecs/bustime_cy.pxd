# C declarations of bustime_cy.py: the compiler reads them, plain Python does not. The number for none is -2^63.
cdef long long parse_date(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept nogil
cdef long long parse_time(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept nogil
cdef long long parse_clock(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept nogil
cdef long long parse_timestamp(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept nogil
