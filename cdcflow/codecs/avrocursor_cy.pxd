# C declarations of avrocursor_cy.py: the compiler reads them, plain Python does not.
cdef class AvroCursor:
    cdef int *ops
    cdef int *starts
    cdef int *counts
    cdef int *sizes
    cdef int *links
    cdef list kept
    cdef dict symbols
    cdef dict names
    cdef bytes held
    cdef unsigned char *p
    cdef Py_ssize_t at
    cdef Py_ssize_t end
    cdef long long steps

    cdef int open(self, bytes message, Py_ssize_t start) except -1
    cdef int close(self) except -1
    cdef int branch(self, int node) except? -1
    cdef int skip(self, int node, int depth) except? -1
    cdef object value(self, int node, int depth)
    cdef bytes symbol(self, int node)
    cdef long long following(self, long long left) except? -1
    cdef Py_ssize_t length(self, int node) except? -1
    cdef inline Py_ssize_t _length(self) except? -1
    cdef long long varint(self) except? -1
    cdef inline int byte(self) except? -1
    cdef double floating(self, int size) except? -1
    cdef inline int _step(self, int depth) except? -1
