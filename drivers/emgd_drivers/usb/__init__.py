"""USB devices: found with pyusb, spoken to with control transfers, streamed with libusb's asynchronous transfers."""
