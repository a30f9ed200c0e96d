# C declarations of frames_cy.py: the compiler reads them, plain Python does not.
cdef unsigned char *pointer(bytes text) noexcept

cdef class Arena:
    cdef unsigned char *data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef bint absent  # a cell marked unchanged was written since this was last cleared
    cdef bytearray plain

    cdef inline int reserve(self, Py_ssize_t more) except? -1
    cdef inline void byte(self, int value) noexcept
    cdef inline void int32(self, int value) noexcept
    cdef inline void int64(self, long long value) noexcept
    cdef inline void copy(self, unsigned char *source, Py_ssize_t start, Py_ssize_t count) noexcept
    cdef bytes take(self, Py_ssize_t count)
    cdef bytes piece(self, Py_ssize_t start, Py_ssize_t end)
    cdef void cut(self, Py_ssize_t size) noexcept

cdef class Frame:
    cdef int number
    cdef int width
    cdef unsigned long long skip_until
    cdef unsigned long long idempotent_until
    cdef bint idempotent
    cdef bint touched
    cdef Arena ops
    cdef Arena after
    cdef Arena after_sizes
    cdef Arena before
    cdef Arena before_sizes
    cdef Py_ssize_t whole_rows  # these three: up to the last commit
    cdef Py_ssize_t whole_after
    cdef Py_ssize_t whole_before

    cdef Py_ssize_t row(self, int kind, unsigned char *p, Py_ssize_t at, Py_ssize_t end, Arena order) except? -1
    cdef void settle(self) noexcept
    cdef tuple take(self)
