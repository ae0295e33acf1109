"""Bulk-IN of a USB device as a source of the sample loop, over libusb's asynchronous transfers.

Not Python because the sample loop reads it without the GIL. The work is done in c/bulk.c; libusb is loaded at run time.

A source has a libusb context and a device handle of its own, so that its callbacks run in the sample loop and nowhere
else, whatever control transfers other threads make (docs/decisions/0005).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from emgd_ext.source cimport SOURCE_GONE, SOURCE_IDLE, SOURCE_TOO_LONG, Source

import errno


cdef extern from "usb_abi.h" nogil:
    ctypedef struct emgd_usb_version:
        int major
        int minor
        int micro
        int nano

    ctypedef struct emgd_libusb:
        const emgd_usb_version* (*get_version)()

    const char* emgd_libusb_load(emgd_libusb* library, const char* path)

cdef extern from "bulk.h" nogil:
    ctypedef struct emgd_bulk_counters:
        uint64_t completed
        uint64_t empty
        uint64_t full
        uint64_t stalls
        uint64_t overflows
        uint64_t timed_out
        uint64_t cancelled
        uint64_t errors
        uint64_t failed_submits
        uint64_t failed_events
        uint64_t recoveries
        uint64_t most_waiting
        uint64_t abandoned

    ctypedef struct emgd_bulk:
        emgd_libusb usb
        uint64_t submitted
        uint64_t concluded
        emgd_bulk_counters counters

    enum:
        EMGD_BULK_IDLE
        EMGD_BULK_GONE
        EMGD_BULK_TOO_LONG

    int emgd_bulk_open(emgd_bulk* bulk, int bus, int address, int interface, uint8_t endpoint, uint32_t count,
                       uint32_t bytes_each, int* code)
    int emgd_bulk_take(emgd_bulk* bulk, const uint8_t** data, int timeout_ms)
    void emgd_bulk_close(emgd_bulk* bulk)
    void emgd_bulk_free(emgd_bulk* bulk)

# What was being done when emgd_bulk_open failed, by its number.
STEPS = (
    "", "libusb could not be started", "the bus could not be listed", "it is not on the bus", "it could not be opened",
    "its interface could not be claimed", "no memory", "no transfers could be submitted",
)

# libusb's numbers as the system's, by which callers tell what to do.
ERRNOS = {
    -1: errno.EIO, -2: errno.EINVAL, -3: errno.EACCES, -4: errno.ENODEV, -5: errno.ENOENT, -6: errno.EBUSY,
    -7: errno.ETIMEDOUT, -8: errno.EOVERFLOW, -9: errno.EPIPE, -10: errno.EINTR, -11: errno.ENOMEM, -12: errno.ENOSYS,
}

# bulk.c answers with the sample loop's sentinels.
assert (SOURCE_IDLE, SOURCE_GONE, SOURCE_TOO_LONG) == (EMGD_BULK_IDLE, EMGD_BULK_GONE, EMGD_BULK_TOO_LONG)


cdef int load(emgd_libusb* library, str path) except -1:
    cdef bytes name = path.encode()
    cdef const char* problem = emgd_libusb_load(library, name)
    if problem is not NULL:
        raise OSError(errno.ELIBACC, f"libusb cannot be loaded from {path}: {problem.decode('utf-8', 'replace')}")
    return 0


def libusb_version(path):
    """Version of the libusb at `path`, such as "1.0.26"; OSError when it cannot be loaded."""
    cdef emgd_libusb library
    load(&library, path)
    cdef const emgd_usb_version* version = library.get_version()
    return f"{version.major}.{version.minor}.{version.micro}"


cdef class BulkSource(Source):
    """Transfers of one bulk-IN endpoint. `library` is the path of libusb, `bus` and `address` say which device;
    `transfers` of `transfer_bytes` are kept in flight from now on.

    OSError when that cannot be; its errno tells why (EACCES, ENODEV, EBUSY, ENOMEM, ...).
    """

    cdef emgd_bulk bulk
    cdef bint opened
    cdef readonly int transfers
    cdef readonly int transfer_bytes

    def __cinit__(self, str library, int bus, int address, int interface, int endpoint, int transfers,
                  int transfer_bytes):
        cdef int step
        cdef int code = 0
        memset(&self.bulk, 0, sizeof(self.bulk))
        if transfers < 1 or transfer_bytes < 1:
            raise ValueError(f"{transfers} transfers of {transfer_bytes} bytes; at least one of each is needed")
        self.transfers = transfers
        self.transfer_bytes = transfer_bytes
        load(&self.bulk.usb, library)
        with nogil:
            step = emgd_bulk_open(&self.bulk, bus, address, interface, endpoint, transfers, transfer_bytes, &code)
        self.opened = True
        if step:
            raise OSError(ERRNOS.get(code, errno.EIO), f"{STEPS[step]} (libusb says {code})")

    def __dealloc__(self):
        if self.opened:
            with nogil:
                emgd_bulk_close(&self.bulk)
            emgd_bulk_free(&self.bulk)

    def close(self):
        """Cancel and reap what is in flight, let go of the device: about a second at most, harmless when called again
        or when the device is gone. From any thread: a loop that still reads is told that the device is gone.
        """
        with nogil:
            emgd_bulk_close(&self.bulk)

    cdef int take(self, uint8_t* buffer, size_t room, const uint8_t** data, int timeout_ms) noexcept nogil:
        return emgd_bulk_take(&self.bulk, data, timeout_ms)

    cdef int read(self, uint8_t* buffer, size_t room, int timeout_ms) noexcept nogil:
        cdef const uint8_t* data = NULL
        cdef int size = emgd_bulk_take(&self.bulk, &data, timeout_ms)
        if size > 0:
            if <size_t> size > room:
                return SOURCE_TOO_LONG
            memcpy(buffer, data, size)
        return size

    def receive(self, int timeout_ms):
        """One transfer as bytes, for tests and tools; the sample loop calls the C side. None when nothing came within
        the time, b"" when it did not fit, EOFError when the device is gone.
        """
        cdef const uint8_t* data = NULL
        cdef int size
        with nogil:
            size = emgd_bulk_take(&self.bulk, &data, timeout_ms)
        if size == SOURCE_GONE:
            raise EOFError("the device is gone")
        if size == SOURCE_IDLE:
            return None
        return data[:size] if size > 0 else b""

    def stats(self):
        """What became of the transfers: the `transport` map of `status` (docs/protocol.md)."""
        counters = dict(self.bulk.counters)
        return {
            "transfers": self.transfers,
            "transfer_bytes": self.transfer_bytes,
            "in_flight": self.bulk.submitted - self.bulk.concluded,
            **counters,
        }
