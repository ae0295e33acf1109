/* A libusb that does what a test says: bulk.c loads it instead of the real one. One device, at bus 1, address 2.
 *
 * A submitted transfer stays in flight until an outcome planned with fake_plan falls on it, or it is cancelled. */
#include <string.h>
#include <time.h>

#include "usb_abi.h"

#define MOST 4096

typedef struct {
    int place; /* which of the transfers in flight, 0 = the oldest */
    int status, length;
    int fill;
    const void *data; /* else `fill`; the test keeps it */
} outcome;

/* What tests read. */
int fake_submits, fake_cancels, fake_clears, fake_contexts, fake_handles, fake_claimed, fake_allocated, fake_detach, fake_device_refs;

/* What tests set. */
int fake_init_code, fake_open_code, fake_claim_code, fake_clear_code, fake_event_code;
int fake_submit_code, fake_submit_good, fake_submit_failures; /* after so many good ones so many fail with this code */
int fake_cancelled_bytes;                   /* the next transfer that is cancelled has brought so many */
int fake_stuck;                             /* cancelled transfers never come back */
int fake_stall_on_submit;                   /* every transfer stalls at once */

static outcome planned[MOST];
static int planned_count;
static emgd_usb_transfer *in_flight[MOST];
static int in_flight_count;
static char is_cancelled[MOST];
static int device;

void fake_reset(void) {
    fake_submits = fake_cancels = fake_clears = fake_claimed = fake_detach = 0;
    fake_init_code = fake_open_code = fake_claim_code = fake_clear_code = fake_event_code = 0;
    fake_submit_code = fake_submit_good = fake_submit_failures = fake_cancelled_bytes = fake_stuck = fake_stall_on_submit = 0;
    planned_count = in_flight_count = 0;
}

void fake_plan(int place, int status, int length, int fill) { planned[planned_count++] = (outcome){place, status, length, fill, NULL}; }

void fake_plan_data(const void *data, int length) { planned[planned_count++] = (outcome){0, EMGD_USB_COMPLETED, length, 0, data}; }

int fake_in_flight(void) { return in_flight_count; }

static void end(outcome how) {
    int place = how.place;
    emgd_usb_transfer *transfer = in_flight[place];
    in_flight_count--;
    memmove(&in_flight[place], &in_flight[place + 1], sizeof in_flight[0] * (size_t)(in_flight_count - place));
    memmove(&is_cancelled[place], &is_cancelled[place + 1], (size_t)(in_flight_count - place));
    transfer->status = how.status;
    transfer->actual_length = how.length;
    if (how.data) {
        memcpy(transfer->buffer, how.data, (size_t)how.length);
    } else {
        memset(transfer->buffer, how.fill, (size_t)how.length);
    }
    transfer->callback(transfer);
}

const emgd_usb_version *libusb_get_version(void) {
    static const emgd_usb_version version = {1, 2, 3, 4, "", ""};
    return &version;
}

int libusb_init(void **context) {
    if (fake_init_code) return fake_init_code;
    *context = &fake_contexts;
    fake_contexts++;
    return 0;
}

void libusb_exit(void *context) {
    (void)context;
    fake_contexts--;
}

ssize_t libusb_get_device_list(void *context, void ***devices) {
    static void *list[] = {&device, NULL};
    (void)context;
    fake_device_refs++;
    *devices = list;
    return 1;
}

void libusb_free_device_list(void **devices, int unref) {
    (void)devices;
    fake_device_refs -= unref;
}

uint8_t libusb_get_bus_number(void *which) { return which == &device ? 1 : 0; }
uint8_t libusb_get_device_address(void *which) { return which == &device ? 2 : 0; }

int libusb_open(void *which, void **handle) {
    if (fake_open_code) return fake_open_code;
    *handle = which;
    fake_handles++;
    return 0;
}

void libusb_close(void *handle) {
    (void)handle;
    fake_handles--;
}

int libusb_set_auto_detach_kernel_driver(void *handle, int enable) {
    (void)handle;
    fake_detach = enable;
    return 0;
}

int libusb_claim_interface(void *handle, int interface) {
    (void)handle, (void)interface;
    if (!fake_claim_code) fake_claimed++;
    return fake_claim_code;
}

int libusb_release_interface(void *handle, int interface) {
    (void)handle, (void)interface;
    fake_claimed--;
    return 0;
}

int libusb_clear_halt(void *handle, unsigned char endpoint) {
    (void)handle, (void)endpoint;
    fake_clears++;
    return fake_clear_code;
}

emgd_usb_transfer *libusb_alloc_transfer(int iso_packets) {
    static emgd_usb_transfer transfers[MOST];
    (void)iso_packets;
    for (int i = 0; i < MOST; i++) {
        if (!transfers[i].callback) {
            transfers[i].callback = (emgd_usb_done)1; /* taken, until its owner fills it in */
            fake_allocated++;
            return &transfers[i];
        }
    }
    return NULL;
}

void libusb_free_transfer(emgd_usb_transfer *transfer) {
    memset(transfer, 0, sizeof *transfer);
    fake_allocated--;
}

int libusb_submit_transfer(emgd_usb_transfer *transfer) {
    fake_submits++;
    if (fake_submit_good > 0) {
        fake_submit_good--;
    } else if (fake_submit_failures > 0) {
        fake_submit_failures--;
        return fake_submit_code;
    }
    is_cancelled[in_flight_count] = 0;
    in_flight[in_flight_count++] = transfer;
    return 0;
}

int libusb_cancel_transfer(emgd_usb_transfer *transfer) {
    fake_cancels++;
    for (int i = 0; i < in_flight_count; i++) {
        if (in_flight[i] == transfer) {
            is_cancelled[i] = 1;
            return 0;
        }
    }
    return EMGD_USB_ERROR_NOT_FOUND;
}

int libusb_handle_events_timeout_completed(void *context, struct timeval *timeout, int *completed) {
    (void)context;
    if (fake_event_code) return fake_event_code;
    if (completed && *completed) return 0;
    int ended = 0;
    while (planned_count && planned[0].place < in_flight_count) {
        outcome next = planned[0];
        memmove(&planned[0], &planned[1], sizeof planned[0] * (size_t)--planned_count);
        end(next);
        ended = 1;
    }
    for (int i = 0; i < in_flight_count && !fake_stuck;) {
        if (is_cancelled[i]) {
            end((outcome){i, EMGD_USB_CANCELLED, fake_cancelled_bytes, 0xCA, NULL});
            fake_cancelled_bytes = 0;
            ended = 1;
        } else if (fake_stall_on_submit) {
            end((outcome){i, EMGD_USB_STALL, 0, 0, NULL});
            ended = 1;
        } else {
            i++;
        }
    }
    if (!ended) {
        struct timespec time = {timeout->tv_sec, timeout->tv_usec * 1000};
        nanosleep(&time, NULL);
    }
    return 0;
}
