/* USB/IP, the client's part, over a unix socket: list, import, submit, unlink. Version 0x0111, after the kernel's
 * Documentation/usb/usbip_protocol.rst. All calls block. */
#ifndef USBIP_CLIENT_H
#define USBIP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { USBIP_BUS_ID_BYTES = 32 };

typedef struct {
    char bus_id[USBIP_BUS_ID_BYTES];
    uint32_t bus, address, speed;
    uint16_t vendor, product, bcd_device;
    uint8_t configuration, configurations, interfaces;
} usbip_device;

typedef struct {
    bool unlinked; /* it answers an unlink request; else a submitted one */
    uint32_t seq;  /* the request that it answers */
    int32_t status;
    uint32_t length; /* bytes moved; those of an IN request follow */
} usbip_answer;

/* Devices that are plugged in, `room` at most; -1 when there is no server. */
int usbip_list(const char *path, usbip_device *devices, int room);

/* A socket on which requests to one device travel; -1 when it cannot be had. */
int usbip_import(const char *path, const char *bus_id, usbip_device *device);

/* One request. `endpoint` with its direction bit; `setup` for endpoint 0, else NULL; `data` for OUT. */
bool usbip_submit(int link, uint32_t device_id, uint32_t seq, uint8_t endpoint, const uint8_t *setup, const void *data, uint32_t length);
bool usbip_unlink(int link, uint32_t device_id, uint32_t seq, uint32_t victim);

/* The next answer, without the data that follows it; false when the connection is over. */
bool usbip_receive(int link, usbip_answer *answer);
bool usbip_read(int link, void *data, size_t size);

#endif
