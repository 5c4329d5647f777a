"""The codec by way of the C kernels in csrc/: the same functions as ``_pure``, the same results.

Every call hands over pointers with their lengths and takes nothing back but numbers; buffers
belong to the call, so threads share nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from pyscep.codec._kernels import ffi, lib
from pyscep.codec._pure import percent_decode
from pyscep.codec._pure_shapes import MAX_ATTRIBUTES
from pyscep.codec._reasons import Fault, fail

__all__ = [
    "KERNEL",
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

_KERNELS: Final = {"scalar": 0, "avx2": 1, "avx512": 2, "neon": 3}
_SLACK: Final = 64
_OFFSET_BITS: Final = 48
_FEW_ROWS: Final = 1024
_NULL: Final = ffi.NULL
# Buffers are written before they are read: clearing 40 KB first would cost a tenth of a decode.
_new: Final = ffi.new_allocator(should_clear_after_alloc=False)


def _choose_kernel() -> str:
    """The fastest kernel of this machine, or the one that ``PYSCEP_KERNEL`` names."""
    wanted = os.environ.get("PYSCEP_KERNEL")
    if wanted is not None and wanted not in _KERNELS:
        raise ValueError(f"PYSCEP_KERNEL={wanted!r}: it is one of {', '.join(_KERNELS)}")
    for name in (wanted,) if wanted else reversed(_KERNELS):
        if lib.pyscep_use_kernel(_KERNELS[name]) == 0:
            return name
    raise ValueError(f"PYSCEP_KERNEL={wanted!r}: this machine can't run it")


KERNEL: Final = _choose_kernel()
"""The kernel that is in use: ``scalar``, ``avx2``, ``avx512`` or ``neon``."""


def _failed(result: int) -> Exception:
    """The exception for a packed fault (PYSCEP_FAIL in csrc/codec.h)."""
    return fail(-result >> _OFFSET_BITS, -result & (1 << _OFFSET_BITS) - 1)


def decode_message(text: bytes) -> bytes:
    """As ``_pure.decode_message``."""
    size = len(text)
    buffer = _new("uint8_t[]", size + _SLACK)
    length = lib.pyscep_decode_message(text, size, buffer, size + _SLACK)
    if length < 0:
        raise _failed(length)
    decoded: bytes = ffi.buffer(buffer, length)[:]
    return decoded


def window(octets: memoryview) -> Any:
    """As ``_pure_shapes.window``."""
    return ffi.from_buffer("uint8_t[]", octets)


def encode_message(data: bytes) -> str:
    """As ``_pure.encode_message``."""
    size = len(data)
    room = lib.pyscep_encoded_bound(size) + _SLACK
    buffer = _new("uint8_t[]", room)
    length = lib.pyscep_encode_message(data, size, buffer, room)
    return str(ffi.buffer(buffer, length), "ascii")


def index(
    data: bytes, *, leaf_depth: int, max_depth: int, max_nodes: int, max_trailing: int
) -> Sequence[int]:
    """As ``_pure.index``."""
    size = len(data)
    most = min(max_nodes, size // 2 + 1)
    # Nearly all messages have few values; a large table would cost page faults.
    room = min(most, _FEW_ROWS)
    while True:
        rows = _new("uint32_t[]", 4 * room)
        count = lib.pyscep_index(data, size, rows, room, leaf_depth, max_depth, max_trailing)
        if count >= 0:
            table: Sequence[int] = memoryview(ffi.buffer(rows, 16 * count)[:]).cast("I")
            return table
        if room == most or -count >> _OFFSET_BITS != Fault.TOO_MANY_NODES:
            raise _failed(count)
        room = most


def matcher(program: bytes, slots: int) -> Callable[[bytes], Sequence[int] | None]:
    """As ``_pure_shapes.matcher``; the offsets stay where C wrote them until one is asked for."""
    match, new, kind, size = lib.pyscep_match, _new, _offsets(3 * slots), len(program)

    def match_shape(data: bytes) -> Sequence[int] | None:
        found: Sequence[int] = new(kind)
        return found if match(data, len(data), program, size, found, slots) else None

    return match_shape


def reader(
    program: bytes, slots: int, *, max_depth: int, max_nodes: int
) -> Callable[[bytes, int], Sequence[int] | None]:
    """As ``_pure_shapes.reader``; the offsets stay where C wrote them until one is asked for."""
    read, new, kind = lib.pyscep_read, _new, _offsets(3 * slots)
    shape = ffi.new("struct pyscep_shape *", (slots, max_nodes, max_depth, len(program), program))

    def read_shape(data: bytes, max_trailing: int) -> Sequence[int] | None:
        found: Sequence[int] = new(kind)
        result = read(data, len(data), max_trailing, shape, found)
        if result > 0:
            return found
        if result:
            raise _failed(result)
        return None

    return read_shape


def _offsets(count: int) -> Any:
    """The C type of so many offsets: cffi reads its text once."""
    return ffi.typeof(f"uint32_t[{count}]")


_ATTRIBUTES: Final = _offsets(5 * MAX_ATTRIBUTES)


def attributes(data: bytes, start: int, end: int) -> Sequence[int] | None:
    """As ``_pure_shapes.attributes``."""
    places = _new(_ATTRIBUTES)
    count = lib.pyscep_attributes(data, start, end, places, MAX_ATTRIBUTES)
    if count < 0:
        return None
    found: list[int] = ffi.unpack(places, 5 * count)
    return found


def find_serial(data: bytes, start: int, end: int, serial: bytes) -> int | None:
    """As ``_pure_shapes.find_serial``."""
    offset: int = lib.pyscep_find_serial(data, start, end, serial, len(serial))
    if offset < 0:
        raise _failed(offset)
    return None if offset == end else offset
