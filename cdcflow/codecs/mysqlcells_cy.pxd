# C declarations of mysqlcells_cy.py: the compiler reads them, plain Python does not.
cdef Py_ssize_t write_value(unsigned char *p, Py_ssize_t at, Py_ssize_t end, int kind, int width, int zero_dates, unsigned char *o) noexcept nogil
