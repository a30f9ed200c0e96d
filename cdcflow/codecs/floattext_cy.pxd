# C declarations of floattext_cy.py: the compiler reads them, plain Python does not. None needs the interpreter's lock.

# Each writes at most 32 bytes at `out` and returns how many.
cdef int write_float4(double value, unsigned char *out) noexcept nogil
cdef int write_decimal(unsigned char *p, Py_ssize_t at, Py_ssize_t end, unsigned char *out, int fixed_below) noexcept nogil
cdef int write_float4_of(unsigned char *p, Py_ssize_t at, Py_ssize_t end, unsigned char *out) noexcept nogil
