# C declarations of bustimetext_cy.py: the compiler reads them, plain Python does not.
cdef int write_date(long long days, unsigned char *out, Py_ssize_t at) noexcept nogil
cdef int write_time(long long micros, unsigned char *out, Py_ssize_t at) noexcept nogil
cdef int write_clock(long long micros, unsigned char *out, Py_ssize_t at) noexcept nogil
cdef int write_timestamp(long long micros, unsigned char *out, Py_ssize_t at) noexcept nogil
