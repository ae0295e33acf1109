"""RehaMove3 and P24, low level: docs/devices/rehamove3.md."""
