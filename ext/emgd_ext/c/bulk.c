/* Bulk-IN streaming over libusb's asynchronous transfers. C because libusb calls back into it, in the sample loop, without the GIL. */
#include "bulk.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_MS 1000000

/* Recoveries, or submissions that fail, without a byte in between until the device counts as gone. With the pauses below a device that
 * only stutters has a quarter of a second. */
#define MAX_FAILURES 8
#define MAX_PAUSE_MS 64

/* Once the device is gone: how long to wait for libusb to hand back what is under way. It does so at once as a rule. */
#define GONE_MS 200

/* How long close waits for cancelled transfers; they are back within milliseconds as a rule. */
#define CLOSE_MS 1000
#define CLOSE_STEP_MS 50

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void pause_ms(int ms) {
    struct timespec time = {ms / 1000, ms % 1000 * NS_PER_MS};
    nanosleep(&time, NULL);
}

static emgd_bulk_slot *slot_of(emgd_bulk *bulk, uint64_t number) { return &bulk->slots[number % bulk->count]; }

static uint64_t under_way(const emgd_bulk *bulk) { return bulk->submitted - bulk->concluded; }

static void on_over(emgd_usb_transfer *transfer) {
    emgd_bulk_slot *slot = transfer->user_data;
    slot->over = 1;
    slot->owner->waiting++;
}

static void lose(emgd_bulk *bulk) {
    if (bulk->gone) return;
    bulk->gone = 1;
    bulk->give_up_ns = now_ns() + GONE_MS * NS_PER_MS;
}

/* One more failure in a row; the pauses grow, so that a device may come to its senses. */
static void fail(emgd_bulk *bulk) {
    if (++bulk->failures > MAX_FAILURES) {
        lose(bulk);
    } else if (bulk->failures > 1) {
        int ms = 1 << (bulk->failures - 1);
        pause_ms(ms < MAX_PAUSE_MS ? ms : MAX_PAUSE_MS);
    }
}

/* Submit all that is free, in order; the caller looks at no bytes any more. Returns the first failure, else 0. */
static int submit_free(emgd_bulk *bulk) {
    while (under_way(bulk) < bulk->count) {
        emgd_bulk_slot *slot = slot_of(bulk, bulk->submitted);
        slot->over = 0;
        int code = bulk->usb.submit_transfer(slot->transfer);
        if (code) return code;
        bulk->submitted++;
    }
    return 0;
}

static void cancel_all(emgd_bulk *bulk) {
    for (uint64_t n = bulk->concluded; n != bulk->submitted; n++) {
        if (!slot_of(bulk, n)->over) bulk->usb.cancel_transfer(slot_of(bulk, n)->transfer);
    }
}

static void begin_recovery(emgd_bulk *bulk) {
    if (bulk->recovering || bulk->gone) return;
    bulk->recovering = 1;
    bulk->counters.recoveries++;
    cancel_all(bulk);
}

static void end_recovery(emgd_bulk *bulk) {
    fail(bulk); /* forgotten with the next byte */
    bulk->recovering = 0;
    if (bulk->gone) return;
    int code = bulk->usb.clear_halt(bulk->handle, bulk->endpoint);
    if (code == EMGD_USB_ERROR_NO_DEVICE || code == EMGD_USB_ERROR_NOT_FOUND) lose(bulk);
    /* Any other failure shows in what is submitted next. */
}

static void submit_again(emgd_bulk *bulk) {
    if (bulk->recovering && under_way(bulk) == 0) end_recovery(bulk);
    if (bulk->recovering || bulk->gone) return;
    int code = submit_free(bulk);
    if (code == EMGD_USB_ERROR_NO_DEVICE) {
        lose(bulk);
    } else if (code) {
        bulk->counters.failed_submits++;
        if (under_way(bulk) == 0) fail(bulk); /* else try again when the next one is over */
    }
}

