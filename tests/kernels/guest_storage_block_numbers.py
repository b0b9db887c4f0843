"""How much the guest of the storage tests reads and writes."""

READS, READ_BYTES = 40, 4096
SYNCS, SYNC_BYTES = 10, 200_000
