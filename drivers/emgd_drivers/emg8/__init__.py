"""The emg8 amplifier (docs/devices/emg8.md): `protocol` is bytes and values, `api` is the driver."""
