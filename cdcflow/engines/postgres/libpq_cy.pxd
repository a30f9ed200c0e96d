# C declarations of libpq_cy.py: the compiler reads them, plain Python does not.
cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long count, int timeout)
    int POLLIN

ctypedef int (*get_copy_data_t)(void *conn, char **buffer, int is_async) noexcept nogil
ctypedef int (*put_copy_data_t)(void *conn, const char *buffer, int size) noexcept nogil
ctypedef int (*on_connection_t)(void *conn) noexcept nogil
ctypedef void (*free_memory_t)(void *memory) noexcept nogil

cdef get_copy_data_t c_get_copy_data
cdef put_copy_data_t c_put_copy_data
cdef on_connection_t c_consume_input
cdef on_connection_t c_socket
cdef free_memory_t c_free_memory
