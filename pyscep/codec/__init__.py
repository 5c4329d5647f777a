"""Bytes only: GET query text, the bounded DER/BER index, shapes, and DER writing.

One back end is picked at import: the C kernels where they were built, the same functions in
Python where not. ``BACKEND`` and ``KERNEL`` say which. ``PYSCEP_BACKEND=native|pure`` forces one,
``PYSCEP_KERNEL=scalar|avx2|avx512|neon`` a kernel of the native one; any other value is an error.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Final

from pyscep.codec import _pure, _pure_shapes

MAX_DEPTH: Final = 24
"""How deep values may nest in a message, certificate or CRL header."""
MAX_NODES: Final = 10_000
"""How many values one encoding may hold."""


def _native_back_end() -> ModuleType | None:
    wanted = os.environ.get("PYSCEP_BACKEND", "")
    if wanted not in ("", "native", "pure"):
        raise ValueError(f"PYSCEP_BACKEND={wanted!r}: it is native or pure")
    if wanted == "pure":
        return None
    try:
        from pyscep.codec import _native
    except ImportError:
        if wanted == "native":
            raise
        return None
    return _native


_native = _native_back_end()
BACKEND: Final = "pure" if _native is None else "native"
"""Which implementation is live: ``native`` or ``pure``."""
KERNEL: Final[str] = "python" if _native is None else _native.KERNEL
"""What does the work: ``python``, ``scalar``, ``avx2``, ``avx512`` or ``neon``."""

attributes = _pure_shapes.attributes
decode_message = _pure.decode_message
encode_message = _pure.encode_message
find_serial = _pure_shapes.find_serial
index = _pure.index
matcher = _pure_shapes.matcher
percent_decode = _pure.percent_decode
reader = _pure_shapes.reader
window = _pure_shapes.window

if _native is not None:
    attributes = _native.attributes
    decode_message = _native.decode_message
    encode_message = _native.encode_message
    find_serial = _native.find_serial
    index = _native.index
    matcher = _native.matcher
    reader = _native.reader
    window = _native.window

__all__ = [
    "BACKEND",
    "KERNEL",
    "MAX_DEPTH",
    "MAX_NODES",
    "attributes",
    "decode_message",
    "encode_message",
    "find_serial",
    "index",
    "matcher",
    "percent_decode",
    "reader",
    "window",
]
