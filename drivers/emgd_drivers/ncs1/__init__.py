"""ncs1, the reference stimulator: docs/devices/ncs1.md."""
