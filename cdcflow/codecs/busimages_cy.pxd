# C declarations of busimages_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.frames_cy cimport Arena

cdef class Images:
    cdef int width
    cdef int count
    cdef int keys
    cdef int *places
    cdef int *key
    cdef long long *new_at
    cdef int *new_size
    cdef long long *old_at
    cdef int *old_size
    cdef bint updates
    cdef bint deletes
    cdef list kept
    cdef tuple held
    cdef list stamps
    cdef Py_ssize_t parts
    cdef unsigned char *ops
    cdef int *new_sizes
    cdef int *old_sizes
    cdef unsigned int *of_row
    cdef unsigned int *orders
    cdef unsigned int *table_orders
    cdef Py_ssize_t stamp_count
    cdef Py_ssize_t number
    cdef Py_ssize_t rows
    cdef Py_ssize_t row
    cdef Py_ssize_t new_start
    cdef Py_ssize_t new_end
    cdef Py_ssize_t old_start
    cdef Py_ssize_t old_end
    cdef unsigned char *new
    cdef unsigned char *old
    cdef int op
    cdef bint has_new
    cdef bint has_old
    cdef bint whole
    cdef tuple stamp
    cdef unsigned int order
    cdef unsigned int table_order
    cdef int single
    cdef bint gone
    cdef bint again
    cdef unsigned char *base
    cdef Py_ssize_t at

    cdef int open(self, tuple frame, tuple numbers, list stamps, Py_ssize_t parts) except -1
    cdef int step(self) except -1
    cdef int _moves(self) except -1
    cdef int key_cell(self, int index, bint new) except -3

cdef class Made:
    cdef list keys
    cdef list values
    cdef Arena starts
    cdef Arena hashes
    cdef Arena kinds
    cdef int count
    cdef bint tombstones
    cdef bint flat

    cdef int begin(self) except -1
    cdef int add(self, object key, object value, int op) except -1
    cdef int end_delete(self, object key) except -1
    cdef tuple taken(self)
