# C declarations of binlogtables_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.binloggroups_cy cimport Groups
from cdcflow.codecs.binlogrow_cy cimport RowShape
from cdcflow.codecs.frames_cy cimport Arena, Frame

cdef class TableMap:
    cdef bytes body
    cdef Frame frame  # None: rows that nobody wants
    cdef RowShape shape
    cdef unsigned long long until  # without a frame: from this serial number on the table has to be looked at again

cdef class Tables:
    cdef Groups groups
    cdef dict maps  # table number -> TableMap
    cdef list listed  # frames with rows, in order of first touch
    cdef list open_frames  # frames with rows of the open transaction
    cdef Arena order
    cdef Py_ssize_t whole_order
    cdef Py_ssize_t piece_bytes
    cdef Py_ssize_t open_bytes
    cdef Py_ssize_t open_rows
    cdef int next_number

    cdef tuple frame(self, int width, unsigned long long skip_until, unsigned long long idempotent_until)
    cdef int define(self, object number, bytes body, object frame, object shape, object until) except? -1
    cdef int settle(self) except? -1
    cdef int discard(self) except? -1
    cdef tuple take(self)
    cdef bint is_known(self, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except *
    cdef bint rows(self, int kind, unsigned char *p, Py_ssize_t at, Py_ssize_t end) except *
    cdef bint _images(self, int kind, int operation, TableMap known, unsigned char *p, Py_ssize_t present, Py_ssize_t at, Py_ssize_t end, Py_ssize_t width) except *
