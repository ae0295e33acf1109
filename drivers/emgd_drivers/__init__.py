"""Device drivers: one folder per device family, each with `api` (talks to base) and `protocol` (bytes, no I/O)."""
