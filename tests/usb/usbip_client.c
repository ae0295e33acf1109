/* USB/IP, the client's part: fields in and out of big-endian messages. */
#include "usbip_client.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { VERSION = 0x0111, ASK_LIST = 0x8005, ASK_IMPORT = 0x8003 };
enum { SUBMIT = 1, UNLINK = 2, RET_SUBMIT = 3, RET_UNLINK = 4 };
enum { HEADER_BYTES = 48, OPERATION_BYTES = 8, RECORD_BYTES = 312, INTERFACE_BYTES = 4, PATH_BYTES = 256 };

static uint32_t get32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }
static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static void put32(uint8_t *p, uint32_t value) {
    uint32_t big = htonl(value);
    memcpy(p, &big, sizeof big);
}

static bool write_all(int link, const void *data, size_t size) {
    for (const char *from = data; size;) {
        ssize_t done = send(link, from, size, MSG_NOSIGNAL);
        if (done <= 0) return false;
        from += done;
        size -= (size_t)done;
    }
    return true;
}

bool usbip_read(int link, void *data, size_t size) {
    return size == 0 || recv(link, data, size, MSG_WAITALL) == (ssize_t)size;
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int link = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link >= 0 && connect(link, (struct sockaddr *)&address, sizeof address)) {
        close(link);
        return -1;
    }
    return link;
}

/* Ask for something and read the head of the answer. */
static bool ask(int link, int what, const void *data, size_t size) {
    uint8_t head[OPERATION_BYTES] = {VERSION >> 8, VERSION & 0xFF, (uint8_t)(what >> 8), (uint8_t)what};
    if (link < 0 || !write_all(link, head, sizeof head) || !write_all(link, data, size)) return false;
    return usbip_read(link, head, sizeof head) && get32(head + 4) == 0;
}

static bool read_record(int link, usbip_device *device) {
    uint8_t record[RECORD_BYTES];
    if (!usbip_read(link, record, sizeof record)) return false;
    const uint8_t *p = record + PATH_BYTES;
    memcpy(device->bus_id, p, USBIP_BUS_ID_BYTES);
    device->bus_id[USBIP_BUS_ID_BYTES - 1] = 0;
    p += USBIP_BUS_ID_BYTES;
    device->bus = get32(p);
    device->address = get32(p + 4);
    device->speed = get32(p + 8);
    device->vendor = get16(p + 12);
    device->product = get16(p + 14);
    device->bcd_device = get16(p + 16);
    device->configuration = p[21];
    device->configurations = p[22];
    device->interfaces = p[23];
    return true;
}

int usbip_list(const char *path, usbip_device *devices, int room) {
    int link = connect_to(path);
    uint8_t count[4], interface[INTERFACE_BYTES];
    int found = -1;
    if (ask(link, ASK_LIST, NULL, 0) && usbip_read(link, count, sizeof count)) {
        for (found = 0; found < room && found < (int)get32(count); found++) {
            if (!read_record(link, &devices[found])) break;
            for (int i = 0; i < devices[found].interfaces; i++) usbip_read(link, interface, sizeof interface);
        }
    }
    if (link >= 0) close(link);
    return found;
}

int usbip_import(const char *path, const char *bus_id, usbip_device *device) {
    int link = connect_to(path);
    char name[USBIP_BUS_ID_BYTES] = {0};
    strncpy(name, bus_id, sizeof name - 1);
    if (ask(link, ASK_IMPORT, name, sizeof name) && read_record(link, device)) return link;
    if (link >= 0) close(link);
    return -1;
}

bool usbip_submit(int link, uint32_t device_id, uint32_t seq, uint8_t endpoint, const uint8_t *setup, const void *data, uint32_t length) {
    uint8_t head[HEADER_BYTES] = {0};
    bool in = endpoint & 0x80;
    put32(head, SUBMIT);
    put32(head + 4, seq);
    put32(head + 8, device_id);
    put32(head + 12, in);
    put32(head + 16, endpoint & 0x0F);
    put32(head + 24, length);
    if (setup) memcpy(head + 40, setup, 8);
    return write_all(link, head, sizeof head) && (in || write_all(link, data, length));
}

bool usbip_unlink(int link, uint32_t device_id, uint32_t seq, uint32_t victim) {
    uint8_t head[HEADER_BYTES] = {0};
    put32(head, UNLINK);
    put32(head + 4, seq);
    put32(head + 8, device_id);
    put32(head + 20, victim);
    return write_all(link, head, sizeof head);
}

bool usbip_receive(int link, usbip_answer *answer) {
    uint8_t head[HEADER_BYTES];
    if (!usbip_read(link, head, sizeof head)) return false;
    answer->unlinked = get32(head) == RET_UNLINK;
    answer->seq = get32(head + 4);
    answer->status = (int32_t)get32(head + 20);
    answer->length = answer->unlinked ? 0 : get32(head + 24);
    return answer->unlinked || get32(head) == RET_SUBMIT;
}
