# C declarations of binlogcell_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.frames_cy cimport Arena
from cdcflow.codecs.mysqljson_cy cimport JsonText

cdef int cell(Arena arena, JsonText json, int kind, int detail, int policy, object thing, unsigned char *p, Py_ssize_t start, Py_ssize_t count) except? -1
cdef int text_cell(Arena arena, bytes text) except? -1
