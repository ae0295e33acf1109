"""An emulated USB bus: device models behind USB/IP and usbredir, so that real kernels and real libusb can talk to them.

`python -m emgd_drivers.sim.bus --help` says how it is used; docs/emulation.md says more.
"""
