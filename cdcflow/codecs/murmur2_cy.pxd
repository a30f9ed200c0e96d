# C declarations of murmur2_cy.py: the compiler reads them, plain Python does not.
cdef unsigned int positive_murmur2(unsigned char *p, Py_ssize_t size) noexcept nogil
