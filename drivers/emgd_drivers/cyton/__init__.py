"""The OpenBCI Cyton (docs/devices/cyton.md): `protocol` is bytes and values, `driver` talks to it."""
