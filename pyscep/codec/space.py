"""Room for a long message that is written in place."""

from __future__ import annotations

from io import BytesIO
from typing import Final

LONG_BYTES: Final = 64 * 1024
"""Octets from this size on are worked with where they stand: a CRL has many megabytes."""
Octets = bytes | memoryview
"""A value, or where it stands in something longer. Both are sliced and compared alike."""


class Space:
    """So many octets to write into, which then become ``bytes`` without being copied.

    Args:
        size: in bytes, at least one.
    """

    def __init__(self, size: int) -> None:
        # A bytearray could be written into just the same, but to turn it into bytes copies it.
        self._octets = BytesIO()
        self._octets.seek(size - 1)
        self._octets.write(b"\x00")
        self.view = self._octets.getbuffer()
        """All of it, to be written to; gone with ``cut``."""

    def cut(self, start: int, end: int) -> bytes:
        """What stands between two offsets; nothing else is left."""
        size = end - start
        if start:
            self.view[:size] = self.view[start:end]
        self.view.release()
        self._octets.truncate(size)
        return self._octets.getvalue()
