/* Bulk-IN streaming: many transfers in flight, handed over one at a time in the order in which they were asked for.
 *
 * One thread calls emgd_bulk_take (the sample loop). It also runs libusb's callbacks, for nobody else handles the events of this
 * context. emgd_bulk_close may come from any other thread, at any time.
 *
 *      submitted ────────────────▶ over (status, bytes) ────▶ concluded: handed over, counted, or both ────▶ submitted again
 *
 * Slots are used round and round: transfer number n lies in slot n % count. `submitted` and `concluded` count transfers, so what is
 * under way is what lies between the two. After a STALL, an overflow or an error nothing is submitted until all that was under way
 * is over; then the endpoint's halt is cleared, and all begin anew ("recovery"). */
#ifndef EMGD_BULK_H
#define EMGD_BULK_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "usb_abi.h"

/* What emgd_bulk_take returns when it brings no bytes; the same numbers as Source.read's. */
enum { EMGD_BULK_IDLE = 0, EMGD_BULK_GONE = -1, EMGD_BULK_TOO_LONG = -2 };

/* Which step of emgd_bulk_open failed. */
enum { EMGD_BULK_INIT = 1, EMGD_BULK_LIST, EMGD_BULK_FIND, EMGD_BULK_OPEN, EMGD_BULK_CLAIM, EMGD_BULK_MEMORY, EMGD_BULK_SUBMIT };

typedef struct {
    uint64_t completed;      /* brought bytes */
    uint64_t empty;          /* ended without a byte: a zero-length packet on its own */
    uint64_t full;           /* filled to the last byte: frames may be joined or longer than said */
    uint64_t stalls;         /* the device halted the endpoint */
    uint64_t overflows;      /* the device sent more than was asked for (babble) */
    uint64_t timed_out;
    uint64_t cancelled;      /* by somebody else than us */
    uint64_t errors;         /* the bus could not bring the bytes over */
    uint64_t failed_submits; /* the kernel took no transfer */
    uint64_t failed_events;  /* libusb could not ask the kernel what is over */
    uint64_t recoveries;     /* the endpoint was set going again */
    uint64_t most_waiting;   /* most transfers that were over when the loop came: how late it has been */
    uint64_t abandoned;      /* not over within the time that close allows */
} emgd_bulk_counters;

typedef struct emgd_bulk emgd_bulk;

typedef struct {
    emgd_usb_transfer *transfer;
    emgd_bulk *owner;
    int over; /* libusb looks at it to know when to return, so it is an int */
} emgd_bulk_slot;

struct emgd_bulk {
    emgd_libusb usb;
    void *context;
    void *handle;
    int interface;
    uint8_t endpoint;
    int claimed;
    pthread_mutex_t taking; /* held while emgd_bulk_take works, and by close */
    int closing;
    int closed;
    emgd_bulk_slot *slots;
    uint8_t *memory; /* buffers of all transfers */
    uint32_t count;
    uint32_t bytes_each;
    uint64_t submitted;
    uint64_t concluded;
    uint32_t waiting;  /* over and not yet concluded */
    int recovering;
    int failures;      /* in a row, without a byte in between */
    int gone;
    int64_t give_up_ns; /* once gone: until then bytes that came before are handed over */
    emgd_bulk_counters counters;
};

/* Open the device at bus and address, claim the interface (a kernel driver is detached), allocate `count` transfers of `bytes_each` and
 * submit them. 0, or the step that failed with libusb's number in `code`; then nothing is left open. */
int emgd_bulk_open(emgd_bulk *bulk, int bus, int address, int interface, uint8_t endpoint, uint32_t count, uint32_t bytes_each,
                   int *code);

/* Wait up to `timeout_ms` for the next transfer. Returns its length, and `data` points at it until the next call or
 * emgd_bulk_free; or EMGD_BULK_*. */
int emgd_bulk_take(emgd_bulk *bulk, const uint8_t **data, int timeout_ms);

/* Cancel, reap, release, close. Harmless when called again, or when the device is gone; returns within about a second. */
void emgd_bulk_close(emgd_bulk *bulk);

/* Free the memory; after close, when nobody looks at the bytes any more. */
void emgd_bulk_free(emgd_bulk *bulk);

#endif
