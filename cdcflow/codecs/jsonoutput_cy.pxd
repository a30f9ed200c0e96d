# C declarations of jsonoutput_cy.py: the compiler reads them, plain Python does not.
cdef class Output:
    cdef unsigned char *data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity

    cdef int grow(self, Py_ssize_t more) except? -1
    cdef int copy(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except? -1
    cdef int put(self, bytes text) except? -1
    cdef int uint32(self, unsigned int value) except? -1
    cdef int number(self, long long value) except? -1
    cdef bytes taken(self)

cdef int write_string(Output out, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except? -1
cdef int utf8_size(unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept nogil
