/* A program under an emulated usbfs: real libusb above, devices behind USB/IP below.
 *
 *   umockdev-wrapper umockdev_bridge USBIP_SOCKET LOG PROGRAM [ARGUMENT...]
 *
 * libumockdev-preload redirects what PROGRAM does with /dev/bus/usb and /sys; its ioctls arrive here, one connection for each file
 * descriptor that it has open. Requests (URBs) travel on as USB/IP messages, and their ends travel back:
 *
 *   PROGRAM ── ioctl ──▶ worker thread of umockdev ── SUBMIT, UNLINK ──▶ the server of the emulated bus
 *           ◀── reap ── reader thread, one a device ◀── RET_SUBMIT ─────
 *
 * Every URB belongs to the descriptor that submitted it, and only that one reaps it: the program's control transfers and its stream
 * have a descriptor each. A device that the server lists is plugged in, one whose connection ends is unplugged; as in the kernel
 * it comes back under a new number. LOG gets a line for each thing that a test may want to know: open, close, claim, reset, ...
 *
 * C because umockdev offers this to C (and to Python only with packages that pip cannot install). */
#include <errno.h>
#include <glib-unix.h>
#include <linux/usbdevice_fs.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <umockdev.h>
#include <unistd.h>

#include "usbip_client.h"

/* The faked device file always polls as ready, so libusb would spin: a REAP that finds nothing is held for so long. Longer would hold
 * up submissions too, for the preload library does one ioctl of a descriptor at a time. */
#define HOLD_US 500

/* How often the server is asked what is plugged in. */
#define LOOK_MS 50

enum { MOST_DEVICES = 16, MOST_INTERFACES = 8, MOST_DESCRIPTOR_BYTES = 4096, SETUP_BYTES = 8 };
enum { GET_DESCRIPTOR = 6, CLEAR_FEATURE = 1, SET_FEATURE = 3, SET_CONFIGURATION = 9, SET_INTERFACE = 11, PORT_RESET = 4 };

/* One open file descriptor of the program. */
typedef struct {
    UMockdevIoctlClient *ioctl;
    GQueue over;                 /* Urbs that it may reap */
    UMockdevIoctlData *reap_arg; /* where a REAP that is held wants its pointer */
    GSource *hold;               /* ends the REAP that is held; NULL = it waits for ever */
    guint pending;               /* Urbs on their way */
} Opened;

/* One request on its way. */
typedef struct {
    guint32 seq;
    Opened *owner;           /* NULL once it has closed */
    UMockdevIoctlData *data; /* the program's struct usbdevfs_urb; NULL for an ioctl that waits until the device has answered */
    void *brought;           /* what came in, until the program reaps it */
    guint32 room;            /* most that may come in; 0 = nothing does */
} Urb;

typedef struct {
    UMockdevIoctlBase parent;
    GMutex lock; /* all below, used by all threads */
    int link;    /* -1 = unplugged */
    guint32 device_id, seq;
    GHashTable *urbs;    /* seq -> Urb */
    GHashTable *unlinks; /* seq of an unlink request -> seq of the Urb that shall end */
    GHashTable *opened; /* UMockdevIoctlClient -> Opened */
    Opened *claims[MOST_INTERFACES];
    usbip_device about;
    int address;
    char *name, *sys_path, *node;
} Device;
typedef struct {
    UMockdevIoctlBaseClass parent;
} DeviceClass;
G_DEFINE_TYPE(Device, device, UMOCKDEV_TYPE_IOCTL_BASE)

static UMockdevTestbed *testbed;
static const char *server_path;
static GHashTable *plugged; /* bus id -> Device */
static GPtrArray *known;    /* every Device that ever was: one that was unplugged may still be open */
static FILE *log_file;
static GMainLoop *main_loop;
static int exit_code = 1;

