# C declarations of mysqltextrow_cy.py: the compiler reads them, plain Python does not.
cdef class Buffer:
    cdef unsigned char *data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef bytearray plain

    cdef int reserve(self, Py_ssize_t more) noexcept nogil
    cdef int add(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) noexcept nogil
    cdef int drop(self, Py_ssize_t count) except -1
    cdef bytes taken(self)

cdef class TextRow:
    cdef int width
    cdef int zero_dates
    cdef int failed_at  # the column of a value that is not as it should be
    cdef int column  # of a large row, the next one
    cdef Py_ssize_t value_left  # of its value, what has not come yet
    cdef unsigned char *kinds
    cdef unsigned char *widths
    cdef unsigned char *growth
    cdef tuple kept

    cdef int row(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end, Buffer out) noexcept nogil
    cdef int more(self, Buffer out, Buffer long, bint whole) noexcept nogil
    cdef object _plain(self, bytes row, Buffer out)
