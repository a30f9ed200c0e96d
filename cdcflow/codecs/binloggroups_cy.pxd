# C declarations of binloggroups_cy.py: the compiler reads them, plain Python does not.
from cdcflow.codecs.frames_cy cimport Arena

cdef class Groups:
    cdef Arena marks  # of the transactions that ended: rows, serial number of the end, commit time, number; int64 each
    cdef bint open
    cdef bint kept  # the rows of the open transaction are decoded whatever would be skipped
    cdef bint begun  # the open transaction has said BEGIN: a statement in it does not end it
    cdef unsigned long long file
    cdef unsigned long long offset  # behind the last event
    cdef unsigned long long unplaced  # bytes of events behind `offset` that did not say where they end
    cdef unsigned long long resumed  # transactions before this offset do not come; 0: they are not skipped
    cdef unsigned long long event_start
    cdef unsigned long long start  # of the open transaction, a serial number
    cdef unsigned long long end_offset  # behind the last transaction
    cdef long long commit_us
    cdef bytes source
    cdef long long number
    cdef long long first_commit_us
    cdef long long last_commit_us
    cdef list runs  # of GTIDs (source, first, last) that ended since the last `take`
    cdef bytes run_source
    cdef long long run_first
    cdef long long run_last
    cdef Py_ssize_t ended

    cdef void place(self, unsigned long long file, unsigned long long offset, unsigned long long resumed) noexcept
    cdef void move(self, unsigned long long position, Py_ssize_t size) noexcept
    cdef unsigned long long serial(self) noexcept
    cdef int begin(self, bytes source, long long number, long long commit_us) except? -1
    cdef int commit(self, Py_ssize_t rows) except? -1
    cdef tuple take(self)
    cdef int _end_run(self) except? -1
