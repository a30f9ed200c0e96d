# C declarations of binlogrow_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.frames_cy cimport Arena
from cdcflow.codecs.mysqljson_cy cimport JsonText

cdef class RowShape:
    cdef readonly int columns  # of the table map
    cdef readonly int width  # cells of a row in the frame
    cdef readonly str table
    cdef int *kinds
    cdef int *sizes  # bytes of a value; negative: of its length
    cdef int *details  # what the kind needs: scale, bits, padded length ...
    cdef int *kept
    cdef int *policies
    cdef Py_ssize_t *documents  # where a JSON column's value starts in the last image, and how long it is (-1: absent, -2: NULL)
    cdef int json_columns
    cdef list names
    cdef list objects  # labels, table or converter
    cdef list defaults
    cdef JsonText json
    cdef int current
    cdef public bint lean  # of an old row only the key is needed, so large values are not kept
    cdef public bint dropping  # the image that is read now is such an old row

    cdef Py_ssize_t image(self, Arena arena, unsigned char *p, Py_ssize_t at, Py_ssize_t end, Py_ssize_t present, bint fill) except? -1
    cdef Py_ssize_t partial(self, Arena before, Arena after, unsigned char *p, Py_ssize_t at, Py_ssize_t end, Py_ssize_t before_present, Py_ssize_t after_present) except? -1
    cdef Py_ssize_t _image(self, Arena arena, unsigned char *p, Py_ssize_t at, Py_ssize_t end, Py_ssize_t present, bint fill, Py_ssize_t partials) except? -1
    cdef int _absent(self, Arena arena, int index, bint fill) except? -1
    cdef int _patched(self, Arena arena, int index, unsigned char *p, Py_ssize_t start, Py_ssize_t count) except? -1
