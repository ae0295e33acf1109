/* libusb by dlopen. C because it is made of function pointers. */
#include "usb_abi.h"

#include <dlfcn.h>
#include <stdio.h>

static _Thread_local char missing[96];

const char *emgd_libusb_load(emgd_libusb *library, const char *path) {
    const struct {
        const char *name;
        void *slot; /* a function pointer of `library` */
    } wanted[] = {
        {"libusb_get_version", &library->get_version},
        {"libusb_init", &library->init},
        {"libusb_exit", &library->exit},
        {"libusb_get_device_list", &library->get_device_list},
        {"libusb_free_device_list", &library->free_device_list},
        {"libusb_get_bus_number", &library->get_bus_number},
        {"libusb_get_device_address", &library->get_device_address},
        {"libusb_open", &library->open},
        {"libusb_close", &library->close},
        {"libusb_set_auto_detach_kernel_driver", &library->set_auto_detach_kernel_driver},
        {"libusb_claim_interface", &library->claim_interface},
        {"libusb_release_interface", &library->release_interface},
        {"libusb_clear_halt", &library->clear_halt},
        {"libusb_alloc_transfer", &library->alloc_transfer},
        {"libusb_free_transfer", &library->free_transfer},
        {"libusb_submit_transfer", &library->submit_transfer},
        {"libusb_cancel_transfer", &library->cancel_transfer},
        {"libusb_handle_events_timeout_completed", &library->handle_events_timeout_completed},
    };
    void *loaded = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!loaded) return dlerror();
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        void *found = dlsym(loaded, wanted[i].name);
        if (!found) {
            snprintf(missing, sizeof missing, "it has no %s; libusb 1.0.16 or newer is needed", wanted[i].name);
            return missing;
        }
        *(void **)wanted[i].slot = found;
    }
    return NULL;
}
