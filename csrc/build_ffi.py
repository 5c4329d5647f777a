"""Declares the extension ``pyscep.codec._kernels`` (cffi, API mode, stable ABI) to setup.py.

Environment:
    PYSCEP_EXTENSION: ``auto`` builds it where a C compiler works and goes on without, ``require``
        fails without; ``skip`` is for setup.py, which then does not come here.
    PYSCEP_SANITIZE: ``1`` builds with AddressSanitizer and UndefinedBehaviorSanitizer.
    PYSCEP_COVERAGE: ``1`` builds for gcov.
"""

from __future__ import annotations

import os
import sys

from cffi import FFI

SOURCES = ("crl.c", "dispatch.c", "index.c", "match.c", "query.c", "query_avx2.c",
           "query_avx512.c", "query_neon.c", "tables.c")

CDEF = """
int64_t pyscep_decode_message(const uint8_t *text, size_t text_size, uint8_t *buffer,
                              size_t buffer_size);
size_t pyscep_encoded_bound(size_t size);
int64_t pyscep_encode_message(const uint8_t *data, size_t size, uint8_t *out, size_t out_size);
int64_t pyscep_index(const uint8_t *data, size_t size, uint32_t *rows, size_t row_count,
                     uint32_t leaf_depth, uint32_t max_depth, size_t max_trailing);
int pyscep_match(const uint8_t *data, size_t size, const uint8_t *program, size_t program_size,
                 uint32_t *slots, size_t slot_count);
struct pyscep_shape {
    size_t slot_count;
    size_t max_nodes;
    uint32_t max_depth;
    uint32_t program_size;
    uint8_t program[];
};
int64_t pyscep_read(const uint8_t *data, size_t size, size_t max_trailing,
                    const struct pyscep_shape *shape, uint32_t *slots);
int64_t pyscep_attributes(const uint8_t *data, size_t start, size_t end, uint32_t *places,
                          size_t place_count);
int64_t pyscep_find_serial(const uint8_t *data, size_t start, size_t end, const uint8_t *serial,
                           size_t serial_size);
int pyscep_kernel_available(int kernel);
int pyscep_use_kernel(int kernel);
"""

_SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1"]


def _flags() -> tuple[list[str], list[str]]:
    """Flags for the compiler and the linker."""
    if sys.platform == "win32":
        return [], []
    compiler = ["-std=c11", "-O2", "-Wall", "-Wextra", "-fstack-protector-strong"]
    if os.environ.get("PYSCEP_SANITIZE") == "1":
        return [*compiler, *_SANITIZERS], _SANITIZERS[:1]
    if os.environ.get("PYSCEP_COVERAGE") == "1":
        return [*compiler, "--coverage", "-O0"], ["--coverage"]
    return compiler, []


ffi = FFI()
ffi.cdef(CDEF)
_compiler_flags, _linker_flags = _flags()
ffi.set_source(
    "pyscep.codec._kernels",
    '#include "codec.h"',
    sources=[f"csrc/{name}" for name in SOURCES],
    include_dirs=["csrc"],
    depends=["csrc/codec.h"],
    extra_compile_args=_compiler_flags,
    extra_link_args=_linker_flags,
    py_limited_api=True,
    optional=os.environ.get("PYSCEP_EXTENSION", "auto") == "auto",
)
