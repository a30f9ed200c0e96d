# C declarations of amqpframes_cy.py: the compiler reads them, plain Python does not.
cdef unsigned long long number(bytes data, Py_ssize_t at, Py_ssize_t size) noexcept
