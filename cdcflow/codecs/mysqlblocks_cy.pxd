# C declarations of mysqlblocks_cy.py: the compiler reads them, plain Python does not.
cdef class Blocks:
    cdef bytes kinds
    cdef int form
    cdef unsigned char *out
    cdef Py_ssize_t size
    cdef Py_ssize_t room
    cdef bytearray plain

    cdef Py_ssize_t begin(self, Py_ssize_t count) except? -1
    cdef int end(self) except -1
    cdef Py_ssize_t flush(self, Py_ssize_t start, Py_ssize_t count, object write, Py_ssize_t most) except? -1
    cdef int hand_over(self, Py_ssize_t count, object write) except -1
    cdef int separate(self, int index) except -1
    cdef int cell(self, int index, unsigned char *p, Py_ssize_t at, Py_ssize_t length, object write) except -1
    cdef int null(self, int index) except -1
    cdef int value(self, int index, bytes value) except -1
    cdef int raw(self, int index, unsigned char *p, Py_ssize_t at, Py_ssize_t end, object write) except -1
    cdef int copied(self, bytes block, Py_ssize_t at, Py_ssize_t end, int kind) except -1
    cdef bytes _taken(self, Py_ssize_t upto)
    cdef int _value(self, bytes value, int kind) except -1
    cdef int _pieces(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end, object write) except -1
    cdef int _text(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int _quoted(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int _hex(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except -1
    cdef int _copy(self, unsigned char *p, Py_ssize_t at, Py_ssize_t length) except -1
    cdef int _bytes(self, bytes value) except -1
    cdef int _byte(self, int byte) except -1
    cdef int _need(self, Py_ssize_t more) except -1
