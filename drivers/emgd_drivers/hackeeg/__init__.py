"""The HackEEG shield (docs/devices/hackeeg.md): `protocol` is bytes and values, `driver` talks to it."""
