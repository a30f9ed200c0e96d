# C declarations of keytable_cy.py: the compiler reads them, plain Python does not.
cdef class KeyTable:
    cdef unsigned char *buffer
    cdef Py_ssize_t size
    cdef long long *starts
    cdef int *sizes
    cdef unsigned char *flags
    cdef long long *images
    cdef int *table
    cdef size_t mask
    cdef Py_ssize_t count
    cdef bytearray plain
    cdef list plain_entries  # (start, size, flags, image) an entry
    cdef dict plain_table

    cdef inline void append(self, unsigned char *p, Py_ssize_t start, Py_ssize_t count) noexcept
    cdef Py_ssize_t entry(
        self, unsigned char *p, Py_ssize_t at, Py_ssize_t end, list key, int flags_if_new
    ) except? -2
    cdef inline Py_ssize_t find(self, Py_ssize_t start, int flags_if_new) except? -1