/* The oldest transfer is over: count how, and hand over what it brought. */
static int conclude(emgd_bulk *bulk, const uint8_t **data) {
    emgd_usb_transfer *transfer = slot_of(bulk, bulk->concluded)->transfer;
    emgd_bulk_counters *counters = &bulk->counters;
    int size = transfer->actual_length;
    if (bulk->waiting > counters->most_waiting) counters->most_waiting = bulk->waiting;
    bulk->concluded++;
    bulk->waiting--;
    switch (transfer->status) {
    case EMGD_USB_COMPLETED:
        if (size == 0) counters->empty++;
        if (size == transfer->length) counters->full++;
        break;
    case EMGD_USB_TIMED_OUT:
        counters->timed_out++;
        break;
    case EMGD_USB_CANCELLED:
        if (!bulk->recovering && !bulk->gone) {
            counters->cancelled++;
            begin_recovery(bulk);
        }
        break;
    case EMGD_USB_STALL:
        counters->stalls++;
        begin_recovery(bulk);
        break;
    case EMGD_USB_OVERFLOW:
        counters->overflows++;
        begin_recovery(bulk);
        return EMGD_BULK_TOO_LONG; /* what came of it is not worth having: its end is missing */
    case EMGD_USB_NO_DEVICE:
        lose(bulk);
        break;
    default:
        counters->errors++;
        begin_recovery(bulk);
    }
    if (size <= 0) return EMGD_BULK_IDLE;
    /* Also of a transfer that ended badly: the decoder says which samples a part of a frame would have been. */
    counters->completed++;
    bulk->failures = 0;
    *data = transfer->buffer;
    return size;
}

static void wait_for(emgd_bulk *bulk, int64_t ns, int *over) {
    struct timeval time = {ns / 1000000000, ns % 1000000000 / 1000};
    int code = bulk->usb.handle_events_timeout_completed(bulk->context, &time, over);
    if (code && code != EMGD_USB_ERROR_INTERRUPTED) {
        bulk->counters.failed_events++;
        fail(bulk);
    }
}

static int take(emgd_bulk *bulk, const uint8_t **data, int timeout_ms) {
    int64_t deadline_ns = now_ns() + (int64_t)timeout_ms * NS_PER_MS;
    while (!__atomic_load_n(&bulk->closing, __ATOMIC_ACQUIRE)) {
        submit_again(bulk);
        if (under_way(bulk)) {
            emgd_bulk_slot *oldest = slot_of(bulk, bulk->concluded);
            if (oldest->over) {
                int size = conclude(bulk, data);
                if (size) return size;
                if (now_ns() >= deadline_ns) return EMGD_BULK_IDLE; /* a device that sends nothing but empty transfers */
                continue;
            }
        } else if (bulk->gone) {
            return EMGD_BULK_GONE;
        }
        int64_t left_ns = (bulk->gone && bulk->give_up_ns < deadline_ns ? bulk->give_up_ns : deadline_ns) - now_ns();
        if (left_ns <= 0) return bulk->gone && now_ns() >= bulk->give_up_ns ? EMGD_BULK_GONE : EMGD_BULK_IDLE;
        if (under_way(bulk)) wait_for(bulk, left_ns, &slot_of(bulk, bulk->concluded)->over);
    }
    return EMGD_BULK_GONE;
}

int emgd_bulk_take(emgd_bulk *bulk, const uint8_t **data, int timeout_ms) {
    pthread_mutex_lock(&bulk->taking);
    int size = take(bulk, data, timeout_ms);
    pthread_mutex_unlock(&bulk->taking);
    return size;
}

/* --- opening --- */

static int find_and_open(emgd_bulk *bulk, int bus, int address, int *code) {
    void **devices = NULL;
    ssize_t count = bulk->usb.get_device_list(bulk->context, &devices);
    if (count < 0) {
        *code = (int)count;
        return EMGD_BULK_LIST;
    }
    int step = EMGD_BULK_FIND;
    *code = EMGD_USB_ERROR_NO_DEVICE;
    for (ssize_t i = 0; i < count; i++) {
        if (bulk->usb.get_bus_number(devices[i]) == bus && bulk->usb.get_device_address(devices[i]) == address) {
            *code = bulk->usb.open(devices[i], &bulk->handle);
            step = *code ? EMGD_BULK_OPEN : 0;
            break;
        }
    }
    bulk->usb.free_device_list(devices, 1);
    return step;
}

