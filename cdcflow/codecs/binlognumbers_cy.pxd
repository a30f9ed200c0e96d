# C declarations of binlognumbers_cy.py: the compiler reads them, plain Python does not.
# Each writes at out[at] and returns where it stopped; the caller has made room. None reads outside start..start + count.
cdef Py_ssize_t digits(unsigned char *out, Py_ssize_t at, unsigned long long value) noexcept
cdef Py_ssize_t padded(unsigned char *out, Py_ssize_t at, unsigned long long value, int width) noexcept
cdef Py_ssize_t integer(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start, Py_ssize_t count, bint unsigned_) noexcept
cdef unsigned long long little(unsigned char *p, Py_ssize_t start, Py_ssize_t count) noexcept
cdef unsigned long long big(unsigned char *p, Py_ssize_t start, Py_ssize_t count) noexcept
cdef Py_ssize_t decimal_size(int precision, int scale) noexcept
cdef Py_ssize_t decimal(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start, int precision, int scale) except? -1
cdef Py_ssize_t float4(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start) except? -1
cdef Py_ssize_t float8(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start) except? -1
cdef Py_ssize_t bits(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start, Py_ssize_t count, int width) except? -1
