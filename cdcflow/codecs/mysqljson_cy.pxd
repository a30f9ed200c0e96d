# C declarations of mysqljson_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.frames_cy cimport Arena

cdef class JsonText:
    cdef Arena arena
    cdef unsigned char *p
    cdef Py_ssize_t budget
    cdef bint typed
    cdef Py_ssize_t values  # written so far of the document
    cdef list types  # (number, type) of the values of an SQL type

    cdef int write(self, Arena arena, unsigned char *p, Py_ssize_t start, Py_ssize_t count) except? -1
    cdef int _value(self, int kind, Py_ssize_t at, Py_ssize_t end, int depth) except? -1
    cdef int _container(self, int kind, Py_ssize_t base, Py_ssize_t end, int depth) except? -1
    cdef int _spend(self, Py_ssize_t size) except? -1
    cdef int _literal(self, int which) except? -1
    cdef int _integer(self, Py_ssize_t at, Py_ssize_t count, bint unsigned_) except? -1
    cdef int _double(self, Py_ssize_t at) except? -1
    cdef int _string(self, Py_ssize_t at, Py_ssize_t end) except? -1
    cdef int _quoted(self, Py_ssize_t at, Py_ssize_t count) except? -1
    cdef int _opaque(self, Py_ssize_t at, Py_ssize_t end) except? -1
    cdef int _encoded(self, int type_, Py_ssize_t at, Py_ssize_t count) except? -1
    cdef int _add(self, bytes text) except? -1
    cdef inline int _byte(self, int byte) except? -1
    cdef inline int _written(self, Py_ssize_t at) except? -1