static int allocate(emgd_bulk *bulk) {
    bulk->slots = calloc(bulk->count, sizeof *bulk->slots);
    bulk->memory = calloc(bulk->count, bulk->bytes_each);
    if (!bulk->slots || !bulk->memory) return EMGD_BULK_MEMORY;
    for (uint32_t i = 0; i < bulk->count; i++) {
        emgd_usb_transfer *transfer = bulk->usb.alloc_transfer(0);
        if (!transfer) return EMGD_BULK_MEMORY;
        bulk->slots[i] = (emgd_bulk_slot){transfer, bulk, 0};
        transfer->handle = bulk->handle;
        transfer->endpoint = bulk->endpoint;
        transfer->type = EMGD_USB_TYPE_BULK;
        transfer->length = (int)bulk->bytes_each;
        transfer->buffer = bulk->memory + (size_t)i * bulk->bytes_each;
        transfer->callback = on_over;
        transfer->user_data = &bulk->slots[i];
    }
    return 0;
}

static int open_all(emgd_bulk *bulk, int bus, int address, int *code) {
    *code = bulk->usb.init(&bulk->context);
    if (*code) return EMGD_BULK_INIT;
    int step = find_and_open(bulk, bus, address, code);
    if (step) return step;
    bulk->usb.set_auto_detach_kernel_driver(bulk->handle, 1); /* where that cannot be, claiming says so */
    *code = bulk->usb.claim_interface(bulk->handle, bulk->interface);
    if (*code) return EMGD_BULK_CLAIM;
    bulk->claimed = 1;
    *code = EMGD_USB_ERROR_NO_MEMORY;
    if (allocate(bulk)) return EMGD_BULK_MEMORY;
    *code = submit_free(bulk);
    return *code ? EMGD_BULK_SUBMIT : 0;
}

int emgd_bulk_open(emgd_bulk *bulk, int bus, int address, int interface, uint8_t endpoint, uint32_t count, uint32_t bytes_each,
                   int *code) {
    bulk->interface = interface;
    bulk->endpoint = endpoint;
    bulk->count = count;
    bulk->bytes_each = bytes_each;
    pthread_mutex_init(&bulk->taking, NULL);
    int step = open_all(bulk, bus, address, code);
    if (step) emgd_bulk_close(bulk);
    return step;
}

/* --- closing --- */

static void reap_cancelled(emgd_bulk *bulk) {
    int64_t give_up_ns = now_ns() + CLOSE_MS * (int64_t)NS_PER_MS;
    cancel_all(bulk);
    for (uint64_t n = bulk->concluded; n != bulk->submitted; n++) {
        while (!slot_of(bulk, n)->over && now_ns() < give_up_ns) {
            struct timeval step = {0, CLOSE_STEP_MS * 1000};
            bulk->usb.handle_events_timeout_completed(bulk->context, &step, &slot_of(bulk, n)->over);
        }
        if (!slot_of(bulk, n)->over) bulk->counters.abandoned++;
    }
    bulk->concluded = bulk->submitted;
}

void emgd_bulk_close(emgd_bulk *bulk) {
    __atomic_store_n(&bulk->closing, 1, __ATOMIC_RELEASE);
    pthread_mutex_lock(&bulk->taking);
    if (!bulk->closed) {
        bulk->closed = 1;
        if (bulk->slots) reap_cancelled(bulk);
        if (bulk->claimed) bulk->usb.release_interface(bulk->handle, bulk->interface);
        /* Closing the handle ends in the kernel whatever could not be reaped, so the transfers may be freed after it. */
        if (bulk->handle) bulk->usb.close(bulk->handle);
        for (uint32_t i = 0; bulk->slots && i < bulk->count; i++) {
            if (bulk->slots[i].transfer) bulk->usb.free_transfer(bulk->slots[i].transfer);
        }
        free(bulk->slots);
        bulk->slots = NULL;
        if (bulk->context) bulk->usb.exit(bulk->context);
    }
    pthread_mutex_unlock(&bulk->taking);
}

void emgd_bulk_free(emgd_bulk *bulk) {
    free(bulk->memory);
    bulk->memory = NULL;
    pthread_mutex_destroy(&bulk->taking);
}