static void note(Device *device, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void note(Device *device, const char *format, ...) {
    va_list values;
    va_start(values, format);
    flockfile(log_file);
    fprintf(log_file, "%s ", device->name);
    vfprintf(log_file, format, values);
    fputc('\n', log_file);
    fflush(log_file);
    funlockfile(log_file);
    va_end(values);
}

static struct usbdevfs_urb *fields(Urb *urb) { return (struct usbdevfs_urb *)urb->data->data; }

static void answer(UMockdevIoctlClient *client, int error) { umockdev_ioctl_client_complete(client, error ? -1 : 0, error); }

/* --- requests --- */

/* The program's buffer, as far as it is wanted. Every resolve gives a reference. */
static UMockdevIoctlData *resolve_buffer(UMockdevIoctlData *urb, gsize length) {
    return umockdev_ioctl_data_resolve(urb, offsetof(struct usbdevfs_urb, buffer), length, NULL);
}

static void free_urb(Urb *urb) {
    if (urb->data) umockdev_ioctl_data_unref(urb->data);
    g_free(urb->brought);
    g_free(urb);
}

/* Send a request on. Lock held. The program's buffer is not looked at where data comes in: that would cost a message as long as it. */
static bool send_urb(Device *device, Opened *owner, UMockdevIoctlData *data, guint8 endpoint, const guint8 *setup, void *bytes,
                     guint32 length) {
    guint32 seq = ++device->seq;
    if (device->link < 0 || !usbip_submit(device->link, device->device_id, seq, endpoint, setup, bytes, length)) return false;
    Urb *urb = g_new0(Urb, 1);
    *urb = (Urb){seq, owner, data ? umockdev_ioctl_data_ref(data) : NULL, NULL, endpoint & 0x80 ? length : 0};
    g_hash_table_insert(device->urbs, GUINT_TO_POINTER(seq), urb);
    owner->pending++;
    return true;
}

/* The REAP that is held, which the caller answers; NULL when there is none. The caller unrefs it. */
static UMockdevIoctlData *end_hold(Opened *opened) {
    UMockdevIoctlData *arg = opened->reap_arg;
    if (opened->hold) {
        g_source_destroy(opened->hold);
        g_source_unref(opened->hold);
    }
    opened->hold = NULL;
    opened->reap_arg = NULL;
    return arg;
}

/* Hand the oldest Urb that is over to a REAP, if there is one. Lock held. */
static bool reap(Opened *opened, UMockdevIoctlData *arg) {
    Urb *urb = g_queue_pop_head(&opened->over);
    if (!urb) return false;
    guint32 count = (guint32)fields(urb)->actual_length;
    if (urb->brought && count) {
        gsize skip = fields(urb)->type == USBDEVFS_URB_TYPE_CONTROL ? SETUP_BYTES : 0;
        UMockdevIoctlData *buffer = resolve_buffer(urb->data, skip + count);
        memcpy(buffer->data + skip, urb->brought, count);
        umockdev_ioctl_data_unref(buffer); /* the Urb's data keeps it */
    }
    umockdev_ioctl_data_set_ptr(arg, 0, urb->data);
    free_urb(urb); /* `arg` keeps its data */
    answer(opened->ioctl, 0);
    return true;
}

static void refuse_reap(Opened *opened, int error) {
    UMockdevIoctlData *arg = end_hold(opened);
    if (!arg) return;
    umockdev_ioctl_data_unref(arg);
    answer(opened->ioctl, error);
}

/* A request is over; its data is in its buffer already. Lock held. */
static void end_urb(Urb *urb, int status, guint32 length) {
    Opened *owner = urb->owner;
    if (owner) owner->pending--;
    if (!owner) {
        free_urb(urb);
    } else if (!urb->data) {
        answer(owner->ioctl, -status);
        free_urb(urb);
    } else {
        fields(urb)->status = status;
        fields(urb)->actual_length = (int)length;
        g_queue_push_tail(&owner->over, urb);
        UMockdevIoctlData *arg = end_hold(owner);
        if (arg) {
            reap(owner, arg);
            umockdev_ioctl_data_unref(arg);
        }
    }
}

/* A request has ended. False when the server says what no server may say. Lock held. */
static bool take_end(Device *device, int link, const usbip_answer *got) {
    Urb *urb = g_hash_table_lookup(device->urbs, GUINT_TO_POINTER(got->seq));
    if (!urb) return false;
    if (urb->room) {
        if (got->length > urb->room) return false;
        urb->brought = g_malloc(got->length);
        if (!usbip_read(link, urb->brought, got->length)) return false;
    }
    g_hash_table_remove(device->urbs, GUINT_TO_POINTER(got->seq));
    end_urb(urb, got->status, got->length);
    return true;
}

/* A request was taken back, or had ended before that (status 0). Lock held. */
static bool take_unlinked(Device *device, const usbip_answer *got) {
    gpointer victim = g_hash_table_lookup(device->unlinks, GUINT_TO_POINTER(got->seq));
    g_hash_table_remove(device->unlinks, GUINT_TO_POINTER(got->seq));
    Urb *urb = got->status ? g_hash_table_lookup(device->urbs, victim) : NULL;
    if (urb) {
        g_hash_table_remove(device->urbs, victim);
        end_urb(urb, -ENOENT, 0);
    }
    return true;
}

static gboolean unplug(gpointer data);

static gpointer read_answers(gpointer data) {
    Device *device = data;
    usbip_answer got;
    int link = device->link;
    bool sound = true;
    while (sound && usbip_receive(link, &got)) {
        g_mutex_lock(&device->lock);
        sound = got.unlinked ? take_unlinked(device, &got) : take_end(device, link, &got);
        g_mutex_unlock(&device->lock);
    }
    g_idle_add(unplug, device);
    return NULL;
}

/* --- ioctls --- */

static Opened *opened_of(Device *device, UMockdevIoctlClient *client) { return g_hash_table_lookup(device->opened, client); }

static gboolean give_up_reaping(gpointer data) {
    gpointer *pair = data;
    Device *device = pair[0];
    g_mutex_lock(&device->lock);
    Opened *opened = opened_of(device, pair[1]);
    if (opened && opened->hold == g_main_current_source()) refuse_reap(opened, EAGAIN);
    g_mutex_unlock(&device->lock);
    return G_SOURCE_REMOVE;
}

static void reap_or_hold(Device *device, Opened *opened, UMockdevIoctlData *arg, bool wait) {
    if (reap(opened, arg)) return;
    if (device->link < 0) {
        answer(opened->ioctl, ENODEV);
        return;
    }
    opened->reap_arg = umockdev_ioctl_data_ref(arg);
    if (wait) return;
    gpointer *pair = g_new(gpointer, 2);
    pair[0] = device;
    pair[1] = opened->ioctl;
    opened->hold = g_timeout_source_new(1);
    g_source_set_ready_time(opened->hold, g_get_monotonic_time() + HOLD_US);
    g_source_set_callback(opened->hold, give_up_reaping, pair, g_free);
    g_source_attach(opened->hold, g_main_context_get_thread_default());
}

/* The interface is the caller's, or nobody's and then becomes the caller's. */
static int claim(Device *device, Opened *opened, guint interface) {
    if (interface >= device->about.interfaces || interface >= MOST_INTERFACES) return ENOENT;
    if (device->claims[interface] && device->claims[interface] != opened) return EBUSY;
    device->claims[interface] = opened;
    return 0;
}

static int submit(Device *device, Opened *opened, UMockdevIoctlData *data) {
    struct usbdevfs_urb *urb = (struct usbdevfs_urb *)data->data;
    guint32 length = (guint32)urb->buffer_length;
    bool is_control = urb->type == USBDEVFS_URB_TYPE_CONTROL;
    bool is_in = !is_control && urb->endpoint & 0x80;
    guint8 *bytes = NULL;
    if (!is_in) { /* what goes out, or a setup packet */
        UMockdevIoctlData *buffer = resolve_buffer(data, length);
        bytes = buffer->data;
        umockdev_ioctl_data_unref(buffer);
    }
    if (is_control) {
        return send_urb(device, opened, data, bytes[0] & 0x80, bytes, bytes + SETUP_BYTES, length - SETUP_BYTES) ? 0 : ENODEV;
    }
    int error = claim(device, opened, 0); /* as the kernel does, with a warning, where the program has not */
    if (error) return error;
    return send_urb(device, opened, data, urb->endpoint, NULL, bytes, length) ? 0 : ENODEV;
}

static void unlink_urb(Device *device, Urb *urb) {
    guint32 seq = ++device->seq;
    if (device->link < 0) return;
    g_hash_table_insert(device->unlinks, GUINT_TO_POINTER(seq), GUINT_TO_POINTER(urb->seq));
    usbip_unlink(device->link, device->device_id, seq, urb->seq);
}

/* Take a request back. It ends as cancelled, or with what the device had sent before it heard of that. */
static int discard(Device *device, Opened *opened, gulong address) {
    GHashTableIter all;
    gpointer found;
    g_hash_table_iter_init(&all, device->urbs);
    while (g_hash_table_iter_next(&all, NULL, &found)) {
        Urb *urb = found;
        if (urb->owner != opened || !urb->data || urb->data->client_addr != address) continue;
        unlink_urb(device, urb);
        return 0;
    }
    return EINVAL;
}

/* An ioctl that is a control request to the device: answered when the device has answered. */
static void ask_device(Device *device, Opened *opened, guint8 type, guint8 request, guint16 value, guint16 index) {
    guint8 setup[SETUP_BYTES] = {type, request, (guint8)value, (guint8)(value >> 8), (guint8)index, (guint8)(index >> 8), 0, 0};
    if (!send_urb(device, opened, NULL, 0, setup, NULL, 0)) answer(opened->ioctl, ENODEV);
}

static void do_ioctl(Device *device, Opened *opened, guint32 request, UMockdevIoctlData *arg, UMockdevIoctlData *data) {
    guint number = data && data->data_len >= (gint)sizeof(guint) ? *(guint *)data->data : 0;
    switch (request) {
    case USBDEVFS_GET_CAPABILITIES:
        *(guint32 *)data->data = USBDEVFS_CAP_ZERO_PACKET | USBDEVFS_CAP_BULK_CONTINUATION | USBDEVFS_CAP_NO_PACKET_SIZE_LIM |
                                 USBDEVFS_CAP_BULK_SCATTER_GATHER | USBDEVFS_CAP_REAP_AFTER_DISCONNECT;
        answer(opened->ioctl, 0);
        break;
    case USBDEVFS_SUBMITURB:
        answer(opened->ioctl, submit(device, opened, data));
        break;
    case USBDEVFS_REAPURBNDELAY:
    case USBDEVFS_REAPURB:
        reap_or_hold(device, opened, data, request == USBDEVFS_REAPURB);
        break;
    case USBDEVFS_DISCARDURB:
        answer(opened->ioctl, discard(device, opened, *(gulong *)arg->data));
        break;
    case USBDEVFS_CLAIMINTERFACE:
    case USBDEVFS_DISCONNECT_CLAIM:
        note(device, "claim %u", number);
        answer(opened->ioctl, device->link < 0 ? ENODEV : claim(device, opened, number));
        break;
    case USBDEVFS_RELEASEINTERFACE: {
        bool ours = number < MOST_INTERFACES && device->claims[number] == opened;
        note(device, "release %u", number);
        if (ours) device->claims[number] = NULL;
        answer(opened->ioctl, ours ? 0 : EINVAL);
        break;
    }
    case USBDEVFS_GETDRIVER: /* no kernel driver has it */
        answer(opened->ioctl, ENODATA);
        break;
    case USBDEVFS_CLEAR_HALT:
        note(device, "clear_halt 0x%02x", number);
        ask_device(device, opened, 0x02, CLEAR_FEATURE, 0, (guint16)number);
        break;
    case USBDEVFS_SETCONFIGURATION:
        note(device, "set_configuration %u", number);
        ask_device(device, opened, 0x00, SET_CONFIGURATION, (guint16)number, 0);
        break;
    case USBDEVFS_SETINTERFACE: {
        struct usbdevfs_setinterface *wanted = (void *)data->data;
        ask_device(device, opened, 0x01, SET_INTERFACE, (guint16)wanted->altsetting, (guint16)wanted->interface);
        break;
    }
    case USBDEVFS_RESET:
        note(device, "reset");
        ask_device(device, opened, 0x23, SET_FEATURE, PORT_RESET, 1);
        break;
    default:
        answer(opened->ioctl, ENOTTY);
    }
}

static gboolean handle_ioctl(UMockdevIoctlBase *base, UMockdevIoctlClient *client) {
    Device *device = (Device *)base;
    guint32 request = (guint32)umockdev_ioctl_client_get_request(client);
    UMockdevIoctlData *arg = umockdev_ioctl_client_get_arg(client);
    UMockdevIoctlData *data = _IOC_SIZE(request) ? umockdev_ioctl_data_resolve(arg, 0, _IOC_SIZE(request), NULL) : NULL;
    g_mutex_lock(&device->lock);
    do_ioctl(device, opened_of(device, client), request, arg, data);
    g_mutex_unlock(&device->lock);
    if (data) umockdev_ioctl_data_unref(data); /* every resolve gives a reference */
    return TRUE;
}

/* --- descriptors of the program come and go --- */

static void forget(Device *device, Opened *opened) {
    GHashTableIter all;
    gpointer found;
    note(device, "close pending=%u unreaped=%u", opened->pending, opened->over.length);
    g_hash_table_iter_init(&all, device->urbs);
    while (g_hash_table_iter_next(&all, NULL, &found)) {
        Urb *urb = found;
        if (urb->owner != opened) continue;
        unlink_urb(device, urb);
        urb->owner = NULL;
    }
    for (int i = 0; i < MOST_INTERFACES; i++) {
        if (device->claims[i] == opened) device->claims[i] = NULL;
    }
    UMockdevIoctlData *arg = end_hold(opened);
    if (arg) umockdev_ioctl_data_unref(arg);
    g_queue_clear_full(&opened->over, (GDestroyNotify)free_urb);
    g_object_unref(opened->ioctl);
    g_free(opened);
}

/* umockdev says nothing when the program closes a descriptor, so it is asked every now and then. */
static void forget_closed(gpointer data, gpointer unused) {
    (void)unused;
    Device *device = data;
    GHashTableIter all;
    gpointer found;
    g_mutex_lock(&device->lock);
    g_hash_table_iter_init(&all, device->opened);
    while (g_hash_table_iter_next(&all, NULL, &found)) {
        Opened *opened = found;
        if (umockdev_ioctl_client_get_connected(opened->ioctl)) continue;
        g_hash_table_iter_remove(&all);
        forget(device, opened);
    }
    g_mutex_unlock(&device->lock);
}

static void on_opened(UMockdevIoctlBase *base, UMockdevIoctlClient *client) {
    Device *device = (Device *)base;
    Opened *opened = g_new0(Opened, 1);
    opened->ioctl = g_object_ref(client); /* umockdev holds none while an ioctl waits for its answer */
    g_queue_init(&opened->over);
    g_mutex_lock(&device->lock);
    g_hash_table_insert(device->opened, client, opened);
    note(device, "open");
    g_mutex_unlock(&device->lock);
}

static void device_init(Device *device) {
    g_mutex_init(&device->lock);
    device->urbs = g_hash_table_new(NULL, NULL);
    device->unlinks = g_hash_table_new(NULL, NULL);
    device->opened = g_hash_table_new(NULL, NULL);
    device->link = -1;
}

static void device_class_init(DeviceClass *class) {
    UMOCKDEV_IOCTL_BASE_CLASS(class)->handle_ioctl = handle_ioctl;
    UMOCKDEV_IOCTL_BASE_CLASS(class)->client_connected = on_opened;
}

/* --- plug and unplug, in the main thread --- */

/* Before anybody else asks: a descriptor of the device itself. Returns its length. */
static guint32 get_descriptor(Device *device, guint8 type, guint8 index, guint16 language, guint8 *into) {
    guint8 setup[SETUP_BYTES] = {
        0x80, GET_DESCRIPTOR, index, type, (guint8)language, (guint8)(language >> 8), 0, MOST_DESCRIPTOR_BYTES >> 8,
    };
    usbip_answer got;
    if (!usbip_submit(device->link, device->device_id, ++device->seq, 0x80, setup, NULL, MOST_DESCRIPTOR_BYTES)) return 0;
    if (!usbip_receive(device->link, &got) || got.length > MOST_DESCRIPTOR_BYTES) return 0;
    return usbip_read(device->link, into, got.length) && got.status == 0 ? got.length : 0;
}

static void add_string(Device *device, GString *text, const char *attribute, guint8 index) {
    guint8 bytes[MOST_DESCRIPTOR_BYTES];
    guint32 length = index ? get_descriptor(device, 3, index, 0x0409, bytes) : 0;
    char *plain = length > 2 ? g_utf16_to_utf8((gunichar2 *)(bytes + 2), (length - 2) / 2, NULL, NULL, NULL) : NULL;
    if (!plain) return;
    g_string_append_printf(text, "A: %s=%s\\n\n", attribute, plain);
    if (g_str_equal(attribute, "serial")) g_string_append_printf(text, "E: ID_SERIAL_SHORT=%s\n", plain);
    g_free(plain);
}

/* What sysfs and udev say of the device, as umockdev wants it written. */
static char *describe(Device *device) {
    guint8 bytes[MOST_DESCRIPTOR_BYTES];
    guint32 length = get_descriptor(device, 1, 0, 0, bytes);
    if (length < 18) return NULL;
    guint8 manufacturer = bytes[14], product = bytes[15], serial = bytes[16];
    GString *hex = g_string_new(NULL);
    for (guint32 i = 0; i < length; i++) g_string_append_printf(hex, "%02X", bytes[i]);
    length = get_descriptor(device, 2, 0, 0, bytes);
    for (guint32 i = 0; i < length; i++) g_string_append_printf(hex, "%02X", bytes[i]);
    const usbip_device *about = &device->about;
    GString *text = g_string_new(NULL);
    g_string_append_printf(text, "P: %s\nN: bus/usb/001/%03d\n", device->sys_path + strlen("/sys"), device->address);
    g_string_append_printf(text, "E: SUBSYSTEM=usb\nE: DEVTYPE=usb_device\nE: DEVNAME=%s\nE: MAJOR=189\nE: MINOR=%d\n", device->node,
                           device->address - 1);
    g_string_append_printf(text, "E: BUSNUM=001\nE: DEVNUM=%03d\nE: PRODUCT=%x/%x/%x\n", device->address, about->vendor,
                           about->product, about->bcd_device);
    g_string_append_printf(text, "E: ID_VENDOR_ID=%04x\nE: ID_MODEL_ID=%04x\n", about->vendor, about->product);
    g_string_append_printf(text, "A: idVendor=%04x\\n\nA: idProduct=%04x\\n\nA: busnum=1\\n\nA: devnum=%d\\n\n", about->vendor,
                           about->product, device->address);
    g_string_append_printf(text, "A: speed=480\\n\nA: bConfigurationValue=%d\\n\nA: bNumConfigurations=%d\\n\n", about->configuration,
                           about->configurations);
    add_string(device, text, "manufacturer", manufacturer);
    add_string(device, text, "product", product);
    add_string(device, text, "serial", serial);
    g_string_append_printf(text, "H: descriptors=%s\n", hex->str);
    g_string_free(hex, TRUE);
    return g_string_free(text, FALSE);
}

static void plug(const char *bus_id) {
    static int address = 1; /* number 1 is the root hub's; as in the kernel none comes twice */
    usbip_device about;
    GError *error = NULL;
    int link = usbip_import(server_path, bus_id, &about);
    if (link < 0) return; /* it has just gone */
    Device *device = g_object_new(device_get_type(), NULL);
    device->link = link;
    device->about = about;
    device->device_id = about.bus << 16 | about.address;
    device->address = ++address;
    device->name = g_strdup(bus_id);
    device->sys_path = g_strdup_printf("/sys/devices/pci0000:00/0000:00:14.0/usb1/%s", bus_id);
    device->node = g_strdup_printf("/dev/bus/usb/001/%03d", address);
    char *description = describe(device);
    if (!description || !umockdev_testbed_add_from_string(testbed, description, &error) ||
        !umockdev_testbed_attach_ioctl(testbed, device->node, UMOCKDEV_IOCTL_BASE(device), &error)) {
        g_printerr("umockdev_bridge: %s cannot be plugged in: %s\n", bus_id, error ? error->message : "it does not answer");
        exit(2);
    }
    g_free(description);
    g_hash_table_insert(plugged, device->name, device);
    g_ptr_array_add(known, device);
    note(device, "plug %03d", address);
    g_thread_unref(g_thread_new("usbip", read_answers, device));
    umockdev_testbed_uevent(testbed, device->sys_path, "add");
}

/* The connection is over. The device object stays for those who still have it open; a few hundred bytes each time. */
static gboolean unplug(gpointer data) {
    Device *device = data;
    GHashTableIter all;
    gpointer found;
    g_mutex_lock(&device->lock);
    close(device->link);
    device->link = -1; /* from now on everything is answered with ENODEV */
    g_hash_table_iter_init(&all, device->urbs);
    while (g_hash_table_iter_next(&all, NULL, &found)) {
        g_hash_table_iter_remove(&all);
        end_urb(found, -ESHUTDOWN, 0);
    }
    g_hash_table_iter_init(&all, device->opened);
    while (g_hash_table_iter_next(&all, NULL, &found)) {
        refuse_reap(found, ENODEV);
    }
    note(device, "unplug");
    g_mutex_unlock(&device->lock);
    umockdev_testbed_remove_device(testbed, device->sys_path); /* with its uevent */
    umockdev_testbed_detach_ioctl(testbed, device->node, NULL);
    g_hash_table_remove(plugged, device->name);
    return G_SOURCE_REMOVE;
}

static gboolean look(gpointer data) {
    (void)data;
    usbip_device found[MOST_DEVICES];
    int count = usbip_list(server_path, found, MOST_DEVICES);
    for (int i = 0; i < count; i++) {
        if (!g_hash_table_contains(plugged, found[i].bus_id)) plug(found[i].bus_id);
    }
    g_ptr_array_foreach(known, forget_closed, NULL);
    return G_SOURCE_CONTINUE;
}

static void on_program_end(GPid pid, gint status, gpointer data) {
    (void)pid, (void)data;
    exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    g_main_loop_quit(main_loop);
}

int main(int count, char **arguments) {
    if (count < 4) {
        g_printerr("umockdev-wrapper %s USBIP_SOCKET LOG PROGRAM [ARGUMENT...]\n", arguments[0]);
        return 2;
    }
    server_path = arguments[1];
    log_file = fopen(arguments[2], "w");
    if (!log_file || usbip_list(server_path, NULL, 0) < 0) {
        g_printerr("umockdev_bridge: cannot use %s: %s\n", log_file ? server_path : arguments[2], strerror(errno));
        return 2;
    }
    testbed = umockdev_testbed_new();
    plugged = g_hash_table_new(g_str_hash, g_str_equal);
    known = g_ptr_array_new();
    main_loop = g_main_loop_new(NULL, FALSE);
    look(NULL);
    g_timeout_add(LOOK_MS, look, NULL);
    pid_t program = fork();
    if (program == 0) {
        setenv("LD_PRELOAD", "libumockdev-preload.so.0", 1); /* UMOCKDEV_DIR is set by the testbed */
        execvp(arguments[3], arguments + 3);
        perror(arguments[3]);
        _exit(127);
    }
    g_child_watch_add(program, on_program_end, NULL);
    g_main_loop_run(main_loop);
    g_object_unref(testbed);
    return exit_code;
}
