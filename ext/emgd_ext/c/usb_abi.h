/* What is used of libusb 1.0, declared here: neither its headers nor its library are needed to build, for it is loaded at run time.
 *
 * The layout and the numbers are libusb's stable binary interface (API reference of libusb 1.0, "Asynchronous device I/O"); a test
 * compares them with the real header where that is installed. All functions are there from 1.0.16 on (2013). */
#ifndef EMGD_USB_ABI_H
#define EMGD_USB_ABI_H

#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>
#include <sys/types.h>

typedef struct emgd_usb_transfer emgd_usb_transfer;
typedef void (*emgd_usb_done)(emgd_usb_transfer *transfer);

struct emgd_usb_transfer {
    void *handle;
    uint8_t flags;
    uint8_t endpoint;
    uint8_t type;
    unsigned int timeout_ms; /* 0 = none */
    int status;              /* EMGD_USB_* below, once it is over */
    int length;
    int actual_length;
    emgd_usb_done callback;
    void *user_data;
    uint8_t *buffer;
    int iso_packet_count;
};

enum { EMGD_USB_TYPE_BULK = 2 };

/* How a transfer ended. */
enum {
    EMGD_USB_COMPLETED = 0,
    EMGD_USB_ERROR = 1,
    EMGD_USB_TIMED_OUT = 2,
    EMGD_USB_CANCELLED = 3,
    EMGD_USB_STALL = 4,
    EMGD_USB_NO_DEVICE = 5,
    EMGD_USB_OVERFLOW = 6
};

/* What a call returns when it fails. */
enum {
    EMGD_USB_ERROR_IO = -1,
    EMGD_USB_ERROR_INVALID = -2,
    EMGD_USB_ERROR_ACCESS = -3,
    EMGD_USB_ERROR_NO_DEVICE = -4,
    EMGD_USB_ERROR_NOT_FOUND = -5,
    EMGD_USB_ERROR_BUSY = -6,
    EMGD_USB_ERROR_TIMEOUT = -7,
    EMGD_USB_ERROR_OVERFLOW = -8,
    EMGD_USB_ERROR_PIPE = -9,
    EMGD_USB_ERROR_INTERRUPTED = -10,
    EMGD_USB_ERROR_NO_MEMORY = -11,
    EMGD_USB_ERROR_NOT_SUPPORTED = -12
};

typedef struct {
    uint16_t major, minor, micro, nano;
    const char *rc;
    const char *describe;
} emgd_usb_version;

/* The functions of a loaded library. */
typedef struct {
    const emgd_usb_version *(*get_version)(void);
    int (*init)(void **context);
    void (*exit)(void *context);
    ssize_t (*get_device_list)(void *context, void ***devices);
    void (*free_device_list)(void **devices, int unref);
    uint8_t (*get_bus_number)(void *device);
    uint8_t (*get_device_address)(void *device);
    int (*open)(void *device, void **handle);
    void (*close)(void *handle);
    int (*set_auto_detach_kernel_driver)(void *handle, int enable);
    int (*claim_interface)(void *handle, int interface);
    int (*release_interface)(void *handle, int interface);
    int (*clear_halt)(void *handle, unsigned char endpoint);
    emgd_usb_transfer *(*alloc_transfer)(int iso_packets);
    void (*free_transfer)(emgd_usb_transfer *transfer);
    int (*submit_transfer)(emgd_usb_transfer *transfer);
    int (*cancel_transfer)(emgd_usb_transfer *transfer);
    int (*handle_events_timeout_completed)(void *context, struct timeval *timeout, int *completed);
} emgd_libusb;

/* Load the library at `path` (dlopen's rules: a bare name is looked for where the system's libraries lie). NULL, or why it cannot be
 * used; the text is valid until the next call from this thread. It stays loaded: threads of its own may run in it. */
const char *emgd_libusb_load(emgd_libusb *library, const char *path);

#endif
