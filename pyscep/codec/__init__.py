"""Bytes only: GET query text, the bounded DER/BER index, and DER writing.

One back end is picked at import. ``BACKEND`` says which; ``PYSCEP_BACKEND=native|pure``
forces one, and any other value is an error.
"""

from __future__ import annotations

from typing import Final

from pyscep.codec import _pure as _backend
from pyscep.codec import _pure_shapes as _shapes

BACKEND: Final = "pure"
"""Which implementation is live: ``native`` or ``pure``."""

MAX_DEPTH: Final = 24
"""How deep values may nest in a message, certificate or CRL header."""
MAX_NODES: Final = 10_000
"""How many values one encoding may hold."""

attributes = _shapes.attributes
check = _backend.check
decode_message = _backend.decode_message
encode_message = _backend.encode_message
percent_decode = _backend.percent_decode
index = _backend.index
match = _shapes.match

__all__ = [
    "BACKEND",
    "MAX_DEPTH",
    "MAX_NODES",
    "attributes",
    "check",
    "decode_message",
    "encode_message",
    "index",
    "match",
    "percent_decode",
]
