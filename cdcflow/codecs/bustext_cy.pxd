# C declarations of bustext_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.frames_cy cimport Arena

cdef int put_bytes(Arena out, bytes text) except -1
cdef int put_digits(Arena out, long long value) except -1
cdef int put_unsigned(Arena out, unsigned long long value) except -1
cdef int put_days(Arena out, long long days) except -1
cdef int put_clock(Arena out, long long micros) except -1
cdef int put_moment(Arena out, long long micros, bint zoned) except -1
cdef int put_number(Arena out, long long number, int form) except -1
cdef int put_hex(Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
cdef int put_float8(Arena out, double value) except -1
cdef int put_float4(Arena out, double value) except -1
cdef int put_decimal(Arena out, unsigned char *p, Py_ssize_t at, Py_ssize_t end, int scale) except -1
cdef int put_cell_size(Arena out, Py_ssize_t start) except -1
cdef bint is_unavailable(unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
