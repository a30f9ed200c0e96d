# C declarations of protocursor_cy.py: the compiler reads them, plain Python does not.
cdef class ProtoCursor:
    cdef int *firsts
    cdef int *counts
    cdef int *numbers
    cdef int *types
    cdef int *inners
    cdef int *repeats
    cdef list kept
    cdef list names
    cdef bytes held
    cdef unsigned char *p
    cdef Py_ssize_t at
    cdef Py_ssize_t end
    cdef Py_ssize_t size
    cdef int wire
    cdef int hint

    cdef int open(self, bytes message, Py_ssize_t start) except -1
    cdef int close(self) except -1
    cdef int step(self) except? -1
    cdef inline int measure(self) except -1
    cdef int field(self, int kind, int number) noexcept
    cdef int inner(self, int kind, int number) except? -1
    cdef int expect(self, int field) except -1
    cdef bint packed(self, int field) noexcept
    cdef int next_packed(self, int field, Py_ssize_t stop) except -1
    cdef object message(self, int kind, int depth)
    cdef object value(self, int field, int depth)
    cdef bytes piece(self)
    cdef double floating(self, int type_) except? -1
    cdef long long integer(self, int type_) except? -1
    cdef inline unsigned long long varint(self) except? -1
    cdef unsigned long long _varint(self) except? -1
