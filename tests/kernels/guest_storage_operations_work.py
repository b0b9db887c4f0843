"""What guest_storage_operations.py does, for itself and for the test of it."""

SYNCS = 20
COUNT = 5
INJECTIONS = ("device_read", "device_write", "throttle_read", "scheduler")
