"""What a kept request is made of, and the checksum that tells whether it still is.

The checksum is over all that says what is sent, to whom and how urgently, so that damage of any of
it is found. The id is not in it: it is given by SQLite, and a wrong one costs the order only.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple


class Row(NamedTuple):
    """The columns of `items` but the checksum, in the order of the table."""

    queue: Any
    signal: Any
    weight: Any
    items: Any
    accepted_ns: Any
    body: Any

    @property
    def checksum(self) -> int:
        """CRC-32 of all columns."""
        told = f"{self.queue}\n{self.signal} {self.weight} {self.items} {self.accepted_ns}\n"
        return zlib.crc32(self.body, zlib.crc32(told.encode(errors="replace")))

    def is_whole(self, crc: Any) -> bool:
        """Whether these are the columns that the checksum was made of, types and all."""
        numbers = (self.weight, self.items, self.accepted_ns, crc)
        types = [str, str, int, int, int, int, bytes]
        found = [type(one) for one in (self.queue, self.signal, *numbers, self.body)]
        return found == types and crc == self.checksum
