"""The numbers of several workers, in memory that they share: whoever is asked tells of all.

Each worker writes its own part twice a second; nobody waits for anybody. A worker that takes
the place of another one goes on from its numbers, so that no counter goes back.
"""

from __future__ import annotations

import json
import mmap
import struct
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any, Final

WRITE_SECONDS: Final = 0.5
PART_BYTES: Final = 64 * 1024
"""For one worker; names and labels come from closed sets."""
_HEAD: Final = struct.Struct("<II")
_TRIES: Final = 3


class SharedNumbers:
    """Memory for the numbers of some workers; made before they are forked.

    Args:
        workers: how many there are.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._memory = mmap.mmap(-1, workers * PART_BYTES)
        self._known: dict[int, Any] = {}

    def write(self, number: int, numbers: Any) -> None:
        """Replace a worker's part by what JSON can hold; too much for the part is left out."""
        data = json.dumps(numbers).encode()
        if len(data) > PART_BYTES - _HEAD.size:
            return
        start = number * PART_BYTES
        whole = _HEAD.pack(len(data), zlib.crc32(data)) + data
        self._memory[start : start + len(whole)] = whole

    def read(self, number: int) -> Any:
        """A worker's part; None if it has written none."""
        start = number * PART_BYTES
        for _ in range(_TRIES):
            part = self._memory[start : start + PART_BYTES]
            length, check = _HEAD.unpack_from(part)
            data = part[_HEAD.size : _HEAD.size + length]
            if not length:
                return None
            if zlib.crc32(data) == check:  # else it is being written
                self._known[number] = json.loads(data)
                break
        return self._known.get(number)

    def others(self, number: int) -> list[Any]:
        """What all other workers have written."""
        found = [self.read(one) for one in range(self._workers) if one != number]
        return [one for one in found if one is not None]

    def keep_writing(self, number: int, numbers: Callable[[], Any]) -> None:
        """Write a worker's part twice a second, in a thread that ends with the process."""

        def run() -> None:
            while True:
                time.sleep(WRITE_SECONDS)
                self.write(number, numbers())

        self.write(number, numbers())
        threading.Thread(target=run, name="pyscep-numbers", daemon=True).start()
