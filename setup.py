"""Build entry point; all metadata is in pyproject.toml.

It exists beside pyproject.toml because the C extension is declared here (``cffi_modules``), which
has no declarative form. ``PYSCEP_EXTENSION`` decides about it: ``auto`` (build it where a compiler
works), ``require`` (fail without), ``skip`` (a pure wheel).
"""

import os

from setuptools import setup

mode = os.environ.get("PYSCEP_EXTENSION", "auto")
if mode not in ("auto", "require", "skip"):
    raise SystemExit(f"PYSCEP_EXTENSION={mode!r}: it is auto, require or skip")

if mode == "skip":
    setup()
else:
    setup(
        cffi_modules=["csrc/build_ffi.py:ffi"],
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
    )
