# C declarations of binlogtime_cy.py: the compiler reads them, plain Python does not.
# Each writes at most 40 bytes at out[at] and returns where it stopped; -2: a date that no calendar has.
cdef Py_ssize_t date(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start) except? -1
cdef Py_ssize_t time(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start, Py_ssize_t count) except? -1
cdef Py_ssize_t datetime(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start, Py_ssize_t count) except? -1
cdef Py_ssize_t timestamp(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start, Py_ssize_t count) except? -1
cdef Py_ssize_t old_time(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start) except? -1
cdef Py_ssize_t old_datetime(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start) except? -1
cdef Py_ssize_t old_timestamp(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start) except? -1
cdef Py_ssize_t packed(unsigned char *out, Py_ssize_t at, unsigned char *p, Py_ssize_t start, int type_) except? -1
